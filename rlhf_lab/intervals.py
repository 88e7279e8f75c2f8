"""95 % intervals, and what each function is for.

    interval(table)                     the mean of numbers, such as marks
    share_interval(parts, wholes)       a share, such as a win rate, the accuracy on pairs, or how
                                        many responses have a flaw
    ratio_interval(table, rival)        one mean divided by another
    median_interval(values, prompts)    a median, such as of seconds
    resampled_interval(prompts, f)      any other statistic, such as an alpha
    exact_interval(wins, ties, losses)  independent choices, however few
    wilson_interval(share, count)       the same for a share alone, in a formula

All but the last two are clustered by prompt. Responses to one prompt, and rankings of them, share
its difficulty, so they are not independent: the mean is taken over the prompts' means, and whole
prompts are drawn with replacement (a cluster bootstrap; Efron and Tibshirani 1993). The draws
depend on the seed alone. The remaining functions are for choices between two models: the sign test,
and how many choices it needs.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import stdtrit
from torch import Tensor

Interval = tuple[float, float, float]  # estimate, lower and upper end
SIGNIFICANCE = 0.05  # of the sign test; intervals cover 1 - SIGNIFICANCE
TAILS = SIGNIFICANCE / 2, 1 - SIGNIFICANCE / 2
Z = 1.96  # the matching quantile of the normal distribution
DRAWS = 1000  # of a bootstrap
HALVINGS = 60  # bisection steps for an end: more than the digits of a float


def interval(table: Tensor) -> Interval:
    """The mean of (P, S) numbers, each prompt counted once, with the quantile of Student's t (1.97
    standard errors for 200 prompts, 2.26 for 10); no interval from a single prompt.

    Use it for numbers on a scale, such as marks. For a share, use `share_interval`: if all of 40
    prompts agreed, this interval would have no width.
    """
    means = table.float().mean(1)
    mean, count = float(means.mean()), len(means)
    if count < 2:
        return mean, math.nan, math.nan
    half = float(stdtrit(count - 1, TAILS[1])) * float(means.std()) / math.sqrt(count)
    return mean, mean - half, mean + half


def share_interval(parts: ArrayLike, wholes: ArrayLike = 1.0, seed: int = 0) -> Interval:
    """sum(parts) / sum(wholes), a share from 0 to 1; both (P,), or one whole for all prompts.

    Use it for yes-or-no properties of responses or pairs. To compute the interval, two artificial
    prompts are added, one with a share of 0 and one with a share of 1. Without them, few prompts or
    full agreement would give an interval of no width, although 0 of 40 does not mean never; with
    them it is a little too wide, which is safe, as with the added successes and failures of Agresti
    and Coull (1998). For graded numbers use `interval`: the artificial prompts would not fit their
    scale. nan without any prompt.
    """
    parts = np.asarray(parts, float)
    wholes = np.broadcast_to(np.asarray(wholes, float), parts.shape)
    if not wholes.sum():
        return np.nan, np.nan, np.nan
    size = wholes.mean()
    drawn = times_drawn(len(wholes) + 2, seed=seed)
    with np.errstate(invalid="ignore"):  # a draw of prompts that have nothing: nan, left out
        shares = (drawn @ np.append(parts, [0, size])) / (drawn @ np.append(wholes, [size, size]))
    return parts.sum() / wholes.sum(), *_ends(shares)


def ratio_interval(table: Tensor, rival: Tensor, draws: int = 2000, seed: int = 0) -> Interval:
    """mean(table) / mean(rival), both (P, ...) of the same prompts."""
    a, b = table.float().flatten(1).mean(1), rival.float().flatten(1).mean(1)
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(a), (draws, len(a)), generator=rng)
    ratios = (a[rows].mean(1) / b[rows].mean(1)).sort().values
    low, high = (int(tail * draws) for tail in TAILS)
    return float(a.mean() / b.mean()), float(ratios[low]), float(ratios[high - 1])


def median_interval(values: ArrayLike, prompts: ArrayLike, seed: int = 0) -> Interval:
    """The median of values; prompts gives the name of each value's prompt.

    nan without any value, and no interval from a single prompt.
    """
    values = np.asarray(values, float)
    if not len(values):
        return np.nan, np.nan, np.nan
    order = values.argsort()
    _, prompt = np.unique(np.asarray(prompts), return_inverse=True)
    if prompt.max() == 0:
        return float(np.median(values)), np.nan, np.nan
    counts = times_drawn(prompt.max() + 1, seed=seed)[:, prompt[order]].cumsum(1)
    middle = (counts >= counts[:, -1:] / 2).argmax(1)
    return float(np.median(values)), *_ends(values[order][middle])


def resampled_interval(
    prompts: Sequence, statistic: Callable[[list], float], draws: int = DRAWS, seed: int = 0
) -> Interval:
    """statistic(prompts), where each entry of prompts holds the data of one prompt.

    nan without any prompt, and no interval from a single one.
    """
    if not prompts:
        return np.nan, np.nan, np.nan
    if len(prompts) == 1:
        return statistic(list(prompts)), np.nan, np.nan
    drawn = [
        statistic([p for p, n in zip(prompts, times) for _ in range(n)])
        for times in times_drawn(len(prompts), draws, seed)
    ]
    return statistic(list(prompts)), *_ends(drawn)


def times_drawn(prompts: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each prompt occurs in each of the draws, (draws, prompts)."""
    chances = np.full(prompts, 1 / prompts)
    return np.random.default_rng(seed).multinomial(prompts, chances, size=draws)


def _ends(draws: np.ndarray | list[float]) -> tuple[float, float]:
    if np.isnan(draws).all():
        return np.nan, np.nan
    low, high = np.nanquantile(draws, TAILS)
    return float(low), float(high)


# ---- independent choices -------------------------------------------------------------------------


def exact_interval(wins: int, ties: int, losses: int) -> Interval:
    """The share of wins with ties counted half. The interval holds the true share in 95 of 100
    cases or more, however few the choices (Clopper and Pearson 1934).

    The binomial distribution has no half wins: an odd tie counts as a loss for the lower end and
    as a win for the upper one. (nan, 0, 1) without any choice.
    """
    choices, halves = wins + ties + losses, 2 * wins + ties
    if not choices:
        return math.nan, 0.0, 1.0
    low = _lower_end(halves // 2, choices)
    high = 1 - _lower_end(choices - (halves + 1) // 2, choices)
    return halves / (2 * choices), low, high


def wilson_interval(share: float, count: int) -> Interval:
    """The share of `count` independent cases (Wilson 1927); coverage is about 95 % on average."""
    middle = (share + Z**2 / 2 / count) / (1 + Z**2 / count)
    variance = share * (1 - share) / count + Z**2 / 4 / count**2
    half = Z / (1 + Z**2 / count) * variance**0.5
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return share, min(low, share), max(high, share)  # at 0 and 1 the ends round past the share


def sign_test(wins: int, losses: int) -> float:
    """The probability of a split at least this uneven, either way, if both were equally good: the
    exact two-sided sign test. Ties say nothing about which is better and are left out."""
    return min(1.0, 2 * _at_least(max(wins, losses), wins + losses))


def wins_needed(choices: int) -> int | None:
    """The fewest wins in `choices` choices without ties that are significant by the sign test; None
    if even winning all is not (five choices or fewer)."""
    tail, needed = 0.0, None
    for wins in range(choices, choices // 2, -1):
        tail += _exactly(wins, choices)
        if 2 * tail > SIGNIFICANCE:
            break
        needed = wins
    return needed


def power(choices: int, share: float) -> float:
    """The power of the sign test: the probability of a significant result from this many choices,
    if one side is truly preferred in this `share` of them."""
    needed = wins_needed(choices)
    if needed is None:
        return 0.0
    return _at_least(needed, choices, share) + _at_least(needed, choices, 1 - share)


def choices_needed(share: float = 0.6, chance: float = 0.8, most: int = 2000) -> int | None:
    """How many choices the sign test needs to tell a true `share` from a half with probability
    `chance`; None if `most` are too few.

    Power rises in a saw-tooth, as wins are whole numbers: this is the smallest number of choices
    that reaches it.
    """
    return next((n for n in range(1, most + 1) if power(n, share) >= chance), None)


def _exactly(wins: int, choices: int, share: float = 0.5) -> float:
    """P(X = wins) for X ~ Binomial(choices, share)."""
    if share in (0.0, 1.0):
        return float(wins == choices * share)
    ways = math.lgamma(choices + 1) - math.lgamma(wins + 1) - math.lgamma(choices - wins + 1)
    return math.exp(ways + wins * math.log(share) + (choices - wins) * math.log1p(-share))


def _at_least(wins: int, choices: int, share: float = 0.5) -> float:
    """P(X >= wins) for X ~ Binomial(choices, share)."""
    rest = range(max(0, wins), choices + 1)
    return min(1.0, math.fsum(_exactly(k, choices, share) for k in rest))


def _lower_end(wins: int, choices: int) -> float:
    """The share for which this many wins or more have probability SIGNIFICANCE / 2."""
    if wins == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rare = _at_least(wins, choices, middle) < SIGNIFICANCE / 2
        low, high = (middle, high) if rare else (low, middle)
    return low
