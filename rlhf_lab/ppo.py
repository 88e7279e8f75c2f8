"""Stage three, PPO: raise the policy's scores while keeping it close to the reference.

Each update samples responses, scores them, charges beta for every nat of KL on every token,
computes advantages with a value network, and improves the policy with the clipped loss (Schulman et
al. 2017; Ziegler et al. 2019; Stiennon et al. 2020). The same temperature divides the logits in
sampling, policy and reference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.checks import check_model
from rlhf_lab.disk.checkpoint import Checkpoint, resumable
from rlhf_lab.engine import parallel
from rlhf_lab.errors import UserError
from rlhf_lab.models import ValueModel, frozen_copy, new_value_model
from rlhf_lab.records import Mark, Prompt, check_settings, seed_setting, setting
from rlhf_lab.rollout import Rollout, Scorer, batch_of, describe, mean_mark, roll_out
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sequences import micro_batches, response_logprobs, response_values
from rlhf_lab.training import (
    Metrics,
    Optimiser,
    Record,
    accumulate,
    check_finite,
    check_minibatches,
    mean_of_each,
    on_device,
    seed_of,
    shuffled,
)


@dataclass(frozen=True)
class PPOConfig:
    """The settings of PPO; the symbols are those of the papers."""

    updates: int = setting(50, "how many updates to make", at_least=1)
    batch_size: int = setting(64, "responses sampled in one update", at_least=1, at_most=10**6)
    epochs: int = setting(2, "passes over each batch of responses", at_least=1)
    minibatches: int = setting(1, "optimiser steps in one pass over a batch", at_least=1)
    learning_rate: float = setting(3e-4, "peak learning rate; it then falls linearly to 0", above=0)
    warmup: int = setting(0, "updates over which the learning rate rises", at_least=0)
    beta: float = setting(
        0.05, "penalty per nat of KL: higher stays closer to the reference", at_least=0
    )
    target_kl: float | None = setting(None, "KL, in nats, that beta is adapted to hold", above=0)
    horizon: int = setting(10_000, "episodes over which beta adapts: higher is slower", at_least=1)
    gamma: float = setting(1.0, "discount factor", at_least=0, at_most=1)
    lam: float = setting(0.95, "lambda of the advantages (GAE)", at_least=0, at_most=1)
    epsilon: float = setting(0.2, "clip range of the policy's ratio", above=0)
    value_epsilon: float = setting(0.2, "clip range of the values", above=0)
    value_coefficient: float = setting(0.1, "weight of the value loss", at_least=0)
    no_end_penalty: float = setting(1.0, "penalty for a response that does not end", at_least=0)
    whiten_rewards: bool = setting(False, "scale rewards to variance 1 before computing advantages")
    shared_value: bool = setting(
        False, "put the value head on the policy's trunk: no separate value network"
    )
    temperature: float = setting(1.0, "sampling temperature", above=0)
    max_new_tokens: int = setting(64, "longest response, in tokens", at_least=1, at_most=10**6)
    seed: int = seed_setting()
    max_tokens: int = setting(3072, "most tokens in a forward pass; changes no result", at_least=1)

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
    kl_rewards: Callable[..., Tensor] = maths.kl_rewards,
    gae: Callable[..., tuple[Tensor, Tensor]] = maths.gae,
    whiten: Callable[[Tensor, Tensor], Tensor] = maths.whiten,
    clipped_policy_loss: Callable[..., Tensor] = maths.clipped_policy_loss,
    clipped_value_loss: Callable[..., Tensor] = maths.clipped_value_loss,
) -> Iterator[Record]:
    """Train `policy` in place; yields one metrics record an update, counted from 1.

    `reference` is by default a frozen copy of `policy` as it comes in: give another to charge the
    KL against an earlier model. `value_model` is by default what `new_value_model` makes. `judge`,
    if given, only watches: its mean mark is logged as judge/mark.

    The last five arguments are the formulas of PPO: to train with a function of your own, pass one
    that takes the same arguments and returns the same shape as the one in `maths`. `whiten` is
    applied to the advantages.

    Raises UserError if there are no prompts, if a minibatch has fewer responses than there are
    processes, if a formula's result is not (B, N), or if a loss is not one number.
    """
    check_minibatches(config.batch_size, config.minibatches)
    if not prompts:
        raise UserError("no prompts to answer: give at least one")
    accelerator = on_device(accelerator, policy, reward_model)
    for model in (policy, reward_model, value_model, reference):
        check_model(model, tokenizer)
    reference = frozen_copy(reference or policy)
    value_model = value_model or new_value_model(
        policy, reward_model, config.seed, config.shared_value
    )
    on_device(accelerator, reference, value_model)
    # Adam without weight decay; the gradient of both models together is cut to norm 1 before each
    # step; the learning rate rises over the steps of `warmup` updates, then falls linearly to 0.
    steps = config.epochs * config.minibatches  # of one update
    optimiser = Optimiser(
        accelerator,
        [policy, value_model],
        config.learning_rate,
        config.updates * steps,
        config.warmup * steps,
        eps=1e-5,
    )
    models = {"policy": policy, "value": value_model, "reference": reference}
    state = {"beta": config.beta}

    for update in resumable(checkpoint, models, optimiser, config.updates, state):
        beta = state["beta"]
        # 1. The policy answers a batch of prompts; every model reads the answers.
        batch = batch_of(prompts, config.batch_size, config.seed, update)
        with accelerator.autocast():  # the precision of step 4, so that the first ratio is 1
            rollout = collect(
                policy, reference, value_model, reward_model, tokenizer, batch, config, update
            )
        # 2. Each token pays beta times its log-ratio to the reference; the last earns the score.
        scores = maths.no_end_penalty(rollout.scores, rollout.ended, config.no_end_penalty)
        rewards = kl_rewards(scores, rollout.logprobs, rollout.ref_logprobs, rollout.mask, beta)
        rollout.rewards = checked("kl_rewards", rewards, rollout.mask)
        # before the rewards are whitened
        record = describe(rollout, scores, beta, "ppo", update, config.updates)
        if config.whiten_rewards:
            rollout.rewards = maths.whiten(rollout.rewards, rollout.mask, keep_mean=True)
        # 3. Was each token better than the value network expected?
        raw, returns = gae(rollout.rewards, rollout.values, rollout.mask, config.gamma, config.lam)
        rollout.returns = checked("gae", returns, rollout.mask)
        rollout.advantages = checked("whiten", whiten(raw, rollout.mask), rollout.mask)
        record["val/explained_variance"] = float(
            maths.explained_variance(rollout.values, rollout.returns, rollout.mask)
        )
        # 4. Improve policy and value network on the same responses, a few times.
        losses = clipped_policy_loss, clipped_value_loss
        record |= optimise(policy, value_model, rollout, optimiser, config, update, *losses)
        # 5. Hold the KL near its target, if it has one.
        if config.target_kl:
            kl = float(record["objective/kl"])
            state["beta"] = maths.adaptive_beta(
                beta, kl, config.target_kl, config.batch_size, config.horizon
            )
        if judge:
            record["judge/mark"] = mean_mark(rollout, judge)
        yield record


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
    """Draw one response to each prompt and let every model read it."""
    seeds = [seed_of("ppo", config.seed, update, row) for row in range(len(batch))]
    sampling = SamplingConfig(config.max_new_tokens, config.temperature)
    models = policy, reference, value_model, reward_model
    return roll_out(*models, tokenizer, batch, seeds, sampling, config.max_tokens)


def optimise(
    policy: PreTrainedModel,
    value_model: ValueModel,
    rollout: Rollout,
    optimiser: Optimiser,
    config: PPOConfig,
    update: int,
    clipped_policy_loss: Callable[..., Tensor] = maths.clipped_policy_loss,
    clipped_value_loss: Callable[..., Tensor] = maths.clipped_value_loss,
) -> dict[str, float]:
    """PPO's passes over one rollout; returns the metrics of `epochs_over`."""

    def loss_of(piece: Rollout, minibatch: Rollout, with_entropy: bool) -> tuple[Tensor, Metrics]:
        losses = clipped_policy_loss, clipped_value_loss  # only GRPO uses minibatch
        return ppo_loss(policy, value_model, piece, config, with_entropy, *losses)

    key = "ppo", config.seed, update
    found = epochs_over(
        rollout, loss_of, optimiser, config.epochs, config.minibatches, config.max_tokens, key
    )
    check_finite("the loss", found["loss/policy_avg"] + found["loss/value_avg"], update)
    return found


def ppo_loss(
    policy: PreTrainedModel,
    value_model: ValueModel,
    piece: Rollout,
    config: PPOConfig,
    with_entropy: bool = False,
    clipped_policy_loss: Callable[..., Tensor] = maths.clipped_policy_loss,
    clipped_value_loss: Callable[..., Tensor] = maths.clipped_value_loss,
) -> tuple[Tensor, Metrics]:
    """PPO's loss on some responses, and its metrics: means over their real tokens."""
    # Everything about token t is read at position t - 1, (b, N): log softmax(logits / temperature)
    # of the token, the entropy of softmax(logits / temperature), and the value.
    new_logprobs, entropy = response_logprobs(
        policy, piece.sequences, config.temperature, with_entropy
    )
    new_values = response_values(value_model, piece.sequences)
    of_policy = new_logprobs, piece.logprobs, piece.advantages, piece.mask, config.epsilon
    of_values = new_values, piece.values, piece.returns, piece.mask, config.value_epsilon
    policy_loss, value_loss = clipped_policy_loss(*of_policy), clipped_value_loss(*of_values)
    metrics = maths.policy_metrics(*of_policy) | maths.value_metrics(*of_values)
    metrics |= {"loss/policy_avg": policy_loss, "loss/value_avg": value_loss}
    metrics[LARGEST] = maths.largest_log_ratio(new_logprobs, piece.logprobs, piece.mask)
    if entropy is not None:
        metrics["policy/entropy_avg"] = maths.masked_mean(entropy, piece.mask)
    return policy_loss + config.value_coefficient * value_loss, metrics


# loss_of(piece, minibatch, with_entropy): the loss of a piece of a minibatch and its metrics, means
# over its tokens except the largest |log-ratio|.
LossOf = Callable[[Rollout, Rollout, bool], tuple[Tensor, Metrics]]
LARGEST = "val/log_ratio_max"


def epochs_over(
    rollout: Rollout,
    loss_of: LossOf,
    optimiser: Optimiser,
    epochs: int,
    minibatches: int,
    max_tokens: int,
    key: tuple,
) -> dict[str, float]:
    """Several passes over a rollout, each in a fresh order and `minibatches` steps. Returns the
    mean of each metric over the steps that have it. lr, val/approxkl_first, val/clipfrac_first and
    val/log_ratio_first, the largest |log-ratio|, are those of the first step: the last three are 0,
    up to rounding, if sampling and training see the same policy. PPO, RLOO and GRPO differ only in
    loss_of."""
    steps = []
    for epoch in range(epochs):
        order = torch.tensor(shuffled(len(rollout.texts), *key, epoch))
        for rows in order.tensor_split(minibatches):
            metrics = minibatch_gradients(
                rollout.rows(rows),
                loss_of,
                optimiser.accelerator,
                max_tokens,
                with_entropy=epoch == 0,  # only in the first pass: it costs a second softmax
            )
            rate = optimiser.rate()  # of the step that follows
            norm = optimiser.step()
            steps.append(metrics | {"lr": rate, "grad_norm": norm})
    first, found = steps[0], mean_of_each(steps)
    del found[LARGEST]  # a mean of maxima says little
    return found | {
        "lr": first["lr"],
        "val/approxkl_first": first["policy/approxkl_avg"],
        "val/clipfrac_first": first["policy/clipfrac_avg"],
        "val/log_ratio_first": first[LARGEST],
    }


def minibatch_gradients(
    minibatch: Rollout,
    loss_of: LossOf,
    accelerator: Accelerator,
    max_tokens: int,
    with_entropy: bool = False,
) -> dict[str, float]:
    """Add the gradient of the loss over a minibatch to .grad, which the optimiser's step clears;
    returns the metrics. The minibatch is read in pieces of similar length, each weighted by its
    share of the tokens, so that the split changes nothing."""
    tokens, largest = int(minibatch.mask.sum()), [0.0]

    def share_of_loss(rows: Tensor) -> tuple[Tensor, Metrics]:
        piece = minibatch.rows(rows, accelerator.device)
        loss, metrics = loss_of(piece, minibatch, with_entropy)
        check_scalar(loss)
        largest.append(metrics.pop(LARGEST).item())
        share = int(piece.mask.sum()) / tokens
        return share * loss, {name: share * x for name, x in metrics.items()}

    # For each piece, under autocast: gradient += d(share * loss), metric += share * metric. Each
    # process has its own pieces, and both are summed over all processes.
    pieces = micro_batches(minibatch.sequences.lengths, max_tokens)
    _, sums = accumulate(accelerator, pieces, share_of_loss)
    return sums | {LARGEST: parallel.largest(max(largest))}


def checked(formula: str, result: Tensor, mask: Tensor) -> Tensor:
    """Return the result of a formula; raise UserError unless it has a number for every token,
    (B, N)."""
    if result.shape != mask.shape:
        raise UserError(
            f"{formula} returned shape {tuple(result.shape)}: return (B, N), here "
            f"{tuple(mask.shape)}, with a number for every token and 0 on padding"
        )
    return result


def check_scalar(loss: Tensor) -> None:
    """Raise UserError if a loss is not one number."""
    if loss.dim():
        raise UserError(
            f"a loss has shape {tuple(loss.shape)}: return one number, the mean over real tokens"
        )
