"""How much a number of ratings of a sentence is worth: how reliable their mean is, and how often
it predicts comparisons by other people.

Reliability is the correlation of two means, each of k different ratings of the same sentences. It
grows with k as Spearman and Brown found (1910): the mean of n times as many ratings has

    n r / (1 + (n - 1) r)

if rating errors are independent. It also grows with the range of the sentences: it is lower among
praise alone, or blame alone. Accuracy on comparisons means the same for any range.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlhf_lab.errors import UserError
from rlhf_lab.tasks.film_reviews.rated_pairs import Pairs, accuracy, leans
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence


def spearman_brown(r: float, times: float) -> float:
    """The reliability of `times` as many ratings, if the reliability of one set is r."""
    return times * r / (1 + (times - 1) * r)


def split_half(sentences: Sequence[Sentence], k: int, seed: int = 0) -> float:
    """The reliability of the mean of k ratings: the correlation over the sentences of two
    such means, each of different ratings, drawn at random.

    Raises UserError if a sentence has fewer than 2 k ratings.
    """
    first, rest = deal(sentences, k, seed)
    second, _ = deal(rest, k, seed + 1, left=0)
    one, other = ([sentence.mean for sentence in half] for half in (first, second))
    return float(np.corrcoef(one, other)[0, 1])


def worth(sentences: Sequence[Sentence], k: int, seed: int = 0) -> Pairs:
    """Accuracy of the mean of k ratings, drawn at random, on comparisons drawn from the others.

    Raises UserError if a sentence has no more than k ratings.
    """
    known, rest = deal(sentences, k, seed)
    found = accuracy([sentence.mean for sentence in known], rest)
    return replace(found, leans=leans(sentences))


def deal(
    sentences: Sequence[Sentence], k: int, seed: int = 0, left: int = 1
) -> tuple[list[Sentence], list[Sentence]]:
    """The sentences with k of their ratings, drawn at random, and the sentences with the rest.

    With the same seed, k + 1 ratings begin with the same k. Raises UserError if a sentence has
    fewer than k + `left` ratings.
    """
    taken, rest = [], []
    for one in sentences:
        if len(one.ratings) < k + left:
            raise UserError(
                f"sentence {one.id} has {len(one.ratings)} ratings: too few to take "
                f"{k} and leave {left}; use fewer ratings"
            )
        ratings = list(one.ratings)
        random.Random(f"ratings/{seed}/{one.id}").shuffle(ratings)
        taken.append(replace(one, ratings=tuple(ratings[:k])))
        rest.append(replace(one, ratings=tuple(ratings[k:])))
    return taken, rest
