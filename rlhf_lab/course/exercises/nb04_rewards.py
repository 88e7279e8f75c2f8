"""Exercise of notebook 04, first part: the reward of each token.

Every case has numbers on its padding, one of them nan and inf, so that a forgotten mask is noticed.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake

NAN, INF = math.nan, math.inf


def t(*rows) -> Tensor:
    return torch.tensor(rows)


def ones_until(*lengths: int, N: int) -> Tensor:
    """The mask of responses of these lengths, (B, N)."""
    return torch.arange(N) < torch.tensor(lengths)[:, None]


# ---- KL from sampled tokens, also used by notebook 05 --------------------------------------------

ESTIMATORS = (
    mistake(
        "It looks like the estimator k2, half the square of the log-ratio. Here the plain one is "
        "wanted, k1, the difference of the log-probabilities.",
        kl=maths.kl_k2,
    ),
    mistake(
        "It looks like the square of the log-ratio. Here the plain difference of the "
        "log-probabilities is wanted, k1.",
        kl=lambda logprobs, ref: (logprobs - ref).square(),
    ),
    mistake(
        "This is the estimator k3, r - 1 - log r, which is also right on average. Here "
        "the plain one is wanted, k1, the difference of the log-probabilities.",
        kl=maths.kl_k3,
    ),
    mistake(
        "This looks like k3 with the ratio inverted. Here the plain estimator is wanted, k1, "
        "the difference of the log-probabilities.",
        kl=lambda logprobs, ref: maths.kl_k3(ref, logprobs),
    ),
    mistake(
        "It looks as if the sign of each token was dropped: tokens likelier under the "
        "reference count below 0, or the sum is too large on average.",
        kl=lambda logprobs, ref: (logprobs - ref).abs(),
    ),
    mistake(
        "It looks as if negative log-ratios were set to 0: tokens likelier under the reference "
        "count below 0, or the sum is too large on average.",
        kl=lambda logprobs, ref: (logprobs - ref).clamp(min=0),
    ),
    mistake(
        "It looks as if probabilities were subtracted: the KL is made of log-probabilities.",
        kl=lambda logprobs, ref: logprobs.exp() - ref.exp(),
    ),
    mistake(
        "It looks as if the ratios were summed: the KL is made of their logs, so leave "
        "out the exp.",
        kl=lambda logprobs, ref: (logprobs - ref).exp(),
    ),
    mistake(
        "It looks as if each token was weighed with its probability. That is the sum "
        "over the whole vocabulary; here tokens were sampled, and likely ones come more "
        "often by themselves.",
        kl=lambda logprobs, ref: logprobs.exp() * (logprobs - ref),
    ),
    mistake(
        "It looks as if the log-probabilities were divided: the log of a ratio is their "
        "difference.",
        kl=lambda logprobs, ref: logprobs / ref,
    ),
    mistake(
        "It looks as if the reference is missing: the KL is the difference of the two "
        "log-probabilities.",
        kl=lambda logprobs, ref: logprobs,
    ),
)


# ---- the reward of each token --------------------------------------------------------------------


def kl_rewards(
    scores: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    beta: float,
    *,
    kl: Callable[[Tensor, Tensor], Tensor] = maths.kl_k1,
    sign: int = -1,
    clean: bool = True,
    cost: str = "each its own",
    place: str = "last real",
    instead: bool = False,
    times: str = "the KL",
) -> Tensor:
    """Reward of each token, -beta * k1, and the score on the last real token: (B, N)."""
    costs = sign * kl(logprobs, ref_logprobs)
    costs = costs.masked_fill(~mask, 0) if clean else costs
    last = (torch.arange(mask.shape[1]) == maths.last_index(mask)[:, None]).to(costs)
    if cost != "each its own":
        total = costs.sum(1, keepdim=True)
        costs = {
            "all at the end": total * last,
            "the mean": total / mask.sum(1, keepdim=True) * mask,
            "all on each": total * mask,
        }[cost]
    costs = costs.masked_fill(last.bool(), 0) if instead else costs
    paid = {
        "last real": last,
        "last column": F.one_hot(torch.tensor(mask.shape[1] - 1), mask.shape[1]),
        "last column, masked": F.one_hot(torch.tensor(mask.shape[1] - 1), mask.shape[1]) * mask,
        "one further": (maths.last_index(mask)[:, None] + 1) == torch.arange(mask.shape[1]),
        "one early": (maths.last_index(mask)[:, None] - 1) % mask.shape[1]
        == torch.arange(mask.shape[1]),
        "first": F.one_hot(torch.tensor(0), mask.shape[1]),
        "each": mask,
        "spread": mask / mask.sum(1, keepdim=True),
        "nowhere": 0,
        "all rows": 0,
    }[place] * scores[:, None]
    if place == "all rows":
        paid = torch.zeros_like(costs)
        paid[:, maths.last_index(mask)] += scores
    return {
        "the KL": beta * costs + paid,
        "the score": costs + beta * paid,
        "both": beta * (costs + paid),
        "divided": costs / beta + paid if beta else paid,
    }[times]


def _kl_case(name: str, scores, logprobs, ref_logprobs, mask: Tensor, beta: float) -> Case:
    return Case(
        name,
        {
            "scores": scores,
            "logprobs": logprobs,
            "ref_logprobs": ref_logprobs,
            "mask": mask,
            "beta": beta,
        },
    )


KL_REWARDS = Exercise(
    "kl_rewards",
    kl_rewards,
    cases=(
        _kl_case(
            "one response that fills its row",
            t(1.0),
            t([-1.0, -0.5, -0.2]),
            t([-2.0, -0.3, -0.6]),
            ones_until(3, N=3),
            0.1,
        ),
        _kl_case(
            "responses of different lengths",
            t(2.0, -1.0),
            t([-1.0, -0.3, -2.0, -4.0], [-0.1, -0.9, -6.0, -5.0]),
            t([-1.5, -0.1, -2.6, -9.0], [-0.8, -1.0, -1.0, -1.0]),
            ones_until(3, 2, N=4),
            0.5,
        ),
        _kl_case(
            "beta = 0, where only the score is left",
            t(0.7, 1.5),
            t([-1.0, -0.3, -2.0], [-0.1, -0.9, -6.0]),
            t([-1.5, -0.1, -2.5], [-0.6, -1.0, -1.0]),
            ones_until(1, 3, N=3),
            0.0,
        ),
        _kl_case(
            "nan and inf on padding",
            t(0.4, -2.0, 3.0),
            t([-1.2, NAN, INF, NAN], [-0.4, -0.7, -2.0, -0.3], [-1.1, -0.2, INF, -INF]),
            t([-0.9, NAN, 1.0, -INF], [-0.5, -1.7, -2.4, -0.1], [-1.4, -0.9, INF, NAN]),
            ones_until(1, 4, 2, N=4),
            0.2,
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if the sign of the KL is reversed: a token likelier under the "
            "policy than under the reference must cost something, -beta * (logprobs - "
            "ref_logprobs).",
            sign=1,
        ),
        mistake(
            "It looks as if the score went into the last column. It belongs on the last "
            "real token, at mask.sum(1) - 1, or short responses get it on their padding.",
            place="last column",
        ),
        mistake(
            "It looks as if the score went into the last column, where the mask then took it away "
            "from short responses: it belongs on the last real token, at mask.sum(1) - 1.",
            place="last column, masked",
        ),
        mistake(
            "The score is one column too far: the last real token is at mask.sum(1) - 1.",
            place="one further",
        ),
        mistake(
            "It looks as if scores land in other rows too: rewards[:, last] takes these columns of "
            "*every* row. Pair rows and columns: rewards[torch.arange(len(scores)), last].",
            place="all rows",
        ),
        mistake(
            "The score is one token too early: the last real token is at mask.sum(1) - 1.",
            place="one early",
        ),
        mistake(
            "It looks as if the score stands in place of the last token's KL: add it, += and not "
            "=.",
            instead=True,
        ),
        mistake(
            "It looks as if the first token gets the score: it is paid on the last real one, when "
            "the response is complete.",
            place="first",
        ),
        mistake(
            "It looks as if every token gets the score. It is paid once, on the last real "
            "token: otherwise long responses earn more.",
            place="each",
        ),
        mistake(
            "It looks as if the score was spread over the tokens: it is paid at once, on "
            "the last real token, and GAE passes it back.",
            place="spread",
        ),
        mistake(
            "It looks as if the score is missing: add it on the last real token of each response.",
            place="nowhere",
        ),
        mistake(
            "It looks as if padding is not zeroed: the difference of the log-probabilities "
            "means nothing there.",
            clean=False,
        ),
        mistake("It looks as if beta is missing.", before=lambda x: {**x, "beta": 1.0}),
        mistake(
            "It looks as if beta multiplies the score: it belongs to the KL.", times="the score"
        ),
        mistake(
            "It looks as if beta multiplies the score as well: it belongs to the KL only.",
            times="both",
        ),
        mistake("It looks as if the KL was divided by beta: multiply.", times="divided"),
        mistake(
            "It looks as if the KL of the whole response was charged on its last token. The "
            "sum is the same, but each token should pay for itself, or GAE cannot tell "
            "which one was expensive.",
            cost="all at the end",
        ),
        mistake(
            "It looks as if every token pays the mean KL of its response: each should pay for "
            "itself, or GAE cannot tell which one was expensive.",
            cost="the mean",
        ),
        mistake(
            "It looks as if every token pays the KL of the whole response: each should pay for "
            "itself.",
            cost="all on each",
        ),
        *ESTIMATORS,
    ),
    use="Summed over a response it is score - beta * KL, which is what PPO maximises.",
    mask="mask",
)
