"""Exercises of notebook 06: how far a run fell from its best, and the worth of best-of-n."""

import math

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake

# ---- how far a run fell --------------------------------------------------------------------------


def _means(marks: Tensor, before: int, behind: int) -> Tensor:
    """The mean of each mark with those `before` and `behind` it, as far as there are any."""
    return torch.stack(
        [marks[max(0, u - before) : u + behind + 1].mean() for u in range(len(marks))]
    )


def _centred(marks: Tensor, window: int) -> Tensor:
    return _means(marks, window // 2, window // 2)


def _share(peak: Tensor, end: Tensor, start: Tensor) -> Tensor:
    return torch.where(peak > start, (peak - end) / (peak - start), torch.nan)


def fallen(marks: Tensor, window: int) -> Tensor:
    """The share of what a run won that it lost again, nan where nothing was won: (U,) -> ()."""
    means = _centred(marks, window)
    return _share(means.max(), means[-1], marks[0])


def _of_means(means: Tensor, marks: Tensor) -> Tensor:
    return _share(means.max(), means[-1], marks[0])


def _zeros_beyond(marks, window):
    reach = window // 2
    padded = torch.cat([torch.zeros(reach), marks, torch.zeros(reach)])
    return _of_means(padded.unfold(0, 2 * reach + 1, 1).mean(1), marks)


def _full_windows(marks, window):
    return _of_means(marks.unfold(0, 2 * (window // 2) + 1, 1).mean(1), marks)


def _by_the_peak(marks, window):
    means = _centred(marks, window)
    return torch.where(means.max() > marks[0], 1 - means[-1] / means.max(), torch.nan)


def _in_points(marks, window):
    means = _centred(marks, window)
    return torch.where(means.max() > marks[0], means.max() - means[-1], torch.nan)


def _unguarded(marks, window):
    means = _centred(marks, window)
    return (means.max() - means[-1]) / (means.max() - marks[0])


def _lowest_since(marks, window):
    means = _centred(marks, window)
    return _share(means.max(), means[int(means.argmax()) :].min(), marks[0])


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
    ),
    mistakes=(
        Mistake(
            lambda marks, window: _share(marks.max(), marks[-1], marks[0]),
            "It looks as if nothing was smoothed: the best of many noisy updates is mostly "
            "luck, and every run would seem to have fallen. Take peak and end of the running "
            "mean.",
        ),
        Mistake(
            lambda marks, window: _share(_centred(marks, window).max(), marks[-1], marks[0]),
            "The peak is that of the running mean, but the end is the last mark itself: take "
            "both from the running mean.",
        ),
        Mistake(
            lambda marks, window: _share(marks.max(), _centred(marks, window)[-1], marks[0]),
            "The end is that of the running mean, but the peak is the best mark itself, a "
            "lucky update: take both from the running mean.",
        ),
        Mistake(
            lambda marks, window: _of_means(_means(marks, window - 1, 0), marks),
            "It looks as if each mean looks back only: take window // 2 marks on either "
            "side, as far as there are any.",
        ),
        Mistake(
            lambda marks, window: _of_means(_means(marks, window // 2, window // 2 - 1), marks),
            "It looks as if the last mark of each window is missing: a slice ends before its "
            "stop, so it is marks[u - half : u + half + 1].",
        ),
        Mistake(
            lambda marks, window: _of_means(
                _means(marks, window // 2, window - window // 2 - 1), marks
            ),
            "With an even window it looks lopsided: take window // 2 marks on either side, "
            "which is one more than the window says.",
        ),
        Mistake(
            lambda marks, window: _of_means(_means(marks, window, window), marks),
            "It looks as if each mean has `window` marks on either side: take window // 2.",
        ),
        Mistake(
            _zeros_beyond,
            "It looks as if zeros were taken for the marks beyond either end: divide by the "
            "number of marks that there are.",
        ),
        Mistake(
            _full_windows,
            "It looks as if the running mean has no value near the ends, where the window is "
            "cut short: take the mean of the marks that there are, or the end is missed.",
        ),
        Mistake(
            lambda marks, window: _share(
                _centred(marks, window).max(), *_centred(marks, window)[[-1, 0]]
            ),
            "It looks as if the start was smoothed as well: the mean of the first updates "
            "holds some of what was won. The start is the first mark itself.",
        ),
        Mistake(
            _by_the_peak,
            "It looks as if the fall was divided by the peak: divide by what was won, the "
            "peak less the start.",
        ),
        Mistake(
            _in_points,
            "It looks like a fall in points: divide by what was won, the peak less the start, "
            "so that runs can be compared.",
        ),
        Mistake(
            lambda marks, window: 1 - fallen(marks, window),
            "It looks like the share that was kept: 0 is a run that lost nothing.",
        ),
        Mistake(
            lambda marks, window: -fallen(marks, window),
            "The sign is turned round: a fall is above 0, peak less end.",
        ),
        Mistake(
            _lowest_since,
            "It looks as if the lowest mean since the peak was taken for the end: take the "
            "last one.",
        ),
        Mistake(
            _unguarded,
            "Where the peak is no higher than the start, nothing was won and no share of it "
            "can be lost: return nan there.",
        ),
        Mistake(
            lambda marks, window: fallen(marks, window).nan_to_num(0.0),
            "Where nothing was won it gives 0, as if such a run had kept all: return nan, "
            "which no table takes for a good result.",
        ),
    ),
    use="0 kept its best, 1 lost all that it won, and above 1 it ended below where it began.",
)

# ---- best-of-n -----------------------------------------------------------------------------------


def _weighed(marks: Tensor, order: Tensor, weight, n: int) -> Tensor:
    """The marks in this order, each times weight(i, M, n), i from 1, summed."""
    M = len(marks)
    weights = torch.tensor([weight(i, M, n) for i in range(1, M + 1)])
    return (weights * marks[order]).sum()


def _share_of_subsets(i: int, M: int, n: int) -> float:
    return math.comb(i - 1, n - 1) / math.comb(M, n)


def _in_blocks(scores, marks, n):
    blocks = len(scores) // n
    scores, marks = (x[: blocks * n].view(blocks, n) for x in (scores, marks))
    return marks.gather(1, scores.argmax(1, keepdim=True)).mean()


BEST_OF_N_VALUE = Exercise(
    "best_of_n_value",
    maths.best_of_n_value,
    cases=(
        Case(
            "best of two, from four",
            {
                "scores": torch.tensor([0.3, 2.0, -1.0, 0.9]),
                "marks": torch.tensor([7.0, 4.0, 1.0, 6.0]),
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
                "marks": torch.tensor([5.0, 1.0, 3.0]),
                "n": 1,
            },
        ),
        Case(
            "best of all that there are",
            {
                "scores": torch.tensor([0.5, -0.2, 1.0]),
                "marks": torch.tensor([5.0, 1.0, 3.0]),
                "n": 3,
            },
        ),
    ),
    mistakes=(
        Mistake(
            lambda scores, marks, n: maths.best_of_n_value(marks, marks, n),
            "It looks as if you sorted by the mark: the reward model picks, and it knows "
            "nothing but its score. Sorted by the mark, best-of-n could never be hacked.",
        ),
        Mistake(
            lambda scores, marks, n: maths.best_of_n_value(scores, scores, n),
            "It looks like the expected score of the best-scored: that rises whatever happens. "
            "The judge's mark of it is wanted.",
        ),
        Mistake(
            lambda scores, marks, n: marks[scores[:n].argmax()],
            "It looks as if only the first n were tried: take the mean over all ways to draw "
            "n of the M.",
        ),
        Mistake(
            _in_blocks,
            "It looks as if the samples were cut into blocks of n. That is right on average "
            "and noisier than it need be: every subset of n counts, not the neighbours "
            "alone.",
        ),
        Mistake(
            lambda scores, marks, n: marks[scores.argmax()],
            "It looks like the mark of the best-scored of all M: with n below M it is not "
            "always among those drawn.",
        ),
        Mistake(
            lambda scores, marks, n: marks.mean(),
            "It looks like the mean mark of all samples, which is best-of-1: n does not "
            "matter in it.",
        ),
        Mistake(
            lambda scores, marks, n: marks[scores.topk(n).indices].mean(),
            "It looks like the mean mark of the n best-scored: best-of-n draws n at random "
            "and gives the best-scored of them.",
        ),
        Mistake(
            lambda scores, marks, n: maths.best_of_n_value(-scores, marks, n),
            "It looks as if the order is turned round: the lowest score comes first, with "
            "i = 1, and the highest last.",
        ),
        Mistake(
            lambda scores, marks, n: _weighed(
                marks, torch.arange(len(marks)), _share_of_subsets, n
            ),
            "It looks as if the marks were left in their old order: sort the marks by the "
            "scores, marks[scores.argsort()].",
        ),
        Mistake(
            lambda scores, marks, n: _weighed(
                marks, scores.argsort(), lambda i, M, n: math.comb(i, n) / math.comb(M, n), n
            ),
            "It looks like C(i, n): that counts every subset of the i lowest. Sample i is the "
            "best of those that hold it and n - 1 of the i - 1 below: C(i - 1, n - 1).",
        ),
        Mistake(
            lambda scores, marks, n: _weighed(
                marks, scores.argsort(), lambda i, M, n: math.comb(i, n - 1) / math.comb(M, n), n
            ),
            "It is off by one: with i from 1 there are i - 1 samples below, and n - 1 of them "
            "are drawn, C(i - 1, n - 1). (From 0 it is C(i, n - 1).)",
        ),
        Mistake(
            lambda scores, marks, n: _weighed(
                marks, scores.argsort(), lambda i, M, n: math.comb(i - 1, n) / math.comb(M, n), n
            ),
            "It looks like C(i - 1, n): the sample itself is one of the n, so n - 1 others "
            "are drawn from below it.",
        ),
        Mistake(
            lambda scores, marks, n: _weighed(
                marks, scores.argsort(), lambda i, M, n: math.comb(i - 1, n - 1), n
            ),
            "It looks as if the sum was not divided by C(M, n), the number of subsets.",
        ),
        Mistake(
            lambda scores, marks, n: _weighed(
                marks, scores.argsort(), lambda i, M, n: (i / M) ** n - ((i - 1) / M) ** n, n
            ),
            "It looks as if a sample could be drawn twice: n different ones are drawn, so "
            "count subsets.",
        ),
    ),
    use="One set of M samples gives the whole curve over n with no new sampling; near n = M it "
    "rests on few of them.",
)
