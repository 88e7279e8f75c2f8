"""Rated sentences as data for a reward model: sides that share nothing, and rankings.

The sentences answer no prompt, so all get the same one, and each is a response to it. A ranking has
K sentences, each with a single rating by a different labeller: the highest is best, equal ones tie.
So a ranking is as noisy as labellers are, and costs K ratings.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlhf_lab.errors import UserError
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence
from rlhf_lab.tasks.film_reviews.split_half import deal

PROMPT = "A line from a film review:"
K = 4  # sentences in a ranking
TRAIN, TEST = 0.6, 0.15  # shares of the sheets; the rest is the judge's


@dataclass(frozen=True)
class Sides:
    """Sentences to train on, to test on, and to train a model that judges the trained one."""

    train: list[Sentence]
    test: list[Sentence]
    judge: list[Sentence]


def split(sentences: Sequence[Sentence], seed: int = 0) -> Sides:
    """Split the sentences by whole sheets, so that no sentence and, as far as is known, no
    labeller's sheet is on two sides. A text that occurs twice stays only on its first side. (It is
    not known which review a sentence is from.)

    Use the same seed in every study: otherwise models may be trained on the judge's side.
    """
    sheets = sorted({one.sheet for one in sentences})
    random.Random(f"ratings/sides/{seed}").shuffle(sheets)
    ends = round(TRAIN * len(sheets)), round((TRAIN + TEST) * len(sheets))
    parts, seen = [], set()
    for chosen in (sheets[: ends[0]], sheets[ends[0] : ends[1]], sheets[ends[1] :]):
        mine = set(chosen)
        part = [one for one in sentences if one.sheet in mine and _words(one) not in seen]
        seen |= {_words(one) for one in part}
        parts.append(part)
    return Sides(*parts)


def some(sentences: Sequence[Sentence], count: int, seed: int = 0) -> list[Sentence]:
    """`count` sentences at random; with the same seed, a larger count adds to a smaller one. Raises
    UserError if there are fewer than that."""
    if count > len(sentences):
        raise UserError(f"there are {len(sentences):,} sentences, fewer than {count:,}: take fewer")
    order = list(sentences)
    random.Random(f"ratings/some/{seed}").shuffle(order)
    return order[:count]


def rankings(
    sentences: Sequence[Sentence], ratings: int, seed: int = 0, size: int = K
) -> list[Ranking]:
    """Rankings that use `ratings` single ratings of each sentence: in each of as many rounds, all
    sentences are put into new random groups of `size`, and ranked by their next rating.

    The last group of a round may be smaller; a sentence alone in it is left out. With the same
    seed, more ratings add rounds and keep the first ones. Raises UserError if a sentence has too
    few ratings.
    """
    dealt, _ = deal(sentences, ratings, seed, left=0)
    return _grouped(dealt, ratings, seed, size, lambda one, turn: one.ratings[turn])


def rankings_by_mean(
    sentences: Sequence[Sentence], rounds: int, seed: int = 0, size: int = K
) -> list[Ranking]:
    """Rankings by the mean of all ratings of a sentence, in `rounds` rounds of new groups: the
    joint opinion of fifteen people or more, to train a model that judges others."""
    return _grouped(sentences, rounds, seed, size, lambda one, turn: one.mean)


def demonstrations(sentences: Sequence[Sentence]) -> list[Demonstration]:
    """The sentences as responses to imitate, without their ratings."""
    return [Demonstration(Prompt(f"review-{one.id}", PROMPT), one.text) for one in sentences]


def _grouped(
    sentences: Sequence[Sentence],
    rounds: int,
    seed: int,
    size: int,
    value: Callable[[Sentence, int], float],
) -> list[Ranking]:
    """In every round, all sentences in new random groups, ranked by their value in that round."""
    drawn = []
    for turn in range(rounds):
        order = list(sentences)
        random.Random(f"ratings/groups/{seed}/{turn}").shuffle(order)
        groups = [order[start : start + size] for start in range(0, len(order), size)]
        drawn += [
            _ranking(group, [value(one, turn) for one in group], f"reviews-{seed}-{turn}-{number}")
            for number, group in enumerate(groups)
            if len(group) > 1
        ]
    return drawn


def _ranking(group: Sequence[Sentence], given: Sequence[float], id: str) -> Ranking:
    ranks = tuple(1 + sum(other > rating for other in given) for rating in given)
    return Ranking(Prompt(id, PROMPT), tuple(one.text for one in group), ranks)


def _words(sentence: Sentence) -> str:
    return "".join(filter(str.isalnum, sentence.text.lower()))
