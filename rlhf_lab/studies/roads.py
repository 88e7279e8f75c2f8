"""PPO, RLOO, GRPO and DPO from the same SFT policy and the same rankings: the runs behind notebook
08. Best-of-n, which trains nothing, is in the study of hacking.

Each road (method) is tuned alike: six trials, each with three seeds that nothing else uses, on
prompts of the training side; the trial with the highest mean mark gives the road's setting. Five of
the trials differ only in the learning rate, each about 1.7 times the one before, so that the best
lies between two worse ones (`roads_reading.bracketed`); the sixth takes twice the passes. All were
chosen before any was run, except one: PPO's rates began at 1e-4 (which gave 8.76), and since the
largest was its best, they were moved up by one. In a first attempt with one seed per trial, PPO's
middle rates differed by .1 points while the seeds of one setting differed by .3: hence three seeds.
Then each road is run at three strengths (beta, the price of KL) and three seeds on held-out
prompts. What it spends is recorded, since no single budget would be fair to all. DPO samples
nothing and trains no reward model; the others draw 64 responses per update.

Three more arms look for the reasons: RLOO for as long as PPO takes, GRPO with the KL in the reward,
and GRPO without the division by the group's standard deviation.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean

from rlhf_lab.alternatives.dpo import DPOConfig, train_dpo
from rlhf_lab.alternatives.grpo import GRPOConfig, train_grpo
from rlhf_lab.alternatives.rloo import RLOOConfig, train_rloo
from rlhf_lab.evaluate import respond, sequence_kl
from rlhf_lab.intervals import interval
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.runs.costs.counting import spending
from rlhf_lab.studies.ground import Ground, Rows
from rlhf_lab.training import Record

ROADS = ("ppo", "rloo", "grpo", "dpo")
TUNING_SEEDS, TUNING_PROMPTS = (3, 4, 5), 200
UPDATES, RANKINGS = 50, 900
LOGGED = ("update", "episode", "objective/kl", "objective/scores", "judge/mark", "loss/dpo")

RATES: dict[str, tuple[float, ...]] = {
    "ppo": (1.7e-4, 3e-4, 5e-4, 9e-4, 1.6e-3),
    "rloo": (2e-4, 3.5e-4, 6e-4, 1e-3, 1.7e-3),
    "grpo": (2e-4, 3.5e-4, 6e-4, 1e-3, 1.7e-3),
    "dpo": (6e-5, 1e-4, 1.7e-4, 3e-4, 5e-4),
}
EPOCHS = {"ppo": 2, "rloo": 1, "grpo": 1, "dpo": 1}
TRIALS: dict[str, tuple[dict, ...]] = {
    road: (
        *({"learning_rate": rate, "epochs": EPOCHS[road]} for rate in rates),
        {"learning_rate": rates[2], "epochs": 2 * EPOCHS[road]},
    )
    for road, rates in RATES.items()
}
# The values of beta (or dpo_beta); the first is the one used for tuning.
STRENGTHS = {
    "ppo": (0.05, 0.2, 0.01),
    "rloo": (0.05, 0.2, 0.01),
    "grpo": (0.05, 0.2, 0.01),
    "dpo": (0.1, 0.4, 0.03),
}
# Additional arms: settings changed from the tuned ones, at the first strength. As long as PPO:
# RLOO's 50 updates took 39 s and PPO's 101 s (costs.json); the reward model's training is the same
# for both.
VARIANTS: dict[tuple[str, str], dict] = {
    ("rloo", "as long as PPO"): {"updates": 130},
    ("grpo", "KL in the reward"): {"kl": "reward"},
    ("grpo", "not divided"): {"divide": False},
}


@dataclass(frozen=True)
class Arm:
    """One road with its settings. strength: beta, or DPO's dpo_beta; variant: one of VARIANTS, or
    "" for the road as tuned."""

    road: str
    strength: float
    settings: dict = field(default_factory=dict)
    trial: int | None = None
    variant: str = ""

    @property
    def name(self) -> str:
        which = f" trial {self.trial}" if self.trial is not None else ""
        return f"{self.road} {self.strength:g}{which}" + (self.variant and f", {self.variant}")


TRIAL_ARMS = tuple(
    Arm(road, STRENGTHS[road][0], trial, i)
    for road in ROADS
    for i, trial in enumerate(TRIALS[road])
)


def best_trial(ground: Ground, road: str) -> int:
    """The number of the road's trial with the highest mark, averaged over its seeds; trials that
    were not run yet are run."""
    marks = {
        arm.trial: fmean(run_arm(ground, arm, seed)["policy"]["mark"][0] for seed in TUNING_SEEDS)
        for arm in TRIAL_ARMS
        if arm.road == road
    }
    return max(marks, key=marks.get)


def tuned(ground: Ground, road: str, strength: float, variant: str = "") -> Arm:
    """A road, or a variant of it, with the settings of its best trial."""
    settings = TRIALS[road][best_trial(ground, road)] | VARIANTS.get((road, variant), {})
    return Arm(road, strength, settings, variant=variant)


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Run one road, unless it was run already, and return its summary: what `Ground.judge` finds
    for "sft" and "policy", and "spent".

    spent: seconds and peak_memory_mb of the training alone, reward_seconds of the reward model (0
    for DPO), samples drawn and gradient steps. A trial is judged on prompts of the training side.
    """
    return ground.once(arm.name, seed, lambda: _run(ground, arm, seed))


def _run(ground: Ground, arm: Arm, seed: int) -> tuple[dict, dict[str, Rows]]:
    policy, drawn = ground.policy(seed), ground.drawn(seed)
    rankings = ground.rankings(drawn, RANKINGS, seed)
    reward_model, learning_seconds = ground.learn(rankings, drawn, seed)
    metrics: Rows = []
    with spending() as training:
        for record in train(ground, arm, seed, policy, reward_model, rankings):
            metrics.append({name: record[name] for name in LOGGED if name in record})
    spent = {
        "seconds": training["seconds"],
        "peak_memory_mb": training.get("peak_memory_mb"),
        "reward_seconds": 0.0 if arm.road == "dpo" else learning_seconds,
        "samples": metrics[-1].get("episode", 0),
        "steps": steps_of(arm, len(metrics)),
    }
    summary = {"arm": asdict(arm) | {"name": arm.name}, "seed": seed, "spent": spent}
    if arm.trial is None:
        found = {
            "sft": ground.judge_sft(seed, reward_model),
            "policy": ground.judge(policy, ground.answers(policy, seed), seed, reward_model),
        }
    else:
        found = {"policy": tried(ground, policy, seed)}
    return summary | found, {"metrics": metrics}


def train(ground: Ground, arm: Arm, seed: int, policy, reward_model, rankings) -> Iterator[Record]:
    """The road's own trainer with the arm's settings."""
    judge, tokenizer = ground.task.judge, ground.tokenizer
    if arm.road == "dpo":
        config = DPOConfig(dpo_beta=arm.strength, seed=seed, sample_every=25, **arm.settings)
        return train_dpo(policy, tokenizer, rankings, config, judge=judge)
    trainers: dict[str, tuple[Callable, Callable]] = {
        "ppo": (train_ppo, PPOConfig),
        "rloo": (train_rloo, RLOOConfig),
        "grpo": (train_grpo, GRPOConfig),
    }
    trainer, config = trainers[arm.road]
    settings = config(updates=UPDATES, batch_size=ground.batch_size, beta=arm.strength, seed=seed)
    return trainer(
        policy,
        reward_model,
        tokenizer,
        ground.ppo_prompts(seed),
        replace(settings, **arm.settings),
        judge=judge,
    )


def steps_of(arm: Arm, updates: int) -> int:
    """The optimiser's steps in this number of updates; PPO, RLOO and GRPO take one per epoch."""
    return updates * (1 if arm.road == "dpo" else arm.settings.get("epochs", 1))


def tried(ground: Ground, policy, seed: int) -> dict:
    """Mark and KL of new responses to prompts of the training side."""
    prompts = ground.task.prompts(seed + 2_000_003, min(TUNING_PROMPTS, ground.judged))
    answers = respond(policy, ground.tokenizer, prompts, ground.samples, seed, ground.task.judge)
    return {
        "mark": interval(answers.mark_table()),
        "kl": interval(sequence_kl(policy, ground.policy(seed), answers)),
    }
