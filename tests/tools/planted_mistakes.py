"""Train as notebook 04 does with each of its mistakes planted, and without any, and keep what the
runs showed: the table that the notebook prints.

    python tests/tools/planted_mistakes.py data/planted/mistakes.jsonl
"""

import json
import sys

from rlhf_lab.course.yours import BUGS, planted
from rlhf_lab.disk.data import base_model, shipped
from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.show.alarms import alarms
from rlhf_lab.tasks import load_task

SEEDS = (1, 2)
SHOWN = {"score": "objective/scores", "mark": "judge/mark", "kl": "objective/kl"}


def run(mistake: str, seed: int) -> dict:
    """Ten updates of 32: score, mark and KL at the first and at the last, and the alarms."""
    task, tokenizer = load_task("support_desk"), load_tokenizer(base_model())
    records = list(
        train_ppo(
            load_policy(shipped("sft")),
            ScalarModel.load(shipped("reward_model")),
            tokenizer,
            task.prompts(seed=4, count=2000),
            PPOConfig(updates=10, batch_size=32, seed=seed),
            judge=task.judge,
            **(planted(mistake) if mistake else {}),
        )
    )
    return {
        "mistake": mistake or "none",
        "seed": seed,
        **{f"first {name}": round(float(records[0][key]), 3) for name, key in SHOWN.items()},
        **{name: round(float(records[-1][key]), 3) for name, key in SHOWN.items()},
        "alarms": [alarm.name for alarm in alarms(records)],
    }


def main(path: str) -> None:
    """Every mistake with every seed, a line each."""
    rows = []
    for mistake in ("", *BUGS):
        for seed in SEEDS:
            rows.append(run(mistake, seed))
            print(rows[-1], flush=True)
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main(sys.argv[1])
