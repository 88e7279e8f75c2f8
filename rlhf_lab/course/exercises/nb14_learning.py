"""Exercises of notebook 14, second part: rewards, advantages, and PPO's loss on a batch.

The first two are functions of tensors, built on the right functions of notebook 04, whose switches
they share; the loss is tried on the models of tiny_models.py.
"""

from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course import tiny_models as tiny
from rlhf_lab.course.exercises import nb04_advantages, nb04_losses, nb04_rewards
from rlhf_lab.course.exercises.exercise import Case, Exercise, Inputs, Mistake, WrongForm, mistake
from rlhf_lab.course.exercises.nb04_rewards import INF, NAN, ones_until, t
from rlhf_lab.course.exercises.nb14_reading import gradient_of, parts_of, right_steps
from rlhf_lab.course.exercises.wording import kind_of
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.rollout import Rollout
from rlhf_lab.sequences import response_values

# ---- rewards -------------------------------------------------------------------------------------

PENALTIES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "from at most 0": maths.no_end_penalty,
    "none": lambda scores, ended, penalty: scores,
    "inverted": lambda scores, ended, penalty: maths.no_end_penalty(scores, ~ended, penalty),
    "subtracted": lambda scores, ended, penalty: scores - penalty * ~ended,
    "fixed": lambda scores, ended, penalty: torch.where(ended, scores, -penalty),
    "at most": lambda scores, ended, penalty: torch.where(
        ended, scores, scores.clamp(max=-penalty)
    ),
    "at most 0": lambda scores, ended, penalty: torch.where(ended, scores, scores.clamp(max=0)),
    "everyone": lambda scores, ended, penalty: scores - penalty,
}


def shaped_rewards(
    scores: Tensor,
    ended: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    beta: float,
    penalty: float,
    *,
    rule: str = "from at most 0",
    told: str = "lowered",
    paid: str = "lowered",
    **kl: Any,
) -> tuple[Tensor, Tensor]:
    """The scores after the penalty for what never ended, (B,), and the rewards, (B, N)."""
    lowered = {"lowered": PENALTIES[rule](scores, ended, penalty), "raw": scores}
    rewards = nb04_rewards.kl_rewards(lowered[paid], logprobs, ref_logprobs, mask, beta, **kl)
    return lowered[told], rewards


def _same(begins: str, exercise: Exercise) -> Mistake:
    """A mistake of another exercise, by the beginning of its sentence."""
    [found] = [some for some in exercise.mistakes if some.sentence.startswith(begins)]
    return found


SHAPED_REWARDS = Exercise(
    "shaped_rewards",
    shaped_rewards,
    cases=tuple(
        Case(
            name,
            {
                "scores": scores,
                "ended": ended,
                "logprobs": logprobs,
                "ref_logprobs": ref_logprobs,
                "mask": mask,
                "beta": beta,
                "penalty": penalty,
            },
        )
        for name, scores, ended, logprobs, ref_logprobs, mask, beta, penalty in (
            (
                "a good response that was cut off",
                t(2.0),
                torch.tensor([False]),
                t([-1.0, -0.5, -0.2]),
                t([-2.0, -0.3, -0.6]),
                ones_until(3, N=3),
                0.1,
                1.0,
            ),
            (
                "a good and a bad response that ended, and a bad one that did not",
                t(1.5, -2.0, -1.2),
                torch.tensor([True, True, False]),
                t([-1.0, -0.3, -2.0], [-0.1, -0.9, -6.0], [-0.4, -0.8, -1.9]),
                t([-1.5, -0.1, -2.6], [-0.8, -1.0, -1.0], [-0.2, -1.1, -0.9]),
                ones_until(2, 1, 3, N=3),
                0.5,
                0.7,
            ),
            (
                "nan and inf on padding",
                t(0.4, 0.9, -3.0),
                torch.tensor([True, False, True]),
                t([-1.2, NAN, INF, NAN], [-0.4, -0.7, -2.0, -0.3], [-1.1, -0.2, INF, -INF]),
                t([-0.9, NAN, 1.0, -INF], [-0.5, -1.7, -2.4, -0.1], [-1.4, -0.9, INF, NAN]),
                ones_until(1, 4, 2, N=4),
                0.2,
                2.0,
            ),
        )
    ),
    mistakes=(
        mistake(
            "It looks as if a response that was cut off pays nothing: it gets "
            "min(score, 0) - penalty (maths.no_end_penalty).",
            rule="none",
        ),
        mistake(
            "It looks as if the responses that did end pay the penalty: the others do.",
            rule="inverted",
        ),
        mistake(
            "It looks as if the penalty was just subtracted. A good response could then be cut off "
            "and still score above 0: it gets min(score, 0) - penalty.",
            rule="subtracted",
        ),
        mistake(
            "It looks as if every response that was cut off scores -penalty. Then a "
            "response that would score lower gains by being cut off: it gets min(score, 0) - "
            "penalty.",
            rule="fixed",
        ),
        mistake(
            "It looks as if a response that was cut off gets min(score, -penalty): it gets "
            "min(score, 0) - penalty, so that cutting off always costs something.",
            rule="at most",
        ),
        mistake(
            "It looks as if a response that was cut off gets min(score, 0): the penalty is still "
            "to be subtracted.",
            rule="at most 0",
        ),
        mistake(
            "It looks as if every response pays the penalty: only those that were cut off do.",
            rule="everyone",
        ),
        mistake(
            "The rewards are made of the lowered scores, but you return the raw ones: return the "
            "scores after the penalty, which is what objective/scores reports.",
            told="raw",
        ),
        mistake(
            "You return the lowered scores, but the rewards are made of the raw ones: apply the "
            "penalty first.",
            paid="raw",
        ),
        _same("It looks as if the sign of the KL", nb04_rewards.KL_REWARDS),
        _same("It looks as if the score went into the last column. It", nb04_rewards.KL_REWARDS),
        _same("It looks as if every token gets the score", nb04_rewards.KL_REWARDS),
        _same("It looks as if the score stands in place", nb04_rewards.KL_REWARDS),
        _same("It looks as if beta is missing", nb04_rewards.KL_REWARDS),
        _same("It looks as if padding is not zeroed", nb04_rewards.KL_REWARDS),
    ),
    use="This is what the policy is paid, token by token.",
    outputs=("scores", "rewards"),
    mask="mask",
    instead=(),
)


# ---- advantages and returns ----------------------------------------------------------------------


def advantages_and_returns(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gamma: float,
    lam: float,
    *,
    whitened: str = "the advantages, at the end",
    white: dict[str, Any] | None = None,
    **gae: Any,
) -> tuple[Tensor, Tensor]:
    """Whitened advantages and the returns, each (B, N)."""

    def whiten(x: Tensor) -> Tensor:
        return nb04_losses.whiten(x, mask, **(white or {}))

    if whitened == "the rewards":
        rewards = whiten(rewards)
    raw, returns = nb04_advantages.gae(rewards, values, mask, gamma, lam, **gae)
    advantages = raw if whitened in ("nothing", "the rewards") else whiten(raw)
    if whitened == "first":
        returns = (advantages + values).masked_fill(~mask, 0)
    if whitened == "both":
        returns = whiten(returns)
    return advantages, returns


def _adv_case(name: str, rewards, values, mask: Tensor, gamma: float, lam: float) -> Case:
    return Case(
        name, {"rewards": rewards, "values": values, "mask": mask, "gamma": gamma, "lam": lam}
    )


ADVANTAGES_AND_RETURNS = Exercise(
    "advantages_and_returns",
    advantages_and_returns,
    cases=(
        _adv_case(
            "one response that fills its row",
            t([-0.1, 0.05, 1.0]),
            t([0.2, 0.4, 0.6]),
            ones_until(3, N=3),
            1.0,
            0.95,
        ),
        _adv_case(
            "responses of different lengths",
            t([-0.1, 0.3, 2.0, 9.0], [-0.4, -1.0, 5.0, 3.0]),
            t([0.5, 0.1, 0.9, 7.0], [-0.3, 0.2, 4.0, 1.0]),
            ones_until(3, 2, N=4),
            0.9,
            0.6,
        ),
        _adv_case(
            "nan and inf on padding",
            t([0.4, NAN, INF, NAN], [-0.2, 0.1, -0.3, 1.1], [0.3, -0.8, INF, -INF]),
            t([0.1, NAN, 1.0, -INF], [0.5, -0.7, 0.4, 0.2], [-0.4, 0.6, INF, NAN]),
            ones_until(1, 4, 2, N=4),
            0.95,
            0.8,
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if the returns were computed from the whitened advantages: the value "
            "network learns the raw sum A + V. Compute the returns first, then whiten.",
            whitened="first",
        ),
        mistake(
            "It looks as if the advantages are not whitened: without that, the size of a step "
            "depends on the size of the scores.",
            whitened="nothing",
        ),
        mistake(
            "It looks as if the returns were whitened as well: the value network learns the raw "
            "ones.",
            whitened="both",
        ),
        mistake(
            "It looks as if the rewards were whitened in place of the advantages: centred rewards "
            "pay something else.",
            whitened="the rewards",
        ),
        mistake(
            "It looks as if each response was whitened by itself. Then good and bad responses get "
            "the same advantages: take mean and variance over the whole batch.",
            white={"over": "row"},
        ),
        mistake(
            "It looks as if padding counts in the whitening: take mean and variance over "
            "x[mask] (maths.whiten does that).",
            white={"over": "zeros too"},
        ),
        mistake(
            "It looks as if the mean was kept in the whitening (keep_mean=True): that is for "
            "rewards; advantages are centred.",
            white={"centre": "added again"},
        ),
        mistake(
            "The whitening divides by n - 1, which is what .var() and .std() do by themselves: "
            "here the variance is the mean of the squares (correction=0).",
            white={"less": 1},
        ),
        mistake(
            "It looks as if gamma and lam did not reach GAE: its defaults are 1 and 0.95.",
            before=lambda x: {**x, "gamma": 1.0, "lam": 0.95},
        ),
        mistake(
            "It looks as if gamma and lam were given in the wrong order.",
            before=lambda x: {**x, "gamma": x["lam"], "lam": x["gamma"]},
        ),
        mistake(
            "It looks as if the returns are the advantages: they are A + V.", returned="advantages"
        ),
        mistake(
            "It looks as if the returns are the sums of the rewards to come: they are A + V.",
            returned="to go",
        ),
        _same("It looks as if the loop runs forwards: an", nb04_advantages.GAE),
        mistake(
            "You return them in the wrong order: first the advantages, then the returns.",
            after=lambda answer, inputs: answer[::-1],
        ),
    ),
    use="The policy learns from the first, the value network from the second.",
    outputs=("advantages", "returns"),
    mask="mask",
    instead=(),
)


# ---- the loss ------------------------------------------------------------------------------------


def ppo_loss(
    policy,
    value_model,
    batch: Rollout,
    config: PPOConfig,
    steps: SimpleNamespace,
    *,
    temperature: Callable[[PPOConfig], float] = lambda config: config.temperature,
    old: str = "logprobs",
    learns: str = "advantages",
    aim: str = "returns",
    epsilon: str = "epsilon",
    value_epsilon: str = "value_epsilon",
    coefficient: Callable[[PPOConfig], float] = lambda config: config.value_coefficient,
    policy_loss: Callable[..., Tensor] = maths.clipped_policy_loss,
    value_loss: Callable[..., Tensor] = maths.clipped_value_loss,
    detached: str = "",
) -> tuple[Tensor, dict[str, Tensor]]:
    """PPO's loss on a batch, and its metrics."""
    new = steps.token_logprobs(policy, batch.sequences, temperature(config))
    new_values = response_values(value_model, batch.sequences)
    new = new.detach() if "policy" in detached else new
    new_values = new_values.detach() if "values" in detached else new_values
    before = new.detach() if old == "new" else getattr(batch, old)
    of_policy = new, before, getattr(batch, learns), batch.mask, getattr(config, epsilon)
    target = getattr(batch, aim)
    of_values = new_values, batch.values, target, batch.mask, getattr(config, value_epsilon)
    first, second = policy_loss(*of_policy), value_loss(*of_values)
    metrics = {"loss/policy_avg": first.detach(), "loss/value_avg": second.detach()}
    metrics |= maths.policy_metrics(*of_policy)
    return first + coefficient(config) * second, metrics


LOSSES = "loss/policy_avg", "loss/value_avg"


def numbers_of(metrics: Any, names: tuple[str, ...]) -> Tensor:
    """Some metrics of a record as a tensor. Raises WrongForm if it has not got them."""
    if not isinstance(metrics, dict):
        raise WrongForm(f"The metrics are {kind_of(metrics)}; they should be a dict.")
    if missing := [name for name in names if name not in metrics]:
        raise WrongForm(f"The metrics lack {' and '.join(map(repr, missing))}.")
    return torch.tensor([torch.as_tensor(metrics[name]).item() for name in names])


def try_ppo_loss(function: Callable) -> Callable:
    """`ppo_loss` as a function of five settings; the loss, its two parts, and its gradients with
    respect to the biases of the policy's and of the value network's last layer norm."""

    def tried(temperature, epsilon, value_epsilon, value_coefficient, /, **switches):
        policy, value_model, batch = tiny.policy(), tiny.scalar_model(), tiny.batch()
        config = PPOConfig(
            temperature=temperature,
            epsilon=epsilon,
            value_epsilon=value_epsilon,
            value_coefficient=value_coefficient,
        )
        answer = function(policy, value_model, batch, config, right_steps(), **switches)
        loss, metrics = parts_of(answer, "the loss", "the metrics")
        if not isinstance(loss, Tensor) or loss.dim():
            raise WrongForm(f"The loss is {kind_of(loss)}; it should be a tensor of one number.")
        gradients = [
            gradient_of(loss, bias)
            for bias in (policy.transformer.ln_f.bias, value_model.backbone.ln_f.bias)
        ]
        return loss.detach(), numbers_of(metrics, LOSSES), *gradients

    return tried


def _loss_case(name: str, *settings: float) -> Case:
    names = "temperature", "epsilon", "value_epsilon", "value_coefficient"
    return Case(name, {f"config.{some}": x for some, x in zip(names, settings)})


def _some_settings(dice: Random) -> Inputs:
    ranges = (0.6, 1.6), (0.1, 0.4), (0.1, 0.4), (0.2, 1.0)
    return _loss_case("", *(round(dice.uniform(*some), 2) for some in ranges)).inputs


PPO_LOSS = Exercise(
    "ppo_loss",
    try_ppo_loss(ppo_loss),
    cases=(
        _loss_case("the usual settings", 1.0, 0.2, 0.3, 0.1),
        _loss_case("a low temperature and narrow clips", 0.7, 0.1, 0.2, 0.5),
        _loss_case("a high temperature and wide clips", 1.5, 0.5, 0.25, 1.3),
    ),
    mistakes=(
        mistake(
            "It looks as if the new log-probabilities are read at temperature 1: the old ones were "
            "drawn at config.temperature, and the ratio compares the two.",
            temperature=lambda config: 1.0,
        ),
        mistake(
            "It looks as if the old log-probabilities are those of the present policy. Then every "
            "ratio is 1 and nothing is ever clipped: they are batch.logprobs, kept from sampling.",
            old="new",
        ),
        mistake(
            "It looks as if the ratio is taken to the reference: it is to the policy that sampled, "
            "batch.logprobs.",
            old="ref_logprobs",
        ),
        mistake(
            "It looks as if the loss is made of the rewards: it is made of batch.advantages.",
            learns="rewards",
        ),
        mistake(
            "It looks as if the policy's loss is made of the returns: they are for the value "
            "network; the policy's is made of batch.advantages.",
            learns="returns",
        ),
        mistake(
            "It looks as if the value network learns the advantages: it learns batch.returns.",
            aim="advantages",
        ),
        mistake(
            "It looks as if the value network learns the rewards of single tokens: it learns "
            "batch.returns.",
            aim="rewards",
        ),
        mistake(
            "It looks as if the values are clipped by config.epsilon: they have their own, "
            "config.value_epsilon.",
            value_epsilon="epsilon",
        ),
        mistake(
            "It looks as if the ratio is clipped by config.value_epsilon: its own is "
            "config.epsilon.",
            epsilon="value_epsilon",
        ),
        mistake(
            "It looks as if the value loss is added whole: multiply it by "
            "config.value_coefficient.",
            coefficient=lambda config: 1.0,
        ),
        mistake(
            "It looks as if the value loss is subtracted: both are to become smaller, so add it.",
            coefficient=lambda config: -config.value_coefficient,
        ),
        mistake(
            "It looks as if the value loss is missing from the sum: then the value network learns "
            "nothing.",
            coefficient=lambda config: 0.0,
        ),
        mistake(
            "It looks as if padding counts in the policy's loss: give it batch.mask.",
            policy_loss=lambda new, old, advantages, mask, epsilon: maths.clipped_policy_loss(
                new, old, advantages, torch.ones_like(mask), epsilon
            ),
        ),
        mistake(
            "It looks as if padding counts in the value loss: give it batch.mask.",
            value_loss=lambda new, old, returns, mask, epsilon: maths.clipped_value_loss(
                new, old, returns, torch.ones_like(mask), epsilon
            ),
        ),
        mistake(
            "It looks like the plain policy gradient, without ratio and clip: take "
            "clipped_policy_loss.",
            policy_loss=lambda new, old, advantages, mask, epsilon: maths.reinforce_loss(
                new, advantages, mask
            ),
        ),
        mistake(
            "It looks as if the values are not clipped: take clipped_value_loss.",
            value_loss=lambda new, old, returns, mask, epsilon: (
                maths.masked_mean((new - returns).square(), mask) / 2
            ),
        ),
        mistake(
            "The loss is right, but it carries no gradient at all: this step must not run under "
            "torch.no_grad(), and the loss must stay a tensor.",
            detached="policy and values",
        ),
        mistake(
            "The numbers are right, but no gradient reaches the policy: do not detach the new "
            "log-probabilities, and do not read them under torch.no_grad().",
            detached="policy",
        ),
        mistake(
            "The numbers are right, but no gradient reaches the value network: do not detach the "
            "new values, and do not read them under torch.no_grad().",
            detached="values",
        ),
    ),
    use="Its gradient is all that either model ever learns from.",
    outputs=("loss", "policy's and value loss", "policy's gradient", "values' gradient"),
    trial=try_ppo_loss,
    instead=("minibatch_gradients", "optimise"),
    draw=_some_settings,
)
