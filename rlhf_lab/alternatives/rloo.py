"""RLOO: REINFORCE, where the other responses to the same prompt are the baseline.

A whole response is one action. Its reward is compared with the mean reward of the others, which
does not depend on it: subtracting that mean keeps the gradient unbiased and removes most of its
noise. There is no value network, and no clipping while the policy learns from its own latest
samples (Williams 1992; Kool et al. 2019; Ahmadian et al. 2024).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.alternatives.groups import collect, optimise, per_token, prepare
from rlhf_lab.disk.checkpoint import Checkpoint, resumable
from rlhf_lab.models import frozen_copy
from rlhf_lab.records import Mark, Prompt, check_settings, seed_setting, setting
from rlhf_lab.rollout import Rollout, Scorer, describe, mean_mark
from rlhf_lab.training import Metrics, Record


@dataclass(frozen=True)
class RLOOConfig:
    """The settings of RLOO. With more than one step an update the ratio is clipped, as in PPO."""

    updates: int = setting(50, "how many updates to make", at_least=1)
    batch_size: int = setting(64, "responses sampled in one update", at_least=1)
    group: int = setting(4, "responses to each prompt", at_least=2)
    epochs: int = setting(1, "passes over each batch of responses", at_least=1)
    minibatches: int = setting(1, "optimiser steps in one pass over a batch", at_least=1)
    learning_rate: float = setting(3e-4, "peak learning rate; it falls linearly to 0", above=0)
    warmup: int = setting(0, "updates over which the learning rate rises", at_least=0)
    beta: float = setting(0.05, "penalty per nat of KL, subtracted from the reward", at_least=0)
    epsilon: float = setting(0.2, "clip range of the policy's ratio", above=0)
    no_end_penalty: float = setting(1.0, "penalty for a response that does not end", at_least=0)
    temperature: float = setting(1.0, "sampling temperature", above=0)
    max_new_tokens: int = setting(64, "longest response, in tokens", at_least=1)
    seed: int = seed_setting()
    max_tokens: int = setting(3072, "most tokens in a forward pass; changes no result", at_least=1)

    def __post_init__(self) -> None:
        check_settings(self)


def train_rloo(
    policy: PreTrainedModel,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    config: RLOOConfig = RLOOConfig(),
    judge: Callable[[Prompt, str], Mark] | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
    rloo_advantages: Callable[[Tensor], Tensor] = maths.rloo_advantages,
) -> Iterator[Record]:
    """Train `policy` in place; yields one metrics record an update, named as PPO's.

    The reference is a frozen copy of `policy` as it comes in; `judge`'s mean mark is only logged.
    rloo_advantages: the formula, by default that of `maths`. Raises UserError unless batch_size is
    a multiple of group, which is 2 or more.
    """
    optimiser = prepare(policy, reward_model, tokenizer, config, accelerator)
    models = {"policy": policy, "reference": frozen_copy(policy)}

    for update in resumable(checkpoint, models, optimiser, config.updates):
        # 1. The policy answers each prompt several times; each response is scored.
        with optimiser.accelerator.autocast():  # as for the loss, so that the first ratio is 1
            rollout, scores = collect(
                policy, models["reference"], reward_model, tokenizer, prompts, config, update
            )
        record = describe(rollout, scores, config.beta, "rloo", update, config.updates)
        # 2. A response's reward: its score, minus beta for every nat of its KL.
        rewards = maths.masked_sum(rollout.rewards, rollout.mask).view(-1, config.group)
        # 3. Did it earn more than the others of its group?
        rollout.advantages = per_token(rloo_advantages(rewards), rollout.mask)
        # 4. Make better responses more likely, and worse ones less likely.
        record |= optimise(policy, rollout, rloo_loss, optimiser, config, update)
        if judge:
            record["judge/mark"] = mean_mark(rollout, judge)
        yield record


def rloo_loss(
    new_logprobs: Tensor, piece: Rollout, minibatch: Rollout, config: RLOOConfig
) -> tuple[Tensor, Metrics]:
    """REINFORCE's loss, mean of -A logprob over tokens: new_logprobs (b, N).

    It is the mean over responses of -A log p(response), divided by their mean length: the same
    direction. After the first step the samples are no longer the policy's own; then PPO's clipped
    loss takes its place, whose gradient is the same while the ratio is 1.
    """
    if config.epochs * config.minibatches > 1:
        old = piece.logprobs, piece.advantages, piece.mask, config.epsilon
        return maths.clipped_policy_loss(new_logprobs, *old), {}
    return maths.reinforce_loss(new_logprobs, piece.advantages, piece.mask), {}
