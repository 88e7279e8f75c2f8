"""Samples and entries to and from the rows of a store, on a connection that is open."""

import hashlib
import json
import sqlite3
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.entry import Contents, Entry, check_entry, check_name, later, refuse
from rlhf_lab.records import Prompt, Sample

COPIED = ("id", "kind", "labeller", "seconds", "pick", "guidelines", "flag", "made")
FOREVER = "9999-12-31T23:59:59.999999+00:00"
CUT = "cut off before its end"  # among the settings of a sample that did not end
HASH_ROUNDS = 50_000  # slow on purpose: so that guessing the name behind a hash costs something


# ---- reading ------------------------------------------------------------------------------------


def read_contents(connection: sqlite3.Connection) -> Contents:
    """Everything in a store."""
    prompts = read_prompts(connection)
    samples = [(prompt, read_samples(connection, prompt)) for prompt in prompts.values()]
    return Contents(samples, read_labellers(connection), read_entries(connection))


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
    """The time, in UTC; a labeller's times only go forward, even where the clock does not."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    (last,) = connection.execute(
        "SELECT max(made) FROM entries WHERE labeller = ?", [labeller]
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
            f"{where}: JSON would change them: use lists, not tuples, and texts as keys"
        )
    return text


# ---- forgetting ---------------------------------------------------------------------------------


def delete_labeller(connection: sqlite3.Connection, name: str) -> int:
    """Delete a labeller and all their entries, and keep a hash of the name; how many entries."""
    if name not in read_labellers(connection):
        return 0
    until = _now(connection, name)
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute("INSERT INTO leaving VALUES (?)", [name])
    connection.execute(
        "DELETE FROM entry_responses WHERE entry IN (SELECT id FROM entries WHERE labeller = ?)",
        [name],
    )
    deleted = connection.execute("DELETE FROM entries WHERE labeller = ?", [name]).rowcount
    connection.execute("DELETE FROM labellers WHERE name = ?", [name])
    connection.execute("DELETE FROM leaving")
    connection.execute(
        "INSERT OR REPLACE INTO forgotten VALUES (?, ?)", [_name_hash(connection, name), until]
    )
    return deleted


def forgotten_until(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, str]:
    """Those of the names that were forgotten, with the time up to which their entries stay out: for
    one who has not come back, for ever."""
    times = dict(connection.execute("SELECT hash, until FROM forgotten"))
    hashes = {name: _name_hash(connection, name) for name in names} if times else {}
    here = read_labellers(connection)
    return {
        name: times[hash] if name in here else FOREVER
        for name, hash in hashes.items()
        if hash in times
    }


def _name_hash(connection: sqlite3.Connection, name: str) -> bytes:
    (salt,) = connection.execute("SELECT salt FROM salt").fetchone()
    return hashlib.pbkdf2_hmac("sha256", name.encode(), salt, HASH_ROUNDS)
