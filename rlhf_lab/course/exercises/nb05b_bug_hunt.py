"""Exercises of notebook 05b: three checks of one batch that find what no curve shows."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.exercise import Case, Exercise, Inputs, mistake
from rlhf_lab.course.exercises.nb04_rewards import INF, NAN, ones_until, t


def _summed_up(each: Tensor, mask: Tensor, total: str) -> Tensor:
    """One number from a number for each token, (B, N) -> (); padding never counts."""
    real = each[mask]
    return {
        "max": real.max(),
        "min": real.min(),
        "mean": real.mean(),
        "sum": real.sum(),
        "each response": each.masked_fill(~mask, -INF).amax(-1),
    }[total]


# ---- the first log-ratio -------------------------------------------------------------------------


def first_ratio_check(
    logprobs: Tensor,
    new_logprobs: Tensor,
    mask: Tensor,
    *,
    size: Callable[[Tensor], Tensor] = torch.abs,
    total: str = "max",
) -> Tensor:
    """The largest |log-ratio| of any real token: three (B, N) -> ()."""
    return _summed_up(size((new_logprobs - logprobs).masked_fill(~mask, 0)), mask, total)


FIRST_RATIO_CHECK = Exercise(
    "first_ratio_check",
    first_ratio_check,
    cases=(
        Case(
            "one response, one token less likely",
            {
                "logprobs": t([-1.0, -0.5, -2.0]),
                "new_logprobs": t([-0.9, -0.2, -2.75]),
                "mask": ones_until(3, N=3),
            },
        ),
        Case(
            "the largest one above 0, and larger numbers on the padding",
            {
                "logprobs": t([-1.0, -3.0, -0.2, -9.0], [-0.5, -0.25, -4.0, -1.0]),
                "new_logprobs": t([-1.2, -1.5, -0.4, -1.0], [-0.75, -0.5, -0.5, -6.0]),
                "mask": ones_until(3, 2, N=4),
            },
        ),
        Case(
            "a healthy first minibatch",
            {
                "logprobs": t([-1.0, -0.5], [-2.0, -0.1]),
                "new_logprobs": t([-1.0, -0.5], [-2.0, -0.1]),
                "mask": ones_until(2, 1, N=2),
            },
        ),
        Case(
            "nan and inf on padding",
            {
                "logprobs": t([-0.7, NAN, INF, NAN], [-0.4, -1.3, -0.2, -2.0]),
                "new_logprobs": t([-1.1, 1.0, -INF, NAN], [-0.9, -1.0, -0.8, -2.35]),
                "mask": ones_until(1, 4, N=4),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if the sign is kept, so that a token that became less likely cannot be "
            "the largest: take the absolute value of each log-ratio first.",
            size=lambda x: x,
        ),
        mistake(
            "It looks as if the difference is the other way round and its sign is kept: take the "
            "absolute value of each log-ratio first.",
            size=lambda x: -x,
        ),
        mistake(
            "It looks like the mean of the |log-ratios|: one wrong token among a thousand vanishes "
            "in a mean. Take the largest.",
            total="mean",
        ),
        mistake(
            "It looks like the mean of the log-ratios: tokens that rose and those that fell cancel "
            "out. Take the largest absolute value.",
            size=lambda x: x,
            total="mean",
        ),
        mistake("It looks as if the |log-ratios| were summed: take the largest.", total="sum"),
        mistake("It looks like the smallest |log-ratio|: take the largest.", total="min"),
        mistake(
            "It looks like the largest ratio: a token that became less likely has a ratio below 1, "
            "and would never be found. Take the absolute value of the log of the ratio.",
            size=torch.exp,
        ),
        mistake(
            "It looks like the mean of the ratios: over samples of the old policy it is 1 on "
            "average whatever the new policy is, so it shows no fault. Take the largest "
            "|log-ratio|.",
            size=torch.exp,
            total="mean",
        ),
        mistake(
            "It looks like the largest |ratio - 1|: a token whose probability fell to nothing "
            "shows only 1 there. Take the absolute value of the log of the ratio.",
            size=lambda x: (x.exp() - 1).abs(),
        ),
        mistake(
            "It looks like the approximate KL, half the mean squared log-ratio: take the largest "
            "|log-ratio|.",
            size=lambda x: x.square() / 2,
            total="mean",
        ),
        mistake(
            "It looks as if the log-ratios were squared: take their absolute values.",
            size=torch.square,
        ),
        mistake(
            "It looks like the largest of each response: give one number for the batch, .max() "
            "over all real tokens.",
            total="each response",
        ),
    ),
    use="At the first minibatch it is rounding error, about 1e-5, if sampling and training see the "
    "same policy.",
    mask="mask",
)


# ---- where the score stands ----------------------------------------------------------------------


def score_position(
    rewards: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    beta: float,
    *,
    price: int = 1,
    size: Callable[[Tensor], Tensor] = torch.abs,
    counted: str = "from the last real token",
) -> Tensor:
    """How many tokens before the last real one the score stands: four (B, N) -> (B,)."""
    rest = rewards + price * beta * (logprobs - ref_logprobs)
    rest = size(rest.masked_fill(~mask, 0)).masked_fill(~mask, -INF)
    place, last = rest.argmax(-1), maths.last_index(mask)
    return {
        "from the last real token": last - place,
        "from the length": last + 1 - place,
        "from the last column": mask.shape[1] - 1 - place,
        "from the front": place,
        "the other way": place - last,
        "whether it is wrong": (last != place).long(),
        "whether it is right": (last == place).long(),
    }[counted]


def _some_scores(dice: Random) -> Inputs:
    """Three responses, each with its score on one of its tokens."""
    lengths, beta = [dice.randint(2, 5) for _ in range(3)], dice.randint(1, 4) / 20
    logprobs, ref_logprobs = (
        t(*([-dice.randint(1, 30) / 10 for _ in range(5)] for _ in lengths)) for _ in range(2)
    )
    rewards = -beta * (logprobs - ref_logprobs)
    for row, length in enumerate(lengths):
        rewards[row, dice.randrange(length)] += dice.choice((-1, 1)) * dice.randint(5, 20) / 10
    values = rewards, logprobs, ref_logprobs, ones_until(*lengths, N=5), beta
    return dict(zip(SCORE_POSITION.cases[0].inputs, values))


SCORE_POSITION = Exercise(
    "score_position",
    score_position,
    cases=(
        Case(
            "one response, the score on its last token",
            {
                "rewards": t([-0.3, 0.05, 0.4]),
                "logprobs": t([-1.0, -0.5, -0.25]),
                "ref_logprobs": t([-4.0, 0.0, -0.25]),
                "mask": ones_until(3, N=3),
                "beta": 0.1,
            },
        ),
        Case(
            "a score below 0, one token early, and one on the first token",
            {
                "rewards": t([0.125, -1.5, -0.25, 7.0], [1.25, 0.125, -0.25, -2.0]),
                "logprobs": t([-0.5, -0.5, -0.25, -3.0], [-2.0, -1.25, -0.5, -0.25]),
                "ref_logprobs": t([-0.25, -0.5, -0.75, -1.0], [-1.5, -1.0, -1.0, -4.25]),
                "mask": ones_until(3, 4, N=4),
                "beta": 0.5,
            },
        ),
        Case(
            "a small score beside a high price for one token",
            {
                "rewards": t([-0.9, -0.02, 0.2, 3.0], [-0.1, 0.3, -1.0, 0.0]),
                "logprobs": t([-0.5, -0.1, -0.3, -1.0], [-0.5, -0.25, -0.5, -0.25]),
                "ref_logprobs": t([-9.5, -0.3, -0.3, -2.0], [-1.5, -0.25, -10.5, -0.25]),
                "mask": ones_until(3, 3, N=4),
                "beta": 0.1,
            },
        ),
        Case(
            "nan and inf on padding",
            {
                "rewards": t([0.5, NAN, INF, NAN], [-0.125, -0.25, 0.0625, -0.7]),
                "logprobs": t([-0.7, NAN, INF, NAN], [-0.5, -1.25, -0.25, -2.0]),
                "ref_logprobs": t([-1.1, 1.0, -INF, NAN], [-1.0, -2.25, 0.0, -2.25]),
                "mask": ones_until(1, 4, N=4),
                "beta": 0.25,
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if the price of the KL is left in the rewards: a token with a "
            "high price is then found in place of a small score. Add beta * (logprobs - "
            "ref_logprobs) first.",
            price=0,
        ),
        mistake(
            "It looks as if the price was taken off twice: the rewards hold -beta * (logprobs - "
            "ref_logprobs), so add beta times it.",
            price=-1,
        ),
        mistake(
            "It looks as if only scores above 0 are found: take the absolute value of what is "
            "left.",
            size=lambda x: x,
        ),
        mistake(
            "It looks as if only scores below 0 are found: take the absolute value of what is "
            "left.",
            size=lambda x: -x,
        ),
        mistake(
            "It is one too many: the last real token is at mask.sum(1) - 1, so that a score in its "
            "right place gives 0.",
            counted="from the length",
        ),
        mistake(
            "It looks as if you count from the last column: count from the last real token, which "
            "is at mask.sum(1) - 1.",
            counted="from the last column",
        ),
        mistake(
            "It looks like the column of the score: say how far it is from the last real token, "
            "which is at mask.sum(1) - 1.",
            counted="from the front",
        ),
        mistake(
            "The sign is reversed: a score that stands one token early gives 1.",
            counted="the other way",
        ),
        mistake(
            "It looks as if you say only whether the score is in a wrong place: say how many "
            "tokens early it stands.",
            counted="whether it is wrong",
        ),
        mistake(
            "It looks as if you say only whether the score is in its place: say how many tokens "
            "early it stands.",
            counted="whether it is right",
        ),
    ),
    use="0 for every response, if the score lands where it should.",
    mask="mask",
    draw=_some_scores,
)


# ---- the last return -----------------------------------------------------------------------------


def last_return_gap(
    returns: Tensor,
    rewards: Tensor,
    mask: Tensor,
    *,
    size: Callable[[Tensor], Tensor] = torch.abs,
    where: str = "last real",
    total: str = "max",
) -> Tensor:
    """The largest |return - reward| at the last real token: three (B, N) -> ()."""
    gap = size((returns - rewards).masked_fill(~mask, 0))
    columns, last = torch.arange(mask.shape[1]), maths.last_index(mask)[:, None]
    chosen = {
        "last real": columns == last,
        "one early": columns == (last - 1).clamp(min=0),
        "everywhere": mask,
        "first": (columns == 0).expand_as(mask),
        "last column": (columns == mask.shape[1] - 1).expand_as(mask),
    }[where]
    return _summed_up(gap, chosen, total)


LAST_RETURN_GAP = Exercise(
    "last_return_gap",
    last_return_gap,
    cases=(
        Case(
            "one response, whose last return is too small",
            {
                "returns": t([0.2, 0.9, 0.4]),
                "rewards": t([-0.1, 0.0, 1.0]),
                "mask": ones_until(3, N=3),
            },
        ),
        Case(
            "responses of different lengths, one of them in order",
            {
                "returns": t([0.25, -0.5, 2.0, 5.0], [-0.5, -1.0, 1.5, -1.0]),
                "rewards": t([0.0, -0.125, 0.75, 9.0], [-0.1, -1.0, 0.0, 3.0]),
                "mask": ones_until(3, 2, N=4),
            },
        ),
        Case(
            "returns as they should be",
            {
                "returns": t([0.5, 0.6, 0.7], [-0.25, -0.75, 0.0]),
                "rewards": t([-0.1, 0.0, 0.7], [0.0, -0.75, 0.0]),
                "mask": ones_until(3, 2, N=3),
            },
        ),
        Case(
            "nan and inf on padding",
            {
                "returns": t([0.3, NAN, INF, NAN], [0.4, 0.3, 0.2, 0.55], [0.6, 0.25, -INF, 0.0]),
                "rewards": t([0.1, 1.0, -INF, NAN], [0.0, 0.1, 0.0, 0.05], [0.0, 0.95, NAN, 0.0]),
                "mask": ones_until(1, 4, 2, N=4),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if every token counts: before the end a return holds what is still to "
            "come, and differs from the reward for good reason. Only the last real token counts.",
            where="everywhere",
        ),
        mistake(
            "It looks as if the last column was read: the last real token is at mask.sum(1) - 1.",
            where="last column",
        ),
        mistake(
            "It is one token too early: the last real token is at mask.sum(1) - 1.",
            where="one early",
        ),
        mistake("It looks as if the first token was read: read the last real one.", where="first"),
        mistake(
            "It looks as if the sign is kept: take the absolute value of each difference first.",
            size=lambda x: x,
        ),
        mistake(
            "It looks as if the difference is the other way round and its sign is kept: take the "
            "absolute value first.",
            size=lambda x: -x,
        ),
        mistake(
            "It looks like the mean over the responses: one wrong one vanishes in a mean. Take the "
            "largest.",
            total="mean",
        ),
        mistake("It looks like the sum over the responses: take the largest.", total="sum"),
        mistake("It looks like the smallest difference: take the largest.", total="min"),
        mistake(
            "It looks as if the differences were squared: take their absolute values.",
            size=torch.square,
        ),
        mistake(
            "It looks as if there is one number for each response: give the largest of them, "
            ".max().",
            total="each response",
        ),
    ),
    use="0, up to rounding: after the last token nothing follows, so its return is its reward, "
    "whatever lambda, gamma and the values are.",
    mask="mask",
)
