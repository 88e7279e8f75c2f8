"""`rlhf-lab feedback`: what one does with whole store files."""

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhf_lab.cli.inputs import note_use
from rlhf_lab.cli.rank import task_of
from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError
from rlhf_lab.feedback import exchange
from rlhf_lab.feedback.merging import DEFAULT_NAME
from rlhf_lab.feedback.store import (
    Contents,
    Entry,
    FeedbackStore,
    Taken,
    check_store,
    contents_of_store,
    copied,
)
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
        (simulated, "mark labellers that are programs, whose rankings count only if asked for"),
    ):
        name = action.__name__.rstrip("_")
        chosen[name] = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
        chosen[name].add_argument(
            "store", help="file of the store, or folder of a task of your own"
        )
        chosen[name].set_defaults(action=action)
    for name in ("show", "export"):
        chosen[name].add_argument(
            "--simulated", action="store_true", help="with simulated labellers, not people alone"
        )
    chosen["merge"].add_argument("others", nargs="+", help="files of other stores")
    chosen["merge"].add_argument(
        "--as",
        dest="name",
        metavar="NAME",
        help="only with one other store: store the rankings of its person under this name",
    )
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
    chosen["simulated"].add_argument("labellers", nargs="+", help="the names")
    chosen["simulated"].add_argument(
        "--people", action="store_true", help="the reverse: they are people after all"
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say. Raises UserError if that cannot be done."""
    options.action(options)


def show(options: argparse.Namespace) -> None:
    with copied(store_file(options.store)) as store:
        contents = store.contents()
    samples = sum(len(samples) for _, samples in contents.prompts)
    programs = set() if options.simulated else contents.simulated
    entries = [entry for entry in contents.entries if entry.labeller not in programs]
    print(
        ", ".join(
            (
                counted(len(contents.prompts), "prompt"),
                counted(samples, "sample"),
                counted(len(entries), "entry", "entries"),
            )
        )
    )
    print(f"{'rankings':>8s} {'skips':>8s} {'flags':>8s} {'undone':>8s} {'seconds':>8s}  labeller")
    for name in contents.labellers:
        if name not in programs:
            print(
                _account([entry for entry in entries if entry.labeller == name]),
                visible(name) + (" (simulated)" if name in contents.simulated else ""),
                sep="  ",
            )
    if programs:
        print(
            f"and {counted(len(programs), 'simulated labeller')} with "
            f"{counted(len(contents.entries) - len(entries), 'entry', 'entries')}: --simulated "
            "shows them"
        )


def merge(options: argparse.Namespace) -> None:
    if options.name and len(options.others) > 1:
        raise UserError("--as goes with one other store: merge the rest in a second command")
    check_store(store_file(options.store))
    others = [store_file(other) for other in options.others]
    rename = None
    for other in others:  # one that is refused makes no store, and none of them is taken in
        contents = contents_of_store(other)
        rename = _rename(contents, other, options.name) if options.name else None
    store = FeedbackStore(store_file(options.store))
    for other in others:
        print(f"{other}: {told(store.merge(other, rename))}")


def export(options: argparse.Namespace) -> None:
    if options.labellers and not options.pairs:
        raise UserError("--labellers works only with --pairs: add --pairs")
    check_place(options.file)
    with copied(store_file(options.store)) as store:
        lines = (
            exchange.export_pairs(store, options.file, options.labellers, options.simulated)
            if options.pairs
            else exchange.export_jsonl(store, options.file, options.simulated)
        )
        whose = options.labellers or store.labellers(options.simulated)
        left = len(store.labellers(simulated=True)) - len(store.labellers())
    print(f"wrote {counted(lines, 'line')} to {options.file}")
    if left and not options.simulated and not options.labellers:
        print(f"left out {counted(left, 'simulated labeller')}: --simulated takes them in")
    note_use(store_file(options.store), options.file, whose)


def import_(options: argparse.Namespace) -> None:
    check_store(store_file(options.store))
    contents = exchange.contents_of(options.file, options.labeller)  # a bad file makes no store
    store = FeedbackStore(store_file(options.store))
    print(f"{options.file}: {told(exchange.take_in(store, options.file, contents))}")


def forget(options: argparse.Namespace) -> None:
    store = _existing(options.store)
    known = options.labeller in store.labellers(simulated=True)
    uses = store.uses(options.labeller)
    deleted = store.forget(options.labeller)
    if not known:
        raise UserError(
            f"no labeller {options.labeller!r} in {options.store}, so nothing was "
            "deleted: `rlhf-lab feedback show` lists the names"
        )
    print(f"forgot {visible(options.labeller)}: {counted(deleted, 'entry', 'entries')} deleted")
    print(_influence(uses))


def simulated(options: argparse.Namespace) -> None:
    store = _existing(options.store)
    for name in options.labellers:
        store.mark_simulated(name, not options.people)
        kind = "a person" if options.people else "simulated"
        print(f"{visible(name)} is {kind}")


def store_file(place: str) -> Path:
    """The file that is meant: of a task's folder the store in it."""
    task = task_of(Path(place)) if os.path.isdir(place) else None
    return task.store if task else Path(place)


def _existing(place: str) -> FeedbackStore:
    path = store_file(place)
    if not path.exists():
        raise UserError(f"there is no file {path}: check its name and folder")
    return FeedbackStore(path)


def _rename(contents: Contents, other: Path, name: str) -> dict[str, str]:
    """Who gets the name: the one who gave none, or else the only person there is."""
    people = [who for who in contents.labellers if who not in contents.simulated]
    if DEFAULT_NAME in people or len(people) == 1:
        return {DEFAULT_NAME if DEFAULT_NAME in people else people[0]: name}
    raise UserError(
        f"--as {name}: {other} does not have exactly one person who ranked, but "
        f"{', '.join(people) or 'none'}"
    )


def told(taken: Taken) -> str:
    """What came of a merge or an import, in one line; nothing that was passed over goes unsaid."""
    parts = [f"new: {_counts(taken.new)}" if any(taken.new.values()) else "nothing new"]
    if any(taken.known.values()):
        parts.append(f"there already: {_counts(taken.known)}")
    if taken.other_facts:
        parts.append(
            f"{counted(taken.other_facts, 'prompt')} of these with another id or other facts, "
            "which were not taken"
        )
    if taken.other_entries:
        parts.append(
            f"{counted(taken.other_entries, 'entry', 'entries')} of these with other contents, "
            "which were not taken"
        )
    for name, left in taken.kept_out.items():
        entries = counted(left, "entry", "entries")
        parts.append(f"{visible(name)} was forgotten here: {entries} from before kept out")
    for name, gone in taken.deleted.items():
        entries = counted(gone, "entry", "entries")
        parts.append(f"{visible(name)} was forgotten there: {entries} deleted here too")
    if taken.deleted:
        parts.append(_influence(taken.uses))
    return "; ".join(parts)


def _influence(uses: Sequence[str]) -> str:
    """What still holds something of somebody who was forgotten."""
    if not uses:
        return "no run and no export from these rankings is noted in the store"
    return (
        "made from these rankings, to be deleted or made anew with all that was trained on or "
        f"against them: {', '.join(map(visible, uses))}"
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(
        counted(count, what.removesuffix("s")) for what, count in counts.items() if count
    )


def _account(history: list[Entry]) -> str:
    undone = {entry.undoes for entry in history if entry.undoes}
    standing = [entry for entry in history if entry.id not in undone]
    counts = [sum(entry.kind == kind for entry in standing) for kind in ("ranking", "skip", "flag")]
    timed = [entry.seconds for entry in standing if entry.kind == "ranking" and entry.seconds]
    seconds = f"{statistics.median(timed):8.1f}" if timed else f"{'-':>8s}"
    return " ".join(f"{count:8d}" for count in (*counts, len(undone))) + f" {seconds}"
