"""Exercises of notebook 06b: how far a run fell from its best, and the value of best-of-n."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake

# ---- how far a run fell --------------------------------------------------------------------------


def _half(window: int) -> int:
    return window // 2


def fallen(
    marks: Tensor,
    window: int,
    *,
    back: Callable[[int], int] = _half,
    ahead: Callable[[int], int] = _half,
    edges: str = "fewer",
    peak: str = "mean",
    end: str = "mean",
    start: str = "mark",
    by: str = "what was won",
    nothing_won: float | None = math.nan,
) -> Tensor:
    """The share of what a run won that it lost again, nan where nothing was won: (U,) -> ()."""
    means = _running_means(marks, back(window), ahead(window), edges)
    first = {
        "mark": marks[0],
        "mean": means[0],
        "lowest": means.min(),
        "zero": torch.tensor(0.0),
        "first window": marks[:window].mean(),
    }
    top = {"mean": means.max(), "mark": marks.max()}[peak]
    last = {
        "mean": means[-1],
        "mark": marks[-1],
        "last window": marks[-window:].mean(),
        "lowest since": means[int(means.argmax()) :].min(),
    }[end]
    won = top - first[start]
    if nothing_won is not None and won <= 0:
        return torch.tensor(nothing_won)
    return (top - last) / {
        "what was won": won,
        "the end": last,
        "what is left": last - first[start],
        "nothing": 1.0,
    }[by]


def _running_means(marks: Tensor, back: int, ahead: int, edges: str) -> Tensor:
    """The mean of each mark with `back` marks before it and `ahead` after it, fewer at the ends."""
    if edges == "full windows":
        return marks.unfold(0, back + ahead + 1, 1).mean(1)
    means = []
    for u in range(len(marks)):
        seen = marks[max(0, u - back) : u + ahead + 1]
        means.append(seen.sum() / (back + ahead + 1 if edges == "zeros" else len(seen)))
    return torch.stack(means)


FALLEN = Exercise(
    "fallen",
    fallen,
    cases=(
        Case(
            "half lost again, with a lucky update on the way",
            {"marks": torch.tensor([1.0, 3.0, 4.0, 8.0, 3.0, 2.0, 1.0, 4.0, 2.0]), "window": 3},
        ),
        Case(
            "still rising, so that the end is the peak",
            {"marks": torch.tensor([1.0, 2.0, 4.0, 5.0, 7.0]), "window": 3},
        ),
        Case(
            "an even window, and an end below the start",
            {"marks": torch.tensor([2.0, 3.0, 5.0, 9.0, 5.0, 2.0, 0.0, 1.0, 1.5]), "window": 4},
        ),
        Case("nothing won", {"marks": torch.tensor([5.0, 4.0, 3.0, 3.5, 2.0, 1.0]), "window": 3}),
        Case(
            "a wide window",
            {"marks": torch.tensor([1.5, 2.0, 6.0, 4.0, 7.0, 6.5, 3.0, 4.5]), "window": 5},
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if nothing was smoothed: the best of many noisy updates is mostly "
            "luck, and every run would seem to have fallen. Take peak and end of the running "
            "mean.",
            peak="mark",
            end="mark",
        ),
        mistake(
            "The peak is that of the running mean, but the end is the last mark itself: take "
            "both from the running mean.",
            end="mark",
        ),
        mistake(
            "The end looks like the mean of the last `window` marks: it is the last of the running "
            "means, over the last mark and window // 2 before it.",
            end="last window",
        ),
        mistake(
            "The start looks like the mean of the first `window` marks: it is the first mark "
            "itself.",
            start="first window",
        ),
        mistake(
            "It looks as if the fall was divided by what is left, the end less the start: divide "
            "by "
            "what was won, the peak less the start.",
            by="what is left",
        ),
        mistake(
            "The end is that of the running mean, but the peak is the best mark itself, a "
            "lucky update: take both from the running mean.",
            peak="mark",
        ),
        mistake(
            "It looks as if each mean looks back only: take window // 2 marks on either "
            "side, as far as there are any.",
            back=lambda window: window - 1,
            ahead=lambda window: 0,
        ),
        mistake(
            "It looks as if each mean looks back only, over half the window: take window // 2 "
            "marks on either side.",
            ahead=lambda window: 0,
        ),
        mistake(
            "It looks as if each mean looks ahead only: take window // 2 marks on either side, as "
            "far as there are any.",
            back=lambda window: 0,
            ahead=lambda window: window - 1,
        ),
        mistake(
            "It looks as if the last mark of each window is missing: a slice ends before its "
            "stop, so it is marks[u - half : u + half + 1].",
            ahead=lambda window: window // 2 - 1,
        ),
        mistake(
            "With an even window it looks lopsided: take window // 2 marks on either side, "
            "which is one more than the window says.",
            ahead=lambda window: window - window // 2 - 1,
        ),
        mistake(
            "It looks as if each mean has `window` marks on either side: take window // 2.",
            back=lambda window: window,
            ahead=lambda window: window,
        ),
        mistake(
            "It looks as if zeros were taken for the marks beyond either end: divide by the "
            "number of marks that there are.",
            edges="zeros",
        ),
        mistake(
            "It looks as if the running mean has no value near the ends, where the window is "
            "cut short: take the mean of the marks that there are, or the end is missed.",
            edges="full windows",
        ),
        mistake(
            "It looks as if the start was smoothed as well: the mean of the first updates "
            "holds some of what was won. The start is the first mark itself.",
            start="mean",
        ),
        mistake(
            "It looks as if the lowest mean was taken for the start: it is the first mark.",
            start="lowest",
        ),
        mistake(
            "It looks as if the fall was divided by the peak: divide by what was won, the "
            "peak less the start.",
            start="zero",
            nothing_won=None,
        ),
        mistake(
            "It looks as if the fall was divided by the end: divide by what was won, the peak "
            "less the start.",
            by="the end",
        ),
        mistake(
            "It looks like a fall in points: divide by what was won, the peak less the start, "
            "so that runs can be compared.",
            by="nothing",
        ),
        mistake(
            "It looks like the share that was kept: 0 is a run that lost nothing.",
            after=lambda share, inputs: 1 - share,
        ),
        mistake(
            "The sign is reversed: a fall is above 0, peak less end.",
            after=lambda share, inputs: -share,
        ),
        mistake(
            "It looks like a percentage: 1, and not 100, is everything that was won.",
            after=lambda share, inputs: 100 * share,
        ),
        mistake(
            "It looks as if the lowest mean since the peak was taken for the end: take the "
            "last one.",
            end="lowest since",
        ),
        mistake(
            "Where the peak is no higher than the start, nothing was won and no share of it "
            "can be lost: return nan there.",
            nothing_won=None,
        ),
        mistake(
            "Where nothing was won it gives 0, as if such a run had kept all: return nan, "
            "which no table takes for a good result.",
            nothing_won=0.0,
        ),
    ),
    use="0 kept its best, 1 lost all that it won, and above 1 it ended below where it began.",
)

# ---- best-of-n -----------------------------------------------------------------------------------


def best_of_n_value(
    scores: Tensor,
    marks: Tensor,
    n: int,
    *,
    order: str = "scores",
    falling: bool = False,
    give: str = "marks",
    share: Callable[[int, int, int], float] = lambda i, M, n: (
        math.comb(i - 1, n - 1) / math.comb(M, n)
    ),
) -> Tensor:
    """The expected mark of the best-scored of n out of M samples: two (M,), int -> ()."""
    M = len(scores)
    by = {"scores": scores, "marks": marks, "place": torch.arange(M)}[order]
    given = marks if give == "marks" else scores
    shares = torch.tensor([float(share(i, M, n)) for i in range(1, M + 1)])
    return (shares * given[by.argsort(descending=falling)]).sum()


def _in_blocks(scores, marks, n):
    blocks = len(scores) // n
    scores, marks = (x[: blocks * n].view(blocks, n) for x in (scores, marks))
    return marks.gather(1, scores.argmax(1, keepdim=True)).mean()


BEST_OF_N_VALUE = Exercise(
    "best_of_n_value",
    best_of_n_value,
    cases=(
        Case(
            "best of two, from four",
            {
                "scores": torch.tensor([0.3, 2.0, -1.0, 0.9]),
                "marks": torch.tensor([7.0, 4.0, 2.0, 6.0]),
                "n": 2,
            },
        ),
        Case(
            "best of three, from seven",
            {
                "scores": torch.tensor([1.2, -0.4, 0.1, 2.5, 0.7, -2.0, 1.9]),
                "marks": torch.tensor([8.0, 2.0, 5.0, 3.0, 6.0, 1.0, 9.0]),
                "n": 3,
            },
        ),
        Case(
            "best of one, which is any of them",
            {
                "scores": torch.tensor([0.5, -0.2, 1.0]),
                "marks": torch.tensor([5.0, 1.5, 4.0]),
                "n": 1,
            },
        ),
        Case(
            "best of all that there are",
            {
                "scores": torch.tensor([0.5, -0.2, 1.0]),
                "marks": torch.tensor([5.0, 0.5, 3.0]),
                "n": 3,
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if you sorted by the mark: the reward model picks, and it knows "
            "nothing but its score. Sorted by the mark, best-of-n could never be hacked.",
            order="marks",
        ),
        mistake(
            "It looks like the expected score of the best-scored: that rises whatever happens. "
            "The judge's mark of it is wanted.",
            give="scores",
        ),
        mistake(
            "It looks as if only the first n were tried: take the mean over all ways to draw "
            "n of the M.",
            lambda scores, marks, n: marks[scores[:n].argmax()],
        ),
        mistake(
            "It looks as if the samples were cut into blocks of n. That is right on average "
            "and noisier than it need be: every subset of n counts, not the neighbours "
            "alone.",
            _in_blocks,
        ),
        mistake(
            "It looks like the mark of the best-scored of all M: with n below M it is not "
            "always among those drawn.",
            lambda scores, marks, n: marks[scores.argmax()],
        ),
        mistake(
            "It looks like the mean mark of all samples, which is best-of-1: n does not "
            "matter in it.",
            lambda scores, marks, n: marks.mean(),
        ),
        mistake(
            "It looks like the mean mark of the n best-scored: best-of-n draws n at random "
            "and gives the best-scored of them.",
            lambda scores, marks, n: marks[scores.topk(n).indices].mean(),
        ),
        mistake(
            "It looks as if the order is reversed: the lowest score comes first, with "
            "i = 1, and the highest last.",
            falling=True,
        ),
        mistake(
            "It looks as if the marks were left in their old order: sort the marks by the "
            "scores, marks[scores.argsort()].",
            order="place",
        ),
        mistake(
            "It looks like C(i, n): that counts every subset of the i lowest. Sample i is the "
            "best of those that hold it and n - 1 of the i - 1 below: C(i - 1, n - 1).",
            share=lambda i, M, n: math.comb(i, n) / math.comb(M, n),
        ),
        mistake(
            "It is off by one: with i from 1 there are i - 1 samples below, and n - 1 of them "
            "are drawn, C(i - 1, n - 1). (From 0 it is C(i, n - 1).)",
            share=lambda i, M, n: math.comb(i, n - 1) / math.comb(M, n),
        ),
        mistake(
            "It is off by one: with i from 0 there are i samples below, and n - 1 of them are "
            "drawn, C(i, n - 1). (C(i - 1, n - 1) is for i from 1.)",
            share=lambda i, M, n: (math.comb(i - 2, n - 1) if i > 1 else 0) / math.comb(M, n),
        ),
        mistake(
            "It looks like C(i - 1, n): the sample itself is one of the n, so n - 1 others "
            "are drawn from below it.",
            share=lambda i, M, n: math.comb(i - 1, n) / math.comb(M, n),
        ),
        mistake(
            "It looks as if the sum was not divided by C(M, n), the number of subsets.",
            share=lambda i, M, n: math.comb(i - 1, n - 1),
        ),
        mistake(
            "It looks as if the sum was divided by M, the number of samples: divide by C(M, n), "
            "the number of subsets.",
            share=lambda i, M, n: math.comb(i - 1, n - 1) / M,
        ),
        mistake(
            "It looks as if the sum was divided by C(M - 1, n - 1), the number of subsets that "
            "hold one sample: divide by C(M, n), the number of all subsets.",
            share=lambda i, M, n: math.comb(i - 1, n - 1) / math.comb(M - 1, n - 1),
        ),
        mistake(
            "It looks as if a sample could be drawn twice: n different ones are drawn, so "
            "count subsets.",
            share=lambda i, M, n: (i / M) ** n - ((i - 1) / M) ** n,
        ),
    ),
    use="One set of M samples gives the whole curve over n without new sampling; near n = M it "
    "depends on only a few of them.",
)
