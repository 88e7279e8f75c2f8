"""One batch of responses with everything PPO knows about them: drawn, scored, described."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rlhf_lab import maths
from rlhf_lab.models import Ensemble, ScalarModel
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


@dataclass
class Rollout:
    """One batch of responses and everything PPO knows about them; shapes as in the design:
    scores (B,), all else (B, N) and 0 on padding."""

    prompts: list[Prompt]
    texts: list[str]
    sequences: Sequences
    ended: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor | None
    scores: Tensor
    rewards: Tensor = field(default=None)
    advantages: Tensor = field(default=None)
    returns: Tensor = field(default=None)

    @property
    def mask(self) -> Tensor:
        return self.sequences.mask


@torch.no_grad()
def roll_out(
    policy,
    reference,
    value_model: nn.Module | None,
    reward_model: Scorer,
    tokenizer,
    batch: list[Prompt],
    seeds: list[int],
    config,
) -> Rollout:
    """Sample a response for each prompt and seed and let every model read it; without a value model
    there are no values. config: has temperature, max_new_tokens and max_tokens."""
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

    def ref(model, rows: Sequences) -> Tensor:
        return response_logprobs(model, rows, config.temperature)[0]

    size = config.max_tokens
    if isinstance(reward_model, nn.Module):
        scores = in_batches(response_scores, reward_model, sequences, size)
    else:
        scores = torch.tensor(reward_model(batch, texts), dtype=torch.float32)
    values = None
    if value_model is not None:
        values = in_batches(response_values, value_model, sequences, size) * sequences.mask
    return Rollout(
        batch,
        texts,
        sequences,
        samples.ended,
        samples.logprobs,
        ref_logprobs=in_batches(ref, reference, sequences, size),
        values=values,
        scores=scores,
    )


def describe(rollout: Rollout, beta: float, config, update: int) -> Record:
    """The metrics of a rollout before the update: sums over a response, means over responses.
    config: has updates, batch_size and no_end_penalty."""
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


def batch_of(prompts: Sequence[Prompt], config, update: int) -> list[Prompt]:
    """The prompts of an update: the list is gone through in a fresh order, again and again.
    config: has batch_size and seed."""
    wanted = range((update - 1) * config.batch_size, update * config.batch_size)
    orders = {
        turn: shuffled(len(prompts), "prompts", config.seed, turn)
        for turn in {i // len(prompts) for i in wanted}
    }
    return [prompts[orders[i // len(prompts)][i % len(prompts)]] for i in wanted]
