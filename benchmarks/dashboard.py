"""What the live dashboard costs: its own seconds as a share of the training it watches.

    python benchmarks/dashboard.py

PPO from the shipped models as it comes (64 responses an update); three prompts are answered every
five updates, as a notebook would have it. Drawing on the page is the browser's work and not in it;
making the page, and the picture at the end, is.
"""

import argparse
import asyncio
import time

import torch

from rlhf_lab import (
    PPOConfig,
    ScalarModel,
    base_model,
    load_policy,
    load_task,
    load_tokenizer,
    shipped,
    train_ppo,
)
from rlhf_lab.show.widgets.dashboard import Dashboard


class Screen:
    """Takes the pages as a notebook would, and makes the picture that it keeps."""

    def open(self, page: str) -> None:
        self.page = page

    show = open

    def close(self, page: str, kept: Dashboard) -> None:
        self.page = kept._repr_html_()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    task, tokenizer = load_task("support_desk"), load_tokenizer(base_model())
    policy = load_policy(shipped("sft"))
    reward_model = ScalarModel.load(shipped("reward_model")).requires_grad_(False)
    dashboard = Dashboard(policy, tokenizer, task.held_out()["held-out"][:3], every=5)
    dashboard._view = Screen()
    started = time.perf_counter()
    asyncio.run(
        dashboard.run(
            train_ppo(
                policy,
                reward_model,
                tokenizer,
                task.prompts(9, 2000),
                PPOConfig(updates=args.updates),
                judge=task.judge,
            )
        )
    )
    training = time.perf_counter() - started - dashboard.own_seconds
    print(
        f"training {training:.1f} s, dashboard {dashboard.own_seconds:.2f} s, "
        f"{100 * dashboard.own_seconds / training:.1f} %"
    )


if __name__ == "__main__":
    main()
