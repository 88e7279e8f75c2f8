"""Exercises of notebook 14, third part: the update with Adam, and the loop around it all.

Both are tried on the models of tiny_models.py. STEPS are the right steps of the notebook: a loop
gets them as `steps` where a learner's own are not written yet.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_lab.course import tiny_models as tiny
from rlhf_lab.course.exercises import nb14_learning as learning
from rlhf_lab.course.exercises import nb14_reading as reading
from rlhf_lab.course.exercises.exercise import Case, Exercise, Inputs, Mistake, WrongForm, mistake
from rlhf_lab.course.exercises.wording import kind_of
from rlhf_lab.models import ScalarModel, frozen_copy, new_value_model
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.rollout import Rollout, batch_of, describe, mean_mark
from rlhf_lab.sequences import response_logprobs, response_values
from rlhf_lab.training import Record, mean_of_each, seed_of

# ---- the update ----------------------------------------------------------------------------------

RATES: dict[str, Callable[[PPOConfig, int, int], float]] = {
    "falls": lambda config, done, epoch: 1 - done / (config.updates * config.epochs),
    "constant": lambda config, done, epoch: 1.0,
    "one early": lambda config, done, epoch: 1 - (done + 1) / (config.updates * config.epochs),
    "by update": lambda config, done, epoch: 1 - done // config.epochs / config.updates,
    "in each update": lambda config, done, epoch: 1 - epoch / config.epochs,
    "counted from 0": lambda config, done, epoch: (
        1 - (done + config.epochs) / (config.updates * config.epochs)
    ),
}


def _together(policy: nn.Module, values: nn.Module) -> None:
    nn.utils.clip_grad_norm_([*policy.parameters(), *values.parameters()], 1.0)


def _by_number(policy: nn.Module, values: nn.Module) -> None:
    nn.utils.clip_grad_value_([*policy.parameters(), *values.parameters()], 1.0)


def _each(policy: nn.Module, values: nn.Module) -> None:
    for model in (policy, values):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def improve(
    policy,
    value_model,
    batch: Rollout,
    adam: torch.optim.Optimizer,
    update: int,
    config: PPOConfig,
    steps: SimpleNamespace,
    *,
    cut: Callable[[Any, Any], Any] = _together,
    rate: str = "falls",
    cleared: bool = True,
    stepped: bool = True,
    sign: int = 1,
    passes: Callable[[PPOConfig], int] = lambda config: config.epochs,
    old: str = "kept",
    told: Callable[[list[dict]], dict] = mean_of_each,
) -> dict[str, float]:
    """A few passes over the batch; the mean of each metric over the passes."""
    found = []
    for epoch in range(passes(config)):
        if old == "read again":
            now = steps.token_logprobs(policy, batch.sequences, config.temperature)
            batch.logprobs = now.detach()
        loss, metrics = steps.ppo_loss(policy, value_model, batch, config, steps)
        if cleared:
            adam.zero_grad()
        (sign * loss).backward()
        cut(policy, value_model)
        done = (update - 1) * config.epochs + epoch
        for group in adam.param_groups:
            group["lr"] = config.learning_rate * RATES[rate](config, done, epoch)
        if stepped:
            adam.step()
        found.append({name: float(x) for name, x in metrics.items()})
    return told(found)


def try_improve(function: Callable) -> Callable:
    """`improve` as a function of four settings: what the two models say after the update, and the
    losses that it reports."""

    def tried(update, updates, epochs, learning_rate, /, **switches) -> tuple[Tensor, ...]:
        policy, value_model, batch = tiny.policy(), tiny.scalar_model(), tiny.batch()
        settings = {"updates": updates, "epochs": epochs, "learning_rate": learning_rate}
        config = PPOConfig(**settings, value_coefficient=2.0)  # large, so that the norm is cut
        batch.advantages = 4 * batch.advantages
        adam = torch.optim.Adam([*policy.parameters(), *value_model.parameters()], eps=1e-5)
        steps = SimpleNamespace(token_logprobs=reading.token_logprobs, ppo_loss=learning.ppo_loss)
        given = policy, value_model, batch, adam, update, config, steps
        told = function(*given, **switches)
        metrics = learning.numbers_of(told, learning.LOSSES)
        if any(isinstance(x, Tensor) for x in told.values()):
            raise WrongForm("The metrics hold tensors; return plain numbers: float(x) of each.")
        with torch.no_grad():
            logprobs = response_logprobs(policy, batch.sequences)[0]
            values = response_values(value_model, batch.sequences)
        return logprobs, values, metrics

    return tried


def _improve_case(name: str, update: int, updates: int, epochs: int, rate: float) -> Case:
    settings = {"updates": updates, "epochs": epochs, "learning_rate": rate}
    return Case(name, {"update": update, **{f"config.{k}": x for k, x in settings.items()}})


def _some_update(dice: Random) -> Inputs:
    updates, rate = dice.randint(3, 6), dice.randint(10, 50) / 1000
    return _improve_case("", dice.randint(1, updates - 1), updates, dice.randint(1, 3), rate).inputs


IMPROVE = Exercise(
    "improve",
    try_improve(improve),
    cases=(
        _improve_case("the first update, one pass", 1, 4, 1, 0.01),
        _improve_case("the second of three updates, two passes", 2, 3, 2, 0.02),
        _improve_case("the last of five updates, three passes", 5, 5, 3, 0.05),
    ),
    mistakes=(
        mistake(
            "It looks as if the gradient is not cut: torch.nn.utils.clip_grad_norm_ with norm 1, "
            "after backward() and before the step.",
            cut=lambda policy, values: None,
        ),
        mistake(
            "It looks as if each model's gradient is cut by itself: the norm is that of both "
            "models' parameters in one list.",
            cut=_each,
        ),
        mistake(
            "It looks as if only the policy's gradient is cut: the norm is that of both models' "
            "parameters in one list.",
            cut=lambda policy, values: nn.utils.clip_grad_norm_(policy.parameters(), 1.0),
        ),
        mistake(
            "It looks as if every number of the gradient is cut to at most 1: it is the norm of "
            "the whole gradient, clip_grad_norm_ and not clip_grad_value_.",
            cut=_by_number,
        ),
        mistake(
            "It looks as if gradients of earlier passes are still there: call adam.zero_grad() "
            "before every backward().",
            cleared=False,
        ),
        mistake(
            "It looks as if the learning rate stays as it is: it falls linearly, from "
            "config.learning_rate at the first step to 0 after the last.",
            rate="constant",
        ),
        mistake(
            "It looks as if the learning rate falls one step too early: with `done` steps made "
            "before, it is config.learning_rate * (1 - done / all steps), so the first step has "
            "it whole.",
            rate="one early",
        ),
        mistake(
            "It looks as if the learning rate falls once an update: it falls with every step, and "
            "an update has config.epochs of them.",
            rate="by update",
        ),
        mistake(
            "It looks as if the learning rate falls within each update and begins anew: it falls "
            "over all steps of the run, config.updates * config.epochs.",
            rate="in each update",
        ),
        mistake(
            "It looks as if updates are counted from 0: the first is 1, so (update - 1) * "
            "config.epochs steps were made before.",
            rate="counted from 0",
        ),
        mistake(
            "It looks as if there is one pass: there are config.epochs over the same batch.",
            passes=lambda config: 1,
        ),
        mistake(
            "It looks as if the old log-probabilities are computed again in each pass. They are "
            "those of the policy that sampled, and stay as they are: otherwise the ratio is always "
            "1 and the clip does nothing.",
            old="read again",
        ),
        mistake("It looks as if the step is missing: adam.step() after backward().", stepped=False),
        mistake(
            "It looks as if the loss is raised: an optimiser lowers it, so call backward() on the "
            "loss itself.",
            sign=-1,
        ),
        mistake(
            "The models are right, but you report the metrics of the last pass: report the mean "
            "over the passes.",
            told=lambda found: found[-1],
        ),
        mistake(
            "The models are right, but you report the metrics of the first pass: report the mean "
            "over the passes.",
            told=lambda found: found[0],
        ),
        mistake(
            "The models are right, but you report the sum over the passes: report the mean.",
            told=lambda found: {name: sum(each[name] for each in found) for name in found[0]},
        ),
    ),
    use="It is the whole of learning: the rest of the loop prepares it.",
    outputs=("logprobs afterwards", "values afterwards", "policy's and value loss"),
    trial=try_improve,
    instead=("epochs_over", "optimise", "minibatch_gradients", "accumulate", "rate"),
    draw=_some_update,
)


# ---- the loop ------------------------------------------------------------------------------------

REFERENCES: dict[str, Callable[[Any], Any]] = {"a frozen copy": frozen_copy, "itself": lambda x: x}
VALUES: dict[str, Callable[..., Any]] = {
    "as the package": lambda policy, scorer, seed: new_value_model(policy, scorer, seed),
    "from the policy": lambda policy, scorer, seed: ScalarModel.from_policy(policy, seed, True),
    "the reward model": lambda policy, scorer, seed: scorer.requires_grad_(True),
}


def _adam(policy, values, config: PPOConfig, whom: str, eps: float, decay: float):
    models = {"both": (policy, values), "policy": (policy,), "values": (values,)}[whom]
    weights = [weight for model in models for weight in model.parameters()]
    return torch.optim.AdamW(weights, config.learning_rate, eps=eps, weight_decay=decay)


def my_ppo(
    policy,
    reward_model,
    tokenizer,
    prompts: Sequence[Prompt],
    config: PPOConfig,
    steps: SimpleNamespace,
    judge: Callable[[Prompt, str], Mark] | None = None,
    *,
    reference_is: str = "a frozen copy",
    anew: str = "",
    value_is: str = "as the package",
    whom: str = "both",
    eps: float = 1e-5,
    decay: float = 0.0,
    batch_at: Callable[[int], int] = lambda update: update,
    seeds_at: Callable[[int], int] = lambda update: update,
    told: str = "lowered",
    late: bool = False,
    whole: bool = False,
    usual: bool = False,
) -> Iterator[Record]:
    """PPO in a loop of steps: trains the policy in place and yields a record for each update."""
    reference = REFERENCES[reference_is](policy)
    value_model = VALUES[value_is](policy, reward_model, config.seed)
    adam = _adam(policy, value_model, config, whom, eps, decay)
    signal = PPOConfig() if usual else config
    for update in range(1, config.updates + 1):
        if anew == "values":
            value_model = VALUES[value_is](policy, reward_model, config.seed)
        if anew in ("values", "adam"):
            adam = _adam(policy, value_model, config, whom, eps, decay)
        asked = batch_of(prompts, config.batch_size, config.seed, batch_at(update))
        key = "ppo", config.seed, seeds_at(update)
        seeds = [seed_of(*key, row) for row in range(config.batch_size)]
        drawn = steps.draw(policy, tokenizer, asked, seeds, config)
        sequences, logprobs, ended, texts = drawn
        read = reference, value_model, reward_model, sequences, config, steps
        scores, ref_logprobs, values = steps.score_and_read(*read)
        of = prompts if whole else asked
        batch = Rollout(of, texts, sequences, ended, scores, logprobs, ref_logprobs, values)
        lowered, batch.rewards = steps.shaped_rewards(
            *(scores, ended, logprobs, ref_logprobs),
            *(batch.mask, config.beta, signal.no_end_penalty),
        )
        batch.advantages, batch.returns = steps.advantages_and_returns(
            batch.rewards, values, batch.mask, signal.gamma, signal.lam
        )
        told_scores = lowered if told == "lowered" else scores
        record = describe(batch, told_scores, config.beta, "ppo", update, config.updates)
        record |= steps.improve(policy, value_model, batch, adam, update, config, steps)
        if late:
            batch.logprobs = steps.token_logprobs(policy, sequences, config.temperature).detach()
            record |= describe(batch, told_scores, config.beta, "ppo", update, config.updates)
        if judge:
            record["judge/mark"] = mean_mark(batch, judge)
        yield record


LOOP_SETTINGS = (
    *("updates", "batch_size", "learning_rate", "beta", "seed"),
    *("gamma", "lam", "no_end_penalty"),
)
METRICS = (
    *("objective/scores", "objective/kl", "objective/rlhf_reward"),
    *(*learning.LOSSES, "judge/mark"),
)


def _some_judge(prompt: Prompt, text: str) -> Mark:
    """A mark that depends on both."""
    return Mark((3 * len(prompt.text) + len(text)) % 11, {})


def try_my_ppo(function: Callable) -> Callable:
    """`my_ppo` as a function of eight settings and whether a judge looks on: its metrics, each
    (updates,), and what the policy says of a few sentences at the end."""

    def tried(*values, **switches) -> tuple[Tensor, ...]:
        *settings, judged = values
        policy, tokenizer, scorer = tiny.policy(), tiny.tokenizer(), tiny.scalar_model(2)
        config = PPOConfig(**dict(zip(LOOP_SETTINGS, settings)), max_new_tokens=8)
        steps = SimpleNamespace(**{name: step for name, (_, step) in STEPS.items()})
        scorer.requires_grad_(False)
        given = policy, scorer, tokenizer, tiny.prompts(), config, steps
        found = function(*given, _some_judge if judged else None, **switches)
        records = found if isinstance(found, list) else list(found) if found else found
        if not records:
            raise WrongForm(
                f"Your function returns {kind_of(found)}: `yield record` in every update."
            )
        if not judged:
            records = [{"judge/mark": 0.0} | record for record in records]
        numbers = torch.stack([learning.numbers_of(record, METRICS) for record in records])
        with torch.no_grad():
            logprobs = response_logprobs(policy, tiny.sequences())[0]
        return *numbers.T, logprobs

    return tried


def _loop(sentence: str, **switches: Any) -> Mistake:
    """A mistake in the loop. Loops are not tried in pairs: a try takes three updates."""
    return mistake(sentence, try_my_ppo(partial(my_ppo, **switches)))


def _loop_case(name: str, *settings: float, judge: bool = True) -> Case:
    inputs = {f"config.{some}": x for some, x in zip(LOOP_SETTINGS, settings)}
    return Case(name, inputs | {"with a judge": judge})


def _some_run(dice: Random) -> Inputs:
    rate, beta = dice.randint(3, 10) / 1000, dice.randint(5, 30) / 100
    sizes = 2, dice.randint(3, 4), rate, beta, dice.randrange(100)
    signal = dice.randint(85, 99) / 100, dice.randint(5, 9) / 10, dice.randint(2, 6) / 2
    return _loop_case("", *sizes, *signal).inputs


MY_PPO = Exercise(
    "my_ppo",
    try_my_ppo(my_ppo),
    cases=(
        _loop_case("three updates of three", 3, 3, 0.01, 0.3, 0, 0.97, 0.9, 2.0),
        _loop_case("no judge", 2, 4, 0.003, 0.05, 7, 1.0, 0.95, 1.0, judge=False),
    ),
    mistakes=(
        _loop(
            "It looks as if the reference is not frozen: it is the policy itself, or copied anew "
            "in each update, so the KL stays 0. Take frozen_copy(policy) once, before the loop.",
            reference_is="itself",
        ),
        _loop(
            "It looks as if the Rollout holds all prompts, `prompts`: give it those of this "
            "update, in their order, or the judge marks answers to other questions.",
            whole=True,
        ),
        _loop(
            "It looks as if discount, lambda and penalty are written down in the loop: take "
            "config.gamma, config.lam and config.no_end_penalty.",
            usual=True,
        ),
        _loop(
            "It looks as if the value network is made anew in each update: it must keep "
            "what it has learned. Make it once, before the loop.",
            anew="values",
        ),
        _loop(
            "It looks as if the optimiser is made anew in each update: Adam remembers earlier "
            "gradients. Make it once, before the loop.",
            anew="adam",
        ),
        _loop(
            "It looks as if the value network begins as a copy of the policy with a new head: "
            "new_value_model(policy, reward_model, config.seed) copies the reward model.",
            value_is="from the policy",
        ),
        _loop(
            "It looks as if the reward model itself is trained as the value network, so that the "
            "scores change their meaning: take new_value_model(policy, reward_model, "
            "config.seed), a copy.",
            value_is="the reward model",
        ),
        _loop(
            "It looks as if Adam has only the policy's parameters: the value network learns as "
            "well. Give it both models' in one list.",
            whom="policy",
        ),
        _loop(
            "It looks as if Adam has only the value network's parameters: then the policy never "
            "changes. Give it both models' in one list.",
            whom="values",
        ),
        _loop(
            "It looks as if Adam has its default eps, 1e-8: PPO takes 1e-5, which keeps steps "
            "small where gradients are tiny.",
            eps=1e-8,
        ),
        _loop(
            "It looks as if the weights decay (AdamW's default is 0.01): PPO takes Adam, or "
            "weight_decay=0.",
            decay=0.01,
        ),
        _loop(
            "It looks as if updates are counted from 0: batch_of and the seeds count from 1.",
            batch_at=lambda update: update - 1 or 10**6,
            seeds_at=lambda update: update - 1,
        ),
        _loop(
            "It looks as if every update asks the prompts of the first: batch_of takes the number "
            "of the update.",
            batch_at=lambda update: 1,
        ),
        _loop(
            "It looks as if every update draws with the same seeds: the number of the update is "
            "part of a seed, seed_of('ppo', config.seed, update, row).",
            seeds_at=lambda update: 1,
        ),
        _loop(
            "The record's scores are raw: give describe those that shaped_rewards returns, after "
            "the penalty.",
            told="raw",
        ),
        _loop(
            "The record seems to be made after the update, with other log-probabilities: describe "
            "the batch as it was drawn.",
            late=True,
        ),
    ),
    use="It is PPO: with real models it does what train_ppo does.",
    outputs=(*METRICS, "logprobs at the end"),
    trial=try_my_ppo,
    instead=("train_ppo", "collect", "roll_out", "optimise", "epochs_over"),
    draw=_some_run,
)

# Each step: its exercise, and the right function.
STEPS: dict[str, tuple[Exercise, Callable]] = {
    "draw": (reading.DRAW, reading.draw),
    "token_logprobs": (reading.TOKEN_LOGPROBS, reading.token_logprobs),
    "score_and_read": (reading.SCORE_AND_READ, reading.score_and_read),
    "shaped_rewards": (learning.SHAPED_REWARDS, learning.shaped_rewards),
    "advantages_and_returns": (learning.ADVANTAGES_AND_RETURNS, learning.advantages_and_returns),
    "ppo_loss": (learning.PPO_LOSS, learning.ppo_loss),
    "improve": (IMPROVE, improve),
    "my_ppo": (MY_PPO, my_ppo),
}
