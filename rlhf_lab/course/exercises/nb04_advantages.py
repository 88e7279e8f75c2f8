"""Exercises of notebook 04, first part: rewards and advantages.

Numbers stand on the padding of every case, so that whoever forgets the mask finds out; in one of
them nan and inf.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.exercise import Case, Exercise, Mistake, mistake

NAN, INF = math.nan, math.inf


def t(*rows) -> Tensor:
    return torch.tensor(rows)


def ones_until(*lengths: int, N: int) -> Tensor:
    """The mask of responses of these lengths, (B, N)."""
    return torch.arange(N) < torch.tensor(lengths)[:, None]


# ---- KL from sampled tokens, which notebook 05 shares --------------------------------------------

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
        "This looks like k3 with the ratio upside down. Here the plain estimator is wanted, k1, "
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
    }[place] * scores[:, None]
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
            "It looks as if the sign of the KL is turned round: a token likelier under the "
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
            "It looks as if beta multiplies the score: it is the price of the KL.",
            times="the score",
        ),
        mistake(
            "It looks as if beta multiplies the score as well: it is the price of the KL alone.",
            times="both",
        ),
        mistake("It looks as if the KL was divided by beta: multiply.", times="divided"),
        mistake(
            "It looks as if the KL of the whole response was charged on its last token. The "
            "sum is the same, but each token should pay for itself, or GAE cannot tell "
            "which was dear.",
            cost="all at the end",
        ),
        mistake(
            "It looks as if every token pays the mean KL of its response: each should pay for "
            "itself, or GAE cannot tell which was dear.",
            cost="the mean",
        ),
        mistake(
            "It looks as if every token pays the KL of the whole response: each should pay for "
            "itself.",
            cost="all on each",
        ),
        *ESTIMATORS,
    ),
    use="Summed over a response it is score - beta * KL, which is what PPO raises.",
    mask="mask",
)


# ---- advantages ----------------------------------------------------------------------------------


def gae(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gamma: float,
    lam: float,
    *,
    discount: Callable[[float, float], float] = lambda gamma, lam: gamma,
    carry: Callable[[float, float], float] = lambda gamma, lam: gamma * lam,
    following: str = "next",
    minus_value: bool = True,
    clean: str = "both",
    forwards: bool = False,
    columns: int | None = None,
    whitened: str = "nothing",
    returned: str = "advantages + values",
) -> tuple[Tensor, Tensor]:
    """Advantages and returns: each (B, N), 0 on padding."""
    raw_values = values
    real_rewards, real_values = (x.masked_fill(~mask, 0) for x in (rewards, values))
    rewards = real_rewards if clean in ("both", "rewards") else rewards
    values = real_values if clean in ("both", "values") else values
    after = _following(values, raw_values, mask, following)
    deltas = rewards + discount(gamma, lam) * after - (values if minus_value else 0)
    looped = deltas[:, :columns]
    advantages = torch.zeros_like(deltas)
    advantages[:, :columns] = _carried(looped, carry(gamma, lam), forwards)
    advantages = advantages.masked_fill(~mask, 0)
    white = maths.whiten(advantages, mask)
    learned = white if whitened == "both" else advantages
    returns = {
        "advantages + values": (advantages if whitened == "nothing" else white) + values,
        "advantages": learned,
        "values": values,
        "advantages + rewards": learned + rewards,
        "advantages - values": learned - values,
        "to go": _carried(rewards, gamma, False),
        "one step": rewards + gamma * after,
        "lambda to go": _carried(rewards, gamma * lam, False),
    }[returned]
    return learned, returns.masked_fill(~mask, 0)


def _following(values: Tensor, raw_values: Tensor, mask: Tensor, which: str) -> Tensor:
    """What stands for the value of the next token, (B, N)."""
    last = maths.last_index(mask)[:, None]
    index = (torch.arange(mask.shape[1]) + 1).minimum(last)
    return {
        "next": F.pad(values[:, 1:], (0, 1)),
        "next, padding's too": F.pad(raw_values[:, 1:], (0, 1)).masked_fill(~mask, 0),
        "last real again": values.gather(1, index).masked_fill(~mask, 0),
        "last column again": torch.cat([values[:, 1:], values[:, -1:]], 1),
        "rolled": values.roll(-1, 1),
        "previous": F.pad(values[:, :-1], (1, 0)),
        "own": values,
        "none": torch.zeros_like(values),
    }[which]


def _carried(deltas: Tensor, factor: float, forwards: bool) -> Tensor:
    """Each delta and `factor` times what was carried from the one before in the loop: (B, N)."""
    N = deltas.shape[1]
    columns: list[Tensor] = [deltas[:, 0]] * N
    carried = torch.zeros_like(deltas[:, 0])
    for n in range(N) if forwards else reversed(range(N)):
        columns[n] = carried = deltas[:, n] + factor * carried
    return torch.stack(columns, 1)


def _discounts() -> tuple[Mistake, ...]:
    """gamma and lam confused in one place or in both."""
    delta = "delta_t = r_t + gamma * V_(t+1) - V_t"
    loop = "A_t = delta_t + gamma * lam * A_(t+1)"
    return (
        mistake(
            "It looks as if gamma is missing, in delta and in the loop.",
            before=lambda x: {**x, "gamma": 1.0},
        ),
        mistake(f"It looks as if lam is missing: {loop}.", carry=lambda gamma, lam: gamma),
        mistake(f"It looks as if gamma is missing in the loop: {loop}.", carry=lambda g, lam: lam),
        mistake(f"It looks as if gamma is missing in delta: {delta}.", discount=lambda g, lam: 1.0),
        mistake(
            "It looks as if gamma and lam changed places: it is gamma that discounts the next "
            f"value, {delta}.",
            discount=lambda gamma, lam: lam,
        ),
        mistake(
            f"It looks as if the next value is discounted by gamma * lam: it is gamma alone, "
            f"{delta}.",
            discount=lambda gamma, lam: gamma * lam,
        ),
        mistake(
            f"It looks as if the loop carries the advantage whole: {loop}.",
            carry=lambda gamma, lam: 1.0,
        ),
        mistake(
            f"It looks as if the loop multiplies by gamma twice, and not by lam: {loop}.",
            carry=lambda gamma, lam: gamma * gamma,
        ),
        mistake(
            f"It looks as if the loop multiplies by lam twice, and not by gamma: {loop}.",
            carry=lambda gamma, lam: lam * lam,
        ),
        mistake(
            f"It looks as if the loop multiplies by gamma once too often: {loop}.",
            carry=lambda gamma, lam: gamma * gamma * lam,
        ),
        mistake(
            f"It looks as if the loop multiplies by 1 - lam: {loop}.",
            carry=lambda gamma, lam: gamma * (1 - lam),
        ),
        mistake(
            "It looks as if nothing is carried back: these are the deltas alone. Each adds "
            "gamma * lam times the advantage of the token after it.",
            carry=lambda gamma, lam: 0.0,
        ),
    )


def _gae_case(name: str, rewards, values, mask: Tensor, gamma: float, lam: float) -> Case:
    inputs = {"rewards": rewards, "values": values, "mask": mask, "gamma": gamma, "lam": lam}
    return Case(name, inputs)


_ONE = (t([-0.1, 0.05, 1.0]), t([0.2, 0.4, 0.6]), ones_until(3, N=3))

GAE = Exercise(
    "gae",
    gae,
    cases=(
        _gae_case("one response that fills its row", *_ONE, gamma=1.0, lam=0.95),
        _gae_case("lam = 0, where only the next value counts", *_ONE, gamma=0.9, lam=0.0),
        _gae_case("lam = 1, gamma below 1", *_ONE, gamma=0.5, lam=1.0),
        _gae_case(
            "responses of different lengths",
            t([-0.1, 0.05, 1.0, 3.0, -2.0], [0.0, -0.2, 0.1, 0.0, 2.0]),
            t([0.2, 0.4, 0.6, 0.9, 0.7], [1.0, 0.8, 1.2, 1.4, 1.6]),
            ones_until(3, 5, N=5),
            gamma=0.9,
            lam=0.8,
        ),
        _gae_case(
            "nan and inf on padding",
            t([0.3, NAN, INF, NAN], [0.1, -0.4, 0.2, 1.1], [-0.3, 0.6, -INF, 0.5]),
            t([0.5, INF, NAN, 1.0], [0.7, 0.3, -0.2, 0.8], [-0.6, 0.9, NAN, INF]),
            ones_until(1, 4, 2, N=4),
            gamma=0.95,
            lam=0.7,
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if the value after the last token was not taken as 0: nothing "
            "follows the end of a response, so delta there is reward - value.",
            following="last real again",
        ),
        mistake(
            "It looks as if the loop begins with the value of the last column: begin with 0, "
            "since nothing follows the end of a response that fills its row.",
            following="last column again",
        ),
        mistake(
            "torch.roll wraps round: after the last token comes the value of the first. It "
            "should be 0, as with F.pad(values[:, 1:], (0, 1)).",
            following="rolled",
        ),
        mistake(
            "It looks as if delta takes the value of the token before: "
            "delta_t = r_t + gamma * V_(t+1) - V_t.",
            following="previous",
        ),
        mistake(
            "It looks as if delta takes the token's own value twice: "
            "delta_t = r_t + gamma * V_(t+1) - V_t.",
            following="own",
        ),
        mistake(
            "It looks as if the next value is missing: delta_t = r_t + gamma * V_(t+1) - V_t.",
            following="none",
        ),
        mistake(
            "It looks as if the token's own value is not taken away: "
            "delta_t = r_t + gamma * V_(t+1) - V_t.",
            minus_value=False,
        ),
        mistake(
            "It looks as if rewards and values of the padding were left in: zero them with "
            "the mask before the loop, so that nothing follows the end of a short response.",
            clean="neither",
        ),
        mistake(
            "It looks as if the value that stands on padding follows the last token: nothing "
            "follows "
            "it, so zero the values of the padding before the loop.",
            following="next, padding's too",
        ),
        mistake(
            "It looks as if the values of the padding were left in: zero them before the loop, as "
            "the rewards.",
            clean="rewards",
        ),
        mistake(
            "It looks as if the rewards of the padding were left in: zero them before the loop, as "
            "the values.",
            clean="values",
        ),
        mistake(
            "It looks as if the loop runs forwards: an advantage looks at what comes after "
            "its token, so start at the last one, reversed(range(N)).",
            forwards=True,
        ),
        mistake(
            "It looks as if the loop runs forwards, and what it carries is the value of the token "
            "before in place of the next one: start at the last token, reversed(range(N)).",
            forwards=True,
            following="previous",
        ),
        mistake(
            "It looks as if the loop leaves out the last column: the last token of a full row has "
            "an "
            "advantage too, with 0 for the value after it.",
            columns=-1,
        ),
        mistake(
            "It looks as if the loop always runs over 3 columns, as many as the first input has: "
            "use "
            "rewards.shape[1].",
            columns=3,
        ),
        *_discounts(),
        mistake(
            "The advantages are right, but the returns were made of whitened ones: returns "
            "are the raw advantages plus values. Whiten afterwards.",
            whitened="returns",
        ),
        mistake(
            "It looks as if the advantages were whitened in here, so that the returns are "
            "wrong too: return them raw, whitening comes afterwards.",
            whitened="both",
        ),
        mistake(
            "The returns look like the discounted sum of rewards to come; here they are "
            "advantages + values.",
            returned="to go",
        ),
        mistake(
            "The returns look like the sum of rewards to come, discounted by gamma * lam; here "
            "they are advantages + values.",
            returned="lambda to go",
        ),
        mistake(
            "The returns look like reward + gamma * next value, one step only; here they are "
            "advantages + values.",
            returned="one step",
        ),
        mistake(
            "The returns lack the values: returns = advantages + values.", returned="advantages"
        ),
        mistake(
            "The returns lack the advantages: returns = advantages + values.", returned="values"
        ),
        mistake(
            "The returns look like advantages + rewards; they are advantages + values.",
            returned="advantages + rewards",
        ),
        mistake(
            "The returns look like advantages - values; they are advantages + values.",
            returned="advantages - values",
        ),
        mistake(
            "They are in the wrong order: first advantages, then returns.",
            after=lambda answer, inputs: answer[::-1],
        ),
    ),
    use="The policy learns from the advantages, the value network from the returns.",
    outputs=("advantages", "returns"),
    mask="mask",
)
