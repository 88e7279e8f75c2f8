"""A world small enough to enumerate: responses of two words out of three, nine in all.

What a policy gradient estimates from samples can be computed exactly here, as a sum over all nine.

Deliberately simple: the policy is not a network but a table of logits, `theta` (4, 3). Row 0 holds
the logits of the first word, row 1 + w those of the second word after word w.
"""

import torch
from torch import Tensor

WORDS = ("yes", "no", "thanks")
RESPONSES = torch.cartesian_prod(torch.arange(3), torch.arange(3))  # (9, 2)
# The score of each response, in the order of RESPONSES: "thanks" is liked, "no" is disliked.
SCORES = torch.tensor([4.0, 3.0, 6.0, 3.0, 2.0, 4.0, 6.5, 4.0, 5.0], dtype=torch.float64)


def texts() -> list[str]:
    """The nine responses in words."""
    return [" ".join(WORDS[word] for word in row) for row in RESPONSES.tolist()]


def token_logprobs(theta: Tensor, rows: Tensor | None = None) -> Tensor:
    """Log-probability of each word: (4, 3), numbers of responses (B,) -> (B, 2); for all nine
    responses if rows is None."""
    words = RESPONSES if rows is None else RESPONSES[rows]
    logprobs = theta.log_softmax(-1)
    return torch.stack([logprobs[0, words[:, 0]], logprobs[1 + words[:, 0], words[:, 1]]], dim=1)


def probabilities(theta: Tensor) -> Tensor:
    """The probability of each response, (9,)."""
    return token_logprobs(theta).sum(1).exp()


def expected_score(theta: Tensor, scores: Tensor = SCORES) -> Tensor:
    """The exact mean score of the policy's responses: ()."""
    return (probabilities(theta) * scores).sum()


def exact_gradient(theta: Tensor, scores: Tensor = SCORES) -> Tensor:
    """The gradient of the expected score, (4, 3): what every policy gradient estimates."""
    theta = theta.detach().requires_grad_()
    return torch.autograd.grad(expected_score(theta, scores), theta)[0]


def draw(theta: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Numbers of `count` responses of the policy, (count,)."""
    return torch.multinomial(probabilities(theta.detach()), count, True, generator=generator)


def reinforce_gradient(
    theta: Tensor, rows: Tensor, scores: Tensor = SCORES, baseline: float = 0.0
) -> Tensor:
    """REINFORCE's estimate of the gradient from some responses, (4, 3).

    The mean of (score - baseline) times the gradient of the response's log-probability (Williams
    1992). A baseline that does not depend on the response does not change its expectation.
    """
    theta = theta.detach().requires_grad_()
    logprobs = token_logprobs(theta, rows).sum(1)  # (B,)
    return torch.autograd.grad(((scores[rows] - baseline) * logprobs).mean(), theta)[0]


def best_policy(ref_probabilities: Tensor, beta: float, scores: Tensor = SCORES) -> Tensor:
    """The exact policy with the highest mean of score - beta * KL to the reference: (9,).

    Proportional to ref * exp(score / beta) (Ziegler et al. 2019, eq. 3).
    """
    return (ref_probabilities.log() + scores / beta).softmax(0)
