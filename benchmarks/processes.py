"""Two processes with one thread each, against one process with two threads.

    python benchmarks/processes.py [--processes 2] [--rounds 3]

The same cores do the same work: updates of SFT, reward model and PPO with their default settings,
from the shipped models. Each round starts either side afresh, by `accelerate launch`, one after the
other; the first updates of a run are not counted. Two processes also wait for each other and add up
gradients, and hold everything twice: the share of the time and the memory are printed too. What is
compared is on one machine without a GPU, and says nothing about several GPUs.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import wraps
from itertools import islice

import torch

from rlhf_lab import (
    PPOConfig,
    RewardConfig,
    ScalarModel,
    base_model,
    load_policy,
    load_task,
    load_tokenizer,
    rank_all,
    shipped,
    train_ppo,
    train_reward,
    train_sft,
)
from rlhf_lab.engine import parallel
from rlhf_lab.training import make_accelerator

WARM = 2  # updates that are not counted
STAGES = {"sft": "SFT", "reward": "reward model", "ppo": "PPO"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2, help="and, on the other side, threads")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=8, help="of each stage in a round")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work(options.updates)
        return
    rounds = []
    for number in range(options.rounds):
        sides = [(1, options.processes), (options.processes, 1)]
        rounds.append([launch(*side, options.updates) for side in sides])
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
    show(rounds, options.processes)


def launch(processes: int, threads: int, updates: int) -> dict:
    """What one side took."""
    many = ["--multi_gpu"] if processes > 1 else ["--cpu"]
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *many,
        "--num_processes",
        str(processes),
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--num_cpu_threads_per_process",
        str(threads),
        "--main_process_port",
        "0",
        __file__,
        "--child",
        "--updates",
        str(updates),
    ]
    own = {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        command, env=os.environ | own, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def work(updates: int) -> None:
    """One of the processes of a side; the main one prints what it saw."""
    make_accelerator("cpu")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    waited = watch_waiting()
    seen = {"processes": parallel.count(), "threads": torch.get_num_threads()}
    for stage, records in stages(updates + WARM + 1):
        for _ in islice(records, WARM):
            pass
        waited.clear()
        started = time.perf_counter()
        for _ in islice(records, updates):
            pass
        seconds = time.perf_counter() - started
        seen[stage] = {"seconds": seconds / updates, "waiting": sum(waited) / seconds}
    seen["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    if parallel.is_main():
        print(json.dumps(seen), flush=True)


def watch_waiting() -> list[float]:
    """From now on, the seconds of every sum over the processes, outermost calls alone."""
    waited, inside = [], []

    def timed(function):
        @wraps(function)
        def wrapper(*arguments):
            inside.append(1)
            started = time.perf_counter()
            result = function(*arguments)
            inside.pop()
            if not inside:
                waited.append(time.perf_counter() - started)
            return result

        return wrapper

    for name in ("total", "sum_gradients"):
        setattr(parallel, name, timed(getattr(parallel, name)))
    return waited


def stages(updates: int) -> Iterator[tuple[str, Iterator[dict]]]:
    """The three stages with their default settings and data for at least so many updates."""
    task, tokenizer = load_task("support_desk"), load_tokenizer(base_model())
    yield (
        "sft",
        train_sft(load_policy(base_model()), tokenizer, task.demonstrations(9, 32 * updates)),
    )
    prompts, shown = (
        task.prompts(9, RewardConfig().batch_size * updates),
        iter(task.demonstrations(8, 4 * RewardConfig().batch_size * updates)),
    )
    responses = [[next(shown).response for _ in range(4)] for _ in prompts]
    ranked = list(rank_all(prompts, responses, task.labellers, task.judge))
    model = ScalarModel.from_policy(load_policy(shipped("sft")), 0)
    yield "reward", train_reward(model, tokenizer, ranked)
    scorer = ScalarModel.load(shipped("reward_model")).requires_grad_(False)
    config = PPOConfig(updates=updates)
    yield (
        "ppo",
        train_ppo(
            load_policy(shipped("sft")),
            scorer,
            tokenizer,
            task.prompts(9, config.batch_size * updates),
            config,
        ),
    )


def show(rounds: list[list[dict]], processes: int) -> None:
    """A table of medians; every round's ratio, as a machine that is not idle shows in their
    spread."""
    print(
        f"| seconds an update | 1 process, {processes} threads | {processes} processes, 1 thread | "
        "speed | in each round | of it summing and waiting |\n|---|---|---|---|---|---|"
    )
    for stage, name in STAGES.items():
        one, several = ([side[i][stage]["seconds"] for side in rounds] for i in (0, 1))
        ratios = [a / b for a, b in zip(one, several)]
        waiting = statistics.median(side[1][stage]["waiting"] for side in rounds)
        print(
            f"| {name} | {statistics.median(one):.3f} | {statistics.median(several):.3f} | "
            f"{statistics.median(ratios):.2f} | {', '.join(f'{r:.2f}' for r in ratios)} | "
            f"{100 * waiting:.0f} % |"
        )
    memory = [max(side[i]["memory_mb"] for side in rounds) for i in (0, 1)]
    print(f"\nPeak memory: {memory[0]:.0f} MB, against {memory[1]:.0f} MB in each of {processes}.")


if __name__ == "__main__":
    main()
