"""DPO: learn from rankings directly, without a reward model and without sampling.

Every policy is the best one for some score, at a penalty of dpo_beta per nat of KL. That score is
dpo_beta log(policy / reference) of the response, plus a term that depends only on the prompt and
cancels in every comparison. So the policy itself can be trained like a reward model: the preferred
of two responses should have the higher implicit score (Rafailov et al. 2023).
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
from rlhf_lab.evaluate import respond, sequence_kl
from rlhf_lab.models import frozen_copy
from rlhf_lab.records import Mark, Prompt, Ranking, check_settings, seed_setting, setting
from rlhf_lab.reward import RankedData, encode, group_batches
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sequences import Sequences, check_fits, in_batches, response_logprobs
from rlhf_lab.training import (
    Metrics,
    Optimiser,
    Record,
    accumulate,
    check_finite,
    epochs_of,
    on_device,
)


@dataclass(frozen=True)
class DPOConfig:
    """The settings of DPO. DPO does not need samples to learn, so its KL is measured only if
    `sample_every` is set."""

    epochs: int = setting(1, "passes over the rankings", at_least=1)
    batch_size: int = setting(8, "prompts in one update", at_least=1)
    learning_rate: float = setting(1e-4, "peak learning rate; it falls linearly to 0", above=0)
    warmup: int = setting(10, "updates over which the learning rate rises", at_least=0)
    dpo_beta: float = setting(
        0.1, "penalty per nat of KL: higher stays closer to the reference", above=0
    )
    sample_every: int = setting(0, "updates between two evaluations (0: none)", at_least=0)
    watched: int = setting(64, "prompts to answer in an evaluation", at_least=1)
    max_new_tokens: int = setting(64, "longest response, in tokens", at_least=1)
    seed: int = seed_setting()
    max_tokens: int = setting(3072, "most tokens in a forward pass; changes no result", at_least=1)

    def __post_init__(self) -> None:
        check_settings(self)


def train_dpo(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rankings: Sequence[Ranking],
    config: DPOConfig = DPOConfig(),
    held_out: Sequence[Ranking] = (),
    judge: Callable[[Prompt, str], Mark] | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
    dpo_loss: Callable[..., Tensor] | None = None,
) -> Iterator[Record]:
    """Train `policy` in place; yields one metrics record an update.

    The reference is a frozen copy of `policy` as it comes in. loss/dpo (ln 2 at the first update)
    and dpo/* are computed on the batch before the update; at the end of every epoch, also on
    `held_out`. `judge` marks the responses sampled after an update (see DPOConfig.sample_every) to
    the prompts of `held_out`, or of `rankings` if `held_out` is empty. `episode` stays 0: nothing
    is sampled for training. dpo_loss: the formula of the loss, with the arguments of the one in
    `maths`, taken over the pairs of each prompt. Raises UserError if no two responses are compared.
    """
    accelerator = on_device(accelerator, policy)
    check_model(policy, tokenizer)
    reference = frozen_copy(policy)
    data = compared(tokenizer, rankings)
    check_fits(policy, data.sequences)
    order = epochs_of(len(data), config.batch_size, config.epochs, "dpo", config.seed)
    updates = len(order)
    optimiser = Optimiser(accelerator, [policy], config.learning_rate, updates, config.warmup)
    models = {"policy": policy, "reference": reference}
    numbers = resumable(checkpoint, models, optimiser, updates)
    # 1. The reference's log-probability of every response: computed once, as it never changes.
    apart = compared(tokenizer, held_out) if held_out else None
    with accelerator.autocast():  # in the same precision as the policy's
        ref_logprobs = whole_logprobs(reference, data)  # (G, K)
        later = (apart, whole_logprobs(reference, apart)) if apart else None

    for update in numbers:
        epoch, rows, last = order[update - 1]
        # 2. A few prompts with their responses: the higher ranked should have the higher score.
        batch = data.groups(rows)
        loss, scores = batch_gradients(
            policy, batch, ref_logprobs[rows], accelerator, config, dpo_loss
        )
        check_finite("the loss", loss, update)
        # 3. A step against the gradient.
        record: Record = {
            "stage": "dpo",
            "update": update,
            "updates": updates,
            "epoch": epoch,
            "episode": 0,
            "loss/dpo": loss,
            **margins_of(scores, batch.ranks),
            "lr": optimiser.rate(),
            "grad_norm": optimiser.step(),
            "steps": optimiser.done,
        }
        if later and last:
            with accelerator.autocast():
                record |= held_out_metrics(policy, *later, config.dpo_beta)
        if config.sample_every and (update % config.sample_every == 0 or update == updates):
            prompts = [r.prompt for r in held_out or rankings][: config.watched]
            record |= look(policy, reference, tokenizer, prompts, judge, config)
        yield record


def compared(tokenizer: PreTrainedTokenizerBase, rankings: Sequence[Ranking]) -> RankedData:
    """Rankings as tensors, each response once; those that compare nothing (all tied) are dropped.

    Raises UserError if none is left.
    """
    if rankings:
        data = encode(tokenizer, rankings)
        rows = maths.comparisons(data.ranks).any(-1).any(-1).nonzero().squeeze(1).tolist()
        if rows:
            return data.groups(rows)
    raise UserError("no comparisons to train on: give rankings that are not all ties")


def batch_gradients(
    policy: PreTrainedModel,
    batch: RankedData,
    ref_logprobs: Tensor,
    accelerator: Accelerator,
    config: DPOConfig,
    dpo_loss: Callable[..., Tensor] | None = None,
) -> tuple[float, Tensor]:
    """Add the gradient of the loss over a batch; returns the loss and the scores (G, K).

    The batch is read in pieces of whole groups; each prompt weighs the same however it is split.
    """
    scores = torch.zeros(batch.ranks.shape)

    def share_of_loss(part: list[int]) -> tuple[Tensor, Metrics]:
        piece = batch.groups(part)
        logprobs = grouped_logprobs(policy, piece)  # (g, K)
        reference = ref_logprobs[part].to(logprobs)
        piece_scores = maths.dpo_scores(logprobs, reference, config.dpo_beta)
        scores[part] = piece_scores.detach().float().cpu()
        ranks = piece.ranks.to(piece_scores.device)
        if dpo_loss is None:
            loss = maths.kwise_loss(piece_scores, ranks)
        else:
            loss = kwise_of(dpo_loss, config.dpo_beta)(
                torch.stack([logprobs, reference], -1), ranks
            )
        return len(part) / len(batch) * loss, {}

    loss, _ = accumulate(accelerator, group_batches(batch, config.max_tokens), share_of_loss)
    return loss, parallel.total(scores)


def kwise_of(dpo_loss: Callable[..., Tensor], dpo_beta: float) -> Callable[..., Tensor]:
    """A loss of whole groups by one of pairs: policy and reference (G, K, 2), ranks -> ()."""

    def pair_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        (mine, ref_mine), (other, ref_other) = chosen.unbind(-1), rejected.unbind(-1)
        return dpo_loss(mine, other, ref_mine, ref_other, dpo_beta)

    return maths.kwise_of(pair_loss)


def grouped_logprobs(policy: PreTrainedModel, data: RankedData) -> Tensor:
    """Log-probability of every response, each read once, (G, K)."""
    logprobs = summed_logprobs(policy, data.sequences.to(policy.device))
    return logprobs[data.index.to(policy.device)]


def summed_logprobs(policy: PreTrainedModel, sequences: Sequences) -> Tensor:
    """Log-probability of each whole response, its end token included, (B,)."""
    return maths.masked_sum(response_logprobs(policy, sequences)[0], sequences.mask)


def whole_logprobs(policy: PreTrainedModel, data: RankedData) -> Tensor:
    """Log-probability of every response of every prompt, without gradients, (G, K)."""
    return in_batches(summed_logprobs, policy, data.sequences)[data.index]


def margins_of(scores: Tensor, ranks: Tensor) -> dict[str, float]:
    """Metrics of the comparisons by the implicit scores (G, K).

    dpo/accuracy: the share ordered correctly, equal scores half. dpo/chosen, dpo/rejected: mean
    score of the preferred and of the other response (below 0: less likely than under the reference;
    often both are). dpo/margin: their difference.
    """
    pairs = maths.comparisons(ranks)  # (G, K, K)
    chosen, rejected = (s.expand(pairs.shape)[pairs] for s in (scores[:, :, None], scores[:, None]))
    return {
        "dpo/accuracy": float(maths.pair_accuracy(scores, ranks)),
        "dpo/margin": float((chosen - rejected).mean()),
        "dpo/chosen": float(chosen.mean()),
        "dpo/rejected": float(rejected.mean()),
    }


def held_out_metrics(
    policy: PreTrainedModel, data: RankedData, ref_logprobs: Tensor, dpo_beta: float
) -> Record:
    """Loss, accuracy and margin on rankings that were not trained on."""
    scores = maths.dpo_scores(whole_logprobs(policy, data), ref_logprobs, dpo_beta)
    found = margins_of(scores, data.ranks)
    return {
        "loss/held_out": float(maths.kwise_loss(scores, data.ranks)),
        "dpo/held_out_accuracy": found["dpo/accuracy"],
        "dpo/held_out_margin": found["dpo/margin"],
    }


def look(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    judge: Callable[[Prompt, str], Mark] | None,
    config: DPOConfig,
) -> dict[str, float]:
    """One response to each prompt, always from the same seeds: its KL to the reference over the
    whole vocabulary, its length, and the judge's mean mark, under the names PPO gives them."""
    given = respond(
        policy,
        tokenizer,
        prompts,
        seed=config.seed,
        judge=judge,
        config=SamplingConfig(config.max_new_tokens),
    )
    kl = sequence_kl(policy, reference, given).flatten()
    found = {
        "objective/kl": float(kl.mean()),
        "objective/kl_se": float(kl.std() / len(kl) ** 0.5),
        "response/length": float(given.sequences.mask.sum(1).float().mean()),
        "response/ended": float(given.ended.float().mean()),
    }
    return found | ({"judge/mark": float(given.mark_table().mean())} if judge else {})
