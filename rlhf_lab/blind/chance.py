"""Could it be chance? Exact answers for a handful of choices between two, each a plain sum of
binomial probabilities: no normal approximation, which fails where choices are few.
"""

import math

LEVEL = 0.05  # what the intervals leave out, and below which a split counts as more than chance
STEPS = 60  # halvings in search of an end of an interval: more digits than a float has


def probability(wins: int, choices: int, share: float = 0.5) -> float:
    """P(X = wins) for X ~ Binomial(choices, share)."""
    if share in (0.0, 1.0):
        return float(wins == choices * share)
    ways = math.lgamma(choices + 1) - math.lgamma(wins + 1) - math.lgamma(choices - wins + 1)
    return math.exp(ways + wins * math.log(share) + (choices - wins) * math.log1p(-share))


def at_least(wins: int, choices: int, share: float = 0.5) -> float:
    """P(X >= wins) for X ~ Binomial(choices, share)."""
    rest = range(max(0, wins), choices + 1)
    return min(1.0, math.fsum(probability(k, choices, share) for k in rest))


def sign_test(wins: int, losses: int) -> float:
    """The chance of a split at least this uneven, either way, were both equally good: the exact
    two-sided sign test. Ties say nothing about which is better and are left out."""
    return min(1.0, 2 * at_least(max(wins, losses), wins + losses))


def share_interval(wins: int, ties: int, losses: int) -> tuple[float, float, float]:
    """The share of wins with ties counted half, and a 95 % interval: it holds the true share in 95
    of 100 cases or more, however few the choices (Clopper and Pearson 1934).

    The binomial knows no half: an odd tie counts as a loss for the lower end and as a win for the
    upper one. (nan, 0, 1) without any choice.
    """
    choices, halves = wins + ties + losses, 2 * wins + ties
    if not choices:
        return math.nan, 0.0, 1.0
    low = _lower_end(halves // 2, choices)
    high = 1 - _lower_end(choices - (halves + 1) // 2, choices)
    return halves / (2 * choices), low, high


def wins_needed(choices: int) -> int | None:
    """The fewest wins of `choices` without a tie that the sign test calls more than chance; None
    where even all of them are not enough (five or fewer)."""
    tail, needed = 0.0, None
    for wins in range(choices, choices // 2, -1):
        tail += probability(wins, choices)
        if 2 * tail > LEVEL:
            break
        needed = wins
    return needed


def power(choices: int, share: float) -> float:
    """The chance that so many choices show more than chance, where one is truly preferred in this
    `share` of them."""
    needed = wins_needed(choices)
    if needed is None:
        return 0.0
    return at_least(needed, choices, share) + at_least(needed, choices, 1 - share)


def choices_needed(share: float = 0.6, chance: float = 0.8, most: int = 2000) -> int | None:
    """How many choices it takes to tell a true `share` from a half with this `chance`; None if
    `most` are too few.

    The power goes up in a saw-tooth, as wins are whole numbers: this is the first number of choices
    that reaches it.
    """
    return next((n for n in range(1, most + 1) if power(n, share) >= chance), None)


def _lower_end(wins: int, choices: int) -> float:
    """The share under which so many wins, or more, have a chance of half of LEVEL."""
    if wins == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if at_least(wins, choices, middle) < LEVEL / 2 else (low, middle)
    return low
