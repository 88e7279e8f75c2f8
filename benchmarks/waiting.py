"""What OpenMP's waiting threads cost: a training step and a small demo, alone and beside others.

    python benchmarks/waiting.py steps                 # a step alone, beside one, beside three
    python benchmarks/waiting.py demo --rounds 5       # the three stages of a small demo, alone
    python benchmarks/waiting.py steps --settings default lab PASSIVE SPIN1000

Each setting runs in a process of its own, one after the other in turn, so that what else the
machine does meets them alike. A busy neighbour is a Python loop that never ends. Times are seconds:
the median of the steps of a process, and over the rounds their median and range.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BASE = Path(__file__).parents[1] / "data" / "base"
# lab: as it comes. default: what libgomp does by itself. PASSIVE: threads that wait sleep at once.
SETTINGS = {
    "lab": {},
    "default": {"GOMP_SPINCOUNT": "300000"},
    "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "ACTIVE": {"OMP_WAIT_POLICY": "ACTIVE"},
    "SPIN1000": {"GOMP_SPINCOUNT": "1000"},
    "SPIN3000": {"GOMP_SPINCOUNT": "3000"},
    "SPIN10000": {"GOMP_SPINCOUNT": "10000"},
    "ONE": {"OMP_NUM_THREADS": "1"},
}


def main() -> None:
    args = parse_arguments()
    if args.worker:
        print(json.dumps(WORK[args.what]()))
        return
    for neighbours in args.neighbours if args.what == "steps" else [0]:
        busy = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(neighbours)]
        try:
            report(args, neighbours)
        finally:
            for process in busy:
                process.kill()


LOOP = "while True: pass"


def report(args: argparse.Namespace, neighbours: int) -> None:
    """Run every setting in turn, `rounds` times, and print the times of each."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in args.settings}
    for number in range(args.rounds):
        order = args.settings if number % 2 == 0 else args.settings[::-1]
        for name in order:
            found[name].append(one(args.what, SETTINGS[name]))
    print(f"beside {neighbours} busy processes, {args.rounds} rounds")
    for name, rounds in found.items():
        for what in rounds[0]:
            times = [times[what] for times in rounds]
            print(
                f"  {name:8} {what:8} {statistics.median(times):7.2f} s"
                f"  ({min(times):.2f} to {max(times):.2f})",
                flush=True,
            )
    first = args.settings[0]
    for name in args.settings[1:]:
        ratios = [a["total"] / b["total"] for a, b in zip(found[name], found[first])]
        print(
            f"  {name} / {first}, paired: {statistics.geometric_mean(ratios):.3f}"
            f"  ({', '.join(f'{r:.2f}' for r in ratios)})"
        )


def one(what: str, setting: dict[str, str]) -> dict[str, float]:
    """The times that a fresh process with this setting needs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, __file__, what, "--worker"]
    done = subprocess.run(command, env=kept | setting, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def steps() -> dict[str, float]:
    """Median seconds of an SFT update and of a PPO update with default settings."""
    from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
    from rlhf_lab.ppo import PPOConfig, train_ppo
    from rlhf_lab.sft import SFTConfig, train_sft
    from rlhf_lab.tasks.support_desk import SupportDesk

    task, tokenizer = SupportDesk(), load_tokenizer(BASE)
    policy = load_policy(BASE)
    sft = train_sft(policy, tokenizer, task.demonstrations(0, 320), SFTConfig(epochs=1))
    reward_model = ScalarModel.from_policy(policy, 0)
    ppo = train_ppo(policy, reward_model, tokenizer, task.prompts(0, 200), PPOConfig(updates=4))
    found = {"SFT": median_step(sft), "PPO": median_step(ppo)}
    return found | {"total": sum(found.values())}


def median_step(records) -> float:
    """Median seconds between two records, the first one left out."""
    times = []
    next(records)
    started = time.perf_counter()
    for _ in records:
        times.append(time.perf_counter() - started)
        started = time.perf_counter()
    return statistics.median(times)


def demo() -> dict[str, float]:
    """Seconds of each stage of the demo at about a sixth of its size."""
    import tempfile
    from dataclasses import replace

    from rlhf_lab.disk.run_folder import RunFolder
    from rlhf_lab.runs.pipeline import Pipeline, PipelineConfig
    from rlhf_lab.tasks.support_desk import SupportDesk

    config = PipelineConfig(base=str(BASE), demonstrations=400, ranked_prompts=160, held_out=80)
    config = replace(config, ppo=replace(config.ppo, updates=8))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with RunFolder.open(Path(folder) / "run", {}) as run:
            Pipeline(SupportDesk(), config, run).run_all()
            return run.costs("seconds") | {"total": time.perf_counter() - started}


WORK = {"steps": steps, "demo": demo}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=WORK)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["default", "lab"])
    parser.add_argument("--neighbours", nargs="+", type=int, default=[0, 1, 3])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
