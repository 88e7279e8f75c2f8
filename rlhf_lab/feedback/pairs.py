"""Rankings as comparisons of two responses, and how often two rankings give the same order.

A comparison is 1, 0 or -1: the first response of the pair is better, both are alike, the second is
better. Two that agree count 1, a preference against a tie counts half, two opposite orders count 0.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import overload

import numpy as np

from rlhf_lab.feedback.entry import Entry
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.records import Ranking

Source = FeedbackStore | Iterable[Entry | Ranking]
Pair = tuple[str, str]  # two different responses, in alphabetical order

CHANCE_PICKS = ("random", "common")  # prompts that nobody's answers and no model had a say in


@overload
def rankings_in(
    source: FeedbackStore | Iterable[Entry], picks: Sequence[str] | None = None
) -> list[Entry]: ...


@overload
def rankings_in(source: Source, picks: Sequence[str] | None = None) -> list[Entry | Ranking]: ...


def rankings_in(source: Source, picks: Sequence[str] | None = None) -> Sequence[Entry | Ranking]:
    """What was ranked, oldest first: without skips and flags, nor what was taken back.

    picks: only prompts chosen in one of these ways. A plain Ranking does not say how its prompt was
    chosen and counts as picked at random.
    """
    rows: Iterable[Entry | Ranking] = (
        source.entries() if isinstance(source, FeedbackStore) else source
    )
    return [
        row
        for row in rows
        if row.ranks and (picks is None or getattr(row, "pick", "random") in picks)
    ]


def comparisons(ranking: Entry | Ranking) -> dict[Pair, int]:
    """The order of every two responses that were compared: the whole of what a ranking says.

    A ranked response beats an unranked one; two unranked ones are not compared.
    """
    signs: dict[Pair, int] = {}
    ranked = sorted(zip(ranking.responses, ranking.ranks, strict=True), key=lambda row: row[0])
    for (first, i), (second, j) in combinations(ranked, 2):
        if first != second and (i, j) != (None, None):
            signs.setdefault((first, second), _order(i, j))
    return signs


def agreed(first: dict[Pair, int], second: dict[Pair, int]) -> tuple[float, int]:
    """How many of the pairs that both compared they order alike, ties half; and how many pairs."""
    shared = first.keys() & second.keys()
    return sum(1 - abs(first[pair] - second[pair]) / 2 for pair in shared), len(shared)


def _order(i: int | None, j: int | None) -> int:
    """1 if rank i is better than rank j, -1 if worse, 0 if equal."""
    if i is None or j is None:
        return -1 if i is None else 1
    return int(np.sign(j - i))
