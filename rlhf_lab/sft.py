"""Stage one, supervised fine-tuning: learn to answer by imitating demonstrations.

The loss is the cross entropy of the response's tokens, its end token included; the prompt is read
but not learned (Ouyang et al. 2022 leave the choice open; here the prompt is never in the loss).
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
from rlhf_lab.errors import UserError
from rlhf_lab.records import Demonstration, check_settings, seed_setting, setting
from rlhf_lab.sequences import (
    Sequences,
    check_fits,
    in_batches,
    label_logprobs,
    micro_batches,
    response_logprobs,
)
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
class SFTConfig:
    """The settings of supervised fine-tuning."""

    epochs: int = setting(2, "passes over the demonstrations", at_least=1)
    batch_size: int = setting(32, "demonstrations in one update", at_least=1, at_most=10**6)
    learning_rate: float = setting(5e-4, "peak learning rate; it falls linearly to 0", above=0)
    warmup: int = setting(10, "updates over which the learning rate rises", at_least=0)
    seed: int = seed_setting("random seed of the data order")
    max_tokens: int = setting(3072, "most tokens in a forward pass; changes no result", at_least=1)

    def __post_init__(self) -> None:
        check_settings(self)


def train_sft(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Demonstration],
    config: SFTConfig = SFTConfig(),
    held_out: Sequence[Demonstration] = (),
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
    label_mask: Callable[[Tensor, Tensor, int, int], Tensor] = maths.label_mask,
) -> Iterator[Record]:
    """Train `policy` in place; yields one metrics record an update.

    loss/sft is the mean over the batch's response tokens, in nats; loss/held_out the same on
    `held_out`, at the end of every epoch. label_mask: marks the tokens of prompt and response
    to learn, with the arguments of `maths.label_mask`.
    """
    if not demonstrations:
        raise UserError("no demonstrations to learn from: give at least one")
    accelerator = on_device(accelerator, policy)
    check_model(policy, tokenizer)
    data = encode(tokenizer, demonstrations)
    check_fits(policy, data)
    labels = label_mask(data.tokens, data.starts, tokenizer.eos_token_id, tokenizer.pad_token_id)
    check_labels(labels, data)
    later = encode(tokenizer, held_out) if held_out else None
    order = epochs_of(len(demonstrations), config.batch_size, config.epochs, "sft", config.seed)
    updates = len(order)
    optimiser = Optimiser(accelerator, [policy], config.learning_rate, updates, config.warmup)

    for update in resumable(checkpoint, {"policy": policy}, optimiser, updates):
        epoch, rows, last = order[update - 1]
        loss, tokens = batch_gradients(policy, data, labels, rows, accelerator, config.max_tokens)
        check_finite("the loss", loss, update)
        record: Record = {
            "stage": "sft",
            "update": update,
            "updates": updates,
            "epoch": epoch,
            "loss/sft": loss,
            "lr": optimiser.rate(),
            "grad_norm": optimiser.step(),
            "tokens": tokens,
        }
        if later and last:
            record["loss/held_out"] = held_out_loss(policy, later)
        yield record


def batch_gradients(
    policy: PreTrainedModel,
    data: Sequences,
    labels: Tensor,
    rows: list[int],
    accelerator: Accelerator,
    max_tokens: int,
) -> tuple[float, int]:
    """Add the gradients of the loss over some rows; returns the loss and the tokens learned. The
    rows are read in pieces of similar length, each weighted by its share of those tokens."""
    index = torch.tensor(rows)
    tokens = max(1, int(labels[index].sum()))  # your own label_mask may leave out a whole batch

    def share_of_loss(part: Tensor) -> tuple[Tensor, Metrics]:
        piece = data.rows(index[part]).to(accelerator.device)
        learned = labels[index[part], : piece.tokens.shape[1]].to(accelerator.device)
        return int(learned.sum()) / tokens * sft_loss(policy, piece, learned), {}

    pieces = micro_batches(data.lengths[index], max_tokens)
    return accumulate(accelerator, pieces, share_of_loss)[0], tokens


def sft_loss(policy: PreTrainedModel, piece: Sequences, labels: Tensor) -> Tensor:
    """Mean cross entropy of the labelled tokens, bool (b, T), each given the tokens before it:
    ()."""
    return -label_logprobs(policy, piece, labels).sum() / labels.sum().clamp(min=1)


def encode(
    tokenizer: PreTrainedTokenizerBase, demonstrations: Sequence[Demonstration]
) -> Sequences:
    """Demonstrations as padded tokens."""
    written = [(d.prompt.text, d.response, d.ended) for d in demonstrations]
    return Sequences.of_text(tokenizer, written)


def check_labels(labels: Tensor, data: Sequences) -> None:
    """Raise UserError for labels that cannot be learned."""
    if labels.shape != data.tokens.shape or labels.dtype != torch.bool:
        raise UserError(
            f"label_mask returned {labels.dtype} of shape {tuple(labels.shape)}: return "
            f"torch.bool of shape {tuple(data.tokens.shape)}, like tokens"
        )
    if labels[:, 0].any() or (labels & ~data.attention.bool()).any() or not labels.any():
        raise UserError(
            "label_mask marks no token, a row's first token (which nothing predicts) or padding: "
            "mark response tokens only"
        )


def held_out_loss(policy: PreTrainedModel, data: Sequences) -> float:
    """Mean cross entropy of the response tokens, in nats."""
    logprobs = in_batches(lambda model, batch: response_logprobs(model, batch)[0], policy, data)
    return -(logprobs.sum() / data.mask.sum()).item()
