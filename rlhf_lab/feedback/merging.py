"""Taking one store's contents into another: what is new, what is there, what must not come back.

The result does not depend on the order in which stores are merged, nor on how often: rows are known
by their contents or id, and somebody who was forgotten is forgotten up to a time, wherever this is
known. What they do afterwards is new, and stays.
"""

import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from rlhf_lab.errors import UserError
from rlhf_lab.feedback import rows
from rlhf_lab.feedback.entry import KINDS, Contents, Entry, Taken, id_hash

DEFAULT_NAME = "me"  # what the notebooks called everybody who gave no name
WHAT = ("prompts", "samples", "labellers", *KINDS)


def taking_in(connection: sqlite3.Connection, contents: Contents, one_person: bool = True) -> Taken:
    """Add what is new in these contents, inside the transaction that is open; see
    `FeedbackStore.take_in`. one_person: whether rankings by DEFAULT_NAME on both sides are by the
    same person."""
    taken = Taken(dict.fromkeys(WHAT, 0), dict.fromkeys(WHAT, 0))

    def count(what: str, new: bool) -> None:
        (taken.new if new else taken.known)[what] += 1

    facts, other_facts = rows.read_prompts(connection), 0
    before = {prompt.text: prompt for prompt in facts.values()}
    for prompt, samples in contents.prompts:
        count("prompts", rows.add_prompt(connection, prompt))
        other_facts += before.get(prompt.text, prompt) != prompt
        for sample in samples:
            count("samples", rows.add_sample(connection, prompt, sample))

    uses = _forget_too(connection, contents, taken.deleted)
    until = rows.forgotten_until(contents.labellers, rows.read_forgotten(connection))
    welcome = _welcome(contents.entries, until, rows.read_gone(connection))
    kept_out = Counter(entry.labeller for entry in contents.entries)
    kept_out.subtract(entry.labeller for entry in welcome)
    taken.kept_out.update({name: left for name, left in kept_out.items() if left})

    history = {entry.id: entry for entry in rows.read_entries(connection)}
    _same_kind_of_labeller(connection, contents, history)
    if not one_person:
        _one_name_one_person(contents, history)
    working = {entry.labeller for entry in welcome}
    for name in contents.labellers:
        if name in working or (name not in until and name not in taken.kept_out):
            count("labellers", rows.add_labeller(connection, name))
            if name in contents.simulated:
                rows.mark_simulated(connection, name)
    other_entries = 0
    for entry in welcome:
        count(entry.kind, rows.add_entry(connection, entry) is not None)
        known = history.get(entry.id)
        other_entries += known is not None and not _alike(known, entry)
    return replace(taken, uses=uses, other_facts=other_facts, other_entries=other_entries)


def renamed(contents: Contents, names: Mapping[str, str]) -> Contents:
    """The same contents with other names for some labellers. Raises UserError for one who is not
    there, and for a new name that somebody else has there."""
    for old, new in names.items():
        if old not in contents.labellers:
            known = ", ".join(contents.labellers) or "none"
            raise UserError(f"no labeller {old!r} to rename: there are {known}")
        if new in contents.labellers and new != old:
            raise UserError(f"there is a labeller {new!r} already: choose another name")
    return replace(
        contents,
        labellers=[names.get(name, name) for name in contents.labellers],
        entries=[
            replace(entry, labeller=names.get(entry.labeller, entry.labeller))
            for entry in contents.entries
        ],
        simulated=frozenset(names.get(name, name) for name in contents.simulated),
    )


def _forget_too(
    connection: sqlite3.Connection, contents: Contents, deleted: dict[str, int]
) -> tuple[str, ...]:
    """Delete here what another store has deleted: the labellers it has forgotten, up to that time,
    and its deleted entries, whatever the labeller is called here. deleted: gets the number of
    entries, by name. Returns what had learned from them."""
    new = [who for who in contents.forgotten if rows.remember(connection, who)]
    gone = {*contents.gone} - rows.read_gone(connection)
    rows.add_gone(connection, gone)
    before = rows.read_labellers(connection)
    uses = {name: rows.read_uses(connection, name) for name in before if new or gone}
    found = Counter(rows.delete_gone(connection, gone) if gone else {})
    for name, until in rows.forgotten_until(before if new else [], new).items():
        found[name] += rows.delete_entries(connection, name, until)
    left = rows.read_labellers(connection)
    deleted |= {name: n for name, n in found.items() if n or name not in left}
    return tuple(dict.fromkeys(place for name in deleted for place in uses[name]))


def _welcome(
    entries: Sequence[Entry], until: Mapping[str, str], gone: Collection[str]
) -> list[Entry]:
    """The entries that may come in, each before the one that takes it back: none that was deleted,
    and of a forgotten labeller only those made after this time."""
    kept = [
        entry
        for entry in entries
        if (entry.labeller not in until or entry.made > until[entry.labeller])
        and id_hash(entry.id) not in gone
    ]
    missing = {entry.id for entry in entries} - {entry.id for entry in kept}
    return sorted(
        (entry for entry in kept if not entry.undoes or entry.undoes not in missing),
        key=lambda entry: entry.kind == "undo",
    )


def _same_kind_of_labeller(
    connection: sqlite3.Connection, contents: Contents, history: Mapping[str, Entry]
) -> None:
    """Raise UserError if a name is a person's on one side and a program's on the other, and both
    have ranked: nobody could tell their rankings apart."""
    programs = rows.read_simulated(connection)
    ranked_here = {entry.labeller for entry in history.values()}
    for name in dict.fromkeys(entry.labeller for entry in contents.entries):
        if name in ranked_here and (name in programs) != (name in contents.simulated):
            here, there = (
                ("simulated", "a person") if name in programs else ("a person", "simulated")
            )
            raise UserError(
                f"labeller {name!r} is {here} here and {there} in the other store: rename one "
                "(`merge --as NAME`), or mark both as simulated with "
                f"`rlhf-lab feedback simulated STORE {name}`"
            )


def _one_name_one_person(contents: Contents, history: Mapping[str, Entry]) -> None:
    """Raise UserError if both sides have entries of their own by DEFAULT_NAME."""
    here = {id for id, entry in history.items() if entry.labeller == DEFAULT_NAME}
    there = {entry.id for entry in contents.entries if entry.labeller == DEFAULT_NAME}
    if here - there and there - here:
        raise UserError(
            f"both stores have rankings by {DEFAULT_NAME!r}, the name used when none was given, so "
            "two people would become one: say who ranked in the other store with merge --as NAME"
        )


def _alike(one: Entry, other: Entry) -> bool:
    """Whether two entries with one id say the same; what a prompt's facts are is not theirs."""
    return replace(one, prompt=other.prompt) == replace(other, seconds=float(other.seconds)) and (
        one.prompt.text == other.prompt.text
    )
