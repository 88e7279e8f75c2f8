"""`rlhf-lab feedback`: what one does with whole store files."""

import argparse
import os
import statistics
from pathlib import Path

from rlhf_lab.cli.rank import task_of
from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError
from rlhf_lab.feedback import exchange
from rlhf_lab.feedback.database import check_store, reading_other
from rlhf_lab.feedback.store import Entry, FeedbackStore
from rlhf_lab.show.markup import visible
from rlhf_lab.text import counted


def add_options(sub: argparse.ArgumentParser) -> None:
    """The options of `rlhf-lab feedback`: an action, a store file, and what the action needs."""
    actions = sub.add_subparsers(title="actions", metavar="ACTION", required=True)
    chosen = {}
    for action, text in (
        (show, "count what is in a store, for each labeller"),
        (merge, "take in other stores' files, each as often as you like; they stay as they are"),
        (export, "write a store to a file of JSON lines"),
        (import_, "take in a file of JSON lines"),
        (forget, "delete a labeller and all of their rankings for good"),
    ):
        name = action.__name__.rstrip("_")
        chosen[name] = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
        chosen[name].add_argument(
            "store", help="file of the store, or folder of a task of your own"
        )
        chosen[name].set_defaults(action=action)
    chosen["merge"].add_argument("others", nargs="+", help="files of other stores")
    chosen["export"].add_argument("file", help="where to write; .gz compresses")
    chosen["export"].add_argument(
        "--pairs",
        action="store_true",
        help="only comparisons, as prompt, chosen and rejected, for TRL and the hub",
    )
    chosen["export"].add_argument(
        "--labellers", nargs="+", help="with --pairs: whose; if not given, everybody's"
    )
    chosen["import"].add_argument("file", help="what `export` wrote or, with --labeller, rankings")
    chosen["import"].add_argument(
        "--labeller",
        help="the file holds rankings or comparisons from another tool, made by this labeller "
        "where a line does not say",
    )
    chosen["forget"].add_argument("labeller", help="the name")


def run(options: argparse.Namespace) -> None:
    """Do what the options say. Raises UserError if that cannot be done."""
    options.action(options)


def show(options: argparse.Namespace) -> None:
    contents = _existing(options.store).contents()
    samples = sum(len(samples) for _, samples in contents.prompts)
    print(
        ", ".join(
            (
                counted(len(contents.prompts), "prompt"),
                counted(samples, "sample"),
                counted(len(contents.entries), "entry", "entries"),
            )
        )
    )
    print(f"{'rankings':>8s} {'skips':>8s} {'flags':>8s} {'undone':>8s} {'seconds':>8s}  labeller")
    for name in contents.labellers:
        print(
            _account([entry for entry in contents.entries if entry.labeller == name]),
            visible(name),
            sep="  ",
        )


def merge(options: argparse.Namespace) -> None:
    check_store(store_file(options.store))
    others = [store_file(other) for other in options.others]
    for other in others:
        with reading_other(other):
            pass  # one that is refused makes no store, and none of them is written to
    store = FeedbackStore(store_file(options.store))
    for other in others:
        print(f"{other}: {_new(store.merge(other))}")


def export(options: argparse.Namespace) -> None:
    if options.labellers and not options.pairs:
        raise UserError("--labellers chooses comparisons: give --pairs too")
    check_place(options.file)
    store = _existing(options.store)
    lines = (
        exchange.export_pairs(store, options.file, options.labellers)
        if options.pairs
        else exchange.export_jsonl(store, options.file)
    )
    print(f"wrote {counted(lines, 'line')} to {options.file}")


def import_(options: argparse.Namespace) -> None:
    check_store(store_file(options.store))
    contents = exchange.contents_of(options.file, options.labeller)  # a bad file makes no store
    store = FeedbackStore(store_file(options.store))
    print(f"{options.file}: {_new(exchange.take_in(store, options.file, contents))}")


def forget(options: argparse.Namespace) -> None:
    store = _existing(options.store)
    known = options.labeller in store.labellers()
    deleted = store.forget(options.labeller)
    if not known:
        raise UserError(
            f"no labeller {options.labeller!r} in {options.store}, so nothing was "
            "deleted: `rlhf-lab feedback show` lists the names"
        )
    print(f"forgot {visible(options.labeller)}: {counted(deleted, 'entry', 'entries')} deleted")


def store_file(place: str) -> Path:
    """The file that is meant: of a task's folder the store in it."""
    task = task_of(Path(place)) if os.path.isdir(place) else None
    return task.store if task else Path(place)


def _existing(place: str) -> FeedbackStore:
    path = store_file(place)
    if not path.exists():
        raise UserError(f"there is no file {path}: check its name and folder")
    return FeedbackStore(path)


def _new(counts: dict[str, int]) -> str:
    said = [counted(count, what.removesuffix("s")) for what, count in counts.items() if count]
    return f"new: {', '.join(said)}" if said else "nothing new"


def _account(history: list[Entry]) -> str:
    undone = {entry.undoes for entry in history if entry.undoes}
    standing = [entry for entry in history if entry.id not in undone]
    counts = [sum(entry.kind == kind for entry in standing) for kind in ("ranking", "skip", "flag")]
    timed = [entry.seconds for entry in standing if entry.kind == "ranking" and entry.seconds]
    seconds = f"{statistics.median(timed):8.1f}" if timed else f"{'-':>8s}"
    return " ".join(f"{count:8d}" for count in (*counts, len(undone))) + f" {seconds}"
