"""Exercises of notebook 05: which tokens the clip leaves no gradient, and the KL of a response."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake
from rlhf_lab.course.exercises.nb04_losses import old_and_new
from rlhf_lab.course.exercises.nb04_rewards import ESTIMATORS, INF, NAN, ones_until, t


def clipped_tokens(
    new_logprobs: Tensor,
    logprobs: Tensor,
    advantages: Tensor,
    epsilon: float,
    *,
    ratio: Callable[[Tensor, Tensor], Tensor] = lambda new, old: (new - old).exp(),
    high: Callable[[Tensor, float], Tensor] = lambda r, e: r > 1 + e,
    low: Callable[[Tensor, float], Tensor] = lambda r, e: r < 1 - e,
    good: str = "high",
    bad: str = "low",
    edge: float = 1.0,
) -> Tensor:
    """True where the clip leaves a token no gradient: three (B, N) -> bool (B, N)."""
    r = ratio(new_logprobs, logprobs)
    sides = {"high": high(r, edge * epsilon), "low": low(r, edge * epsilon)}
    sides |= {"either": sides["high"] | sides["low"], "neither": torch.zeros_like(r).bool()}
    return ((advantages > 0) & sides[good]) | ((advantages < 0) & sides[bad])


def _some_ratios(dice: Random) -> dict:
    """Five tokens with ratios inside and outside the clip range, and advantages of either sign."""
    epsilon = dice.choice([0.1, 0.2, 0.3])
    far = [1 + 2 * epsilon, 1 + 0.5 * epsilon, 1 - 0.5 * epsilon, 1 - 2 * epsilon]
    ratios = dice.sample([*far, dice.choice(far)], 5)
    advantages = [[dice.choice([-1, 1]) * dice.randint(1, 20) / 10 for _ in ratios]]
    return {**old_and_new(ratios), "advantages": torch.tensor(advantages), "epsilon": epsilon}


CLIPPED_TOKENS = Exercise(
    "clipped_tokens",
    clipped_tokens,
    cases=(
        Case(
            "ratios on either side, advantages of either sign",
            {
                **old_and_new([1.5, 1.5, 0.5, 0.5, 1.0]),
                "advantages": torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0]]),
                "epsilon": 0.2,
            },
        ),
        Case(
            "ratios near the edge",
            {
                **old_and_new([1.19, 1.21, 0.81, 0.79], [1.21, 1.19, 0.79, 0.81]),
                "advantages": torch.tensor([[2.0, 0.3, -0.5, -1.5], [-1.0, 1.0, 1.0, 0.1]]),
                "epsilon": 0.2,
            },
        ),
        Case(
            "a narrower clip range",
            {
                **old_and_new([1.15, 1.08, 0.92, 0.85]),
                "advantages": torch.tensor([[1.0, 1.0, -1.0, -1.0]]),
                "epsilon": 0.1,
            },
        ),
        Case(
            "a wide clip range, where 1 / (1 + epsilon) is not 1 - epsilon",
            {
                **old_and_new([1.45, 1.55, 0.62, 0.45], [0.55, 1.6, 1.2, 0.3]),
                "advantages": torch.tensor([[0.5, 2.0, -1.0, -2.0], [-0.4, -1.0, 1.0, 3.0]]),
                "epsilon": 0.5,
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if every ratio outside 1 - epsilon to 1 + epsilon counts. The max "
            "in the loss matters: a token whose ratio moved the wrong way keeps its "
            "gradient, to be brought back. Look at the sign of the advantage.",
            good="either",
            bad="either",
        ),
        mistake(
            "The sign is reversed: a good token (advantage above 0) is clipped when its "
            "ratio is above 1 + epsilon, a bad one when it is below 1 - epsilon.",
            before=lambda x: {**x, "advantages": -x["advantages"]},
        ),
        mistake(
            "It looks as if the ratio is inverted: it is new over old, exp(new_logprobs "
            "- logprobs).",
            ratio=lambda new, old: (old - new).exp(),
        ),
        mistake(
            "It looks as if only good tokens count: a bad one (advantage below 0) is clipped "
            "as well, once its ratio is below 1 - epsilon.",
            bad="neither",
        ),
        mistake(
            "It looks as if only bad tokens count: a good one (advantage above 0) is clipped "
            "as well, once its ratio is above 1 + epsilon.",
            good="neither",
        ),
        mistake(
            "It looks as if a good token counts on either side: below 1 - epsilon it is "
            "still pushed up.",
            good="either",
        ),
        mistake(
            "It looks as if a bad token counts on either side: above 1 + epsilon it is "
            "still pushed down.",
            bad="either",
        ),
        mistake(
            "It looks as if a bad token is clipped when its ratio is too high, as a good one is: "
            "it must be clipped once its ratio is below 1 - epsilon.",
            bad="high",
        ),
        mistake(
            "It looks as if a good token is clipped when its ratio is too low, as a bad one is: "
            "it must be clipped once its ratio is above 1 + epsilon.",
            good="low",
        ),
        mistake(
            "It looks as if both cases must hold at once, which never happens: join them with |.",
            good="neither",
            bad="neither",
        ),
        mistake(
            "It is reversed: these are the tokens that keep their gradient.",
            after=lambda clipped, inputs: ~clipped,
        ),
        mistake(
            "It looks as if the difference of the log-probabilities was taken for the "
            "ratio: the ratio is its exp.",
            ratio=lambda new, old: new - old,
        ),
        mistake(
            "It looks as if the log-probabilities were divided: the ratio is "
            "exp(new_logprobs - logprobs).",
            ratio=lambda new, old: new / old,
        ),
        mistake(
            "It looks as if the log of the ratio was compared with epsilon: compare the ratio "
            "itself with 1 - epsilon and 1 + epsilon.",
            high=lambda r, e: r.log() > e,
            low=lambda r, e: r.log() < -e,
        ),
        mistake(
            "It looks as if the lower end is 1 / (1 + epsilon): it is 1 - epsilon.",
            low=lambda r, e: r < 1 / (1 + e),
        ),
        mistake(
            "It looks as if epsilon is missing: compare the ratio with 1 - epsilon and "
            "1 + epsilon.",
            edge=0.0,
        ),
    ),
    use="The share of such tokens is the clip fraction: how much of the batch has moved far "
    "enough.",
    draw=_some_ratios,
)


def response_kl(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    *,
    kl: Callable[[Tensor, Tensor], Tensor] = maths.kl_k1,
    total: str = "sum",
) -> Tensor:
    """The sampled KL of each response, in nats: three (B, N) -> (B,)."""
    each = kl(logprobs, ref_logprobs).masked_fill(~mask, 0)
    return {
        "sum": each.sum(-1),
        "mean": each.sum(-1) / mask.sum(-1),
        "mean over the row": each.mean(-1),
        "column": each.sum(0),
        "batch": each.sum(),
        "batch mean": each.sum() / mask.sum(),
        "mean of responses": each.sum(-1).mean(),
        "none": each,
    }[total]


RESPONSE_KL = Exercise(
    "response_kl",
    response_kl,
    cases=(
        Case(
            "one response that fills its row",
            {
                "logprobs": t([-1.0, -0.5, -0.2]),
                "ref_logprobs": t([-1.5, -0.4, -0.6]),
                "mask": ones_until(3, N=3),
            },
        ),
        Case(
            "responses of different lengths, with numbers on the padding",
            {
                "logprobs": t([-1.0, -0.3, -2.0, -7.0], [-0.1, -0.9, -3.0, -5.0]),
                "ref_logprobs": t([-2.0, -0.1, -1.4, -1.0], [-0.6, -1.0, -8.0, -1.0]),
                "mask": ones_until(3, 2, N=4),
            },
        ),
        Case(
            "a response likelier under the reference",
            {
                "logprobs": t([-2.0, -1.5, -4.0]),
                "ref_logprobs": t([-1.0, -1.1, -3.0]),
                "mask": ones_until(2, N=3),
            },
        ),
        Case(
            "nan and inf on padding",
            {
                "logprobs": t(
                    [-0.7, NAN, INF, NAN], [-0.4, -1.3, -0.2, -2.0], [-1.0, -2.2, -INF, NAN]
                ),
                "ref_logprobs": t(
                    [-1.1, NAN, INF, 1.0], [-0.9, -1.0, -0.8, -2.3], [-0.5, -3.0, -INF, INF]
                ),
                "mask": ones_until(1, 4, 2, N=4),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if padding is summed too: take the tokens where the mask is True.",
            before=lambda x: {**x, "mask": torch.ones_like(x["mask"])},
        ),
        mistake(
            "It looks like the mean over the tokens: the KL of a response is the sum over them.",
            total="mean",
        ),
        mistake(
            "It looks like the mean over the whole row: the KL of a response is the sum over its "
            "tokens.",
            total="mean over the row",
        ),
        mistake(
            "It looks as if the sum runs over the responses: sum over the last dimension, the "
            "tokens.",
            total="column",
        ),
        mistake(
            "It looks like one sum over the whole batch: give one number for each response, "
            ".sum(-1).",
            total="batch",
        ),
        mistake(
            "It looks like one mean over the whole batch: give the sum of each response, .sum(-1).",
            total="batch mean",
        ),
        mistake(
            "It looks as if the mean over the responses was taken: give one number for each.",
            total="mean of responses",
        ),
        mistake(
            "It looks as if the sum over the tokens is missing: give one number for each response.",
            total="none",
        ),
        mistake(
            "The sign is reversed: it is the policy's log-probability minus the "
            "reference's. On the policy's own samples that is above 0 on average.",
            before=lambda x: {**x, "logprobs": x["ref_logprobs"], "ref_logprobs": x["logprobs"]},
        ),
        mistake(
            "It looks like exp of the KL: leave out the exp after the sum.",
            after=lambda kl, inputs: kl.exp(),
        ),
        *ESTIMATORS,
    ),
    use="This is what beta puts a price on: a response that only the new policy would write "
    "is dear.",
    mask="mask",
)
