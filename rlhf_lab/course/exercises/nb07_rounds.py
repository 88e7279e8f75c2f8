"""Exercises of notebook 07: an interval that counts each prompt once, and a paired difference."""

import math

import torch
from torch import Tensor

from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake

Interval = tuple[Tensor, Tensor, Tensor]  # mean, lower and upper end at 95 %, each ()
NAMES = ("mean", "low", "high")


def _around(mean: Tensor, half: Tensor) -> Interval:
    return mean, mean - half, mean + half


def _over(values: Tensor, times: float = 1.96, correction: int = 1) -> Interval:
    """The mean of independent values (P,) with `times` its standard error on either side."""
    error = values.std(correction=correction) / math.sqrt(len(values))
    return _around(values.mean(), times * error)


def clustered_interval(table: Tensor) -> Interval:
    """The mean of (P, S) marks with its 95 % interval over prompts: three ()."""
    return _over(table.mean(1))


def _swapped(interval: Interval) -> Interval:
    mean, low, high = interval
    return mean, high, low


CLUSTERED_INTERVAL = Exercise(
    "clustered_interval",
    clustered_interval,
    cases=(
        Case(
            "three prompts, the responses to each alike",
            {"table": torch.tensor([[1.0, 2.0], [5.0, 6.0], [9.0, 8.0]])},
        ),
        Case(
            "four prompts, the responses to each quite different",
            {
                "table": torch.tensor(
                    [[0.0, 9.0, 3.0], [2.0, 8.0, 5.0], [7.0, 1.0, 6.0], [9.0, 4.0, 8.0]]
                )
            },
        ),
        Case(
            "five prompts, the same response twice to each",
            {"table": torch.tensor([[4.0, 4.0], [7.0, 7.0], [3.0, 3.0], [9.0, 9.0], [6.0, 6.0]])},
        ),
    ),
    mistakes=(
        Mistake(
            lambda table: _over(table.flatten()),
            "It looks as if all P * S marks were independent. Responses to one prompt are "
            "good or bad together: with S copies of each response the interval would shrink, "
            "and nothing more would be known. Take the mean of each prompt first.",
        ),
        Mistake(
            lambda table: _around(
                table.mean(), 1.96 * table.mean(1).std() / math.sqrt(table.numel())
            ),
            "The deviation is that of the prompts' means, but it was divided by the root of "
            "all P * S marks: there are P means.",
        ),
        Mistake(
            lambda table: _around(table.mean(), 1.96 * table.std() / math.sqrt(len(table))),
            "It divides by the root of P, but the deviation is that of all P * S marks: take "
            "the deviation of the prompts' means.",
        ),
        Mistake(
            lambda table: _over(table.mean(1), correction=0),
            "It looks like the population's deviation: the P prompts are a sample, so the "
            "squares are divided by P - 1, which is what .std() does by itself.",
        ),
        Mistake(
            lambda table: _around(table.mean(), 1.96 * table.mean(1).std() / len(table)),
            "It looks as if the deviation was divided by P: the mean's standard error is the "
            "deviation divided by the root of P.",
        ),
        Mistake(
            lambda table: _around(table.mean(), 1.96 * table.mean(1).var() / math.sqrt(len(table))),
            "It looks as if the variance stands for the standard deviation: take its root.",
        ),
        Mistake(
            lambda table: _around(table.mean(), 1.96 * table.mean(1).std()),
            "It looks like the standard deviation of the prompts' means: it says where the "
            "next prompt may lie. For the mean over P prompts divide it by the root of P.",
        ),
        Mistake(
            lambda table: _over(table.mean(1), times=1.0),
            "It looks like one standard error on either side, which holds the true mean in "
            "about two cases of three: 95 % takes 1.96 of them.",
        ),
        Mistake(
            lambda table: _over(table.mean(1), times=2.0),
            "It looks as if 2 stands for 1.96. It hardly matters, but the numbers would not "
            "be those of the lab.",
        ),
        Mistake(
            lambda table: _over(table.mean(1), times=0.98),
            "It looks as if the whole interval is 1.96 standard errors wide: that much goes "
            "to either side.",
        ),
        Mistake(
            lambda table: _over(table.mean(0)),
            "It looks as if the mean was taken over the prompts: a row is a prompt, so take "
            "the mean of each row, .mean(1).",
        ),
        Mistake(
            lambda table: _around(table.mean(), 1.96 * table.std(1).mean() / math.sqrt(len(table))),
            "It looks as if the deviation was taken within each prompt: what counts is how "
            "far the prompts' means lie apart.",
        ),
        Mistake(
            lambda table: _swapped(clustered_interval(table)),
            "The ends changed places: mean, then the lower end, then the upper one.",
        ),
    ),
    use="The lab's mean marks have this interval: more prompts narrow it without end, more "
    "responses to the same prompts do not.",
    outputs=NAMES,
)


# ---- the difference of two models ----------------------------------------------------------------


def paired_difference(first: Tensor, second: Tensor) -> Interval:
    """How much higher the first one's marks are, with the 95 % interval over prompts: two (P, S)
    on the same prompts -> three ()."""
    return clustered_interval(first - second)


def _halves(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Half the interval of either mean by itself."""
    return tuple((high - low) / 2 for _, low, high in map(clustered_interval, (first, second)))


def _unpaired(first, second):
    one, other = _halves(first, second)
    return _around(first.mean() - second.mean(), (one.square() + other.square()).sqrt())


def _halves_added(first, second):
    one, other = _halves(first, second)
    return _around(first.mean() - second.mean(), one + other)


def _end_from_end(first, second):
    one, other = _halves(first, second)
    return _around(first.mean() - second.mean(), one - other)


def _of_differences(half):
    """The right mean, with half(d) on either side: d (P,), the differences prompt by prompt."""

    def interval(first, second):
        differences = (first - second).mean(1)
        return _around(differences.mean(), half(differences))

    return interval


PAIRED_DIFFERENCE = Exercise(
    "paired_difference",
    paired_difference,
    cases=(
        Case(
            "a small lead on prompts that are hard for both or easy for both",
            {
                "first": torch.tensor([[2.0, 3.0], [6.0, 6.0], [9.5, 9.0]]),
                "second": torch.tensor([[1.0, 2.5], [5.0, 6.5], [8.0, 9.0]]),
            },
        ),
        Case(
            "a defeat",
            {
                "first": torch.tensor([[3.0, 2.0], [1.0, 1.5], [6.0, 5.0], [4.0, 4.0]]),
                "second": torch.tensor([[5.0, 4.5], [4.0, 3.0], [6.5, 4.5], [8.0, 7.5]]),
            },
        ),
        Case(
            "two models that are good at different prompts",
            {
                "first": torch.tensor(
                    [[8.0, 9.0, 7.0], [2.0, 3.0, 4.0], [6.0, 5.0, 7.0], [1.0, 0.0, 2.0]]
                ),
                "second": torch.tensor(
                    [[3.0, 2.0, 1.0], [7.0, 8.0, 6.0], [2.0, 4.0, 3.0], [6.0, 5.0, 7.0]]
                ),
            },
        ),
    ),
    mistakes=(
        Mistake(
            _unpaired,
            "It looks as if the variances of two independent means were added. Both answered "
            "the same prompts: take the difference of each prompt first, and how hard the "
            "prompt is cancels out.",
        ),
        Mistake(
            _halves_added,
            "It looks as if the two intervals were added, as if both means erred at once and "
            "in opposite directions: take the difference of each prompt, and its interval.",
        ),
        Mistake(
            _end_from_end,
            "It looks as if one interval was subtracted from the other, end by end: what is "
            "unsure in two means does not cancel that way. Take the difference of each "
            "prompt, and its interval.",
        ),
        Mistake(
            lambda first, second: paired_difference(second, first),
            "The sign is turned round: the first one's marks less the second one's, so that "
            "above 0 the first is better.",
        ),
        Mistake(
            lambda first, second: _over((first - second).flatten()),
            "The differences are right, but all P * S of them were taken as independent: take "
            "the mean of each prompt first.",
        ),
        Mistake(
            _of_differences(lambda d: 1.96 * d.std(correction=0) / math.sqrt(len(d))),
            "It looks like the population's deviation of the differences: divide the squares "
            "by P - 1, which is what .std() does by itself.",
        ),
        Mistake(
            _of_differences(lambda d: 1.96 * d.std()),
            "It looks like the standard deviation of the differences: for their mean divide "
            "it by the root of P.",
        ),
        Mistake(
            _of_differences(lambda d: 1.96 * d.std() / len(d)),
            "It looks as if the deviation was divided by P: divide it by the root of P.",
        ),
        Mistake(
            _of_differences(lambda d: d.std() / math.sqrt(len(d))),
            "It looks like one standard error on either side: 95 % takes 1.96 of them.",
        ),
        Mistake(
            lambda first, second: _over((first - second).abs().mean(1)),
            "It looks as if the sign of each difference was dropped: then even two equal "
            "models would differ.",
        ),
        Mistake(
            lambda first, second: clustered_interval((first - second).sign()),
            "It looks as if wins less defeats were counted: here a difference counts by its "
            "points.",
        ),
        Mistake(
            lambda first, second: _over((first - second).mean(0)),
            "It looks as if the mean was taken over the prompts: a row is a prompt, so take "
            "the mean of each row, .mean(1).",
        ),
        Mistake(
            lambda first, second: _swapped(paired_difference(first, second)),
            "The ends changed places: mean difference, then the lower end, then the upper one.",
        ),
    ),
    use="If it lies above 0 the first is better, even where the two models' own intervals overlap.",
    outputs=NAMES,
)
