"""Deliberate breaking: kills, crowds and damage, with how much was tried and how much failed.

    python benchmarks/trials.py store --kills 300    # a writer of a store is killed, at any moment
    python benchmarks/trials.py crowd --writers 30   # many submit at once, beside busy processes
    python benchmarks/trials.py runs --kills 80      # training is killed, and goes on
    python benchmarks/trials.py inputs               # damaged checkpoints, faulty folders, bad rows

`store` fails where a ranking whose writing had returned is gone, where half of one is there, or
where SQLite finds the file damaged. `runs` fails where a run that was killed, at any moment and as
often as it takes, ends with other weights or metrics than one that was not. `inputs` runs the tests
that hold one case each, and counts them. The exit status is 1 if anything failed.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rlhf_lab.feedback.session import RankingSession
from rlhf_lab.feedback.store import Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt

ROOT = Path(__file__).parents[1]
LAB = [sys.executable, "-m", "rlhf_lab"]
RANKS = (2, 1, 3, 4)
FORK = multiprocessing.get_context("fork")
INPUTS = {
    "damaged checkpoints": ["tests/disk/test_checkpoint.py"],
    "faulty model folders": ["tests/test_faulty_folders.py"],
    "adapter folders": ["tests/disk/test_adapter_folder.py"],
    "malformed data files": ["tests/formats", "tests/disk/test_files.py"],
    "places to write to": ["tests/cli/test_places.py"],
    "stores that are none, or are damaged": ["tests/feedback/test_feedback_store_files.py"],
    "imports into a store": ["tests/feedback/test_feedback_exchange.py"],
    "hostile texts on pages, in a browser": [
        "-m",
        "browser",
        "tests/browser/test_hostile_pages.py",
    ],
}


def main() -> None:
    args = parse_arguments()
    random.seed(args.seed)
    failed = {"store": store, "crowd": crowd, "runs": runs, "inputs": inputs}[args.what](args)
    sys.exit(bool(failed))


# ---- a store whose writer is killed --------------------------------------------------------------


def store(args: argparse.Namespace) -> int:
    """Kill a process that writes rankings, again and again; how many kills lost something."""
    failed = written = 0
    with tempfile.TemporaryDirectory() as folder:
        path = filled(Path(folder) / "a.sqlite3", prompts=1)
        told: set[str] = set()
        for kill in range(args.kills):
            reader, log = os.pipe()
            writer = FORK.Process(target=write_on, args=(path, log))
            writer.start()
            os.close(log)
            with os.fdopen(reader) as lines:
                first = lines.readline().strip()  # it is at work now
                time.sleep(random.uniform(0, 0.05))
                os.kill(writer.pid, signal.SIGKILL)
                told |= {first, *lines.read().split()}
            writer.join()
            entries = FeedbackStore(path).entries()
            whole = all(entry.ranks == RANKS and len(entry.responses) == 4 for entry in entries)
            lost = told - {entry.id for entry in entries}
            failed += bool(lost) or not whole or not sound(path)
            written = len(entries)
            progress(kill + 1, args.kills, failed)
    print(f"store: {args.kills} kills among {written:,} rankings, {failed} failed")
    return failed


def write_on(path: Path, log: int) -> None:
    """Write rankings for ever; say the id of each once it is written."""
    store = FeedbackStore(path)
    [prompt] = store.prompts()
    texts = tuple(sample.text for sample in store.samples(prompt))
    while True:
        entry = store.write(Entry("", "ranking", "ann", prompt, texts, RANKS, (0, 1, 2, 3)))
        os.write(log, f"{entry.id}\n".encode())


def sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def filled(path: Path, prompts: int) -> Path:
    """A store with a labeller, and four samples of each prompt."""
    store = FeedbackStore(path)
    store.add_all(
        (Prompt(str(i), f"Question {i}?"), [Sample(f"Answer {j} to {i}. " * 9) for j in range(4)])
        for i in range(prompts)
    )
    store.add_labeller("ann")
    return path


# ---- many at once --------------------------------------------------------------------------------


def crowd(args: argparse.Namespace) -> int:
    """Let many people submit without a pause, beside busy processes, and print how long it takes;
    how many rankings were lost."""
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        path = filled(Path(folder) / "a.sqlite3", prompts=5 * args.each)
        start, answers = FORK.Barrier(args.writers), FORK.Queue()
        busy = [FORK.Process(target=spin) for _ in range(args.neighbours)]
        people = [
            FORK.Process(target=submit_on, args=(path, i, args.each, start, answers))
            for i in range(args.writers)
        ]
        for process in [*busy, *people]:
            process.start()
        seconds = sorted(s for _ in people for s in answers.get())
        for process in people:
            process.join()
        for process in busy:
            process.kill()
        lost = args.writers * args.each - len(FeedbackStore(path).entries())
    print(
        f"crowd: {args.writers} people x {args.each} submits beside {args.neighbours} busy "
        f"processes: median {statistics.median(seconds):.2f} s, "
        f"95 % within {seconds[int(0.95 * len(seconds))]:.2f} s, longest {seconds[-1]:.2f} s; "
        f"{lost} lost"
    )
    return lost


def spin() -> None:
    while True:
        pass


def submit_on(path: Path, number: int, each: int, start, answers) -> None:
    session = RankingSession(FeedbackStore(path), f"labeller {number}")
    start.wait()
    seconds = []
    for _ in range(each):
        began = time.perf_counter()
        session.submit(range(1, 1 + len(session.current.responses)))
        seconds.append(time.perf_counter() - began)
    answers.put(seconds)


# ---- runs that are killed ------------------------------------------------------------------------


def runs(args: argparse.Namespace) -> int:
    """Kill the three stages of a small run at random moments until each has ended by itself, and
    compare with a run that nobody killed; how many runs differ."""
    failed = kills = rounds = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        data = rows(Path(folder))
        began = time.perf_counter()
        for command in stages(whole, data).values():
            subprocess.run(command, check=True, capture_output=True)
        longest = (time.perf_counter() - began) / 3
        right = {stage: results(whole / stage) for stage in stages(whole, data)}
        while kills < args.kills:
            rounds += 1
            place = Path(folder) / f"killed-{rounds}"
            for stage, command in stages(place, data).items():
                while killed(command, random.uniform(0.3, longest)):
                    kills += 1
                failed += results(place / stage) != right[stage]
            progress(kills, args.kills, failed)
    print(f"runs: {kills} kills in {3 * rounds} runs of the three stages, {failed} runs differ")
    return failed


def stages(place: Path, data: dict[str, Path]) -> dict[str, list[str]]:
    """The command of each stage."""
    common = ["--device", "cpu", "--batch-size", "4"]
    base = str(ROOT / "data" / "base")
    return {
        "sft": [*LAB, "sft", "--model", base, "--data", str(data["shown"]), "--out"]
        + [str(place / "sft"), "--epochs", "5", *common],
        "reward": [*LAB, "reward", "--model", base, "--data", str(data["pairs"]), "--out"]
        + [str(place / "reward"), "--epochs", "5", *common],
        "ppo": [*LAB, "ppo", "--model", str(place / "sft/sft"), "--data", str(data["prompts"])]
        + ["--reward-model", str(place / "reward/reward_model"), "--out", str(place / "ppo")]
        + ["--updates", "25", *common],
    }


def rows(folder: Path) -> dict[str, Path]:
    """Small data for each stage."""
    written = {
        "shown": [{"prompt": f"Say {i}:", "response": f" it is {i}."} for i in range(24)],
        "pairs": [
            {"prompt": f"Say {i}:", "chosen": f" it is {i}.", "rejected": " no."} for i in range(24)
        ],
        "prompts": [{"prompt": f"Say {i}:"} for i in range(24)],
    }
    places = {}
    for name, some in written.items():
        places[name] = folder / f"{name}.jsonl"
        places[name].write_text("".join(json.dumps(row) + "\n" for row in some))
    return places


def killed(command: list[str], seconds: float) -> bool:
    """Run a command and kill it after so many seconds; whether it had not ended by itself."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {said.decode()[-500:]}")
    return False


def results(run: Path) -> dict[str, str]:
    """What a run came to: a hash of every weight file, and its metrics without the times."""
    found = {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*.safetensors"))
    }
    lines = (run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    times = re.compile("seconds|time|memory|per_second|tokens_per")
    kept = [
        {name: value for name, value in record.items() if not times.search(name)}
        for record in records
        if record.get("stage") != "cost"
    ]
    return found | {"metrics": json.dumps(kept)}


# ---- inputs --------------------------------------------------------------------------------------


def inputs(args: argparse.Namespace) -> int:
    """Run the tests of each kind of bad input; how many cases failed."""
    failed = 0
    for name, where in INPUTS.items():
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:warnings", *where]
        said = subprocess.run(command, cwd=ROOT, text=True, capture_output=True).stdout
        counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", said)}
        wrong = counts.get("failed", 0) + counts.get("error", 0)
        print(f"{name}: {counts.get('passed', 0) + wrong} cases, {wrong} failed", flush=True)
        failed += wrong or not counts
    return failed


def progress(done: int, of: int, failed: int) -> None:
    if done % max(1, of // 10) == 0:
        print(f"  {done} of {of}, {failed} failed", file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["store", "crowd", "runs", "inputs"])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--writers", type=int, default=30)
    parser.add_argument("--each", type=int, default=40, help="submits of each writer")
    parser.add_argument("--neighbours", type=int, default=2, help="busy processes beside them")
    parser.add_argument("--dir", help="folder on the disk to measure; if not given, the system's")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    return parser.parse_args()


if __name__ == "__main__":
    main()
