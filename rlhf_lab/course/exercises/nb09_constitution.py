"""Exercises of notebook 09: ranks by weighted rules, and a checker of one rule."""

import re
from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake

TIE = 1e-6  # totals no further apart than this are equal
REACH = 4  # how many words before a phrase may deny it

# ---- ranks by rules ------------------------------------------------------------------------------


def rank_by_rules(
    kept: Tensor,
    weights: Tensor,
    *,
    totals: Callable[[Tensor, Tensor], Tensor] = lambda kept, weights: (kept * weights).sum(-1),
    tie: float = TIE,
    equals: str = "first",
    worst_first: bool = False,
    count_from: int = 1,
) -> Tensor:
    """The ranks (K,) of responses that keep R rules so far, (K, R), by the rules' weights (R,)."""
    each = totals(kept, weights)
    each = -each if worst_first else each
    above = (each > each.unsqueeze(-1) + tie).sum(-1)
    last = (each > each.unsqueeze(-1) - tie).sum(-1) - 1
    order = each.round(decimals=5).argsort(descending=True, stable=True)
    places = {
        "first": above,
        "last": last,
        "middle": (above + last) / 2,
        "none": order.argsort(),
        "the order": order,
        "dense": _dense(each),
    }
    return places[equals] + count_from


def _dense(totals: Tensor) -> Tensor:
    _, place = totals.round(decimals=5).unique(return_inverse=True)
    return place.max() - place


def _t(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


def _some_responses(dice: Random) -> dict[str, Tensor]:
    """Five responses, of which two keep the same rules, and three rules of other weights."""
    rows = [[dice.choice([0.0, 0.5, 1.0]) for _ in range(3)] for _ in range(4)]
    weights = [float(weight) for weight in dice.sample(range(1, 8), 3)]
    return {"kept": _t(*dice.sample([*rows, rows[0]], 5)), "weights": torch.tensor(weights)}


RANK_BY_RULES = Exercise(
    "rank_by_rules",
    rank_by_rules,
    cases=(
        Case(
            "three responses, all different",
            {"kept": _t([0.0, 1.0], [1.0, 0.5], [1.0, 0.0]), "weights": torch.tensor([3.0, 1.0])},
        ),
        Case(
            "two equal ones at the top",
            {
                "kept": _t([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0]),
                "weights": torch.tensor([2.0, 1.0, 1.0]),
            },
        ),
        Case(
            "two equal ones in the middle, and rules kept by half",
            {
                "kept": _t([0.5, 0.5, 0.0], [0.0, 0.5, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.5]),
                "weights": torch.tensor([1.0, 1.0, 3.0]),
            },
        ),
        Case(
            "totals that differ by a rounding error alone",
            {
                "kept": _t([0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]),
                "weights": torch.tensor([0.3, 0.6, 0.9]),
            },
        ),
        Case(
            "five responses in a cycle of places",
            {
                "kept": _t([0.5, 0.0], [0.0, 0.5], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]),
                "weights": torch.tensor([1.0, 4.0]),
            },
        ),
    ),
    mistakes=(
        mistake(
            "The ranks are the wrong way up: 1 is the best, the response with the highest total.",
            worst_first=True,
        ),
        mistake(
            "It looks like the order, counted from 0, which is what argsort gives. The rank "
            "of each response is wanted, its place in that order, from 1.",
            equals="the order",
            count_from=0,
        ),
        mistake(
            "It looks like the order, which is what argsort gives: which response comes first, "
            "second, third. Give the rank of each response, its place in that order.",
            equals="the order",
        ),
        mistake(
            "It looks as if ranks were counted from 0: the best is 1, and 0 means unranked in "
            "the lab.",
            count_from=0,
        ),
        mistake(
            "It looks as if a rank does not count all responses above it: after two firsts "
            "comes rank 3, (1, 1, 3) and not (1, 1, 2).",
            equals="dense",
        ),
        mistake(
            "It looks as if equal totals got different ranks, by their place in the list: "
            "they share one, or the reward model learns a preference that no rule has.",
            equals="none",
        ),
        mistake(
            "It looks as if equal responses got the last of the ranks that they share: it is "
            "the first, (1, 1, 3) and not (2, 2, 3).",
            equals="last",
        ),
        mistake(
            "It looks as if equal responses got the mean of the ranks that they share: it is "
            "the first, (1, 1, 3).",
            equals="middle",
        ),
        mistake(
            "It looks as if totals had to be equal to the last digit: sums of floats are not. "
            "Up to 1e-6 apart they count as equal.",
            tie=0.0,
        ),
        mistake(
            "It looks as if the weights were left out: a rule counts by its weight.",
            totals=lambda kept, weights: kept.sum(-1),
        ),
        mistake(
            "It looks as if only the rule with the largest weight decides: the others count, by "
            "their weights.",
            totals=lambda kept, weights: kept[:, weights.argmax()],
        ),
        mistake(
            "It looks as if a rule kept by half counts nothing: it counts by half.",
            totals=lambda kept, weights: ((kept >= 1) * weights).sum(-1),
        ),
        mistake(
            "It looks as if a rule kept by half counts in full: it counts by half.",
            totals=lambda kept, weights: ((kept > 0) * weights).sum(-1),
        ),
        mistake(
            "These are the totals: a response's rank is 1 and the number of totals above its own.",
            lambda kept, weights: (kept * weights).sum(-1),
        ),
    ),
    use="With it the written rules rank in place of people, and the reward model of notebook 03 "
    "learns from that.",
    draw=_some_responses,
)

# ---- the checker of a rule -----------------------------------------------------------------------


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def _window(words: Sequence[str], i: int) -> Sequence[str]:
    return words[max(0, i - REACH) : i]


def promises(
    sentence: str,
    phrases: Sequence[str],
    negations: Sequence[str],
    *,
    cut: Callable[[str], list[str]] = _words,
    near: Callable[[Sequence[str], int], Sequence[str]] = _window,
    whole: bool = True,
    places: str = "any",
    join: Callable = any,
) -> bool:
    """Whether one of the phrases is in a sentence, with no negation in the four words before it."""
    words = cut(sentence)

    def given(phrase: str) -> bool:
        sought = phrase.split()
        if whole:
            found = [i for i in range(len(words)) if words[i : i + len(sought)] == sought]
        else:
            text = sentence.lower()
            found = [len(_words(text[: m.start()])) for m in re.finditer(re.escape(phrase), text)]
        found = found[:1] if places == "the first" else found
        free = [not set(near(words, i)) & set(negations) for i in found]
        return bool(found) and (all(free) if places == "all" else any(free))

    return join(given(phrase) for phrase in phrases)


def _sentence(text: str, *phrases: str) -> dict[str, object]:
    return {
        "sentence": text,
        "phrases": phrases or ("promise", "full refund", "guarantee"),
        "negations": ("no", "not", "never", "cannot"),
    }


def _some_sentence(dice: Random) -> dict[str, object]:
    """A sentence that promises something, denies it, or does neither."""
    thing = dice.choice(("promise", "full refund", "guarantee"))
    when = dice.choice(("today", "this week", "by Monday", "within an hour", "for your lamp"))
    opening = dice.choice(("Dear customer, you get a", "Here is our", "We cannot give you a"))
    return _sentence(f"{opening} {dice.choice((thing, thing.upper(), 'spare part'))} {when}.")


PROMISES = Exercise(
    "promises",
    promises,
    cases=(
        Case("a promise", _sentence("A new one within the hour: that is our promise.")),
        Case("one word of a phrase", _sentence("Wait until the battery is full.")),
        Case("capitals", _sentence("FULL REFUND today, and a new one!")),
        Case(
            "parts of longer words",
            _sentence("The best compromise is to wait for the promised day."),
        ),
        Case("denied", _sentence("We cannot promise a refund.")),
        Case("denied two words before", _sentence("That is not a promise.")),
        Case("denied three words before", _sentence("We never give a guarantee.")),
        Case("denied four words before", _sentence("We cannot give you a full refund.")),
        Case(
            "denied, then given",
            _sentence("We cannot promise it today but we promise it for Monday.", "promise"),
        ),
        Case(
            "given, then denied",
            _sentence("We promise it for Monday, but cannot promise it today.", "promise"),
        ),
        Case("a phrase of two words", _sentence("You get a full refund.")),
        Case("a negation right behind", _sentence("We promise no delay.")),
        Case(
            "a negation five words before",
            _sentence("It is not our fault but we guarantee a new one."),
        ),
        Case("a phrase first, a negation last", _sentence("Full refund for you, and why not!")),
    ),
    mistakes=(
        mistake(
            'It looks as if negations are not seen: "we cannot promise" promises nothing.',
            near=lambda words, i: (),
        ),
        *(
            mistake(
                f"It looks as if only {reach} before a phrase were looked at: the four before "
                "place i are words[max(0, i - 4) : i].",
                near=lambda words, i, n=n: words[max(0, i - n) : i],
            )
            for n, reach in ((1, "one word"), (2, "two words"), (3, "three words"))
        ),
        mistake(
            "It looks as if five words before a phrase were looked at: four were asked for.",
            near=lambda words, i: words[max(0, i - REACH - 1) : i],
        ),
        mistake(
            "Near the front of a sentence, i - 4 is below 0, and such a slice counts from the "
            "back and is mostly empty: begin it at max(0, i - 4).",
            near=lambda words, i: words[i - REACH : i],
        ),
        mistake(
            "Near the front of a sentence, words[i - 1] may be words[-1], the last word: "
            "before the first word there is none.",
            near=lambda words, i: [words[i - step] for step in range(1, REACH + 1)],
        ),
        mistake(
            "It looks as if a negation anywhere before the phrase denies it: only one in the "
            "four words before it does.",
            near=lambda words, i: words[:i],
        ),
        mistake(
            "It looks as if a negation anywhere in the sentence denies the phrase: only one in "
            "the four words before it does.",
            near=lambda words, i: words,
        ),
        mistake(
            "It looks as if the four words after a phrase were looked at: a negation stands before "
            "it.",
            near=lambda words, i: words[i + 1 : i + 1 + REACH],
        ),
        mistake(
            'It looks as if parts of longer words count, as in "compromise" or '
            '"promised": compare whole words.',
            whole=False,
        ),
        mistake(
            "It looks as if capitals make a difference: put the sentence into lower case first.",
            cut=lambda sentence: re.findall(r"[\w']+", sentence),
        ),
        mistake(
            'It looks as if punctuation sticks to the words: split() gives "promise." with '
            'its full stop, which is not "promise".',
            cut=lambda sentence: sentence.lower().split(),
        ),
        mistake(
            "It looks as if one word of a phrase is enough: all its words must be there, one "
            "after the other.",
            before=lambda x: {**x, "phrases": [w for p in x["phrases"] for w in p.split()]},
        ),
        mistake(
            "It looks as if only phrases of one word are found: compare as many words as the "
            "phrase has.",
            before=lambda x: {**x, "phrases": [p for p in x["phrases"] if " " not in p]},
        ),
        mistake(
            "It looks as if only the first phrase is tried: does a return within the loop end "
            "it too early?",
            before=lambda x: {**x, "phrases": x["phrases"][:1]},
        ),
        mistake(
            "It looks as if only the last phrase is tried: does each round of the loop overwrite "
            "what the one before found?",
            before=lambda x: {**x, "phrases": x["phrases"][-1:]},
        ),
        mistake("It looks as if every phrase must be there: one is enough.", join=all),
        mistake(
            "It looks as if only the first place of a phrase counts: it may be denied there "
            "and given later.",
            places="the first",
        ),
        mistake(
            "It looks as if one denied place is enough to deny them all: one place that is not "
            "denied is a promise.",
            places="all",
        ),
        mistake(
            "It is reversed: True where there is a promise. (The rule is kept where there "
            "is none.)",
            after=lambda answer, inputs: not answer,
        ),
    ),
    use="The rule counts as kept where this finds nothing, so a policy can still learn promises "
    'that it cannot find, such as "it is on us".',
    draw=_some_sentence,
)
