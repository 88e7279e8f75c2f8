"""Training speed and memory beside TRL 1.12.0: SFT, reward model and PPO.

    python benchmarks/against_trl.py --trl-python ../trl-venv/bin/python

TRL is installed apart (see benchmarks/README.md). Each side runs in a process of its own; the two
take turns, one training step each, and the ratio is the median of the rounds' ratios.

same      The same compact model (float32, dropout 0, GELU as one operation on both sides), the same
          tokens, batch, epochs and minibatches; TRL's gradient checkpointing and bf16 off. PPO: a
          value network of its own on both sides, responses of a fixed length, temperature 1, no
          debugging samples. SFT: the loss on the responses alone, TRL's own chunked loss. Reward
          model: pairs. Batches are drawn at random by each side; the real tokens counted are those
          of the texts, padding is not. Each side cuts a batch into pieces of its own choice: the
          lab by its default `max_tokens`, TRL not at all, unless --micro-batch and --max-tokens say
          otherwise.
default   Each side as it comes, on the task. TRL: gradient checkpointing, bf16, 8 rows a step (PPO:
          the batch of 64, 4 epochs, up to 53 new tokens, stop at the end token). The lab: its
          defaults. A ranking of four is one item for both; TRL takes it as six pairs.

Memory is the peak of a process above what it held after its imports, models included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ITEMS = {"ppo": "episodes", "sft": "demonstrations", "reward": "rankings"}


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        material = [sys.executable, str(HERE / "material.py"), folder]
        subprocess.run(material + (["--model", args.model] if args.model else []), check=True)
        texts = json.loads(Path(folder, "texts.json").read_text(encoding="utf-8"))
        print(f"model {texts['base']}, {args.threads} threads, {args.rounds} rounds")
        for stage in args.stages:
            for setting in args.settings:
                compare(stage, setting, folder, args, tokens_of(texts, stage, args))


def compare(stage: str, setting: str, folder: str, args: argparse.Namespace, tokens: float) -> None:
    """Run both sides in turn and print what came out. tokens: real ones of an item, on average."""
    options = vars(args) | {
        "stage": stage,
        "setting": setting,
        "folder": folder,
        "batch": args.batch if stage == "ppo" else args.batch // 2,
    }
    sides = {
        "TRL": Side(args.trl_python, "worker_trl.py", options),
        "rlhf_lab": Side(sys.executable, "worker_lab.py", options),
    }
    try:
        for number in range(-args.warmup, args.rounds):
            order = list(sides.values())
            for side in order if number % 2 else reversed(order):
                side.turn(count=number >= 0)
        print(f"\n{stage}, {setting}")
        for name, side in sides.items():
            print(f"  {name:9} {side.speed():8.2f} {ITEMS[stage]}/s", end="")
            if setting == "same":
                print(f" {side.speed() * tokens:8.0f} tokens/s", end="")
            print(f" {side.memory():7.0f} MB   {side.settings}")
        report(sides["rlhf_lab"], sides["TRL"])
    finally:
        for side in sides.values():
            side.close()


def report(lab: "Side", trl: "Side") -> None:
    """Ratios of the medians, and their quartiles over the rounds."""
    for name in ("seconds", "processor_seconds"):
        ratios = [
            (theirs[name] / trl.items) / (mine[name] / lab.items)
            for mine, theirs in zip(lab.steps, trl.steps)
        ]
        low, middle, high = statistics.quantiles(ratios, n=4)
        what = "by the clock" if name == "seconds" else "by processor time"
        print(
            f"  rlhf_lab is {middle:.2f} times as fast {what} (quartiles {low:.2f} to {high:.2f})"
        )
    print(f"  rlhf_lab's peak memory is {lab.memory() / trl.memory():.0%} of TRL's")


class Side:
    """One of the two workers, and the steps it has taken."""

    def __init__(self, python: str, script: str, options: dict):
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self.process = subprocess.Popen(
            [python, str(HERE / script), json.dumps(options)],
            text=True,
            bufsize=1,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        facts = self._answer()
        self.items, self.settings, self.steps = facts["items"], facts["settings"], []

    def turn(self, count: bool) -> None:
        """Let it take one step."""
        self.process.stdin.write("\n")
        step = self._answer()
        if count:
            self.steps.append(step)

    def speed(self) -> float:
        """Items a second, the median of the steps."""
        return self.items / statistics.median(step["seconds"] for step in self.steps)

    def memory(self) -> float:
        """MB at the peak, above what it held after its imports."""
        return self.steps[-1]["memory_mb"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.log.close()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            sys.exit(f"a worker stopped; the last it said:\n{self.log.read()[-3000:]}")
        return json.loads(line)


def tokens_of(texts: dict, stage: str, args: argparse.Namespace) -> float:
    """Real tokens of an item in the `same` setting, on average: what is read, not what is
    padded."""
    if stage == "ppo":
        return args.new_tokens + texts["prompt_tokens"]
    rows = texts["demonstrations"] if stage == "sft" else texts["rankings"]
    if stage == "reward":
        rows = [{"input_ids": pair[0]["input_ids"] + pair[1]["input_ids"]} for pair in rows]
    return statistics.mean(len(row["input_ids"]) for row in rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trl-python", required=True, help="the Python that has TRL 1.12.0")
    parser.add_argument("--model", help="a policy's folder (data/base; if missing, random weights)")
    parser.add_argument("--stages", nargs="+", default=list(ITEMS), choices=list(ITEMS))
    parser.add_argument(
        "--settings", nargs="+", default=["same", "default"], choices=["same", "default"]
    )
    for name, default, what in (
        ("rounds", 9, "steps of each side that count"),
        ("warmup", 2, "steps of each side before those"),
        ("threads", 2, "for torch, on both sides"),
        ("batch", 64, "episodes; half as many demonstrations and rankings"),
        ("epochs", 3, "of PPO over a batch, in the same setting"),
        ("minibatches", 1, "of PPO, in the same setting"),
        ("new-tokens", 53, "of a response of fixed length"),
        ("micro-batch", 0, "rows that TRL reads at a time; 0: the whole minibatch"),
        ("max-tokens", 0, "that the lab reads at a time; 0: its default"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    return parser.parse_args()


if __name__ == "__main__":
    main()
