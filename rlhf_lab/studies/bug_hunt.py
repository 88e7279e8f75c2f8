"""Six runs of PPO for notebook 05b: one as it should be, five with something wrong in each.

All start from the shipped SFT policy and reward model. What is recorded is what somebody sees who
does not know the code: the metrics, a dozen answers at the start, half way and at the end, and what
PPO computed for the tokens of a few responses. The runs have neutral names; ARMS is the key.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.checks import check_model
from rlhf_lab.disk.data import base_model, shipped
from rlhf_lab.disk.jsonl import read_lines
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, new_value_model
from rlhf_lab.ppo import PPOConfig, collect, train_ppo
from rlhf_lab.rollout import Rollout, batch_of
from rlhf_lab.sequences import in_batches, response_logprobs
from rlhf_lab.show.microscope import token_texts
from rlhf_lab.studies.ground import Ground, Rows

UPDATES, BATCH = 24, 32
WATCHED = 5  # the update whose tokens are recorded
ROWS = 6  # how many of its responses
ANSWERED = 12  # held-out prompts that are answered at the start, half way and at the end
DIGITS = 5  # significant ones that are recorded


@dataclass(frozen=True)
class Arm:
    """One run, under its neutral name. fault: what is wrong with it, one of FAULTS or HEALTHY."""

    name: str
    fault: str


HEALTHY = "nothing is wrong"
BETA, PLACE, END = "the KL is rewarded", "the score is one token early", "the end is not recognised"
DROPOUT, RETURNS = "dropout is on in training", "the returns are whitened"
LABELS = "labels are swapped"
FAULTS = (BETA, PLACE, END, DROPOUT, RETURNS, LABELS)  # to choose from; not each has a run
ARMS = (
    Arm("run A", RETURNS),
    Arm("run B", DROPOUT),
    Arm("run C", PLACE),
    Arm("run D", HEALTHY),
    Arm("run E", END),
    Arm("run F", BETA),
)


@dataclass
class Parts:
    """What a run trains with: the fault is in one of these."""

    policy: PreTrainedModel
    reward_model: ScalarModel
    tokenizer: PreTrainedTokenizerBase
    formulas: dict[str, Callable] = field(default_factory=dict)


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Train one arm, unless it was trained already, and return its summary, which does not name the
    fault. Writes metrics.jsonl.gz, answers.jsonl.gz, tokens.jsonl.gz and, last, summary.json."""
    return ground.once(arm.name, seed, lambda: _train(ground, arm, seed))


def _train(ground: Ground, arm: Arm, seed: int) -> tuple[dict, dict[str, Rows]]:
    parts = parts_of(arm.fault, seed)
    config = PPOConfig(updates=UPDATES, batch_size=BATCH, seed=seed)
    prompts = ground.ppo_prompts(seed)
    value_model = new_value_model(parts.policy, parts.reward_model, config.seed)
    reference = load_policy(shipped("sft"))
    seen: dict[str, Tensor] = {}
    run = train_ppo(
        parts.policy,
        parts.reward_model,
        parts.tokenizer,
        prompts,
        config,
        judge=ground.task.judge,
        value_model=value_model,
        reference=reference,
        **watched(parts.formulas, seen),
    )
    models = parts.policy, reference, value_model, parts.reward_model
    metrics, answers = [], look(ground, parts, 0)
    tokens: Rows = []
    for update in range(1, UPDATES + 1):
        if update == WATCHED:  # a sample hangs on its seed alone, so this is what comes next
            batch = batch_of(prompts, BATCH, seed, update)
            rollout = collect(*models, parts.tokenizer, batch, config, update)
            again = in_batches(_reread, parts.policy, rollout.sequences)
        metrics.append(next(run))
        if update == WATCHED:
            tokens = table(parts.tokenizer, rollout, again, seen)
        if update in (UPDATES // 2, UPDATES):
            answers += look(ground, parts, update)
    summary = {"arm": {"name": arm.name}, "seed": seed, "reward_accuracy": shipped_accuracy()}
    return summary, {
        "metrics": [_short(row) for row in metrics],
        "answers": [_short(row) for row in answers],
        "tokens": [_short(row) for row in tokens],
    }


def _reread(policy: PreTrainedModel, rows) -> Tensor:
    return response_logprobs(policy, rows)[0]


def _short(row: dict) -> dict:
    return {
        name: float(f"{x:.{DIGITS}g}") if isinstance(x, float) else x for name, x in row.items()
    }


# ---- the faults ----------------------------------------------------------------------------------


def parts_of(fault: str, seed: int) -> Parts:
    """What a run with this fault trains with; seed: of dropout."""
    policy, tokenizer = load_policy(shipped("sft")), load_tokenizer(base_model())
    check_model(policy, tokenizer)
    reward_model = ScalarModel.load(shipped("reward_model"))
    if fault == END:  # as if the tokenizer's files were another model's
        tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    if fault == DROPOUT:
        torch.manual_seed(seed)
        dropout_stays_on(policy)
    formulas = {
        BETA: {"kl_rewards": kl_rewarded},
        PLACE: {"kl_rewards": score_one_early},
        RETURNS: {"gae": returns_whitened},
    }.get(fault, {})
    return Parts(policy, reward_model, tokenizer, formulas)


def kl_rewarded(scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, beta: float):
    """`maths.kl_rewards` with the wrong sign of beta."""
    return maths.kl_rewards(scores, logprobs, ref_logprobs, mask, -beta)


def score_one_early(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, beta: float
):
    """`maths.kl_rewards` with the score on the last token but one."""
    prices = maths.kl_rewards(torch.zeros_like(scores), logprobs, ref_logprobs, mask, beta)
    early = (maths.last_index(mask) - 1).clamp(min=0)
    return prices.scatter_add(1, early[:, None], scores[:, None])


def returns_whitened(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
):
    """`maths.gae` whose returns are made from whitened advantages."""
    advantages, _ = maths.gae(rewards, values, mask, gamma, lam)
    return advantages, maths.whiten(advantages, mask) + values.masked_fill(~mask, 0)


class StaysOn(nn.Dropout):
    """Dropout that nobody can turn off."""

    def train(self, mode: bool = True) -> "StaysOn":
        return super().train(True)


def dropout_stays_on(policy: PreTrainedModel, p: float = 0.1) -> None:
    """Put dropout into a policy, with GPT-2's usual p, where it stays on whenever the policy is
    trained; the sampler never uses it."""
    for module in list(policy.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, StaysOn(p).train())


def shipped_accuracy() -> float:
    """The shipped reward model's accuracy on held-out rankings, as its training recorded it."""
    rows = read_lines(shipped("metrics.jsonl"))
    found = [row for row in rows if "reward/held_out_accuracy" in row]
    return found[-1]["reward/held_out_accuracy"]


# ---- what is recorded ----------------------------------------------------------------------------


def watched(formulas: dict[str, Callable], seen: dict[str, Tensor]) -> dict[str, Callable]:
    """PPO's formulas, those of `formulas` or the package's, which leave what they were given and
    what they returned in `seen`, (B, N): rewards, values, returns and advantages."""
    kl_rewards = formulas.get("kl_rewards", maths.kl_rewards)
    gae = formulas.get("gae", maths.gae)

    def rewarded(*inputs: Tensor) -> Tensor:
        seen["reward"] = kl_rewards(*inputs)
        return seen["reward"]

    def spread(rewards: Tensor, values: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        raw, seen["return"] = gae(rewards, values, *rest)
        seen["value"] = values
        return raw, seen["return"]

    def whitened(raw: Tensor, mask: Tensor) -> Tensor:
        seen["advantage"] = maths.whiten(raw, mask)
        return seen["advantage"]

    return {"kl_rewards": rewarded, "gae": spread, "whiten": whitened}


def look(ground: Ground, parts: Parts, update: int) -> Rows:
    """The policy's present answers to the same prompts, each with score and mark."""
    prompts = ground.judged_prompts()[:ANSWERED]
    return ground.look(parts.policy, update, parts.reward_model, prompts, parts.tokenizer)


def table(
    tokenizer: PreTrainedTokenizerBase, rollout: Rollout, again: Tensor, seen: dict[str, Tensor]
) -> Rows:
    """A line for each token of the first responses of a rollout. again: the log-probabilities that
    training computes for them before its first step, (B, N)."""
    numbers = {
        "logprob": rollout.logprobs,
        "new_logprob": again,
        "ref_logprob": rollout.ref_logprobs,
        **seen,
    }
    rows: Rows = []
    for row in range(ROWS):
        ids = rollout.sequences.response_tokens[row][rollout.mask[row]].tolist()
        for n, text in enumerate(token_texts(tokenizer, ids)):
            line = {"row": row, "text": text, "score": float(rollout.scores[row])}
            rows.append(line | {name: float(x[row, n]) for name, x in numbers.items()})
    return rows
