"""Exercise of notebook 04, second part: advantages and returns.

Every case has numbers on its padding, one of them nan and inf.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.exercise import Case, Exercise, Mistake, mistake
from rlhf_lab.course.exercises.nb04_rewards import INF, NAN, ones_until, t


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
    """What is used as the value of the next token, (B, N)."""
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
    """Each delta plus `factor` times the result of the previous step of the loop: (B, N)."""
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
            "It looks as if gamma and lam are swapped: it is gamma that discounts the next "
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
            "It looks as if the token's own value is not subtracted: "
            "delta_t = r_t + gamma * V_(t+1) - V_t.",
            minus_value=False,
        ),
        mistake(
            "It looks as if rewards and values of the padding were left in: zero them with "
            "the mask before the loop, so that nothing follows the end of a short response.",
            clean="neither",
        ),
        mistake(
            "It looks as if a value on the padding is used as the value after the last token: that "
            "is 0, so zero the values of the padding before the loop.",
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
