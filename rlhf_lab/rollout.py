"""One batch of responses with everything PPO knows about them: drawn, scored, described."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.models import Ensemble, ScalarModel, ValueModel
from rlhf_lab.records import Prompt
from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.sequences import (
    Sequences,
    in_batches,
    response_logprobs,
    response_scores,
    response_values,
)
from rlhf_lab.text import encode_prompt
from rlhf_lab.training import Record, shuffled

# Scores responses: a reward model that reads tokens, or any function of prompts and texts.
Scorer = ScalarModel | Ensemble | Callable[[list[Prompt], list[str]], list[float]]


class RolloutSettings(Protocol):
    """What a rollout needs of the settings of PPO, RLOO or GRPO."""

    @property
    def updates(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def no_end_penalty(self) -> float: ...
    @property
    def temperature(self) -> float: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...


@dataclass
class Rollout:
    """One batch of responses and everything PPO knows about them: scores (B,), all else (B, N) and
    0 on padding. There are values only with a value model; the stage works out the last three."""

    prompts: list[Prompt]
    texts: list[str]
    sequences: Sequences
    ended: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    scores: Tensor
    values: Tensor = field(init=False, repr=False)
    rewards: Tensor = field(init=False, repr=False)
    advantages: Tensor = field(init=False, repr=False)
    returns: Tensor = field(init=False, repr=False)

    @property
    def mask(self) -> Tensor:
        return self.sequences.mask


@torch.no_grad()
def roll_out(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    value_model: ValueModel | None,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    batch: list[Prompt],
    seeds: list[int],
    config: RolloutSettings,
) -> Rollout:
    """Sample a response for each prompt and seed and let every model read it; without a value model
    there are no values."""
    samples = sample(
        policy,
        tokenizer,
        [encode_prompt(tokenizer, p.text) for p in batch],
        seeds,
        SamplingConfig(config.max_new_tokens, config.temperature),
        batch_size=len(batch),
    )
    sequences, texts = (
        Sequences.of_samples(samples, tokenizer.pad_token_id),
        samples.texts(tokenizer),
    )

    def ref(model: PreTrainedModel, rows: Sequences) -> Tensor:
        return response_logprobs(model, rows, config.temperature)[0]

    size = config.max_tokens
    if isinstance(reward_model, ScalarModel | Ensemble):
        scores = in_batches(response_scores, reward_model, sequences, size)
    else:
        scores = torch.tensor(reward_model(batch, texts), dtype=torch.float32)
    rollout = Rollout(
        batch,
        texts,
        sequences,
        samples.ended,
        samples.logprobs,
        ref_logprobs=in_batches(ref, reference, sequences, size),
        scores=scores,
    )
    if value_model is not None:
        values = in_batches(response_values, value_model, sequences, size)
        rollout.values = values * sequences.mask
    return rollout


def describe(rollout: Rollout, beta: float, config: RolloutSettings, update: int) -> Record:
    """The metrics of a rollout before the update: sums over a response, means over responses."""
    kl = maths.masked_sum(maths.kl_k1(rollout.logprobs, rollout.ref_logprobs), rollout.mask)
    scores = maths.no_end_penalty(rollout.scores, rollout.ended, config.no_end_penalty)
    lengths = rollout.mask.sum(1).float()
    return {
        "stage": "ppo",
        "update": update,
        "updates": config.updates,
        "episode": update * config.batch_size,
        "objective/kl": float(kl.mean()),
        "objective/kl_se": float(kl.std() / len(kl) ** 0.5),
        "objective/scores": float(scores.mean()),
        "objective/non_score_reward": float(-beta * kl.mean()),
        "objective/rlhf_reward": float(maths.masked_sum(rollout.rewards, rollout.mask).mean()),
        "objective/entropy": float(-maths.masked_sum(rollout.logprobs, rollout.mask).mean()),
        "objective/beta": beta,
        "response/length": float(lengths.mean()),
        "response/ended": float(rollout.ended.float().mean()),
    }


def batch_of(prompts: Sequence[Prompt], config: RolloutSettings, update: int) -> list[Prompt]:
    """The prompts of an update: the list is gone through in a fresh order, again and again."""
    wanted = range((update - 1) * config.batch_size, update * config.batch_size)
    orders = {
        turn: shuffled(len(prompts), "prompts", config.seed, turn)
        for turn in {i // len(prompts) for i in wanted}
    }
    return [prompts[orders[i // len(prompts)][i % len(prompts)]] for i in wanted]
