"""Rated sentences as data for a reward model: sides that share nothing, and rankings.

Nobody asked for these sentences, so all have the same prompt, and a sentence is a response to it.
A ranking has K sentences, each with one single rating by another labeller: the highest is best,
equal ones tie. So a ranking is as noisy as labellers are, and costs K ratings.
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
    """Sentences to train on, to test on, and for a model that is to judge what was trained."""

    train: list[Sentence]
    test: list[Sentence]
    judge: list[Sentence]


def split(sentences: Sequence[Sentence], seed: int = 0) -> Sides:
    """Divide the sentences by whole sheets, so that no sentence and, as far as is known, no
    labeller's sheet is on two sides. A text that occurs twice stays on its first side alone. (Which
    review a sentence is of is not known.)

    Every study uses the same seed, or the judge's side has been trained on before.
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
    """So many sentences at random; with the same seed fewer are among more. Raises UserError if
    there are not so many."""
    if count > len(sentences):
        raise UserError(f"{count:,} sentences asked for, and there are {len(sentences):,}")
    order = list(sentences)
    random.Random(f"ratings/some/{seed}").shuffle(order)
    return order[:count]


def rankings(
    sentences: Sequence[Sentence], ratings: int, seed: int = 0, size: int = K
) -> list[Ranking]:
    """Rankings that use so many single ratings of each sentence: in as many rounds, all sentences
    are put into new groups of `size` at random, and ranked by their next rating.

    The last group of a round may be smaller, and a single sentence is left out. With the same seed
    the first rounds of more ratings are those of fewer. Raises UserError if a sentence has too few
    ratings.
    """
    dealt, _ = deal(sentences, ratings, seed, left=0)
    return _grouped(dealt, ratings, seed, size, lambda one, turn: one.ratings[turn])


def rankings_by_mean(
    sentences: Sequence[Sentence], rounds: int, seed: int = 0, size: int = K
) -> list[Ranking]:
    """Rankings by the mean of all ratings that a sentence got, in so many rounds of new groups:
    what fifteen people and more think together, for a model that is to judge others."""
    return _grouped(sentences, rounds, seed, size, lambda one, turn: one.mean)


def demonstrations(sentences: Sequence[Sentence]) -> list[Demonstration]:
    """The sentences as responses to learn to write, ratings left aside."""
    return [Demonstration(Prompt(f"review-{one.id}", PROMPT), one.text) for one in sentences]


def _grouped(
    sentences: Sequence[Sentence],
    rounds: int,
    seed: int,
    size: int,
    value: Callable[[Sentence, int], float],
) -> list[Ranking]:
    """In every round all sentences in new groups at random, ranked by their value of that round."""
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
