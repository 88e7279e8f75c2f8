"""Exercises of notebook 04, first part: rewards and advantages.

Numbers stand on the padding of every case, so that whoever forgets the mask finds out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake
from rlhf_lab.maths import gae, masked_sum


def t(*rows) -> Tensor:
    return torch.tensor(rows)


def ones_until(*lengths: int, N: int) -> Tensor:
    """The mask of responses of these lengths, (B, N)."""
    return torch.arange(N) < torch.tensor(lengths)[:, None]


# ---- the reward of each token --------------------------------------------------------------------


def _priced(logprobs, ref_logprobs, mask, beta):
    return -beta * (logprobs - ref_logprobs).masked_fill(~mask, 0)


def _at(mask: Tensor, column: Tensor, scores: Tensor) -> Tensor:
    """The scores in these columns, 0 elsewhere, (B, N)."""
    return (torch.arange(mask.shape[1]) == column[:, None]) * scores[:, None]


def _score_in_last_column(scores, logprobs, ref_logprobs, mask, beta):
    last = torch.full_like(scores, mask.shape[1] - 1)
    return _priced(logprobs, ref_logprobs, mask, beta) + _at(mask, last, scores)


def _score_after_the_end(scores, logprobs, ref_logprobs, mask, beta):
    after = mask.sum(1).clamp(max=mask.shape[1] - 1)
    return _priced(logprobs, ref_logprobs, mask, beta) + _at(mask, after, scores)


def _padding_priced(scores, logprobs, ref_logprobs, mask, beta):
    return -beta * (logprobs - ref_logprobs) + _at(mask, maths.last_index(mask), scores)


def _kl_at_the_end(scores, logprobs, ref_logprobs, mask, beta):
    total = masked_sum(logprobs - ref_logprobs, mask)
    return _at(mask, maths.last_index(mask), scores - beta * total)


KL_REWARDS = Exercise(
    "kl_rewards",
    maths.kl_rewards,
    cases=(
        Case(
            "one response",
            {
                "scores": t(1.0),
                "logprobs": t([-1.0, -0.5, -0.2]),
                "ref_logprobs": t([-2.0, -0.3, -0.5]),
                "mask": ones_until(3, N=3),
                "beta": 0.1,
            },
        ),
        Case(
            "responses of different lengths",
            {
                "scores": t(2.0, -1.0),
                "logprobs": t([-1.0, -0.3, -2.0, -4.0], [-0.1, -0.9, -6.0, -5.0]),
                "ref_logprobs": t([-1.5, -0.1, -2.5, -9.0], [-0.6, -1.0, -1.0, -1.0]),
                "mask": ones_until(3, 2, N=4),
                "beta": 0.5,
            },
        ),
        Case(
            "beta = 0, where only the score is left",
            {
                "scores": t(0.7, 1.5),
                "logprobs": t([-1.0, -0.3, -2.0], [-0.1, -0.9, -6.0]),
                "ref_logprobs": t([-1.5, -0.1, -2.5], [-0.6, -1.0, -1.0]),
                "mask": ones_until(1, 3, N=3),
                "beta": 0.0,
            },
        ),
    ),
    mistakes=(
        Mistake(
            lambda scores, logprobs, ref_logprobs, mask, beta: maths.kl_rewards(
                scores, logprobs, ref_logprobs, mask, -beta
            ),
            "It looks as if the sign of the KL is turned round: a token likelier under the "
            "policy than under the reference must cost something, -beta * (logprobs - "
            "ref_logprobs).",
        ),
        Mistake(
            _score_in_last_column,
            "It looks as if the score went into the last column. It belongs on the last "
            "real token, at mask.sum(1) - 1, or short responses get it on their padding.",
        ),
        Mistake(
            _score_after_the_end,
            "The score is one column too far: the last real token is at mask.sum(1) - 1.",
        ),
        Mistake(
            lambda scores, logprobs, ref_logprobs, mask, beta: (
                _priced(logprobs, ref_logprobs, mask, beta) + scores[:, None] * mask
            ),
            "It looks as if every token gets the score. It is paid once, on the last real "
            "token: otherwise long responses earn more.",
        ),
        Mistake(
            lambda scores, logprobs, ref_logprobs, mask, beta: (
                _priced(logprobs, ref_logprobs, mask, beta) + (scores / mask.sum(1))[:, None] * mask
            ),
            "It looks as if the score was spread over the tokens: it is paid at once, on "
            "the last real token, and GAE passes it back.",
        ),
        Mistake(
            _padding_priced,
            "It looks as if padding is not zeroed: the difference of the log-probabilities "
            "means nothing there.",
        ),
        Mistake(
            lambda scores, logprobs, ref_logprobs, mask, beta: (
                _priced(logprobs, ref_logprobs, mask, 1.0)
                + _at(mask, maths.last_index(mask), scores)
            ),
            "It looks as if beta is missing.",
        ),
        Mistake(
            lambda scores, logprobs, ref_logprobs, mask, beta: _priced(
                logprobs, ref_logprobs, mask, beta
            ),
            "It looks as if the score is missing: add it on the last real token of each response.",
        ),
        Mistake(
            _kl_at_the_end,
            "It looks as if the KL of the whole response was charged on its last token. The "
            "sum is the same, but each token should pay for itself, or GAE cannot tell "
            "which was dear.",
        ),
        Mistake(
            lambda scores, logprobs, ref_logprobs, mask, beta: (
                _priced(logprobs.exp(), ref_logprobs.exp(), mask, beta)
                + _at(mask, maths.last_index(mask), scores)
            ),
            "It looks as if probabilities were subtracted: the KL is made of log-probabilities.",
        ),
    ),
    use="Summed over a response it is score - beta * KL, which is what PPO raises.",
    mask="mask",
)


# ---- advantages ----------------------------------------------------------------------------------


def _gae(rewards, values, mask, gamma, lam, following=None, recursion=None, clean=True):
    """GAE with another value after each token (following), or another gamma * lam (recursion)."""
    if clean:
        rewards, values = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)
    following = F.pad(values[:, 1:], (0, 1)) if following is None else following(values)
    deltas = rewards + gamma * following - values
    advantages, last = torch.zeros_like(deltas), 0.0
    for n in reversed(range(deltas.shape[1])):
        last = deltas[:, n] + (gamma * lam if recursion is None else recursion) * last
        advantages[:, n] = last
    return advantages.masked_fill(~mask, 0), (advantages + values).masked_fill(~mask, 0)


def _after_last(rewards, values, mask, gamma, lam):
    """The value of the last real token stands in for the one after it."""
    index = (torch.arange(mask.shape[1]) + 1).minimum(maths.last_index(mask)[:, None])
    following = lambda v: v.gather(1, index).masked_fill(~mask, 0)  # noqa: E731
    return _gae(rewards, values, mask, gamma, lam, following)


def _forward(rewards, values, mask, gamma, lam):
    rewards, values = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)
    deltas = rewards + gamma * F.pad(values[:, 1:], (0, 1)) - values
    advantages, before = torch.zeros_like(deltas), 0.0
    for n in range(deltas.shape[1]):
        before = deltas[:, n] + gamma * lam * before
        advantages[:, n] = before
    return advantages.masked_fill(~mask, 0), (advantages + values).masked_fill(~mask, 0)


def _whitened(rewards, values, mask, gamma, lam):
    advantages = maths.whiten(gae(rewards, values, mask, gamma, lam)[0], mask)
    return advantages, advantages + values.masked_fill(~mask, 0)


def _to_go(rewards, values, mask, gamma, lam):
    zeros = torch.zeros_like(values)
    return gae(rewards, values, mask, gamma, lam)[0], gae(rewards, zeros, mask, gamma, 1.0)[0]


_ONE = {"rewards": t([-0.1, 0.05, 1.0]), "values": t([0.2, 0.4, 0.6]), "mask": ones_until(3, N=3)}

GAE = Exercise(
    "gae",
    lambda rewards, values, mask, gamma, lam: gae(rewards, values, mask, gamma, lam),
    cases=(
        Case("one response", {**_ONE, "gamma": 1.0, "lam": 0.95}),
        Case("lam = 0, where only the next value counts", {**_ONE, "gamma": 0.9, "lam": 0.0}),
        Case("lam = 1, gamma below 1", {**_ONE, "gamma": 0.5, "lam": 1.0}),
        Case(
            "responses of different lengths",
            {
                "rewards": t([-0.1, 0.05, 1.0, 3.0, -2.0], [0.0, -0.2, 0.1, 0.0, 2.0]),
                "values": t([0.2, 0.4, 0.6, 0.9, 0.7], [1.0, 0.8, 1.2, 1.4, 1.6]),
                "mask": ones_until(3, 5, N=5),
                "gamma": 0.9,
                "lam": 0.8,
            },
        ),
    ),
    mistakes=(
        Mistake(
            _after_last,
            "It looks as if the value after the last token was not taken as 0: nothing "
            "follows the end of a response, so delta there is reward - value.",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: _gae(
                rewards, values, mask, gamma, lam, lambda v: torch.cat([v[:, 1:], v[:, -1:]], dim=1)
            ),
            "It looks as if the loop begins with the value of the last column: begin with 0, "
            "since nothing follows the end of a response that fills its row.",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: _gae(
                rewards, values, mask, gamma, lam, lambda v: v.roll(-1, 1)
            ),
            "torch.roll wraps round: after the last token comes the value of the first. It "
            "should be 0, as with F.pad(values[:, 1:], (0, 1)).",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: _gae(
                rewards, values, mask, gamma, lam, clean=False
            ),
            "It looks as if rewards and values of the padding were left in: zero them with "
            "the mask before the loop, so that nothing follows the end of a short response.",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: (
                gae(rewards, values, mask, gamma, lam)[0],
                _whitened(rewards, values, mask, gamma, lam)[1],
            ),
            "The advantages are right, but the returns were made of whitened ones: returns "
            "are the raw advantages plus values. Whiten afterwards.",
        ),
        Mistake(
            _whitened,
            "It looks as if the advantages were whitened in here, so that the returns are "
            "wrong too: return them raw, whitening comes afterwards.",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: gae(rewards, values, mask, gamma, 1.0),
            "It looks as if lam is missing: A_t = delta_t + gamma * lam * A_(t+1).",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: _gae(
                rewards, values, mask, gamma, lam, recursion=lam
            ),
            "It looks as if gamma is missing in the loop: A_t = delta_t + gamma * lam * A_(t+1).",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: _gae(
                rewards, values, mask, 1.0, lam, recursion=gamma * lam
            ),
            "It looks as if gamma is missing in delta: delta_t = r_t + gamma * V_(t+1) - V_t.",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: gae(rewards, values, mask, 1.0, lam),
            "It looks as if gamma is missing, in delta and in the loop.",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: _gae(
                rewards, values, mask, gamma, lam, recursion=0.0
            ),
            "It looks as if nothing is carried back: these are the deltas alone. Each adds "
            "gamma * lam times the advantage of the token after it.",
        ),
        Mistake(
            _forward,
            "It looks as if the loop runs forwards: an advantage looks at what comes after "
            "its token, so start at the last one, reversed(range(N)).",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: _gae(
                rewards, values, mask, gamma, lam, torch.zeros_like
            ),
            "It looks as if the next value is missing: delta_t = r_t + gamma * V_(t+1) - V_t.",
        ),
        Mistake(
            _to_go,
            "The advantages are right. The returns look like the discounted sum of rewards "
            "to come; here they are advantages + values.",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: (
                (gae(rewards, values, mask, gamma, lam)[0],) * 2
            ),
            "The advantages are right. The returns lack the values: returns = advantages + values.",
        ),
        Mistake(
            lambda rewards, values, mask, gamma, lam: gae(rewards, values, mask, gamma, lam)[::-1],
            "They are in the wrong order: first advantages, then returns.",
        ),
    ),
    use="The policy learns from the advantages, the value network from the returns.",
    outputs=("advantages", "returns"),
    mask="mask",
)
