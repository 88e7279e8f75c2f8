"""Exercises of notebook 07: an interval that counts each prompt once, and a paired difference."""

import math

import torch
from scipy.special import stdtrit
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake

Interval = tuple[Tensor, Tensor, Tensor]  # mean, lower and upper end at 95 %, each ()
NAMES = ("mean", "low", "high")


def clustered_interval(
    table: Tensor,
    *,
    over: str = "prompts",
    times: float | str = 1.96,
    correction: int = 1,
    variance: bool = False,
    root: str = "P",
    centre: str = "the mean",
) -> Interval:
    """The mean of (P, S) marks with its 95 % interval over prompts: three ()."""
    S = table.shape[1]
    values = {"prompts": table.mean(1), "marks": table.flatten(), "columns": table.mean(0)}
    if over == "within":
        deviation = table.std(1, correction=correction).mean()
    elif over == "all marks":
        deviation = table.std(correction=correction)
    else:
        deviation = values[over].std(correction=correction)
    deviation = deviation.square() if variance else deviation
    count = len(values.get(over, table))
    below = {
        "P": math.sqrt(count),
        "P - 1": math.sqrt(max(count - 1, 1)),
        "no root": count,
        "nothing": 1.0,
        "P times S": math.sqrt(table.numel()),
        "S": math.sqrt(S),
    }[root]
    times = student(len(table)) if isinstance(times, str) else times
    half = times * deviation / below
    mean = table.mean()
    if centre == "range":
        return mean, table.mean(1).min(), table.mean(1).max()
    middle = mean if centre == "the mean" else table.mean(1).median()
    return middle, middle - half, middle + half


def student(count: int) -> float:
    """Standard errors on either side for 95 %, by Student's t, for the mean of `count` values."""
    return float(stdtrit(count - 1, 0.975))


INTERVAL_MISTAKES = (
    mistake(
        "It looks as if all P * S marks were independent. Responses to one prompt are "
        "good or bad together: with S copies of each response the interval would shrink, "
        "and nothing more would be known. Take the mean of each prompt first.",
        over="marks",
    ),
    mistake(
        "The deviation is that of the prompts' means, but it was divided by the root of "
        "all P * S marks: there are P means.",
        root="P times S",
    ),
    mistake(
        "It divides by the root of P, but the deviation is that of all P * S marks: take "
        "the deviation of the prompts' means.",
        over="all marks",
    ),
    mistake(
        "It looks like the population's deviation: the P prompts are a sample, so the "
        "squares are divided by P - 1, which is what .std() does by itself.",
        correction=0,
    ),
    mistake(
        "It looks as if the deviation was divided by P: the mean's standard error is the "
        "deviation divided by the root of P.",
        root="no root",
    ),
    mistake(
        "It looks as if the deviation was divided by the root of P - 1: P - 1 is for the deviation "
        "itself; divide it by the root of P.",
        root="P - 1",
    ),
    mistake(
        "It looks as if the deviation was divided by the root of S: there are P means.", root="S"
    ),
    mistake(
        "It looks as if the variance is used in place of the standard deviation: take its root.",
        variance=True,
    ),
    mistake(
        "It looks like the standard deviation of the prompts' means: it says where the "
        "next prompt may lie. For the mean over P prompts divide it by the root of P.",
        root="nothing",
    ),
    mistake(
        "It looks like one standard error on either side, which holds the true mean in "
        "about two cases of three: 95 % takes 1.96 of them.",
        times=1.0,
    ),
    mistake(
        "It looks as if 2 is used in place of 1.96. It hardly matters, but the formula says 1.96.",
        times=2.0,
    ),
    mistake(
        "It looks as if Student's t is used in place of 1.96. With few prompts that is better, and "
        "the lab's own interval uses it; the formula of this exercise says 1.96.",
        times="t",
    ),
    mistake(
        "It looks like a 90 % interval, with 1.645 standard errors: 95 % takes 1.96.", times=1.645
    ),
    mistake(
        "It looks as if the whole interval is 1.96 standard errors wide: that much goes "
        "to either side.",
        times=0.98,
    ),
    mistake(
        "It looks as if the mean was taken over the prompts: a row is a prompt, so take "
        "the mean of each row, .mean(1).",
        over="columns",
    ),
    mistake(
        "It looks as if the deviation was taken within each prompt: what counts is how "
        "far the prompts' means lie apart.",
        over="within",
    ),
    mistake("It looks as if the median is used in place of the mean.", centre="the median"),
    mistake(
        "It looks as if the ends are the lowest and the highest prompt: an interval says how far "
        "the mean may be off, and needs its standard error.",
        over="prompts",
        centre="range",
    ),
    mistake(
        "The ends are swapped: mean, then the lower end, then the upper one.",
        after=lambda answer, inputs: (answer[0], answer[2], answer[1]),
    ),
    mistake(
        "They are in the wrong order: mean, then the lower end, then the upper one.",
        after=lambda answer, inputs: (answer[1], answer[0], answer[2]),
    ),
    mistake(
        "It looks as if you return how far the ends lie from the mean: return the ends "
        "themselves, mean - half and mean + half.",
        after=lambda answer, inputs: (answer[0], answer[2] - answer[0], answer[2] - answer[0]),
    ),
)

CLUSTERED_INTERVAL = Exercise(
    "clustered_interval",
    clustered_interval,
    cases=(
        Case(
            "three prompts, the responses to each alike",
            {"table": torch.tensor([[1.0, 2.0], [5.0, 6.0], [9.5, 8.0]])},
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
    mistakes=INTERVAL_MISTAKES,
    use="The lab's mean marks have this interval, with Student's t in place of 1.96: more prompts "
    "keep narrowing it, more responses to the same prompts do not.",
    outputs=NAMES,
)


# ---- the difference of two models ----------------------------------------------------------------


def paired_difference(
    first: Tensor, second: Tensor, *, pairing: str = "by prompt", **interval
) -> Interval:
    """How much higher the first one's marks are, with the 95 % interval over prompts: two (P, S)
    on the same prompts -> three ()."""
    if pairing == "by prompt":
        return clustered_interval(first - second, **interval)
    if pairing == "without sign":
        return clustered_interval((first - second).abs(), **interval)
    if pairing == "wins":
        return clustered_interval((first - second).sign(), **interval)
    one, other = (clustered_interval(table, **interval) for table in (first, second))
    mean, a, b = one[0] - other[0], one[2] - one[0], other[2] - other[0]
    half = {
        "variances added": (a.square() + b.square()).sqrt(),
        "halves added": a + b,
        "end from end": a - b,
        "crosswise": a + b,
        "pooled": ((a.square() + b.square()) / 2).sqrt(),
    }[pairing]
    return mean, mean - half, mean + half


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
        mistake(
            "It looks as if the variances of two independent means were added. Both answered "
            "the same prompts: take the difference of each prompt first, and how hard the "
            "prompt is cancels out.",
            pairing="variances added",
        ),
        mistake(
            "It looks as if the two intervals were added, as if both means erred at once and "
            "in opposite directions: take the difference of each prompt, and its interval.",
            pairing="halves added",
        ),
        mistake(
            "It looks as if one interval was subtracted from the other, end by end: the "
            "uncertainties of two means do not cancel that way. Take the difference of each "
            "prompt, and its interval.",
            pairing="end from end",
        ),
        mistake(
            "It looks as if the two deviations were pooled. Both answered the same prompts: take "
            "the difference of each prompt first, and the deviation of those differences.",
            pairing="pooled",
        ),
        mistake(
            "The sign is reversed: the first one's marks less the second one's, so that "
            "above 0 the first is better.",
            before=lambda x: {"first": x["second"], "second": x["first"]},
        ),
        mistake(
            "It looks as if the sign of each difference was dropped: then even two equal "
            "models would differ.",
            pairing="without sign",
        ),
        mistake(
            "It looks as if wins less defeats were counted: here a difference counts by its "
            "points.",
            pairing="wins",
        ),
        *INTERVAL_MISTAKES,
    ),
    use="If it lies above 0 the first is better, even where the two models' own intervals overlap.",
    outputs=NAMES,
)
