"""Stage three, PPO: move the policy towards high scores without leaving the reference far behind.

Each update samples responses, scores them, charges beta for every nat of KL on every token, works
out advantages with a value network, and improves the policy with the clipped loss (Schulman et al.
2017; Ziegler et al. 2019; Stiennon et al. 2020). One sampling temperature holds throughout.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.engine import parallel
from rlhf_lab.engine.adapters import frozen_twin, has_lora, trainable_copy
from rlhf_lab.errors import UserError
from rlhf_lab.models import Ensemble, ScalarModel, SharedValue, ValueModel
from rlhf_lab.records import Mark, Prompt, check_settings, setting
from rlhf_lab.rollout import Rollout, Scorer, batch_of, describe, roll_out
from rlhf_lab.sequences import micro_batches, response_logprobs, response_values
from rlhf_lab.training import (
    Metrics,
    Optimiser,
    Record,
    accumulate,
    check_finite,
    make_accelerator,
    seed_of,
    shuffled,
)


@dataclass(frozen=True)
class PPOConfig:
    """The settings of PPO; the symbols are those of the papers."""

    updates: int = setting(50, "how many updates to make", at_least=1)
    batch_size: int = setting(64, "responses sampled in one update", at_least=1)
    epochs: int = setting(2, "passes over each batch of responses", at_least=1)
    minibatches: int = setting(1, "steps in one pass over a batch", at_least=1)
    learning_rate: float = setting(3e-4, "at the start; it falls linearly to 0", above=0)
    warmup: int = setting(0, "updates over which the learning rate rises", at_least=0)
    beta: float = setting(0.05, "price of a nat of KL: higher moves less", at_least=0)
    target_kl: float | None = setting(None, "nats of KL to aim at by adapting beta", above=0)
    horizon: int = setting(10_000, "episodes over which an adaptive beta moves", at_least=1)
    gamma: float = setting(1.0, "discount", at_least=0, at_most=1)
    lam: float = setting(0.95, "lambda of the advantages (GAE)", at_least=0, at_most=1)
    epsilon: float = setting(0.2, "clip range of the policy's ratio", above=0)
    value_epsilon: float = setting(0.2, "clip range of the values", above=0)
    value_coefficient: float = setting(0.1, "weight of the value loss", at_least=0)
    no_end_penalty: float = setting(1.0, "penalty of a response that does not end", at_least=0)
    whiten_rewards: bool = setting(False, "scale rewards to unit variance before the advantages")
    shared_value: bool = setting(
        False, "value head on the policy's trunk, not a network of its own"
    )
    temperature: float = setting(1.0, "sampling temperature", above=0)
    max_new_tokens: int = setting(64, "longest response, in tokens", at_least=1)
    seed: int = setting(0, "the seed of everything random")
    max_tokens: int = setting(3072, "tokens in a forward pass; changes no result", at_least=1)

    def __post_init__(self) -> None:
        check_settings(self)


def train_ppo(
    policy: PreTrainedModel,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    config: PPOConfig = PPOConfig(),
    judge: Callable[[Prompt, str], Mark] | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
    value_model: ValueModel | None = None,
    reference: PreTrainedModel | None = None,
) -> Iterator[Record]:
    """Train `policy` in place; yields one metrics record an update, with the rollout's texts.

    `reference` is by default a frozen copy of `policy` as it comes in: give another where an
    earlier start is what the KL shall be paid for. `value_model` is by default a copy of
    the reward model (of an ensemble's first, or of the policy's trunk where the scorer is a
    function). `judge`, if given, only watches: its mean mark is logged as judge/mark. Raises
    UserError without prompts, and for a minibatch with fewer responses than there are processes.
    """
    accelerator = accelerator or make_accelerator()
    parallel.check_shares(config.batch_size, config.minibatches)
    if not prompts:
        raise UserError("no prompts to answer: give at least one")
    policy.to(accelerator.device).eval()
    reference = frozen_copy(reference or policy).to(accelerator.device)
    value_model = (value_model or new_value_model(policy, reward_model, config)).to(
        accelerator.device
    )
    if isinstance(reward_model, nn.Module):
        reward_model.to(accelerator.device)
    trained = {"policy": policy, "value": value_model}
    optimiser = Optimiser(
        accelerator,
        trained.values(),
        config.learning_rate,
        config.updates * config.epochs * config.minibatches,
        config.warmup,
        eps=1e-5,
    )
    state: dict = {"update": 0, "beta": config.beta}
    if checkpoint:
        state |= checkpoint.restore(trained | {"reference": reference}, optimiser)
    beta = state["beta"]

    for update in range(state["update"] + 1, config.updates + 1):
        # 1. The policy answers a batch of prompts; every model reads the answers.
        rollout = collect(
            policy,
            reference,
            value_model,
            reward_model,
            tokenizer,
            batch_of(prompts, config, update),
            config,
            update,
        )
        # 2. The score, minus beta for every nat of KL, becomes a reward for every token.
        rollout.rewards = maths.shape_rewards(
            maths.no_end_penalty(rollout.scores, rollout.ended, config.no_end_penalty),
            rollout.logprobs,
            rollout.ref_logprobs,
            rollout.mask,
            beta,
        )
        record = describe(rollout, beta, config, update)
        if config.whiten_rewards:
            rollout.rewards = maths.masked_whiten(rollout.rewards, rollout.mask, keep_mean=True)
        # 3. Was each token better than the value network expected?
        raw, rollout.returns = maths.gae(
            rollout.rewards, rollout.values, rollout.mask, config.gamma, config.lam
        )
        rollout.advantages = maths.masked_whiten(raw, rollout.mask)
        record["val/explained_variance"] = float(
            maths.explained_variance(rollout.values, rollout.returns, rollout.mask)
        )
        # 4. Improve policy and value network on the same responses, a few times.
        metrics = optimise(policy, value_model, rollout, optimiser, config, update)
        record |= metrics
        # 5. Hold the KL near its target, if it has one.
        if config.target_kl:
            kl = float(record["objective/kl"])
            beta = maths.adaptive_beta(
                beta, kl, config.target_kl, config.batch_size, config.horizon
            )
        if judge:
            marks = [judge(p, text).mark for p, text in zip(rollout.prompts, rollout.texts)]
            record["judge/mark"] = sum(marks) / len(marks)
        check_finite("the loss", metrics["loss/policy_avg"] + metrics["loss/value_avg"], update)
        yield record
        if checkpoint and checkpoint.due(update, config.updates):
            checkpoint.save(update, trained | {"reference": reference}, optimiser, {"beta": beta})


def collect(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    value_model: ValueModel,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    batch: list[Prompt],
    config: PPOConfig,
    update: int,
) -> Rollout:
    """Sample one response to each prompt and let every model read it."""
    seeds = [seed_of("ppo", config.seed, update, row) for row in range(len(batch))]
    return roll_out(policy, reference, value_model, reward_model, tokenizer, batch, seeds, config)


def optimise(
    policy: PreTrainedModel,
    value_model: ValueModel,
    rollout: Rollout,
    optimiser: Optimiser,
    config: PPOConfig,
    update: int,
) -> dict[str, float]:
    """PPO's epochs over one rollout; returns the mean of each metric over all minibatches."""
    total: dict[str, float] = {}
    B, steps = len(rollout.texts), config.epochs * config.minibatches
    for epoch in range(config.epochs):
        order = torch.tensor(shuffled(B, "ppo", config.seed, update, epoch))
        for k, rows in enumerate(order.tensor_split(config.minibatches)):
            metrics = minibatch_gradients(
                policy,
                value_model,
                rollout,
                rows,
                optimiser.accelerator,
                config,
                with_entropy=epoch == 0,
            )
            if epoch == k == 0:
                total["val/ratio_first"] = metrics["val/ratio"] * steps  # 1, or something is off
                total["lr"] = optimiser.rate() * steps
            metrics["grad_norm"] = optimiser.step()
            for name, value in metrics.items():
                once = name == "policy/entropy_avg"  # taken in the first epoch only
                total[name] = total.get(name, 0.0) + value * (config.epochs if once else 1)
    return {name: value / steps for name, value in total.items()}


def minibatch_gradients(
    policy: PreTrainedModel,
    value_model: ValueModel,
    rollout: Rollout,
    rows: Tensor,
    accelerator: Accelerator,
    config: PPOConfig,
    with_entropy: bool = False,
) -> dict[str, float]:
    """Add the gradients of both losses over some rows of a rollout; returns the metrics.

    The rows are read in pieces of like length. Each piece's mean is over the tokens of all rows,
    so the gradient does not depend on how they were cut.
    """
    tokens = int(rollout.mask[rows].sum())

    def loss_of(part: Tensor) -> tuple[Tensor, Metrics]:
        piece = rollout.sequences.rows(rows[part]).to(accelerator.device)
        mask, N = piece.mask, piece.mask.shape[1]  # (b, N)
        logprobs, values, advantages, returns = (
            old[rows[part], :N].to(mask.device)
            for old in (rollout.logprobs, rollout.values, rollout.advantages, rollout.returns)
        )
        new_logprobs, entropy = response_logprobs(policy, piece, config.temperature, with_entropy)
        new_values = response_values(value_model, piece)
        policy_loss, metrics = maths.policy_loss(
            new_logprobs, logprobs, advantages, mask, config.epsilon, tokens
        )
        value_loss, more = maths.value_loss(
            new_values, values, returns, mask, config.value_epsilon, tokens
        )
        metrics |= more | {"loss/policy_avg": policy_loss, "loss/value_avg": value_loss}
        if entropy is not None:
            metrics["policy/entropy_avg"] = entropy.sum() / tokens
        return policy_loss + config.value_coefficient * value_loss, metrics

    pieces = micro_batches(rollout.sequences.lengths[rows], config.max_tokens)
    return accumulate(accelerator, pieces, loss_of)[1]


def frozen_copy(policy: PreTrainedModel) -> PreTrainedModel:
    """The reference: a copy that never changes. Of a policy with fresh adapters it is the same
    weights without them, which never change either and cost nothing."""
    if has_lora(policy):
        return frozen_twin(policy)
    return copy.deepcopy(policy).eval().requires_grad_(False)


def new_value_model(policy: PreTrainedModel, reward_model: Scorer, config: PPOConfig) -> ValueModel:
    """The value network that PPO starts with (see PPOConfig.shared_value)."""
    if config.shared_value:
        return SharedValue(policy)
    if isinstance(reward_model, Ensemble):
        reward_model = reward_model.members[0]
    if isinstance(reward_model, ScalarModel):
        return trainable_copy(reward_model, like=policy, seed=config.seed)
    return ScalarModel.from_policy(policy, config.seed, zero_head=True)
