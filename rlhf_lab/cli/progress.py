"""Progress of a command: a bar on a terminal; in a file or pipe, a line at every tenth."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from tqdm import tqdm

SHOWN = {  # metrics and their short names
    "loss/pretrain": "loss",
    "loss/sft": "loss",
    "loss/reward": "loss",
    "reward/accuracy": "accuracy",
    "objective/scores": "score",
    "objective/kl": "KL",
    "judge/mark": "mark",
}


def watch(stage: str, records: Iterable[dict]) -> Iterator[dict]:
    """Yield the records of a stage and show progress: the main metrics and, in a bar, the time
    left."""
    if not sys.stderr.isatty():
        yield from _in_lines(stage, records)
        return
    with tqdm(desc=f"{stage:8s}", unit="update", dynamic_ncols=True, smoothing=0.1) as bar:
        for number, record in enumerate(records):
            if number == 0:  # updates of an earlier run took no time here
                bar.initial = record["update"] - 1
            bar.total, bar.n = record["updates"], record["update"]
            bar.set_postfix(_figures(record))
            yield record


def each(things: Sequence, doing: str, unit: str) -> Iterator:
    """Yield things one by one and show how many are done."""
    if sys.stderr.isatty():
        yield from tqdm(things, desc=doing, unit=unit)
        return
    for number, thing in enumerate(things, 1):
        yield thing
        if 10 * number // len(things) > 10 * (number - 1) // len(things):
            print(f"{doing}: {unit} {number} of {len(things)}", file=sys.stderr, flush=True)


def reading(rows: Iterable, count: int | None) -> list:
    """The first `count` rows (None: all). After 2 seconds, a terminal shows a bar."""
    silent = not sys.stderr.isatty()
    taken = islice(rows, count)
    with tqdm(taken, "reading", unit=" rows", delay=2, leave=False, disable=silent) as bar:
        return list(bar)


def _in_lines(stage: str, records: Iterable[dict]) -> Iterator[dict]:
    for record in records:
        update, updates = record["update"], record["updates"]
        if 10 * update // updates > 10 * (update - 1) // updates:
            figures = "".join(f", {name} {value}" for name, value in _figures(record).items())
            print(f"{stage}: update {update} of {updates}{figures}", file=sys.stderr, flush=True)
        yield record


def _figures(record: dict) -> dict[str, str]:
    there = {short: record.get(name) for name, short in SHOWN.items() if name in record}
    return {short: f"{value:.2f}" for short, value in there.items() if value is not None}
