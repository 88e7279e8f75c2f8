"""What each road of notebook 08 costs: seconds and peak memory of its training.

    python benchmarks/roads.py --out data/roads/costs.json

Each road trains once with the setting that its trials chose, from the shipped models and rankings,
in a process of its own: memory that a process has held before would count as its own. PPO's and its
kin's reward model, which DPO does without, is a fifth one. Let nothing else run meanwhile.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

ROADS = ("reward model", "ppo", "rloo", "grpo", "dpo")
HERE = Path(__file__).resolve()


def measure(road: str, threads: int) -> dict[str, float]:
    """Train it here, and say what that took."""
    from rlhf_lab import (
        PPOConfig,
        RewardConfig,
        ScalarModel,
        base_model,
        load_policy,
        load_task,
        load_tokenizer,
        shipped,
        train_dpo,
        train_grpo,
        train_ppo,
        train_reward,
        train_rloo,
    )
    from rlhf_lab.alternatives.dpo import DPOConfig
    from rlhf_lab.alternatives.grpo import GRPOConfig
    from rlhf_lab.alternatives.rloo import RLOOConfig
    from rlhf_lab.disk.files import read_rankings
    from rlhf_lab.runs.costs.counting import peak_memory_mb, spending

    torch.set_num_threads(threads)
    task, tokenizer = load_task("support_desk"), load_tokenizer(base_model())
    rankings = read_rankings(shipped("rankings.jsonl.gz"))[100:]
    prompts = task.prompts(21, 4000)
    common = {"updates": 50, "batch_size": 64}
    policy = load_policy(shipped("sft"))
    if road == "reward model":
        trainer = train_reward(
            ScalarModel.from_policy(policy, 0), tokenizer, rankings, RewardConfig()
        )
    elif road == "dpo":
        trainer = train_dpo(policy, tokenizer, rankings, DPOConfig(learning_rate=1e-4, epochs=1))
    else:
        train, config = {
            "ppo": (train_ppo, PPOConfig(**common)),
            "rloo": (train_rloo, RLOOConfig(learning_rate=6e-4, group=4, **common)),
            "grpo": (train_grpo, GRPOConfig(learning_rate=6e-4, kl="k3", **common)),
        }[road]
        scorer = ScalarModel.load(shipped("reward_model")).requires_grad_(False)
        trainer = train(policy, scorer, tokenizer, prompts, config)
    before = peak_memory_mb()
    with spending() as cost:
        for _ in trainer:
            pass
    return {
        "seconds": cost["seconds"],
        "peak_memory_mb": cost["peak_memory_mb"],
        "before_mb": before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    parser.add_argument("--threads", type=int, default=2, help="for torch (2)")
    parser.add_argument("--one", choices=ROADS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.threads)))
        return
    costs = {}
    for road in ROADS:
        done = subprocess.run(
            [sys.executable, HERE, "--one", road, "--threads", str(args.threads)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        costs[road] = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{road:13s} {costs[road]['seconds']:6.0f} s   {costs[road]['peak_memory_mb']:6.0f} MB "
            f"at most, {costs[road]['before_mb']:.0f} before",
            flush=True,
        )
    if args.out:
        args.out.write_text(json.dumps(costs, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
