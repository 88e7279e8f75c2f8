"""Exercises of notebook 09: ranks by weighted rules, and a checker of one rule."""

import re
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake

TIE = 1e-6  # totals no further apart than this are equal
REACH = 4  # how many words before a phrase may deny it

# ---- ranks by rules ------------------------------------------------------------------------------


def _totals(kept: Tensor, weights: Tensor) -> Tensor:
    return (kept * weights).sum(-1)


def _ranks(totals: Tensor, tie: float = TIE) -> Tensor:
    """1 for the highest of the totals (K,); equal ones share a rank, and the next counts them."""
    return 1 + (totals > totals.unsqueeze(-1) + tie).sum(-1)


def rank_by_rules(kept: Tensor, weights: Tensor) -> Tensor:
    """The ranks (K,) of responses that keep R rules so far, (K, R), by the rules' weights (R,)."""
    return _ranks(_totals(kept, weights))


def _best_first(kept: Tensor, weights: Tensor) -> Tensor:
    """The numbers of the responses, the best first; equal ones in their old order."""
    return _totals(kept, weights).round(decimals=5).argsort(descending=True, stable=True)


def _dense(kept, weights):
    _, place = _totals(kept, weights).round(decimals=5).unique(return_inverse=True)
    return place.max() + 1 - place


def _last_of_equals(kept, weights):
    totals = _totals(kept, weights)
    return (totals > totals.unsqueeze(-1) - TIE).sum(-1)


def _middle_of_equals(kept, weights):
    return (rank_by_rules(kept, weights) + _last_of_equals(kept, weights)) / 2


def _t(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


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
    ),
    mistakes=(
        Mistake(
            lambda kept, weights: _ranks(-_totals(kept, weights)),
            "The ranks are the wrong way up: 1 is the best, the response with the highest total.",
        ),
        Mistake(
            lambda kept, weights: _best_first(kept, weights) + 1,
            "It looks like the order, which is what argsort gives: whose turn is first, "
            "second, third. The rank of each response is wanted, its place in that order.",
        ),
        Mistake(
            _best_first,
            "It looks like the order, counted from 0, which is what argsort gives. The rank "
            "of each response is wanted, its place in that order, from 1.",
        ),
        Mistake(
            lambda kept, weights: rank_by_rules(kept, weights) - 1,
            "It looks as if ranks were counted from 0: the best is 1, and 0 means unranked in "
            "the lab.",
        ),
        Mistake(
            _dense,
            "It looks as if the next rank does not count all who are before: after two "
            "firsts comes the third, (1, 1, 3) and not (1, 1, 2).",
        ),
        Mistake(
            lambda kept, weights: _best_first(kept, weights).argsort() + 1,
            "It looks as if equal totals got different ranks, by their place in the list: "
            "they share one, or the reward model learns a preference that no rule has.",
        ),
        Mistake(
            _last_of_equals,
            "It looks as if equal responses got the last of the ranks that they share: it is "
            "the first, (1, 1, 3) and not (2, 2, 3).",
        ),
        Mistake(
            _middle_of_equals,
            "It looks as if equal responses got the mean of the ranks that they share: it is "
            "the first, (1, 1, 3).",
        ),
        Mistake(
            lambda kept, weights: _ranks(_totals(kept, weights), tie=0.0),
            "It looks as if totals had to be equal to the last digit: sums of floats are not. "
            "Up to 1e-6 apart they count as equal.",
        ),
        Mistake(
            lambda kept, weights: _ranks(kept.sum(-1)),
            "It looks as if the weights were left out: a rule counts by its weight.",
        ),
        Mistake(
            lambda kept, weights: _ranks(kept[:, weights.argmax()]),
            "It looks as if the weightiest rule alone decides: the others count as well, by "
            "their weights.",
        ),
        Mistake(
            lambda kept, weights: _ranks(_totals((kept >= 1).to(weights), weights)),
            "It looks as if a rule kept by half counts nothing: it counts by half.",
        ),
        Mistake(
            lambda kept, weights: _ranks(_totals((kept > 0).to(weights), weights)),
            "It looks as if a rule kept by half counts in full: it counts by half.",
        ),
        Mistake(
            _totals,
            "These are the totals: a response's rank is 1 and the number of totals above its own.",
        ),
    ),
    use="With it the written rules rank in place of people, and the reward model of notebook 03 "
    "learns from that.",
)

# ---- the checker of a rule -----------------------------------------------------------------------


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def _found(words: Sequence[str], phrases: Sequence[str]) -> Iterator[int]:
    """The numbers of the words that begin one of the phrases."""
    for phrase in phrases:
        sought = phrase.split()
        yield from (i for i in range(len(words)) if words[i : i + len(sought)] == sought)


def _before(words: Sequence[str], i: int, reach: int = REACH) -> Sequence[str]:
    return words[max(0, i - reach) : i]


def _says(
    words: Sequence[str],
    phrases: Sequence[str],
    negations: Sequence[str],
    where: Callable = _before,
) -> bool:
    """Whether a phrase is there with no negation among the words where(words, i)."""
    return any(not set(where(words, i)) & set(negations) for i in _found(words, phrases))


def promises(sentence: str, phrases: Sequence[str], negations: Sequence[str]) -> bool:
    """Whether one of the phrases is in a sentence, with no negation in the four words before it."""
    return _says(_words(sentence), phrases, negations)


def _looking(where: Callable) -> Callable:
    """The checker that looks for negations elsewhere: where(words, i) in place of _before."""
    return lambda sentence, phrases, negations: _says(_words(sentence), phrases, negations, where)


def _parts_of_words(sentence, phrases, negations):
    text = sentence.lower()
    starts = [m.start() for phrase in phrases for m in re.finditer(re.escape(phrase), text)]
    return any(not set(_words(text[:start])[-REACH:]) & set(negations) for start in starts)


def _first_places(sentence, phrases, negations):
    words = _words(sentence)
    first = [next(_found(words, [phrase]), None) for phrase in phrases]
    return any(i is not None and not set(_before(words, i)) & set(negations) for i in first)


def _sentence(text: str, *phrases: str) -> dict[str, object]:
    return {
        "sentence": text,
        "phrases": phrases or ("promise", "full refund", "guarantee"),
        "negations": ("no", "not", "never", "cannot"),
    }


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
        Case("denied four words before", _sentence("We cannot give you a full refund.")),
        Case(
            "denied, then given",
            _sentence("We cannot promise it today but we promise it for Monday.", "promise"),
        ),
        Case(
            "a negation five words before",
            _sentence("It is not our fault but we guarantee a new one."),
        ),
        Case("a phrase first, a negation last", _sentence("Full refund for you, and why not!")),
    ),
    mistakes=(
        Mistake(
            _looking(lambda words, i: ()),
            'It looks as if negations are not seen: "we cannot promise" promises nothing.',
        ),
        Mistake(
            _looking(lambda words, i: _before(words, i, 1)),
            "It looks as if fewer than four words before a phrase were looked at: those "
            "before place i are words[max(0, i - 4) : i].",
        ),
        Mistake(
            _looking(lambda words, i: _before(words, i, REACH + 1)),
            "It looks as if five words before a phrase were looked at: four were asked for.",
        ),
        Mistake(
            _looking(lambda words, i: words[i - REACH : i]),
            "Near the front of a sentence, i - 4 is below 0, and such a slice counts from the "
            "back and is mostly empty: begin it at max(0, i - 4).",
        ),
        Mistake(
            _looking(lambda words, i: [words[i - step] for step in range(1, REACH + 1)]),
            "Near the front of a sentence, words[i - 1] may be words[-1], the last word: "
            "before the first word there is none.",
        ),
        Mistake(
            _looking(lambda words, i: words[:i]),
            "It looks as if a negation anywhere before the phrase denies it: only one in the "
            "four words before it does.",
        ),
        Mistake(
            _looking(lambda words, i: words),
            "It looks as if a negation anywhere in the sentence denies the phrase: only one in "
            "the four words before it does.",
        ),
        Mistake(
            _parts_of_words,
            'It looks as if parts of longer words count, as in "compromise" or '
            '"promised": compare whole words.',
        ),
        Mistake(
            lambda sentence, phrases, negations: _says(
                re.findall(r"[\w']+", sentence), phrases, negations
            ),
            "It looks as if capitals make a difference: put the sentence into lower case first.",
        ),
        Mistake(
            lambda sentence, phrases, negations: _says(
                sentence.lower().split(), phrases, negations
            ),
            'It looks as if punctuation sticks to the words: split() gives "promise." with '
            'its full stop, which is not "promise".',
        ),
        Mistake(
            lambda sentence, phrases, negations: _says(
                _words(sentence), [w for p in phrases for w in p.split()], negations
            ),
            "It looks as if one word of a phrase is enough: all its words must be there, one "
            "after the other.",
        ),
        Mistake(
            lambda sentence, phrases, negations: promises(sentence, phrases[:1], negations),
            "It looks as if only the first phrase is tried: does a return within the loop end "
            "it too early?",
        ),
        Mistake(
            lambda sentence, phrases, negations: all(
                promises(sentence, [phrase], negations) for phrase in phrases
            ),
            "It looks as if every phrase must be there: one is enough.",
        ),
        Mistake(
            _first_places,
            "It looks as if only the first place of a phrase counts: it may be denied there "
            "and given later.",
        ),
        Mistake(
            lambda *inputs: not promises(*inputs),
            "It is turned round: True where there is a promise. (The rule is kept where there "
            "is none.)",
        ),
    ),
    use='The rule is kept where this finds nothing; what it cannot find, such as "it is on us", '
    "a policy is free to learn.",
)
