"""Comparisons drawn from single ratings, and the best accuracy that anybody can have on them.

One rating is drawn of each of two sentences on different sheets (whose labellers differ, as far as
is known). The sentence with the higher rating is preferred; equal ratings count half either way, so
that guessing gets 0.5:

    preference(i, j) = P(rating of i > rating of j) + P(equal) / 2

Every sentence is paired with every sentence on another sheet, and no draw is simulated: the
accuracy of an opinion is computed exactly from the ratings. Somebody who knows every preference p
follows it and is right in max(p, 1 - p) of the draws. The mean of that over pairs is the ceiling:
the rest is disagreement among labellers.

But the preferences are not known, only 15 to 29 ratings of each sentence. The same ratings cannot
both choose the preferred sentence and test that choice, as noise would be taken for preference:

    high    max(p, 1 - p) with p from all ratings: too high, as noise inflates |p - 1/2|
    low     follow the preference by all *other* ratings and test it on the two left out, in turn
            for every two: a fair test, but too low, as the others sometimes mislead

Let the estimate of p have the error e. If preferences near 1/2 are about evenly spread, the two
bounds are off by the same amount: the integral of |d + e| - |d| over d = p - 1/2 is e^2, and so is
that of |d| - d sign(d + e). So the middle of the two is taken as the ceiling. The tests compare it
with a known ceiling.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from rlhf_lab.errors import UserError
from rlhf_lab.intervals import DRAWS, Interval, times_drawn
from rlhf_lab.tasks.film_reviews.ratings_file import HIGHEST, LOWEST, Sentence

VALUES = np.arange(LOWEST, HIGHEST + 1)
# WINS[a, b]: what rating a gets against rating b.
WINS = (VALUES[:, None] > VALUES) + (VALUES[:, None] == VALUES) / 2  # (9, 9)


@dataclass(frozen=True)
class Pairs:
    """Comparisons of sentences on Q sheets. pairs (Q, Q): how many compare a sentence on sheet q
    with one on sheet r; right (Q, Q): how many of these are expected to be right. leans (Q,): true
    for sheets whose mean rating is above 0.

    Intervals are 95 %, by bootstrap over sheets, separately for sheets that lean to praise and to
    blame: the study's sheets are nearly all praise or nearly all blame, and its authors, not
    chance, chose how many there are of each.
    """

    right: np.ndarray
    pairs: np.ndarray
    leans: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(self.right.sum() / self.pairs.sum())

    @property
    def interval(self) -> Interval:
        """Accuracy with its interval."""
        return _share(self.right, self.pairs, self.leans)

    @property
    def alike(self) -> "Pairs":
        """The comparisons of two sheets that lean to the same side, which nobody can settle just by
        telling praise from blame."""
        same = self.leans[:, None] == self.leans
        return Pairs(self.right * same, self.pairs * same, self.leans)


@dataclass(frozen=True)
class Ceiling:
    """The best possible accuracy, between `low` and `high` (see the top of this module)."""

    low: Pairs
    high: Pairs

    @property
    def middle(self) -> Pairs:
        return replace(self.low, right=(self.low.right + self.high.right) / 2)

    @property
    def alike(self) -> "Ceiling":
        return Ceiling(self.low.alike, self.high.alike)


def accuracy(scores: ArrayLike, sentences: Sequence[Sentence]) -> Pairs:
    """The accuracy of preferring the sentence with the higher score, neither if they are equal.
    scores: (S,)."""
    given = np.asarray(scores, float)
    if given.shape != (len(sentences),):
        raise ValueError(f"scores have shape {given.shape}: give {len(sentences)}, one a sentence")
    ordered, chances = given[_order(sentences)], _chances(sentences)

    def right(rows: slice, columns: slice) -> np.ndarray:
        ahead = np.sign(ordered[rows, None] - ordered[columns])
        return (0.5 + ahead * (chances[rows] @ WINS @ chances[columns].T - 0.5)).sum(0)

    return _tabulate(sentences, right)


def ceiling(sentences: Sequence[Sentence]) -> Ceiling:
    """The ceiling of comparisons drawn from these ratings, bounded from below and from above.

    It takes some 15 s for 10,000 sentences, and grows with the square of their number.
    """
    chances = _chances(sentences)

    def high(rows: slice, columns: slice) -> np.ndarray:
        return (0.5 + np.abs(chances[rows] @ WINS @ chances[columns].T - 0.5)).sum(0)

    return Ceiling(_tabulate(sentences, _left_out(_counts(sentences))), _tabulate(sentences, high))


def ties(sentences: Sequence[Sentence]) -> Pairs:
    """Comparisons in which both ratings are equal. Without ties, an accuracy a becomes
    1/2 + (a - 1/2) / (1 - ties), and `share_of_ceiling` does not change."""
    chances = _chances(sentences)
    return _tabulate(sentences, lambda rows, columns: (chances[rows] @ chances[columns].T).sum(0))


def share_of_ceiling(found: Pairs, best: Ceiling) -> Interval:
    """How far an opinion gets from chance to the ceiling, (accuracy - 1/2) /
    (ceiling - 1/2), with its interval; both on the same sentences."""
    above, most = (one.right - one.pairs / 2 for one in (found, best.middle))
    return _share(above, most, found.leans)


def leans(sentences: Sequence[Sentence]) -> np.ndarray:
    """Whether the mean rating of each sheet is above 0, (Q,), in the order of sheets."""
    means = np.array([one.mean for one in sentences])[_order(sentences)]
    return np.add.reduceat(means, _starts(sentences)) > 0


# ---- all pairs at once ---------------------------------------------------------------------------


def _tabulate(sentences: Sequence[Sentence], right: Callable[[slice, slice], np.ndarray]) -> Pairs:
    """right(rows, columns): for each sentence in the columns, how many of its comparisons with all
    sentences in the rows are right; both in the order of sheets."""
    starts = _starts(sentences)
    if len(starts) < 2:
        raise UserError(
            "all sentences are on one sheet, which has the same labellers throughout: give "
            "sentences of two sheets or more"
        )
    sizes = np.diff(np.append(starts, len(sentences)))
    table = np.zeros((len(starts), len(starts)))
    for q, start in enumerate(starts[:-1]):
        end = starts[q + 1]
        table[q, q + 1 :] = np.add.reduceat(
            right(slice(start, end), slice(end, None)), starts[q + 1 :] - end
        )
    return Pairs(table, np.triu(np.outer(sizes, sizes), 1), leans(sentences))


def _left_out(counts: np.ndarray) -> Callable[[slice, slice], np.ndarray]:
    """Follow the preference by all ratings except two, one of each sentence, and count how often
    these two agree with it; in turn for every two. Preferences are counted in half wins, so they
    are whole numbers."""
    ratings, halves = counts.sum(1), (2 * WINS).astype(np.int32)
    against = counts @ halves.T  # (S, 9): what each rating gets against the sentence's

    def right(rows: slice, columns: slice) -> np.ndarray:
        mine, theirs = counts[rows], counts[columns]
        even = np.outer(ratings[rows] - 1, ratings[columns] - 1)
        lead = mine @ halves @ theirs.T - even  # (I, J)
        gets = mine @ halves  # (I, 9): what the sentence's ratings get against each
        total = 0.5 * np.full(len(theirs), len(mine))
        for a in np.flatnonzero(mine.any(0)):
            share = mine[:, a] / ratings[rows]
            rest = lead - against[columns, a]
            for b in np.flatnonzero(WINS[a] != 0.5):
                says = np.sign(rest - gets[:, b, None] + halves[a, b])
                total += (WINS[a, b] - 0.5) * (share @ says) * theirs[:, b] / ratings[columns]
        return total

    return right


def _counts(sentences: Sequence[Sentence]) -> np.ndarray:
    """How often each value occurs among each sentence's ratings, (S, 9), in the order of sheets."""
    rows = [
        np.bincount(np.subtract(one.ratings, LOWEST), minlength=len(VALUES)) for one in sentences
    ]
    return np.array(rows, np.int32)[_order(sentences)]


def _chances(sentences: Sequence[Sentence]) -> np.ndarray:
    counts = _counts(sentences)
    return counts / counts.sum(1, keepdims=True)


def _order(sentences: Sequence[Sentence]) -> np.ndarray:
    return np.argsort([one.sheet for one in sentences], kind="stable")


def _starts(sentences: Sequence[Sentence]) -> np.ndarray:
    """Where each sheet begins, in the order of sheets, (Q,)."""
    return np.unique(np.sort([one.sheet for one in sentences]), return_index=True)[1]


def _share(part: np.ndarray, whole: np.ndarray, leans: np.ndarray) -> Interval:
    """The share of a table (Q, Q) in another, with its interval."""
    drawn, weight = np.zeros((DRAWS, len(leans)), int), np.ones(whole.shape)
    for side in (False, True):
        mine = leans == side
        count = max(2, mine.sum())
        drawn[:, mine] = times_drawn(max(1, mine.sum()), seed=side)
        # A sheet drawn twice cannot pair with itself: other pairs of its side get more weight.
        weight[np.ix_(mine, mine)] = count / (count - 1)
    sums = [((drawn @ (table * weight)) * drawn).sum(1) for table in (part, whole)]  # (DRAWS,)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw of one sheet only has no pairs
        low, high = np.nanquantile(sums[0] / sums[1], [0.025, 0.975])
    return float(part.sum() / whole.sum()), float(low), float(high)
