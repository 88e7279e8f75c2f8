"""Exercises of notebook 04, second part: whitening, and the clipped losses.

Numbers stand on the padding of every case, so that whoever forgets the mask finds out.
"""

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises import wording
from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake
from rlhf_lab.course.exercises.nb04_advantages import ones_until, t
from rlhf_lab.maths import clipped_policy_loss, clipped_value_loss, masked_mean, masked_sum

# ---- whitening -----------------------------------------------------------------------------------


def _whiten(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return (x - mean) / (variance + 1e-8).sqrt()


def _per_row(x, mask):
    count = mask.sum(1, keepdim=True)
    mean = masked_sum(x, mask)[:, None] / count
    variance = masked_sum((x - mean).square(), mask)[:, None] / count
    return _whiten(x, mean, variance) * mask


def _with_padding(x, mask):
    return _whiten(x, x.mean(), x.var(correction=0)) * mask


def _bessel(x, mask):
    return _whiten(x, x[mask].mean(), x[mask].var()) * mask


def _zeros_counted(x, mask):
    x = x * mask
    return _whiten(x, x.mean(), x.var(correction=0)) * mask


WHITEN = Exercise(
    "whiten",
    lambda x, mask: maths.whiten(x, mask),
    cases=(
        Case("one response", {"x": t([1.0, 2.0, 3.0, 6.0]), "mask": ones_until(4, N=4)}),
        Case(
            "a good and a bad response, with padding",
            {"x": t([1.0, 2.0, 3.0], [4.0, 5.0, 9.0]), "mask": ones_until(3, 2, N=3)},
        ),
        Case("all equal", {"x": t([2.0, 2.0], [2.0, -5.0]), "mask": ones_until(2, 1, N=2)}),
    ),
    mistakes=(
        Mistake(
            _per_row,
            "It looks as if each response was whitened by itself. Then good and bad "
            "responses get the same advantages: take mean and variance over the whole "
            "batch.",
        ),
        Mistake(
            _with_padding,
            "It looks as if padding counts in mean and variance: take them over x[mask].",
        ),
        Mistake(
            _zeros_counted,
            "It looks as if padding counts, as zeros, in mean and variance: divide by "
            "mask.sum(), or take them over x[mask].",
        ),
        Mistake(
            _bessel,
            "It divides by n - 1, which is what .var() and .std() do by themselves: here "
            "the variance is the mean of the squares (correction=0), as in the code of the "
            "papers.",
        ),
        Mistake(
            lambda x, mask: _whiten(x, masked_mean(x, mask), x[mask].var(correction=0)),
            wording.NOT_ZERO,
        ),
        Mistake(
            lambda x, mask: (x - masked_mean(x, mask)) * mask / (x[mask].var(correction=0) + 1e-8),
            "It looks as if it was divided by the variance: divide by its root, the "
            "standard deviation.",
        ),
        Mistake(
            lambda x, mask: maths.whiten(x, mask, keep_mean=True),
            "It looks as if the mean was kept (or added again): take it away.",
        ),
        Mistake(
            lambda x, mask: x * mask / (x[mask].var(correction=0) + 1e-8).sqrt(),
            "It looks as if the mean was not taken away.",
        ),
        Mistake(
            lambda x, mask: (x - masked_mean(x, mask)) * mask,
            "It looks as if only the mean was taken away: divide by the standard deviation.",
        ),
        Mistake(
            lambda x, mask: ((x - x[mask].mean()) / x[mask].std(correction=0)).masked_fill(
                ~mask, 0
            ),
            "Where all are equal it divides 0 by 0: add a small number, such as 1e-8, to "
            "the variance before the root.",
        ),
    ),
    use="It keeps the size of a step the same whether the rewards are large or small.",
    mask="mask",
)


# ---- the clipped losses --------------------------------------------------------------------------


def _two(new_logprobs, logprobs, advantages, epsilon, log_ratio=None) -> tuple[Tensor, Tensor]:
    """The plain and the clipped loss of each token."""
    ratio = (new_logprobs - logprobs).exp() if log_ratio is None else log_ratio
    return -advantages * ratio, -advantages * ratio.clamp(1 - epsilon, 1 + epsilon)


def _larger(*both: Tensor) -> Tensor:
    return torch.maximum(*both)


def _per_response(x: Tensor, mask: Tensor) -> Tensor:
    return (masked_sum(x, mask) / mask.sum(1)).mean()


def _old_and_new(*ratios: list[float]) -> dict[str, Tensor]:
    ratio = torch.tensor(ratios)
    logprobs = -0.5 - torch.arange(ratio.numel()).view_as(ratio) / 4
    return {"new_logprobs": logprobs + ratio.log(), "logprobs": logprobs}


CLIPPED_POLICY_LOSS = Exercise(
    "clipped_policy_loss",
    clipped_policy_loss,
    cases=(
        Case(
            "a ratio of 1.5 on a good token",
            {
                **_old_and_new([1.5]),
                "advantages": t([1.0]),
                "mask": ones_until(1, N=1),
                "epsilon": 0.2,
            },
        ),
        Case(
            "a ratio of 1.5 on a bad token",
            {
                **_old_and_new([1.5]),
                "advantages": t([-1.0]),
                "mask": ones_until(1, N=1),
                "epsilon": 0.2,
            },
        ),
        Case(
            "ratios below 1",
            {
                **_old_and_new([0.5, 0.5, 0.9]),
                "advantages": t([1.0, -1.0, 2.0]),
                "mask": ones_until(3, N=3),
                "epsilon": 0.2,
            },
        ),
        Case(
            "responses of different lengths",
            {
                **_old_and_new([1.5, 1.1, 0.6, 3.0], [0.7, 1.3, 2.0, 4.0]),
                "advantages": t([1.0, -0.5, -2.0, 5.0], [0.5, -1.0, 3.0, -4.0]),
                "mask": ones_until(3, 2, N=4),
                "epsilon": 0.1,
            },
        ),
    ),
    mistakes=(
        Mistake(
            lambda new, old, A, mask, epsilon: masked_mean(
                torch.minimum(*_two(new, old, A, epsilon)), mask
            ),
            "It looks as if min stands for max. The paper takes the min of what is raised; "
            "with the minus in front it is a loss, and the larger of the two counts.",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: masked_mean(_two(new, old, A, epsilon)[1], mask),
            "It looks as if only the clipped part counts. Without the max, a token whose "
            "ratio went the wrong way has no gradient to bring it back.",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: masked_mean(_two(new, old, A, epsilon)[0], mask),
            "It looks as if nothing is clipped: take the larger of the plain and the clipped loss.",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: clipped_policy_loss(new, old, -A, mask, epsilon),
            "The sign of the advantage is turned round: the loss is made of -advantages * "
            "ratio, so that lowering it makes good tokens likelier.",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: -clipped_policy_loss(new, old, A, mask, epsilon),
            "The sign is turned round: this is what PPO raises. A loss is lowered: put a "
            "minus before it.",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: _larger(*_two(new, old, A, epsilon)).mean(),
            "It looks as if padding counts: take the mean over the tokens where the mask is True.",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: (_larger(*_two(new, old, A, epsilon)) * mask).mean(),
            "The padding is zeroed, but still counts in the mean: divide by mask.sum().",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: _per_response(
                _larger(*_two(new, old, A, epsilon)), mask
            ),
            "It looks like the mean of each response first, in which a token of a short "
            "response weighs more: take one mean over all real tokens.",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: masked_sum(
                _larger(*_two(new, old, A, epsilon)), mask
            ).sum(),
            "It looks like the sum over the tokens: take the mean.",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: masked_mean(
                _larger(*_two(new, old, A, epsilon, new / old)), mask
            ),
            "It looks as if the log-probabilities were divided: the ratio is "
            "exp(new_logprobs - logprobs).",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: masked_mean(
                _larger(*_two(new, old, A, epsilon, new - old)), mask
            ),
            "It looks as if the exp is missing: new_logprobs - logprobs is the log of the ratio.",
        ),
        Mistake(
            lambda new, old, A, mask, epsilon: clipped_policy_loss(old, new, A, mask, epsilon),
            "It looks as if the ratio is upside down: new over old, exp(new_logprobs - logprobs).",
        ),
    ),
    use="A token that has moved far enough gets no more push; one that went astray is "
    "brought back.",
    gradient="new_logprobs",
    mask="mask",
)


def _errors(new_values, values, returns, epsilon) -> tuple[Tensor, Tensor]:
    """The squared errors of the new values, and of those held near the old ones."""
    held = values + (new_values - values).clamp(-epsilon, epsilon)
    return (new_values - returns).square(), (held - returns).square()


CLIPPED_VALUE_LOSS = Exercise(
    "clipped_value_loss",
    clipped_value_loss,
    cases=(
        Case(
            "values that moved a little, too far, and the wrong way",
            {
                "new_values": t([0.6, 1.0, 0.1]),
                "values": t([0.5, 0.5, 0.5]),
                "returns": t([2.0, 2.0, 2.0]),
                "mask": ones_until(3, N=3),
                "epsilon": 0.2,
            },
        ),
        Case(
            "responses of different lengths",
            {
                "new_values": t([0.5, -1.0, 2.0, 9.0], [1.5, 0.3, 7.0, -8.0]),
                "values": t([0.2, -0.5, 2.5, 1.0], [1.0, 0.4, 1.0, 1.0]),
                "returns": t([0.4, -2.0, 2.2, 4.0], [2.5, -1.0, 3.0, 3.0]),
                "mask": ones_until(3, 2, N=4),
                "epsilon": 0.1,
            },
        ),
    ),
    mistakes=(
        Mistake(
            lambda new, old, R, mask, epsilon: (
                masked_mean(torch.minimum(*_errors(new, old, R, epsilon)), mask) / 2
            ),
            "It looks as if min stands for max: the larger of the two errors counts.",
        ),
        Mistake(
            lambda new, old, R, mask, epsilon: (
                masked_mean(_errors(new, old, R, epsilon)[0], mask) / 2
            ),
            "It looks as if nothing is clipped: take the larger of the plain error and that "
            "of the value held within epsilon of the old one.",
        ),
        Mistake(
            lambda new, old, R, mask, epsilon: (
                masked_mean(_errors(new, old, R, epsilon)[1], mask) / 2
            ),
            "It looks as if only the held value counts: take the larger of the two errors.",
        ),
        Mistake(
            lambda new, old, R, mask, epsilon: (
                masked_mean(
                    torch.maximum((new - R).square(), (new.clamp(-epsilon, epsilon) - R).square()),
                    mask,
                )
                / 2
            ),
            "It looks as if the value itself was clamped to +-epsilon: hold it within "
            "epsilon of the old value, values + (new_values - values).clamp(-epsilon, "
            "epsilon).",
        ),
        Mistake(
            lambda new, old, R, mask, epsilon: 2 * clipped_value_loss(new, old, R, mask, epsilon),
            "It is twice as large: the loss is half the squared error.",
        ),
        Mistake(
            lambda new, old, R, mask, epsilon: _larger(*_errors(new, old, R, epsilon)).mean() / 2,
            "It looks as if padding counts: take the mean over the tokens where the mask is True.",
        ),
        Mistake(
            lambda new, old, R, mask, epsilon: (
                (_larger(*_errors(new, old, R, epsilon)) * mask).mean() / 2
            ),
            "The padding is zeroed, but still counts in the mean: divide by mask.sum().",
        ),
        Mistake(
            lambda new, old, R, mask, epsilon: (
                _per_response(_larger(*_errors(new, old, R, epsilon)), mask) / 2
            ),
            "It looks like the mean of each response first: take one mean over all real tokens.",
        ),
        Mistake(
            lambda new, old, R, mask, epsilon: (
                masked_sum(_larger(*_errors(new, old, R, epsilon)), mask).sum() / 2
            ),
            "It looks like the sum over the tokens: take the mean.",
        ),
    ),
    use="The value network follows the returns, no faster than the policy's own clip allows.",
    gradient="new_values",
    mask="mask",
)
