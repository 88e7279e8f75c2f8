"""What the feedback store keeps: entries of history, and what makes an entry right."""

import hashlib
import math
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from rlhf_lab.errors import UserError
from rlhf_lab.records import Prompt, Sample, is_rank
from rlhf_lab.text import counted

KINDS = ("ranking", "skip", "flag", "undo")
PICKS = ("random", "common", "active", "repeat")
FLAGS = ("unsafe", "nonsense")
LONGEST_NAME = 60
CLOCKS = timedelta(days=1)  # how far another machine's clock may be ahead


@dataclass(frozen=True)
class Entry:
    """One row of history: what a labeller did with one prompt. It never changes once written.

    Responses and ranks stand in stored order, whatever the order on the screen was; shown[place] is
    the index into `responses` of what stood at that place, and () where nobody knows (imported
    rankings). ranks: as in `Ranking`, () unless the kind is "ranking". seconds: the time taken, 0
    where unknown. pick: how the prompt was chosen. guidelines: the version that was shown. flag:
    why, for the kind "flag". undoes: the id of the entry that an "undo" takes back. id (32 hex
    digits) and made (UTC, ISO 8601 with microseconds) are filled in by the store where empty.
    """

    id: str
    kind: str
    labeller: str
    prompt: Prompt
    responses: tuple[str, ...] = ()
    ranks: tuple[int | None, ...] = ()
    shown: tuple[int, ...] = ()
    seconds: float = 0.0
    pick: str = "random"
    guidelines: str = ""
    flag: str = ""
    undoes: str = ""
    made: str = ""


@dataclass(frozen=True)
class Forgotten:
    """Somebody who was forgotten: hash and salt (hex digits) recognise the name without holding it;
    until: what was made up to this time (UTC, ISO 8601) never comes back."""

    hash: str
    salt: str
    until: str


@dataclass(frozen=True)
class Contents:
    """Everything in a store that another one can take in: each prompt with its samples, the
    labellers, which of them are simulated, all of history, oldest first, who was forgotten, and
    `id_hash` of each entry that was deleted."""

    prompts: Sequence[tuple[Prompt, Sequence[Sample]]] = ()
    labellers: Sequence[str] = ()
    entries: Sequence[Entry] = ()
    simulated: Collection[str] = ()
    forgotten: Sequence[Forgotten] = ()
    gone: Collection[str] = ()


@dataclass(frozen=True)
class Taken:
    """What came of taking contents in: how many were new and how many were there already, of
    prompts, samples, labellers and each kind of entry; and what else differs.

    kept_out: entries of somebody who was forgotten here, by name. deleted: entries that went
    because the contents say that somebody was forgotten, by name. uses: what had learned from
    those. other_facts: prompts that are there with another id or other facts, which stay.
    other_entries: entries whose id is there with other contents, which stay.
    """

    new: dict[str, int]
    known: dict[str, int]
    kept_out: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    other_facts: int = 0
    other_entries: int = 0


def check_entry(entry: Entry) -> None:
    """Raise UserError if the fields of an entry do not fit together."""
    one_of(entry, "kind", KINDS)
    one_of(entry, "pick", PICKS)
    if entry.kind == "flag":
        one_of(entry, "flag", FLAGS)
    if (entry.kind == "undo") != bool(entry.undoes):
        refuse(entry, "field 'undoes' must name an entry if the kind is undo, else be empty")
    if sorted(entry.shown) not in ([], list(range(len(entry.responses)))):
        refuse(
            entry,
            f"shown is {list(entry.shown)}: give each of the {len(entry.responses)} "
            "responses one place, from 0",
        )
    if not (math.isfinite(entry.seconds) and entry.seconds >= 0):
        refuse(entry, f"seconds is {entry.seconds}: give a time of 0 or more")
    if entry.made and not is_time(entry.made):
        refuse(entry, f"made is {entry.made!r}: write 2026-01-31T12:00:00.000000+00:00, in UTC")
    if entry.made > latest():
        refuse(
            entry,
            f"made is {entry.made!r}, which is in the future: the clock of the machine that wrote "
            "it was wrong; correct the time in an exported file and import that",
        )
    if entry.kind == "ranking":
        _check_ranks(entry)
    elif entry.ranks:
        refuse(entry, "only a ranking has ranks: leave them out")


def check_name(name: str) -> None:
    """Raise UserError if this cannot be a labeller's name: one line of 1 to 60 characters."""
    if not name.strip() or len(name) > LONGEST_NAME or len(name.splitlines()) > 1:
        raise UserError(
            f"{name[:LONGEST_NAME]!r} cannot be a labeller's name: choose one line of "
            f"1 to {LONGEST_NAME} characters"
        )
    plain = unicodedata.normalize("NFC", name.strip())
    if name != plain:
        raise UserError(
            f"{name!r} cannot be a labeller's name: it would look the same as {plain!r} and be "
            "another person; write it without spaces at the ends and without combining accents"
        )


def one_of(entry: Entry, name: str, known: tuple[str, ...]) -> None:
    """Raise UserError unless the field has one of the known values."""
    value = getattr(entry, name)
    if value not in known:
        refuse(entry, f"{name} is {value!r}: use one of {', '.join(known)}")


def refuse(entry: Entry, why: str) -> NoReturn:
    """Raise the UserError that says what is wrong with an entry."""
    name = f" {entry.id}" if entry.id else ""
    raise UserError(f"entry{name} of labeller {entry.labeller!r}: {why}")


def id_hash(id: str) -> str:
    """What recognises an entry's id without holding it: 64 hex digits."""
    return hashlib.sha256(id.encode()).hexdigest()


def latest() -> str:
    """The latest time that an entry can have: a day from now."""
    return (datetime.now(UTC) + CLOCKS).isoformat(timespec="microseconds")


def later(made: str) -> str:
    """The moment after: a microsecond later."""
    return (datetime.fromisoformat(made) + timedelta(microseconds=1)).isoformat(
        timespec="microseconds"
    )


def _check_ranks(entry: Entry) -> None:
    responses = counted(len(entry.responses), "response")
    if len(entry.responses) < 2:
        refuse(entry, f"it has only {responses}: a ranking needs at least two")
    if len(entry.ranks) != len(entry.responses):
        refuse(
            entry,
            f"it has {counted(len(entry.ranks), 'rank')} for {responses}: give each "
            "one a rank, or None",
        )
    for rank in entry.ranks:
        if rank is not None and not is_rank(rank):
            refuse(
                entry,
                f"{rank!r} is not a rank: use 1 for the best, then 2, 3, ..., the same for "
                "ties, and None for unranked",
            )
    if all(rank is None for rank in entry.ranks):
        refuse(entry, "all responses are unranked: rank at least one, or skip the prompt")


def is_time(made: str) -> bool:
    """Whether this is a time as the store writes it."""
    try:
        moment = datetime.fromisoformat(made)
    except ValueError:
        return False
    return moment.utcoffset() == timedelta(0) and moment.isoformat(timespec="microseconds") == made
