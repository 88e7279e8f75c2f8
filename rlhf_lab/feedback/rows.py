"""Samples and entries to and from the rows of a store, on a connection that is open."""

import hashlib
import json
import sqlite3
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.entry import (
    Contents,
    Entry,
    Forgotten,
    check_entry,
    check_name,
    id_hash,
    later,
    latest,
    refuse,
)
from rlhf_lab.records import Prompt, Sample

COPIED = ("id", "kind", "labeller", "seconds", "pick", "guidelines", "flag", "made")
CUT = "cut off before its end"  # among the settings of a sample that did not end
HASH_ROUNDS = 50_000  # slow on purpose: so that guessing the name behind a hash costs something


# ---- reading ------------------------------------------------------------------------------------


def read_contents(connection: sqlite3.Connection) -> Contents:
    """Everything in a store."""
    prompts = read_prompts(connection)
    samples = [(prompt, read_samples(connection, prompt)) for prompt in prompts.values()]
    return Contents(
        samples,
        read_labellers(connection),
        read_entries(connection),
        read_simulated(connection),
        read_forgotten(connection),
        read_gone(connection),
    )


def read_prompts(connection: sqlite3.Connection) -> dict[str, Prompt]:
    """The prompts by their key, in the order they came."""
    rows = connection.execute("SELECT key, id, text, facts FROM prompts ORDER BY number")
    return {key: Prompt(id, text, json.loads(facts)) for key, id, text, facts in rows}


def read_samples(connection: sqlite3.Connection, prompt: Prompt) -> list[Sample]:
    """The samples of a prompt, in the order they came."""
    rows = connection.execute(
        "SELECT text, model, settings FROM samples JOIN responses ON responses.key = response "
        "WHERE samples.prompt = ? ORDER BY samples.number",
        [_key(prompt.text)],
    )
    return [_sample(text, model, json.loads(settings)) for text, model, settings in rows]


def _sample(text: str, model: str, settings: dict) -> Sample:
    """A sample from its row: whether it ended stands among its settings."""
    ended = settings.pop(CUT, None) is None
    return Sample(text, model, settings, ended)


def read_cut_off(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """(prompt, response) of the texts that no sample of them ended."""
    found = connection.execute(
        "SELECT prompts.text, responses.text, settings FROM samples "
        "JOIN responses ON responses.key = response JOIN prompts ON prompts.key = samples.prompt"
    )
    ended: dict[tuple[str, str], bool] = {}
    for prompt, text, settings in found:
        ended[prompt, text] = ended.get((prompt, text), False) or CUT not in json.loads(settings)
    return {key for key, end in ended.items() if not end}


def read_labellers(connection: sqlite3.Connection) -> list[str]:
    """The names, in the order they came."""
    return [name for (name,) in connection.execute("SELECT name FROM labellers ORDER BY number")]


def read_simulated(connection: sqlite3.Connection) -> frozenset[str]:
    """The names of the labellers that are programs."""
    return frozenset(
        name for (name,) in connection.execute("SELECT name FROM labellers WHERE simulated")
    )


def read_forgotten(connection: sqlite3.Connection) -> list[Forgotten]:
    """Who was forgotten, here or in a store that was taken in."""
    rows = connection.execute("SELECT hash, salt, until FROM forgotten ORDER BY until, hash")
    return [Forgotten(hash.hex(), salt.hex(), until) for hash, salt, until in rows]


def read_gone(connection: sqlite3.Connection) -> frozenset[str]:
    """The hash of each entry that was deleted."""
    return frozenset(hash.hex() for (hash,) in connection.execute("SELECT entry FROM gone"))


def read_uses(connection: sqlite3.Connection, labeller: str) -> list[str]:
    """What learned from a labeller's rankings or holds a copy of them, oldest first."""
    rows = connection.execute(
        "SELECT place FROM uses WHERE labeller = ? ORDER BY made, place", [labeller]
    )
    return [place for (place,) in rows]


def read_entries(connection: sqlite3.Connection, labeller: str | None = None) -> list[Entry]:
    """All of history, undone entries and undo rows too, oldest first."""
    chosen = "WHERE labeller = ?" if labeller is not None else ""
    given = [labeller] if chosen else []
    parts = defaultdict(list)
    for entry, *part in connection.execute(
        "SELECT entry, text, rank, screen FROM entry_responses "
        "JOIN responses ON responses.key = response JOIN entries ON entries.id = entry "
        f"{chosen} ORDER BY entry, place",
        given,
    ):
        parts[entry].append(part)
    prompts = read_prompts(connection)
    return [
        _entry(row, prompts, parts[row["id"]])
        for row in _dicts(connection, f"SELECT * FROM entries {chosen} ORDER BY made, id", given)
    ]


def _entry(row: dict, prompts: dict[str, Prompt], parts: list) -> Entry:
    texts, ranks, screen = zip(*parts) if parts else ((), (), ())
    return Entry(
        **row
        | {
            "prompt": prompts[row["prompt"]],
            "responses": texts,
            "ranks": ranks if row["kind"] == "ranking" else (),
            "shown": () if None in screen else _shown(screen),
            "undoes": row["undoes"] or "",
        }
    )


def _shown(screen: Sequence[int]) -> tuple[int, ...]:
    """Which response stood at each place, from the place at which each response stood."""
    shown = [-1] * len(screen)
    for response, place in enumerate(screen):
        shown[place] = response
    return tuple(shown)


def _dicts(connection: sqlite3.Connection, query: str, given: list) -> list[dict]:
    cursor = connection.execute(query, given)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor]


# ---- writing ------------------------------------------------------------------------------------


def add_prompt(connection: sqlite3.Connection, prompt: Prompt) -> bool:
    """Put a prompt in, unless its text is there; whether it was new."""
    if not prompt.text.strip():
        raise UserError(f"prompt {prompt.id!r} is empty: write at least one word")
    facts = _json(prompt.facts, f"facts of prompt {prompt.id!r}")
    row = [_key(prompt.text), prompt.id, prompt.text, facts]
    return _insert(connection, "prompts (key, id, text, facts)", row)


def add_sample(connection: sqlite3.Connection, prompt: Prompt, sample: Sample) -> bool:
    """Put a sample of a prompt in, unless it is there; whether it was new."""
    asked, response = _key(prompt.text), _key(prompt.text, sample.text)
    kept = sample.settings | ({} if sample.ended else {CUT: True})
    settings = _json(kept, f"settings of a sample of prompt {prompt.id!r}")
    _insert(connection, "responses (key, prompt, text)", [response, asked, sample.text])
    key = _key(prompt.text, sample.text, sample.model, settings)
    return _insert(
        connection,
        "samples (key, prompt, response, model, settings)",
        [key, asked, response, sample.model, settings],
    )


def add_labeller(connection: sqlite3.Connection, name: str) -> bool:
    """Put a labeller in, unless the name is there; whether it was new."""
    check_name(name)
    return _insert(connection, "labellers (name)", [name])


def mark_simulated(connection: sqlite3.Connection, name: str, simulated: bool = True) -> None:
    """Say of a labeller who is there whether it is a program."""
    connection.execute("UPDATE labellers SET simulated = ? WHERE name = ?", [simulated, name])


def add_use(connection: sqlite3.Connection, labeller: str, place: str) -> None:
    """Note that a run or file was made from a labeller's rankings."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    _insert(connection, "uses (labeller, place, made)", [labeller, place, now])


def add_entry(connection: sqlite3.Connection, entry: Entry) -> Entry | None:
    """Put an entry in and return it as it now stands; None if its id is there already.

    Raises UserError if its fields do not fit, or it speaks of what is not in the store.
    """
    check_entry(entry)
    prompt = _stored_prompt(connection, entry)
    entry = replace(
        entry,
        id=entry.id or uuid.uuid4().hex,
        prompt=prompt,
        responses=tuple(entry.responses),
        ranks=tuple(entry.ranks),
        shown=tuple(entry.shown),
        seconds=float(entry.seconds),
        made=entry.made or _now(connection, entry.labeller),
    )
    row = {name: getattr(entry, name) for name in COPIED}
    row |= {"prompt": _key(prompt.text), "undoes": entry.undoes or None}
    if not _insert(connection, f"entries ({', '.join(row)})", list(row.values())):
        return None
    for place, text in enumerate(entry.responses):
        rank = entry.ranks[place] if entry.ranks else None
        screen = entry.shown.index(place) if entry.shown else None
        part = [entry.id, place, _key(prompt.text, text), rank, screen]
        _insert(connection, "entry_responses (entry, place, response, rank, screen)", part)
    return entry


def _stored_prompt(connection: sqlite3.Connection, entry: Entry) -> Prompt:
    """The prompt as the store has it, after a look at all else that an entry speaks of."""
    if not _has(connection, "labellers WHERE name = ?", entry.labeller):
        refuse(entry, "no such labeller is in the store (any more): use add_labeller first")
    its_own = "entries WHERE id = ? AND labeller = ? AND kind != 'undo'"
    if entry.undoes and not _has(connection, its_own, entry.undoes, entry.labeller):
        refuse(entry, f"it takes back {entry.undoes!r}, which is not an entry of this labeller")
    for text in entry.responses:
        if not _has(connection, "responses WHERE key = ?", _key(entry.prompt.text, text)):
            refuse(
                entry,
                f"the response {text[:40]!r} to prompt {entry.prompt.id!r} is not in the "
                "store: use add first",
            )
    rows = _dicts(
        connection, "SELECT id, text, facts FROM prompts WHERE key = ?", [_key(entry.prompt.text)]
    )
    if not rows:
        refuse(entry, f"prompt {entry.prompt.id!r} is not in the store: use add first")
    return Prompt(**rows[0] | {"facts": json.loads(rows[0]["facts"])})


def _now(connection: sqlite3.Connection, labeller: str) -> str:
    """The time, in UTC; a labeller's times only go forward, even where the clock does not. (Times
    that are still to come do not count: a store that an older version wrote may hold some.)"""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    (last,) = connection.execute(
        "SELECT max(made) FROM entries WHERE labeller = ? AND made <= ?", [labeller, latest()]
    ).fetchone()
    return max(now, later(last)) if last else now


def _has(connection: sqlite3.Connection, where: str, *given: str) -> bool:
    return bool(connection.execute(f"SELECT 1 FROM {where}", given).fetchone())


def _insert(connection: sqlite3.Connection, columns: str, row: list) -> bool:
    marks = ", ".join("?" * len(row))
    return connection.execute(f"INSERT OR IGNORE INTO {columns} VALUES ({marks})", row).rowcount > 0


def _key(*parts: str) -> str:
    """The same contents have the same key, in every store."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _json(value: dict, where: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}: use what JSON can hold") from error
    if json.loads(text) != value:
        raise UserError(
            f"{where}: JSON cannot keep these values: use lists, not tuples, and texts as keys"
        )
    return text


# ---- forgetting ---------------------------------------------------------------------------------


def delete_labeller(connection: sqlite3.Connection, name: str) -> int:
    """Delete a labeller and all their entries, and keep a hash of the name; how many entries."""
    if name not in read_labellers(connection):
        return 0
    (salt,) = connection.execute("SELECT salt FROM salt").fetchone()
    until = _now(connection, name)
    deleted = delete_entries(connection, name)
    remember(connection, Forgotten(_name_hash(name, salt).hex(), salt.hex(), until))
    return deleted


def delete_entries(connection: sqlite3.Connection, name: str, until: str | None = None) -> int:
    """Delete a labeller's entries up to a time, None for all, and the labeller too if none is left;
    how many entries were deleted. What takes back one of them is deleted as well, whenever it was
    made."""
    going = connection.execute(
        "SELECT id FROM entries WHERE labeller = ? AND (? IS NULL OR made <= ? OR undoes "
        "IN (SELECT id FROM entries WHERE made <= ?))",
        [name, until, until, until],
    )
    return _delete(connection, name, [id for (id,) in going])


def delete_gone(connection: sqlite3.Connection, gone: Collection[str]) -> dict[str, int]:
    """Delete the entries that were deleted in another store, whatever their labeller is called
    here; how many, by name."""
    ids: dict[str, list[str]] = {}
    known = {id for (id,) in connection.execute("SELECT id FROM entries") if id_hash(id) in gone}
    for id, name, undoes in connection.execute("SELECT id, labeller, undoes FROM entries"):
        if id in known or undoes in known:
            ids.setdefault(name, []).append(id)
    return {name: _delete(connection, name, some) for name, some in ids.items()}


def add_gone(connection: sqlite3.Connection, gone: Iterable[str]) -> None:
    """Keep which entries were deleted, here or in a store that was taken in."""
    rows = [[bytes.fromhex(hash)] for hash in gone]
    connection.executemany("INSERT OR IGNORE INTO gone VALUES (?)", rows)


def _delete(connection: sqlite3.Connection, name: str, ids: Sequence[str]) -> int:
    """Delete these entries of a labeller, and the labeller if none is left; how many entries."""
    add_gone(connection, map(id_hash, ids))
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute("INSERT INTO leaving VALUES (?)", [name])
    for where in ("entry_responses WHERE entry = ?", "entries WHERE id = ?"):
        connection.executemany(f"DELETE FROM {where}", [[id] for id in ids])
    if not _has(connection, "entries WHERE labeller = ?", name):
        connection.execute("DELETE FROM uses WHERE labeller = ?", [name])
        connection.execute("DELETE FROM labellers WHERE name = ?", [name])
    connection.execute("DELETE FROM leaving")
    return len(ids)


def remember(connection: sqlite3.Connection, who: Forgotten) -> bool:
    """Store that somebody was forgotten. Returns whether this is new, or up to a later time."""
    if who.until > latest():
        raise UserError(
            f"somebody was forgotten up to {who.until}, which is in the future: the clock of the "
            "machine that wrote it was wrong"
        )
    known = connection.execute(
        "SELECT until FROM forgotten WHERE hash = ?", [bytes.fromhex(who.hash)]
    ).fetchone()
    if known and known[0] >= who.until:
        return False
    connection.execute(
        "INSERT OR REPLACE INTO forgotten (hash, salt, until) VALUES (?, ?, ?)",
        [bytes.fromhex(who.hash), bytes.fromhex(who.salt), who.until],
    )
    return True


def forgotten_until(names: Iterable[str], forgotten: Sequence[Forgotten]) -> dict[str, str]:
    """Those of the names that were forgotten, with the time up to which their entries stay out."""
    until: dict[str, str] = {}
    for name in names:
        hashes = {salt: _name_hash(name, bytes.fromhex(salt)).hex() for salt in _salts(forgotten)}
        times = [who.until for who in forgotten if hashes[who.salt] == who.hash]
        if times:
            until[name] = max(times)
    return until


def _salts(forgotten: Sequence[Forgotten]) -> set[str]:
    return {who.salt for who in forgotten}


@lru_cache(maxsize=4096)
def _name_hash(name: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", name.encode(), salt, HASH_ROUNDS)
