"""One batch of responses: sample it, score it, and describe it in metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.models import Ensemble, ScalarModel, ValueModel
from rlhf_lab.records import Mark, Prompt
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
    """B responses of up to N tokens and what the models say about them.

    ended: (B,), whether an end token was drawn. scores: (B,), of the reward model at the last real
    token. logprobs, ref_logprobs: (B, N), of each token under the policy that drew it (see
    `roll_out`) and under the reference. values: (B, N), of the value network before each token; all
    0 without a value network. The stage computes rewards, advantages and returns, (B, N).
    Everything is 0 on padding, which follows the responses.
    """

    prompts: list[Prompt]
    texts: list[str]
    sequences: Sequences
    ended: Tensor
    scores: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    rewards: Tensor = field(init=False, repr=False)
    advantages: Tensor = field(init=False, repr=False)
    returns: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        nothing = torch.zeros_like(self.logprobs)  # replaced, never written into
        self.rewards = self.advantages = self.returns = nothing

    @property
    def mask(self) -> Tensor:
        """(B, N), true on response tokens up to and including the first end token, and on all of a
        response that was cut off (`maths.response_mask`)."""
        return self.sequences.mask

    def rows(self, index: Tensor, device: torch.device | str = "cpu") -> "Rollout":
        """Some of the rows, on `device`, without the padding that only the others needed."""
        sequences = self.sequences.rows(index).to(device)
        N = sequences.mask.shape[1]

        def cut(x: Tensor) -> Tensor:  # (B, N) of the whole -> (b, N) of these rows
            return x[index, :N].to(device)

        some = Rollout(
            [self.prompts[i] for i in index.tolist()],
            [self.texts[i] for i in index.tolist()],
            sequences,
            self.ended[index].to(device),
            self.scores[index].to(device),
            *map(cut, (self.logprobs, self.ref_logprobs, self.values)),
        )
        some.rewards, some.advantages, some.returns = map(
            cut, (self.rewards, self.advantages, self.returns)
        )
        return some


@torch.no_grad()
def roll_out(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    value_model: ValueModel | None,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Prompt],
    seeds: list[int],
    sampling: SamplingConfig,
    max_tokens: int = 3072,
) -> Rollout:
    """Draw a response to each prompt from its own seed, and let every model read all of them.

    max_tokens: the most tokens in one forward pass; it changes no result. Call this function under
    the autocast that the stage trains with.
    """
    encoded = [encode_prompt(tokenizer, p.text) for p in prompts]
    samples = sample(policy, tokenizer, encoded, seeds, sampling, batch_size=len(prompts))
    sequences = Sequences.of_samples(samples, tokenizer.pad_token_id)
    texts = samples.texts(tokenizer)

    def tempered(model: PreTrainedModel, rows: Sequences) -> Tensor:
        return response_logprobs(model, rows, sampling.temperature)[0]

    if isinstance(reward_model, ScalarModel | Ensemble):
        scores = in_batches(response_scores, reward_model, sequences, max_tokens)
    else:
        scores = torch.tensor(reward_model(prompts, texts), dtype=torch.float32)
    logprobs = samples.logprobs
    if torch.is_autocast_enabled(policy.device.type):
        # Rounding to half precision would change the ratio more than the first step does: compute
        # the old log-probabilities exactly as the new ones, and do not use the sampler's.
        logprobs = in_batches(tempered, policy, sequences, max_tokens)
    ref_logprobs = in_batches(tempered, reference, sequences, max_tokens)
    if value_model is None:
        values = torch.zeros_like(ref_logprobs)
    else:
        values = in_batches(response_values, value_model, sequences, max_tokens)
    return Rollout(prompts, texts, sequences, samples.ended, scores, logprobs, ref_logprobs, values)


def describe(
    rollout: Rollout, scores: Tensor, beta: float, stage: str, update: int, updates: int
) -> Record:
    """The metrics of a rollout before the update. KL, entropy and rewards are sums over a response;
    all are means over responses (kl_se: the standard error of one).

    scores: (B,), after the no-end penalty. The rewards must not have been whitened yet.
    """
    kl = maths.masked_sum(maths.kl_k1(rollout.logprobs, rollout.ref_logprobs), rollout.mask)  # (B,)
    return {
        "stage": stage,
        "update": update,
        "updates": updates,
        "episode": update * len(kl),
        "objective/kl": float(kl.mean()),
        "objective/kl_se": float(kl.std() / len(kl) ** 0.5),
        "objective/scores": float(scores.mean()),
        "objective/non_score_reward": float(-beta * kl.mean()),
        "objective/rlhf_reward": float(maths.masked_sum(rollout.rewards, rollout.mask).mean()),
        # from the sampled tokens alone; policy/entropy_avg is over the vocabulary, a mean per token
        "objective/entropy": float(-maths.masked_sum(rollout.logprobs, rollout.mask).mean()),
        "objective/beta": beta,
        "response/length": float(rollout.mask.sum(1).float().mean()),
        "response/ended": float(rollout.ended.float().mean()),
    }


def mean_mark(rollout: Rollout, judge: Callable[[Prompt, str], Mark]) -> float:
    """The judge's mean mark for the responses; it is only logged."""
    marks = [judge(p, text).mark for p, text in zip(rollout.prompts, rollout.texts)]
    return sum(marks) / len(marks)


def batch_of(prompts: Sequence[Prompt], size: int, seed: int, update: int) -> list[Prompt]:
    """The `size` prompts of an update (counted from 1): pass after pass through the whole list,
    each in its own order."""
    wanted = range((update - 1) * size, update * size)
    orders = {
        turn: shuffled(len(prompts), "prompts", seed, turn)
        for turn in {i // len(prompts) for i in wanted}
    }
    return [prompts[orders[i // len(prompts)][i % len(prompts)]] for i in wanted]
