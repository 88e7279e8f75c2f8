"""Exercises of notebook 05: which tokens the clip silences, and the KL of a response."""

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake


def clipped_tokens(
    new_logprobs: Tensor, logprobs: Tensor, advantages: Tensor, epsilon: float
) -> Tensor:
    """True where the clip leaves a token no gradient: three (B, N) -> bool (B, N)."""
    ratio = (new_logprobs - logprobs).exp()
    return ((advantages > 0) & (ratio > 1 + epsilon)) | ((advantages < 0) & (ratio < 1 - epsilon))


def _ratios(*rows: list[float]) -> dict[str, Tensor]:
    """New and old log-probabilities with these ratios."""
    ratios = torch.tensor(rows)
    logprobs = -1 - torch.arange(ratios.numel()).view_as(ratios) / 4
    return {"new_logprobs": logprobs + ratios.log(), "logprobs": logprobs}


def _outside(new_logprobs, logprobs, advantages, epsilon):
    return ((new_logprobs - logprobs).exp() - 1).abs() > epsilon


CLIPPED_TOKENS = Exercise(
    "clipped_tokens",
    clipped_tokens,
    cases=(
        Case(
            "ratios on either side, advantages of either sign",
            {
                **_ratios([1.5, 1.5, 0.5, 0.5, 1.0]),
                "advantages": torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0]]),
                "epsilon": 0.2,
            },
        ),
        Case(
            "ratios near the edge",
            {
                **_ratios([1.19, 1.21, 0.81, 0.79], [1.21, 1.19, 0.79, 0.81]),
                "advantages": torch.tensor([[2.0, 0.3, -0.5, -1.5], [-1.0, 1.0, 1.0, 0.1]]),
                "epsilon": 0.2,
            },
        ),
        Case(
            "a narrower clip range",
            {
                **_ratios([1.15, 1.08, 0.92, 0.85]),
                "advantages": torch.tensor([[1.0, 1.0, -1.0, -1.0]]),
                "epsilon": 0.1,
            },
        ),
    ),
    mistakes=(
        Mistake(
            _outside,
            "It looks as if every ratio outside 1 - epsilon to 1 + epsilon counts. The max "
            "in the loss matters: a token whose ratio moved the wrong way keeps its "
            "gradient, to be brought back. Look at the sign of the advantage.",
        ),
        Mistake(
            lambda new_logprobs, logprobs, advantages, epsilon: clipped_tokens(
                new_logprobs, logprobs, -advantages, epsilon
            ),
            "The sign is turned round: a good token (advantage above 0) is held when its "
            "ratio is above 1 + epsilon, a bad one when it is below 1 - epsilon.",
        ),
        Mistake(
            lambda new_logprobs, logprobs, advantages, epsilon: clipped_tokens(
                logprobs, new_logprobs, advantages, epsilon
            ),
            "It looks as if the ratio is upside down: it is new over old, exp(new_logprobs "
            "- logprobs).",
        ),
        Mistake(
            lambda new_logprobs, logprobs, advantages, epsilon: (
                (advantages > 0)
                & _outside(new_logprobs, logprobs, advantages, epsilon)
                & (new_logprobs > logprobs)
            ),
            "It looks as if only good tokens count: a bad one (advantage below 0) is held "
            "as well, once its ratio is below 1 - epsilon.",
        ),
        Mistake(
            lambda new_logprobs, logprobs, advantages, epsilon: (
                (advantages > 0) & _outside(new_logprobs, logprobs, advantages, epsilon)
            ),
            "It looks as if a good token counts on either side: below 1 - epsilon it is "
            "still pushed up; and a bad token is held once its ratio is below 1 - epsilon.",
        ),
        Mistake(
            lambda new_logprobs, logprobs, advantages, epsilon: (
                ~clipped_tokens(new_logprobs, logprobs, advantages, epsilon)
            ),
            "It is turned round: these are the tokens that keep their gradient.",
        ),
        Mistake(
            lambda new_logprobs, logprobs, advantages, epsilon: (
                ((advantages > 0) & (new_logprobs - logprobs > 1 + epsilon))
                | ((advantages < 0) & (new_logprobs - logprobs < 1 - epsilon))
            ),
            "It looks as if the difference of the log-probabilities was taken for the "
            "ratio: the ratio is its exp.",
        ),
        Mistake(
            lambda new_logprobs, logprobs, advantages, epsilon: (
                ((advantages > 0) & (new_logprobs / logprobs > 1 + epsilon))
                | ((advantages < 0) & (new_logprobs / logprobs < 1 - epsilon))
            ),
            "It looks as if the log-probabilities were divided: the ratio is "
            "exp(new_logprobs - logprobs).",
        ),
    ),
    use="The share of such tokens is the clip fraction: how much of the batch has moved far "
    "enough.",
)


def response_kl(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """The sampled KL of each response, in nats: three (B, N) -> (B,)."""
    return maths.masked_sum(maths.kl_k1(logprobs, ref_logprobs), mask)


RESPONSE_KL = Exercise(
    "response_kl",
    response_kl,
    cases=(
        Case(
            "one response",
            {
                "logprobs": torch.tensor([[-1.0, -0.5, -0.2]]),
                "ref_logprobs": torch.tensor([[-1.5, -0.4, -0.6]]),
                "mask": torch.tensor([[True, True, True]]),
            },
        ),
        Case(
            "responses of different lengths, with numbers on the padding",
            {
                "logprobs": torch.tensor([[-1.0, -0.3, -2.0, -7.0], [-0.1, -0.9, -3.0, -5.0]]),
                "ref_logprobs": torch.tensor([[-2.0, -0.1, -1.5, -1.0], [-0.6, -1.0, -8.0, -1.0]]),
                "mask": torch.tensor([[True, True, True, False], [True, True, False, False]]),
            },
        ),
        Case(
            "a response likelier under the reference",
            {
                "logprobs": torch.tensor([[-2.0, -1.5, -4.0]]),
                "ref_logprobs": torch.tensor([[-1.0, -1.0, -3.0]]),
                "mask": torch.tensor([[True, True, False]]),
            },
        ),
    ),
    mistakes=(
        Mistake(
            lambda logprobs, ref_logprobs, mask: (logprobs - ref_logprobs).sum(-1),
            "It looks as if padding is summed too: take the tokens where the mask is True.",
        ),
        Mistake(
            lambda logprobs, ref_logprobs, mask: (
                response_kl(logprobs, ref_logprobs, mask) / mask.sum(-1)
            ),
            "It looks like the mean over the tokens: the KL of a response is the sum over them.",
        ),
        Mistake(
            lambda logprobs, ref_logprobs, mask: response_kl(ref_logprobs, logprobs, mask),
            "The sign is turned round: it is the policy's log-probability minus the "
            "reference's. On the policy's own samples that is above 0 on average.",
        ),
        Mistake(
            lambda logprobs, ref_logprobs, mask: maths.masked_sum(
                (logprobs - ref_logprobs).exp(), mask
            ),
            "It looks as if the ratios were summed: the KL is made of their logs, so leave "
            "out the exp.",
        ),
        Mistake(
            lambda logprobs, ref_logprobs, mask: maths.masked_sum(
                (logprobs - ref_logprobs).abs(), mask
            ),
            "It looks as if the sign of each token was dropped: tokens likelier under the "
            "reference count below 0, or the sum is too large on average.",
        ),
        Mistake(
            lambda logprobs, ref_logprobs, mask: maths.masked_sum(
                logprobs.exp() * (logprobs - ref_logprobs), mask
            ),
            "It looks as if each token was weighed with its probability. That is the sum "
            "over the whole vocabulary; here tokens were sampled, and likely ones come more "
            "often by themselves.",
        ),
        Mistake(
            lambda logprobs, ref_logprobs, mask: maths.masked_sum(
                maths.kl_k3(logprobs, ref_logprobs), mask
            ),
            "This is the estimator k3, r - 1 - log r, which is also right on average. Here "
            "the plain one is wanted, the difference of the log-probabilities.",
        ),
    ),
    use="This is what beta puts a price on: a response that only the new policy would write "
    "is dear.",
    mask="mask",
)
