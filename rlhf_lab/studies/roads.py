"""PPO, RLOO, GRPO and DPO from the same SFT policy and the same rankings: the runs behind
notebook 08. Best-of-n, which trains nothing, is in the study of hacking.

Each road is tuned alike: four trials, named below before any was run, with a seed of its own, on
prompts of the training side; the one with the highest mark is the road's setting. Then it is run
at three strengths (the price of KL) and three seeds on held-out prompts. What it spends is written
down: there is no single budget that would be fair to all. DPO samples nothing and trains no reward
model; the others draw 64 responses an update.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace

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
TUNING_SEED, TUNING_PROMPTS = 3, 200
UPDATES, RANKINGS = 50, 900
LOGGED = ("update", "episode", "objective/kl", "objective/scores", "judge/mark", "loss/dpo")

# Of each road the settings that its papers turn first: the learning rate, and one more.
TRIALS: dict[str, tuple[dict, ...]] = {
    "ppo": (
        {"learning_rate": 3e-4, "epochs": 2},
        {"learning_rate": 6e-4, "epochs": 2},
        {"learning_rate": 1e-4, "epochs": 4},
        {"learning_rate": 3e-4, "epochs": 4},
    ),
    "rloo": (
        {"learning_rate": 3e-4, "group": 4},
        {"learning_rate": 1e-3, "group": 4},
        {"learning_rate": 6e-4, "group": 4},
        {"learning_rate": 6e-4, "group": 8},
    ),
    "grpo": (
        {"learning_rate": 3e-4, "kl": "k3"},
        {"learning_rate": 1e-3, "kl": "k3"},
        {"learning_rate": 6e-4, "kl": "k3"},
        {"learning_rate": 6e-4, "kl": "k2"},
    ),
    "dpo": (
        {"learning_rate": 1e-4, "epochs": 1},
        {"learning_rate": 3e-4, "epochs": 1},
        {"learning_rate": 1e-4, "epochs": 2},
        {"learning_rate": 3e-5, "epochs": 2},
    ),
}
# The price of a nat: the one it is tuned at comes first.
STRENGTHS = {
    "ppo": (0.05, 0.2, 0.01),
    "rloo": (0.05, 0.2, 0.01),
    "grpo": (0.05, 0.2, 0.01),
    "dpo": (0.1, 0.4, 0.03),
}


@dataclass(frozen=True)
class Arm:
    """One road with its settings; `strength` is beta, or DPO's dpo_beta."""

    road: str
    strength: float
    settings: dict = field(default_factory=dict)
    trial: int | None = None

    @property
    def name(self) -> str:
        which = f" trial {self.trial}" if self.trial is not None else ""
        return f"{self.road} {self.strength:g}{which}"


TRIAL_ARMS = tuple(
    Arm(road, STRENGTHS[road][0], trial, i)
    for road in ROADS
    for i, trial in enumerate(TRIALS[road])
)


def best_trial(ground: Ground, road: str) -> int:
    """The number of the road's trial with the highest mark; the trials are run if they were not."""
    marks = {
        arm.trial: run_arm(ground, arm, TUNING_SEED)["policy"]["mark"][0]
        for arm in TRIAL_ARMS
        if arm.road == road
    }
    return max(marks, key=marks.get)


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Run one road, unless it is there already, and return its summary: "sft" and "policy" as
    `Ground.judge` finds them, and "spent".

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
    """The optimiser's steps in so many updates; PPO and its kin take one an epoch."""
    return updates * (1 if arm.road == "dpo" else arm.settings.get("epochs", 1))


def tried(ground: Ground, policy, seed: int) -> dict:
    """Mark and KL on prompts of the training side, drawn anew."""
    prompts = ground.task.prompts(seed + 2_000_003, min(TUNING_PROMPTS, ground.judged))
    answers = respond(policy, ground.tokenizer, prompts, ground.samples, seed, ground.task.judge)
    return {
        "mark": interval(answers.mark_table()),
        "kl": interval(sequence_kl(policy, ground.policy(seed), answers)),
    }
