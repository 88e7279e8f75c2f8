"""What RLOO and GRPO share: several responses to each prompt, whose scores stand in for a value
network, and the pass over them that adds up gradients.

A response's advantage says how much better it did than the others to the same prompt; every one of
its tokens gets it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.engine import parallel
from rlhf_lab.errors import UserError
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.rollout import Rollout, Scorer, batch_of, describe, roll_out
from rlhf_lab.sequences import micro_batches, response_logprobs
from rlhf_lab.training import Metrics, Optimiser, Record, accumulate, seed_of, shuffled

# loss(new_logprobs, piece, tokens, responses, config) -> loss and metrics, where piece has some of
# the rows of a minibatch, and tokens and responses are the counts of all its rows. Here and below,
# config is an RLOOConfig or a GRPOConfig.
Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]


def check_groups(config) -> None:
    """Raise UserError unless the batch is made of whole groups, and each minibatch has a response
    for every process."""
    if config.batch_size % config.group:
        raise UserError(
            f"group is {config.group}, batch_size {config.batch_size}: use a batch_size that is a"
            " multiple of it"
        )
    parallel.check_shares(config.batch_size, config.minibatches)


def collect(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    config,
    update: int,
) -> Rollout:
    """`group` responses to each prompt of this update, side by side, read by every model, with a
    reward for each token. The rollout has no values.

    The seed of a response depends on the update, its prompt and its place, so that two methods
    start from the same responses.
    """
    groups = replace(config, batch_size=config.batch_size // config.group)
    batch = [p for p in batch_of(prompts, groups, update) for _ in range(config.group)]
    seeds = [seed_of("group", config.seed, update, p.id, row) for row, p in enumerate(batch)]
    rollout = roll_out(policy, reference, None, reward_model, tokenizer, batch, seeds, config)
    scores = maths.no_end_penalty(rollout.scores, rollout.ended, config.no_end_penalty)
    rollout.rewards = maths.shape_rewards(
        scores, rollout.logprobs, rollout.ref_logprobs, rollout.mask, config.beta
    )
    return rollout


def spread(advantages: Tensor, mask: Tensor) -> Tensor:
    """Give each token the advantage of its response: (prompts, group), mask (B, N) -> (B, N)."""
    return advantages.reshape(-1, 1) * mask


def described(
    stage: str, rollout: Rollout, config, update: int, judge: Callable[[Prompt, str], Mark] | None
) -> Record:
    """The metrics of a rollout before the update, named and defined as PPO's."""
    record = describe(rollout, config.beta, config, update) | {"stage": stage}
    if judge:
        marks = [judge(p, text).mark for p, text in zip(rollout.prompts, rollout.texts)]
        record["judge/mark"] = sum(marks) / len(marks)
    return record


def optimise(
    policy: PreTrainedModel, rollout: Rollout, loss: Loss, optimiser: Optimiser, config, update: int
) -> dict[str, float]:
    """`epochs` passes over a rollout; returns the mean of each metric over all minibatches, and the
    steps taken so far."""
    total: dict[str, float] = {}
    B, steps = len(rollout.texts), config.epochs * config.minibatches
    first = {"lr": optimiser.rate()}
    for epoch in range(config.epochs):
        order = torch.tensor(shuffled(B, "group", config.seed, update, epoch))
        for rows in order.tensor_split(config.minibatches):
            metrics = minibatch_gradients(
                policy, rollout, rows, loss, optimiser.accelerator, config, with_entropy=epoch == 0
            )
            first.setdefault("val/ratio_first", metrics["val/ratio"])  # 1, or something is off
            metrics["grad_norm"] = optimiser.step()
            for name, value in metrics.items():
                share = config.epochs if name == "policy/entropy_avg" else 1  # from epoch 0 only
                total[name] = total.get(name, 0.0) + value * share
    return first | {name: x / steps for name, x in total.items()} | {"steps": optimiser.done}


def minibatch_gradients(
    policy: PreTrainedModel,
    rollout: Rollout,
    rows: Tensor,
    loss: Loss,
    accelerator,
    config,
    with_entropy: bool = False,
) -> dict[str, float]:
    """Add the gradient of the loss over some rows of a rollout; returns the metrics.

    The rows are read in pieces of like length; the counts of all rows go to each piece's loss, so
    that the gradient does not depend on how they were cut.
    """
    tokens = int(rollout.mask[rows].sum())

    def loss_of(part: Tensor) -> tuple[Tensor, Metrics]:
        piece = piece_of(rollout, rows[part], accelerator.device)
        new_logprobs, entropy = response_logprobs(
            policy, piece.sequences, config.temperature, with_entropy
        )
        piece_loss, metrics = loss(new_logprobs, piece, tokens, len(rows), config)
        metrics |= {"loss/policy_avg": piece_loss}
        if entropy is not None:
            metrics["policy/entropy_avg"] = entropy.sum() / tokens
        return piece_loss, metrics

    pieces = micro_batches(rollout.sequences.lengths[rows], config.max_tokens)
    return accumulate(accelerator, pieces, loss_of)[1]


def piece_of(rollout: Rollout, rows: Tensor, device: torch.device) -> Rollout:
    """What a loss needs of some rows, on the device that trains."""
    sequences = rollout.sequences.rows(rows).to(device)
    N = sequences.mask.shape[1]
    piece = replace(
        rollout,
        sequences=sequences,
        logprobs=rollout.logprobs[rows, :N].to(device),
        ref_logprobs=rollout.ref_logprobs[rows, :N].to(device),
    )
    piece.advantages = rollout.advantages[rows, :N].to(device)
    return piece
