"""Exercises of notebook 04, third part: whitening, and the clipped losses.

Every case has numbers on its padding, one of them nan and inf, so that a forgotten mask is noticed.
No case of the losses lies where a gradient is not defined: no ratio is on the edge of the clip, and
a token's two errors differ, or come from the same value.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, Mistake, mistake
from rlhf_lab.course.exercises.nb04_rewards import INF, NAN, ones_until, t
from rlhf_lab.maths import masked_sum

# ---- whitening -----------------------------------------------------------------------------------


def whiten(
    x: Tensor,
    mask: Tensor,
    *,
    over: str = "batch",
    clean: str = "both",
    centre: str = "yes",
    less: int = 0,
    scale: Callable[[Tensor], Tensor] = lambda variance: (variance + 1e-8).sqrt(),
) -> Tensor:
    """Real tokens of the whole batch with mean 0 and variance 1, padding 0: (B, N)."""
    real = x.masked_fill(~mask, 0)
    count = mask.sum()
    if over == "everything":
        real, count = x, torch.tensor(x.numel())
    elif over == "zeros too":
        count = torch.tensor(x.numel())
    dims = {"row": [1], "column": [0]}.get(over, [0, 1])
    count = mask.sum(dims, keepdim=True) if over in ("row", "column") else count
    mean = real.sum(dims, keepdim=True) / count
    counted = torch.ones_like(mask) if over in ("everything", "zeros too") else mask
    squares = (real - (0 if centre == "not for the variance" else mean)).square()
    variance = squares.masked_fill(~counted, 0).sum(dims, keepdim=True) / (count - less)
    white = (x - (0 if centre == "no" else mean)) / scale(variance)
    return (white + (mean if centre == "added again" else 0)).masked_fill(~mask, 0)


def _too_large(epsilon: float) -> Mistake:
    return mistake(
        f"The small number looks like {epsilon:g}, and here the variance is small too: take 1e-8, "
        "added to the variance before the root.",
        scale=lambda variance: (variance + epsilon).sqrt(),
    )


WHITEN = Exercise(
    "whiten",
    whiten,
    cases=(
        Case(
            "one response that fills its row",
            {"x": t([1.0, 2.0, 3.0, 6.0]), "mask": ones_until(4, N=4)},
        ),
        Case(
            "a good and a bad response, with padding",
            {"x": t([1.0, 2.0, 3.0], [4.0, 5.0, 9.0]), "mask": ones_until(3, 2, N=3)},
        ),
        Case("all equal", {"x": t([2.0, 2.0], [2.0, -5.0]), "mask": ones_until(2, 1, N=2)}),
        Case(
            "small differences",
            {"x": t([0.01, -0.04, 0.02], [0.05, 0.7, 0.1]), "mask": ones_until(3, 1, N=3)},
        ),
        Case(
            "nan and inf on padding",
            {
                "x": t([0.5, NAN, INF, NAN], [1.5, -2.0, 0.3, 0.8], [-1.0, 2.5, -INF, NAN]),
                "mask": ones_until(1, 4, 2, N=4),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if each response was whitened by itself. Then good and bad "
            "responses get the same advantages: take mean and variance over the whole "
            "batch.",
            over="row",
        ),
        mistake(
            "It looks as if each column was whitened by itself: take mean and variance over the "
            "whole batch.",
            over="column",
        ),
        mistake(
            "It looks as if padding counts in mean and variance: take them over x[mask].",
            over="everything",
        ),
        mistake(
            "It looks as if padding counts, as zeros, in mean and variance: divide by "
            "mask.sum(), or take them over x[mask].",
            over="zeros too",
        ),
        mistake(
            "It divides by n - 1, which is what .var() and .std() do by themselves: here "
            "the variance is the mean of the squares (correction=0), as in the code of the "
            "papers.",
            less=1,
        ),
        mistake(
            "It looks as if it was divided by the variance: divide by its root, the "
            "standard deviation.",
            scale=lambda variance: variance + 1e-8,
        ),
        mistake(
            "It looks as if it was multiplied by the standard deviation: divide by it.",
            scale=lambda variance: 1 / (variance + 1e-8).sqrt(),
        ),
        mistake(
            "It looks as if the mean was added again after the division: subtract it only.",
            centre="added again",
        ),
        mistake("It looks as if the mean was not subtracted.", centre="no"),
        mistake(
            "It looks as if the variance was taken around 0: it is the mean square of the distance "
            "from the mean.",
            centre="not for the variance",
        ),
        mistake(
            "It looks as if only the mean was subtracted: divide by the standard deviation.",
            scale=torch.ones_like,
        ),
        mistake(
            "Where all are equal it divides 0 by 0: add a small number, such as 1e-8, to "
            "the variance before the root.",
            scale=torch.sqrt,
        ),
        mistake(
            "It looks as if it was divided by the largest: divide by the standard deviation.",
            lambda x, mask: ((x - x[mask].mean()) / x[mask].abs().max()).masked_fill(~mask, 0),
        ),
        mistake(
            "It looks as if it was scaled to lie between 0 and 1: subtract the mean and divide by "
            "the standard deviation.",
            lambda x, mask: (
                (x - x[mask].min()) / (x[mask].max() - x[mask].min() + 1e-8)
            ).masked_fill(~mask, 0),
        ),
        *map(_too_large, (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)),
        *(
            mistake(
                f"It looks as if {epsilon:g} was added to the standard deviation, and here that is "
                "small too: take 1e-8, added to the variance before the root.",
                scale=lambda variance, epsilon=epsilon: variance.sqrt() + epsilon,
            )
            for epsilon in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
        ),
    ),
    use="It keeps the size of a step the same whether the rewards are large or small.",
    mask="mask",
)


# ---- what the clipped losses share ---------------------------------------------------------------

Pick = Callable[[Tensor, Tensor], Tensor]
PICK: dict[str, Pick] = {
    "larger": torch.maximum,
    "smaller": torch.minimum,
    "plain": lambda plain, clipped: plain,
    "clipped": lambda plain, clipped: clipped,
    "one sign": lambda plain, clipped: torch.maximum(plain, -clipped),
    "sum": lambda plain, clipped: plain + clipped,
    "mean": lambda plain, clipped: (plain + clipped) / 2,
}


def joined(pick: str, mean: str, late: bool, mask: Tensor, *losses: Tensor) -> Tensor:
    """One number from the two losses of each token: (B, N) each -> ()."""
    if late:
        return PICK[pick](*(total(each, mask, mean) for each in losses))
    return total(PICK[pick](*losses), mask, mean)


def total(each: Tensor, mask: Tensor, of: str) -> Tensor:
    """One number from a loss for each token: (B, N) -> ()."""
    real = each.masked_fill(~mask, 0)
    return {
        "tokens": real.sum() / mask.sum(),
        "everything": each.mean(),
        "zeros too": real.mean(),
        "responses": (masked_sum(each, mask) / mask.sum(1)).mean(),
        "responses crossed": (masked_sum(each, mask) / mask.sum(1, keepdim=True)).mean(),
        "sum": real.sum(),
        "sum of responses": (masked_sum(each, mask) / mask.sum(1)).sum(),
        "mean of sums": masked_sum(each, mask).mean(),
        "none": real,
        "each response": masked_sum(each, mask) / mask.sum(1),
    }[of]


MEANS = (
    mistake(
        "It looks as if padding counts: take the mean over the tokens where the mask is True.",
        mean="everything",
    ),
    mistake(
        "The padding is zeroed, but still counts in the mean: divide by mask.sum().",
        mean="zeros too",
    ),
    mistake(
        "It looks like the mean of each response first, in which a token of a short "
        "response weighs more: take one mean over all real tokens.",
        mean="responses",
    ),
    mistake("It looks like the sum over the tokens: take the mean.", mean="sum"),
    mistake(
        "It looks as if every response was divided by the length of every other, (B, B), as "
        "happens "
        "when (B,) meets (B, 1): take one mean over all real tokens.",
        mean="responses crossed",
    ),
    mistake(
        "It looks as if the larger of the two means was taken: of each token the larger loss "
        "counts, "
        "so take the maximum first, then the mean.",
        late=True,
    ),
    mistake(
        "It looks as if the means of the responses were added: take one mean over all real tokens.",
        mean="sum of responses",
    ),
    mistake(
        "It looks like the sum over each response, then the mean over responses: take one mean "
        "over all real tokens.",
        mean="mean of sums",
    ),
    mistake("It looks as if the mean over the tokens is missing.", mean="none"),
    mistake(
        "It looks like one mean for each response: take one mean over all real tokens.",
        mean="each response",
    ),
)


# ---- the policy's loss ---------------------------------------------------------------------------


def clipped_policy_loss(
    new_logprobs: Tensor,
    logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    epsilon: float,
    *,
    ratio: Callable[[Tensor, Tensor], Tensor] = lambda new, old: (new - old).exp(),
    clip: Callable[[Tensor, float], Tensor] = lambda r, e: r.clamp(1 - e, 1 + e),
    pick: str = "larger",
    sign: int = -1,
    clipped_is: str = "ratio",
    mean: str = "tokens",
    late: bool = False,
) -> Tensor:
    """Mean of max(-A ratio, -A clip(ratio, 1 - epsilon, 1 + epsilon)): () from four (B, N)."""
    new, old, A = (x.masked_fill(~mask, -1) for x in (new_logprobs, logprobs, advantages))
    if mean == "everything":
        new, old, A = new_logprobs, logprobs, advantages
    r = ratio(new, old)
    clipped = (
        sign
        * {
            "ratio": A * clip(r, epsilon),
            "product": clip(A * r, epsilon),
            "advantage": clip(A, epsilon) * r,
        }[clipped_is]
    )
    return joined(pick, mean, late, mask, sign * A * r, clipped)


def _whole_response(new: Tensor, old: Tensor) -> Tensor:
    return (new - old).sum(1, keepdim=True).exp().expand_as(new)


def old_and_new(*ratios: list[float]) -> dict[str, Tensor]:
    """New and old log-probabilities with these ratios."""
    ratio = torch.tensor(ratios)
    logprobs = -0.5 - torch.arange(ratio.numel()).view_as(ratio) / 4
    return {"new_logprobs": logprobs + ratio.log(), "logprobs": logprobs}


def _policy_case(name: str, ratios: tuple, advantages, mask: Tensor, epsilon: float) -> Case:
    rest = {"advantages": advantages, "mask": mask, "epsilon": epsilon}
    return Case(name, {**old_and_new(*ratios), **rest})


CLIPPED_POLICY_LOSS = Exercise(
    "clipped_policy_loss",
    clipped_policy_loss,
    cases=(
        _policy_case(
            "a ratio above the clip range on a good token",
            ([1.5],),
            t([1.0]),
            ones_until(1, N=1),
            0.2,
        ),
        _policy_case(
            "a ratio above the clip range on a bad token",
            ([1.5],),
            t([-1.0]),
            ones_until(1, N=1),
            0.2,
        ),
        _policy_case(
            "ratios below 1, in a row that is full",
            ([0.5, 0.6, 0.9],),
            t([1.0, -1.5, 2.0]),
            ones_until(3, N=3),
            0.2,
        ),
        _policy_case(
            "responses of different lengths",
            ([1.5, 1.05, 0.6, 3.0], [0.7, 1.3, 2.0, 4.0]),
            t([1.0, -0.5, -2.0, 5.0], [0.5, -1.0, 3.0, -4.0]),
            ones_until(3, 2, N=4),
            0.1,
        ),
        _policy_case(
            "nan and inf on padding",
            ([1.4, NAN, INF, NAN], [0.65, 1.2, 0.95, 1.6], [0.8, 1.1, INF, INF]),
            t([2.0, 1.0, NAN, NAN], [-1.0, 0.5, 1.5, -0.7], [1.2, -0.4, INF, 3.0]),
            ones_until(1, 4, 2, N=4),
            0.3,
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if min is used in place of max. The paper maximises a min; with a minus "
            "before it, it is a loss to minimise, and the larger of the two counts.",
            pick="smaller",
        ),
        mistake(
            "It looks as if only the clipped part counts. Without the max, a token whose "
            "ratio went the wrong way has no gradient to bring it back.",
            pick="clipped",
        ),
        mistake(
            "It looks as if nothing is clipped: take the larger of the plain and the clipped loss.",
            pick="plain",
        ),
        mistake(
            "It looks as if the plain and the clipped loss were added: the larger of the two "
            "counts.",
            pick="sum",
        ),
        mistake(
            "It looks like the mean of the plain and the clipped loss: the larger of the two "
            "counts.",
            pick="mean",
        ),
        mistake(
            "It looks as if the minus is missing in the clipped loss: both have it, -advantages * "
            "ratio and -advantages * the clipped ratio.",
            pick="one sign",
        ),
        mistake(
            "It looks as if advantages * ratio was clipped: clip the ratio, then multiply.",
            clipped_is="product",
        ),
        mistake(
            "It looks as if the advantage was clipped: clip the ratio.", clipped_is="advantage"
        ),
        mistake(
            "The sign of the advantage is reversed: the loss is made of -advantages * "
            "ratio, so that lowering it makes good tokens likelier.",
            sign=1,
        ),
        mistake(
            "The sign is reversed: this is what PPO maximises. A loss is minimised: put a "
            "minus before it.",
            after=lambda loss, inputs: -loss,
        ),
        mistake(
            "It looks as if the log-probabilities were divided: the ratio is "
            "exp(new_logprobs - logprobs).",
            ratio=lambda new, old: new / old,
        ),
        mistake(
            "It looks as if the exp is missing: new_logprobs - logprobs is the log of the ratio.",
            ratio=lambda new, old: new - old,
        ),
        mistake(
            "It looks as if probabilities were subtracted: the ratio is "
            "exp(new_logprobs - logprobs), one probability over the other.",
            ratio=lambda new, old: new.exp() - old.exp(),
        ),
        mistake(
            "It looks as if the log-probabilities were subtracted and exp taken of the sum over "
            "the response: that is the ratio of the whole response. Here each token has its own.",
            ratio=_whole_response,
        ),
        mistake(
            "It looks as if the ratio is the new probability alone: divide by the old one, "
            "exp(new_logprobs - logprobs).",
            ratio=lambda new, old: new.exp(),
        ),
        mistake(
            "It looks as if the log-probability is used in place of the ratio, as in REINFORCE: "
            "the ratio is exp(new_logprobs - logprobs).",
            ratio=lambda new, old: new,
        ),
        mistake(
            "The ratio looks inverted: it is new over old, exp(new_logprobs - logprobs).",
            ratio=lambda new, old: (old - new).exp(),
        ),
        mistake(
            "It looks as if the ratio is clipped to between -epsilon and epsilon: clip it to "
            "between 1 - epsilon and 1 + epsilon.",
            clip=lambda r, e: r.clamp(-e, e),
        ),
        mistake(
            "It looks as if the ratio is only clipped from above: its lower end is 1 - epsilon.",
            clip=lambda r, e: r.clamp(max=1 + e),
        ),
        mistake(
            "It looks as if the ratio is only clipped from below: its upper end is 1 + epsilon.",
            clip=lambda r, e: r.clamp(min=1 - e),
        ),
        mistake(
            "It looks as if the log of the ratio is clipped to epsilon: clip the ratio itself, to "
            "between 1 - epsilon and 1 + epsilon.",
            clip=lambda r, e: r.log().clamp(-e, e).exp(),
        ),
        *MEANS,
    ),
    use="A token that has moved far enough gets no more gradient; one that moved the wrong way is "
    "brought back.",
    gradient="new_logprobs",
    mask="mask",
)


# ---- the value network's loss --------------------------------------------------------------------


def clipped_value_loss(
    new_values: Tensor,
    values: Tensor,
    returns: Tensor,
    mask: Tensor,
    epsilon: float,
    *,
    hold: Callable[..., Tensor] = lambda new, old, R, e: old + (new - old).clamp(-e, e),
    error: Callable[[Tensor], Tensor] = torch.square,
    pick: str = "larger",
    share: float = 0.5,
    mean: str = "tokens",
    late: bool = False,
) -> Tensor:
    """Half the larger of two squared errors, of the new values and of those held within epsilon of
    the old ones: () from four (B, N)."""
    new, old, R = (x.masked_fill(~mask, 0) for x in (new_values, values, returns))
    if mean == "everything":
        new, old, R = new_values, values, returns
    held = hold(new, old, R, epsilon)
    return share * joined(pick, mean, late, mask, error(new - R), error(held - R))


def _value_case(name: str, new_values, values, returns, mask: Tensor, epsilon: float) -> Case:
    inputs = {"new_values": new_values, "values": values, "returns": returns, "mask": mask}
    return Case(name, {**inputs, "epsilon": epsilon})


CLIPPED_VALUE_LOSS = Exercise(
    "clipped_value_loss",
    clipped_value_loss,
    cases=(
        _value_case(
            "values that moved a little, too far, and the wrong way",
            t([0.6, 1.0, 0.1]),
            t([0.5, 0.5, 0.5]),
            t([2.0, 2.5, 1.5]),
            ones_until(3, N=3),
            0.2,
        ),
        _value_case(
            "responses of different lengths",
            t([0.5, -1.0, 2.0, 9.0], [1.5, 0.35, 7.0, -8.0]),
            t([0.2, -0.5, 2.5, 1.0], [1.0, 0.4, 1.0, 1.0]),
            t([0.6, -2.0, 2.3, 4.0], [2.5, -1.0, 3.0, 3.0]),
            ones_until(3, 2, N=4),
            0.1,
        ),
        _value_case(
            "nan and inf on padding",
            t([0.9, NAN, INF, NAN], [-0.4, 1.1, 0.3, 2.0], [1.6, -0.2, INF, NAN]),
            t([0.1, NAN, 1.0, INF], [0.3, 0.9, 0.2, 1.1], [1.2, -0.9, INF, -INF]),
            t([1.7, 2.0, NAN, INF], [-1.0, 0.2, 1.5, 0.4], [0.2, -0.7, 1.0, NAN]),
            ones_until(1, 4, 2, N=4),
            0.3,
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if min is used in place of max: the larger of the two errors counts.",
            pick="smaller",
        ),
        mistake(
            "It looks as if nothing is clipped: take the larger of the plain error and that "
            "of the value held within epsilon of the old one.",
            pick="plain",
        ),
        mistake(
            "It looks as if only the held value counts: take the larger of the two errors.",
            pick="clipped",
        ),
        mistake(
            "It looks as if the two errors were added: the larger of the two counts.", pick="sum"
        ),
        mistake(
            "It looks like the mean of the two errors: the larger of the two counts.", pick="mean"
        ),
        mistake(
            "It looks as if the value itself was clamped to +-epsilon: hold it within "
            "epsilon of the old value, values + (new_values - values).clamp(-epsilon, "
            "epsilon).",
            hold=lambda new, old, R, e: new.clamp(-e, e),
        ),
        mistake(
            "It looks as if the old value was not added again after the clamp: "
            "values + (new_values - values).clamp(-epsilon, epsilon).",
            hold=lambda new, old, R, e: (new - old).clamp(-e, e),
        ),
        mistake(
            "It looks as if the bounds are 1 - epsilon and 1 + epsilon times the old value: hold "
            "the new one within epsilon of it, whatever its size.",
            hold=lambda new, old, R, e: torch.minimum(
                torch.maximum(new, old * (1 - e)), old * (1 + e)
            ),
        ),
        mistake(
            "It looks as if the clamp runs from 1 - epsilon to 1 + epsilon, as for a ratio: for "
            "values it is -epsilon to epsilon around the old value.",
            hold=lambda new, old, R, e: new.clamp(1 - e, 1 + e),
        ),
        mistake(
            "It looks as if the held value moves around the new one: the old value is the middle, "
            "values + (new_values - values).clamp(-epsilon, epsilon).",
            hold=lambda new, old, R, e: new + (new - old).clamp(-e, e),
        ),
        mistake(
            "It looks as if the difference old - new was clamped: it is new_values - values.",
            hold=lambda new, old, R, e: old + (old - new).clamp(-e, e),
        ),
        mistake(
            "It looks as if the error of the old value is used in place of that of the held one.",
            hold=lambda new, old, R, e: old,
        ),
        mistake("It is twice as large: the loss is half the squared error.", share=1.0),
        mistake("It is half as large: the squared error is halved once, not twice.", share=0.25),
        mistake("It looks as if the errors were not squared.", error=torch.abs),
        mistake(
            "It looks as if the root of the mean was taken: the loss is half the mean square.",
            after=lambda loss, inputs: (2 * loss).sqrt(),
        ),
        *MEANS,
    ),
    use="The value network follows the returns, no faster than the policy's own clip allows.",
    gradient="new_values",
    mask="mask",
)
