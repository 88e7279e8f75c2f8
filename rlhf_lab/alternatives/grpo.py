"""GRPO: PPO's clipped loss, where a response's advantage is its score relative to its group.

No value network: the mean score of the responses to the same prompt is the baseline, and their
standard deviation the unit. The KL is a term of the loss, unless the settings put it into the
reward (Shao et al. 2024, DeepSeekMath; DeepSeek-AI 2025).
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

ESTIMATORS = {"k2": maths.kl_k2, "k3": maths.kl_k3}


@dataclass(frozen=True)
class GRPOConfig:
    """The settings of GRPO.

    kl: "k3" is the paper's estimator. On samples of the policy, its gradient at each position,
    given the tokens before it, is that of KL(reference || policy), which pulls the policy towards
    everything that the reference might say. "k2" has the gradient of KL(policy || reference); so
    does k3 times the ratio, the default of TRL 1.12, while the ratio is 1 (DeepSeek-V3.2). Neither
    is the gradient of the KL of a whole response, which objective/kl measures: a term of the loss
    does not charge a token for the KL that it causes at later positions. "reward" subtracts the KL
    from the response's score, as PPO and RLOO do; that gives the gradient of the whole response's
    KL.

    divide: with it, a prompt counts the same whether its responses differ much or little. average:
    what the loss is a mean over. "responses", as in the paper, takes the mean over each response's
    tokens first: a long bad response costs less per token than a short one. "tokens" is the mean
    over all tokens of the minibatch (DAPO, Yu et al. 2025). "constant" divides the sum over tokens
    by the number of responses times max_new_tokens, so that length does not matter. Dr. GRPO
    (Liu et al. 2025) is divide=False with average="constant".
    """

    updates: int = setting(50, "how many updates to make", at_least=1)
    batch_size: int = setting(64, "responses sampled in one update", at_least=1)
    group: int = setting(4, "responses to each prompt", at_least=2)
    epochs: int = setting(1, "passes over each batch of responses", at_least=1)
    minibatches: int = setting(1, "optimiser steps in one pass over a batch", at_least=1)
    learning_rate: float = setting(3e-4, "peak learning rate; it falls linearly to 0", above=0)
    warmup: int = setting(0, "updates over which the learning rate rises", at_least=0)
    beta: float = setting(0.05, "penalty per nat of KL", at_least=0)
    kl: str = setting(
        "k3",
        "KL estimator in the loss; reward: subtract the KL from the score instead",
        choices=(*ESTIMATORS, "reward"),
    )
    epsilon: float = setting(0.2, "clip range of the policy's ratio", above=0)
    divide: bool = setting(True, "divide advantages by the group's standard deviation")
    average: str = setting(
        "tokens", "what the loss is a mean over", choices=("tokens", "responses", "constant")
    )
    no_end_penalty: float = setting(1.0, "penalty for a response that does not end", at_least=0)
    temperature: float = setting(1.0, "sampling temperature", above=0)
    max_new_tokens: int = setting(64, "longest response, in tokens", at_least=1)
    seed: int = seed_setting()
    max_tokens: int = setting(3072, "most tokens in a forward pass; changes no result", at_least=1)

    def __post_init__(self) -> None:
        check_settings(self)


def train_grpo(
    policy: PreTrainedModel,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    config: GRPOConfig = GRPOConfig(),
    judge: Callable[[Prompt, str], Mark] | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
    grpo_advantages: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Record]:
    """Train `policy` in place; yields one metrics record an update, named as PPO's.

    The reference is a frozen copy of `policy` as it comes in; `judge`'s mean mark is only logged.
    loss/kl_avg is the KL term of the loss, before beta. grpo_advantages: the formula, by default
    that of `maths` or, with divide=False, `maths.dr_grpo_advantages`. Raises UserError unless
    batch_size is a multiple of group.
    """
    if grpo_advantages is None:
        grpo_advantages = maths.grpo_advantages if config.divide else maths.dr_grpo_advantages
    optimiser = prepare(policy, reward_model, tokenizer, config, accelerator)
    models = {"policy": policy, "reference": frozen_copy(policy)}

    for update in resumable(checkpoint, models, optimiser, config.updates):
        # 1. The policy answers each prompt several times; each response is scored.
        with optimiser.accelerator.autocast():  # as for the loss, so that the first ratio is 1
            rollout, scores = collect(
                policy, models["reference"], reward_model, tokenizer, prompts, config, update
            )
        record = describe(rollout, scores, config.beta, "grpo", update, config.updates)
        # 2. Did it score more than the rest of its group, in that group's standard deviations?
        if config.kl == "reward":  # the score minus beta for every nat of its KL, as in RLOO
            scores = maths.masked_sum(rollout.rewards, rollout.mask)
        advantages = grpo_advantages(scores.view(-1, config.group))
        rollout.advantages = per_token(advantages, rollout.mask)
        # 3. Improve the policy by the clipped loss and a penalty on its KL to the reference.
        record |= optimise(policy, rollout, grpo_loss, optimiser, config, update)
        if judge:
            record["judge/mark"] = mean_mark(rollout, judge)
        yield record


def grpo_loss(
    new_logprobs: Tensor, piece: Rollout, minibatch: Rollout, config: GRPOConfig
) -> tuple[Tensor, Metrics]:
    """PPO's clipped loss plus beta times the KL, if that is not in the reward: new_logprobs
    (b, N). The mean is over tokens, with the weights that make it `config.average`."""
    mask, length = piece.mask, minibatch.mask.sum(1).float().mean()
    weights: dict[str, Tensor | float] = {  # of each token of a response, (b, 1) or one for all
        "tokens": 1.0,
        "responses": length / mask.sum(1, keepdim=True),
        "constant": length / config.max_new_tokens,
    }
    weight = weights[config.average]
    loss = maths.clipped_policy_loss(
        new_logprobs, piece.logprobs, weight * piece.advantages, mask, config.epsilon
    )
    if config.kl == "reward":
        return loss, {}
    kl = ESTIMATORS[config.kl](new_logprobs, piece.ref_logprobs)
    penalty = maths.masked_mean(weight * kl, mask)
    return loss + config.beta * penalty, {"loss/kl_avg": penalty.detach()}
