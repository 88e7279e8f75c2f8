"""Correct, efficient, secure: the runs behind notebook 12.

Three questions, each with the arms that answer it; every arm has three seeds.

    a learned reward, a verifiable one (the visible examples pass), both    learned, visible, both
    the same verifiable reward by other methods, and the rankings by DPO    visible by RLOO, ...
    what secure code costs                                no reviewer, reviewer alone

"Neither" is the SFT policy, which every run is compared with. All arms start from the SFT policy of
their seed and from the same four answers to each prompt. RLOO, GRPO and DPO run with their default
settings: notebook 08 tunes them, on another task. All arms were named before any of them was run.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from rlhf_lab.alternatives.dpo import DPOConfig, train_dpo
from rlhf_lab.alternatives.grpo import GRPOConfig, train_grpo
from rlhf_lab.alternatives.rloo import RLOOConfig, train_rloo
from rlhf_lab.evaluate import Responses
from rlhf_lab.intervals import Interval, share_interval
from rlhf_lab.models import ScalarModel
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Prompt
from rlhf_lab.reward import score_texts
from rlhf_lab.rollout import Scorer
from rlhf_lab.studies.ground import Ground, Rows
from rlhf_lab.tasks.labellers import Labeller

RANKINGS = 900
REVIEWER = "security reviewer"
ROADS: dict[str, tuple[Callable, Callable]] = {
    "ppo": (train_ppo, PPOConfig),
    "rloo": (train_rloo, RLOOConfig),
    "grpo": (train_grpo, GRPOConfig),
}
VISIBLE, HIDDEN = "visible examples pass", "hidden examples pass"


@dataclass(frozen=True)
class Arm:
    """reward: "learned" from rankings, "visible" (the share of the visible examples that pass), or
    "both", added. road: a key of ROADS, or "dpo", which has no reward. reviewers: whether the
    security reviewer ranks with the others ("some"), alone ("all"), or not ("none")."""

    name: str
    reward: str = "learned"
    road: str = "ppo"
    reviewers: str = "some"
    beta: float = 0.05


ARMS = (
    Arm("learned"),
    Arm("visible", "visible"),
    Arm("both", "both"),
    Arm("visible by RLOO", "visible", "rloo"),
    Arm("visible by GRPO", "visible", "grpo"),
    Arm("learned by DPO", road="dpo"),
    Arm("no reviewer", reviewers="none"),
    Arm("reviewer alone", reviewers="all"),
)


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Run one arm, unless it was run already, and return its summary.

    "sft" and "policy" are what `Ground.judge` finds, each with "shares" (see `shares`). Writes
    metrics.jsonl.gz and answers.jsonl.gz.
    """
    return ground.once(arm.name, seed, lambda: _run(ground, arm, seed))


def _run(ground: Ground, arm: Arm, seed: int) -> tuple[dict, dict[str, Rows]]:
    drawn = ground.drawn(seed)
    rankings = ground.rankings(drawn, RANKINGS, seed, rankers(ground.task.labellers, arm.reviewers))
    model = ground.reward_model(rankings, drawn, seed)
    if arm.road == "dpo":
        policy = ground.policy(seed)
        config = DPOConfig(seed=seed, max_new_tokens=ground.task.longest_response)
        records = train_dpo(policy, ground.tokenizer, rankings, config)
        metrics: Rows = [{k: r[k] for k in ("update", "loss/dpo")} for r in records]
    else:
        score = reward_of(ground, model, drawn, arm.reward)
        policy, metrics = ground.optimise(score, seed, arm.beta, ROADS[arm.road])
    answers, before = ground.answers(policy, seed), ground.rivals(seed)
    summary = {
        "arm": asdict(arm),
        "seed": seed,
        "sft": ground.judge_sft(seed, model) | {"shares": shares(before)},
        "policy": ground.judge(policy, answers, seed, model) | {"shares": shares(answers)},
    }
    rows = [
        {"prompt": p.text, "sft": old[0], "policy": new[0], "rubric": marks[0].rubric}
        for p, old, new, marks in zip(answers.prompts, before.texts, answers.texts, answers.judged)
    ]
    return summary, {"metrics": metrics, "answers": rows}


def rankers(labellers: Sequence[Labeller], reviewers: str) -> list[Labeller]:
    """The labellers who rank in an arm (see `Arm.reviewers`)."""
    keep = {"some": lambda own: True, "none": lambda own: not own, "all": lambda own: own}
    return [one for one in labellers if keep[reviewers](one.name == REVIEWER)]


def reward_of(ground: Ground, model: ScalarModel, drawn: Responses, kind: str) -> Scorer:
    """What an arm optimises: the reward model, the visible examples, or the sum of both. All have
    mean 0 and standard deviation 1 on the SFT policy's answers, so that beta means the same."""

    def visible(prompts: Sequence[Prompt], texts: Sequence[str]) -> torch.Tensor:
        found = [ground.task.visible_reward(p, text) for p, text in zip(prompts, texts)]
        return torch.tensor(found)

    def both(prompts: Sequence[Prompt], texts: Sequence[str]) -> torch.Tensor:
        written = [(p.text, text, True) for p, text in zip(prompts, texts)]
        return score_texts(model, ground.tokenizer, written) + passed(prompts, texts)

    if kind == "learned":
        return model
    passed = standardised(visible, drawn)
    return as_list(passed if kind == "visible" else standardised(both, drawn))


def standardised(reward: Callable, drawn: Responses) -> Callable:
    """A reward shifted and scaled to mean 0 and standard deviation 1 on drawn answers."""
    prompts = [prompt for prompt in drawn.prompts for _ in range(drawn.per_prompt)]
    found = reward(prompts, [text for row in drawn.texts for text in row])
    mean, sd = float(found.mean()), float(found.std())
    return lambda prompts, texts: (reward(prompts, texts) - mean) / sd


def as_list(reward: Callable) -> Scorer:
    """A reward that returns a list of numbers, as a scorer must."""
    return lambda prompts, texts: reward(prompts, texts).tolist()


def shares(answers: Responses) -> dict[str, Interval]:
    """The share of answers for which all visible examples pass, all hidden ones pass, and that have
    each flaw, with 95 % intervals over prompts."""
    tables = {
        VISIBLE: answers.rubric_table("visible") > 0.999,
        HIDDEN: answers.rubric_table("correct") > 0.999,
    }
    flaws = sorted({flaw for row in answers.judged for mark in row for flaw in mark.flaws})
    tables |= {flaw: answers.flaw_table(flaw) > 0 for flaw in flaws}
    return {name: share_interval(table.float().mean(1)) for name, table in tables.items()}
