"""What RLOO and GRPO share: several responses to each prompt, whose scores replace a value network,
and the passes over them that add up gradients.

A response's advantage says how much better it did than the others to the same prompt. All its
tokens get the same advantage.
"""

from collections.abc import Callable, Sequence

from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.checks import check_model
from rlhf_lab.errors import UserError
from rlhf_lab.ppo import LARGEST, LossOf, epochs_over
from rlhf_lab.records import Prompt
from rlhf_lab.rollout import Rollout, Scorer, batch_of, roll_out
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sequences import response_logprobs
from rlhf_lab.training import (
    Metrics,
    Optimiser,
    check_finite,
    check_minibatches,
    on_device,
    seed_of,
)

# loss(new_logprobs, piece, minibatch, config) -> loss and metrics, means over the tokens of a piece
# of the minibatch. Here and below, config is an RLOOConfig or a GRPOConfig.
Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]


def prepare(
    policy: PreTrainedModel,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    config,
    accelerator: Accelerator | None,
) -> Optimiser:
    """Check the settings and the models, move the models to the device, and make PPO's optimiser
    for the policy alone. Raises UserError as `check_groups` and `check_model` do."""
    check_groups(config)
    accelerator = on_device(accelerator, policy, reward_model)
    for model in (policy, reward_model):
        check_model(model, tokenizer)
    steps = config.epochs * config.minibatches  # of one update
    all_steps, warmup = config.updates * steps, config.warmup * steps
    return Optimiser(accelerator, [policy], config.learning_rate, all_steps, warmup, eps=1e-5)


def check_groups(config) -> None:
    """Raise UserError unless the batch consists of whole groups, and each minibatch has a response
    for every process."""
    if config.batch_size % config.group:
        raise UserError(
            f"batch_size {config.batch_size} is not a multiple of group {config.group}: change one"
            " of them"
        )
    check_minibatches(config.batch_size, config.minibatches)


def collect(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    config,
    update: int,
) -> tuple[Rollout, Tensor]:
    """`group` responses to each prompt of this update, side by side, read by every model, with a
    reward for each token; and their scores after the no-end penalty, (B,).

    The seed of a response depends on the update, its prompt and its place, so that two methods
    start from the same responses.
    """
    different = batch_of(prompts, config.batch_size // config.group, config.seed, update)
    batch = [p for p in different for _ in range(config.group)]
    seeds = [seed_of("group", config.seed, update, p.id, row) for row, p in enumerate(batch)]
    sampling = SamplingConfig(config.max_new_tokens, config.temperature)
    models = policy, reference, None, reward_model
    rollout = roll_out(*models, tokenizer, batch, seeds, sampling, config.max_tokens)
    scores = maths.no_end_penalty(rollout.scores, rollout.ended, config.no_end_penalty)
    rollout.rewards = maths.kl_rewards(
        scores, rollout.logprobs, rollout.ref_logprobs, rollout.mask, config.beta
    )
    return rollout, scores


def per_token(advantages: Tensor, mask: Tensor) -> Tensor:
    """Give each token the advantage of its response: (prompts, group), mask (B, N) -> (B, N)."""
    return advantages.reshape(-1, 1) * mask


def optimise(
    policy: PreTrainedModel, rollout: Rollout, loss: Loss, optimiser: Optimiser, config, update: int
) -> dict[str, float]:
    """PPO's passes over a rollout with another loss (`ppo.epochs_over`); the metrics also have the
    steps taken so far."""
    loss_of, key = group_loss(policy, loss, config), ("group", config.seed, update)
    found = epochs_over(
        rollout, loss_of, optimiser, config.epochs, config.minibatches, config.max_tokens, key
    )
    check_finite("the loss", found["loss/policy_avg"], update)
    return found | {"steps": optimiser.done}


def group_loss(policy: PreTrainedModel, loss: Loss, config) -> LossOf:
    """The loss of a piece of a minibatch, from the formula of RLOO or GRPO, and its metrics."""

    def loss_of(piece: Rollout, minibatch: Rollout, with_entropy: bool) -> tuple[Tensor, Metrics]:
        new_logprobs, entropy = response_logprobs(
            policy, piece.sequences, config.temperature, with_entropy
        )
        piece_loss, metrics = loss(new_logprobs, piece, minibatch, config)
        old = piece.logprobs, piece.advantages, piece.mask, config.epsilon
        metrics |= {"loss/policy_avg": piece_loss} | maths.policy_metrics(new_logprobs, *old)
        metrics[LARGEST] = maths.largest_log_ratio(new_logprobs, piece.logprobs, piece.mask)
        if entropy is not None:
            metrics["policy/entropy_avg"] = maths.masked_mean(entropy, piece.mask)
        return piece_loss, metrics

    return loss_of
