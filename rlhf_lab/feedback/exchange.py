"""A store's contents to and from files of JSON lines.

The project's own format holds everything, one thing a line, and loses nothing in a round trip:

    {"kind": "prompt", "prompt": "...", "id": "...", "facts": {}}
    {"kind": "sample", "prompt": "...", "text": "...", "model": "...", "settings": {},
     "ended": false}
    {"kind": "labeller", "labeller": "...", "simulated": false}
    {"kind": "ranking", "id": "...", "labeller": "...", "prompt": "...", "responses": ["...", ...],
     "ranks": [2, 1], "shown": [1, 0], "seconds": 8.5, "pick": "random", "made": "..."}

"skip", "flag" and "undo" with the fields of `Entry`, "forgotten" with those of `Forgotten`, and
"gone" with the hash of a deleted entry's id; a field at its default is left out, and the lines may
stand in any order. Comparisons ({"prompt",
"chosen", "rejected"}), as TRL and hub datasets have them, keep who was preferred to whom and
nothing else. A bad line is a UserError that names file and line; it leaves the store as it was.
"""

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path

from rlhf_lab.disk.files import read_rankings
from rlhf_lab.disk.jsonl import KINDS, Row, read_rows, write_whole
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.entry import KINDS as ENTRY_KINDS
from rlhf_lab.feedback.entry import Forgotten, is_time
from rlhf_lab.feedback.pairs import comparisons
from rlhf_lab.feedback.store import Contents, Entry, FeedbackStore, Sample, Taken
from rlhf_lab.records import Prompt, Ranking

FIELDS = {
    "prompt": ("prompt", "id", "facts"),
    "sample": ("prompt", "text", "model", "settings", "ended"),
    "labeller": ("labeller", "simulated"),
    "forgotten": tuple(field.name for field in fields(Forgotten)),
    "gone": ("entry",),
} | dict.fromkeys(ENTRY_KINDS, tuple(field.name for field in fields(Entry)))
TEXTS = {field.name: field.default for field in fields(Entry) if type(field.default) is str}
IMPORTED = uuid.UUID("1d0c8d62-5f3e-4a53-9d0b-0c7a5c3b1f6e")  # the name space of imported ids


def export_jsonl(store: FeedbackStore, path: str | Path, simulated: bool = False) -> int:
    """Write everything in the store to a file, which is replaced whole; how many lines. Without
    `simulated`, simulated labellers and what they did are left out.

    Raises UserError if the store is empty or the file cannot be written; so does `export_pairs`.
    """
    contents = store.contents()
    if not simulated:
        programs = contents.simulated
        contents = replace(
            contents,
            labellers=[name for name in contents.labellers if name not in programs],
            entries=[entry for entry in contents.entries if entry.labeller not in programs],
        )
    return _write(path, list(_lines(contents)))


def export_pairs(
    store: FeedbackStore,
    path: str | Path,
    labellers: Sequence[str] | None = None,
    simulated: bool = False,
) -> int:
    """Write what the rankings of these labellers say of every two responses, each as a line of
    prompt, chosen and rejected; how many lines. labellers: None for all people, and with
    `simulated` for the simulated ones too.

    Ties and pairs of unranked responses say nothing and have no line; nor has a pair with a blank
    response, which readers of such files take for a mistake. No name of a labeller is written.
    """
    return _write(
        path,
        [
            {"prompt": ranking.prompt.text, "chosen": chosen, "rejected": rejected}
            for ranking in store.rankings(labellers, simulated=simulated)
            for chosen, rejected in _preferences(ranking)
            if chosen.strip() and rejected.strip()
        ],
    )


def contents_of(path: str | Path, labeller: str | None = None) -> Contents:
    """What a file that `export_jsonl` wrote holds; with a labeller, what one from another tool
    holds, as `files.read_rankings` reads it: rankings, or comparisons as rankings of two.

    labeller: whose rankings they are, where a line does not say. Where the responses stood on the
    screen nobody knows: `shown` is (). Ids follow from what was said, so that taking in the same
    file again adds nothing. Raises UserError at the first line that is not right.
    """
    if labeller is None:
        return _read(path)
    rankings, entries, seen = read_rankings(path), [], Counter[str]()
    for ranking in rankings:
        name = ranking.labeller or labeller
        said = json.dumps([name, ranking.prompt.text, ranking.responses, ranking.ranks])
        seen[said] += 1  # the same twice in one file was said twice
        entries.append(
            Entry(
                uuid.uuid5(IMPORTED, f"{said} {seen[said]}").hex,
                "ranking",
                name,
                ranking.prompt,
                ranking.responses,
                ranking.ranks,
            )
        )
    prompts = [
        (ranking.prompt, [Sample(text, ended=end) for _, text, end in ranking.written()])
        for ranking in rankings
    ]
    return Contents(prompts, list(dict.fromkeys(entry.labeller for entry in entries)), entries)


def take_in(store: FeedbackStore, path: str | Path, contents: Contents) -> Taken:
    """Take in what a file held, as `FeedbackStore.take_in` does: all or nothing, and what is there
    is passed over and counted. UserErrors name the file."""
    try:
        return store.take_in(contents)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _preferences(ranking: Ranking) -> Iterator[tuple[str, str]]:
    for (first, second), sign in comparisons(ranking).items():
        if sign:
            yield (first, second) if sign > 0 else (second, first)


# ---- lines to write -----------------------------------------------------------------------------


def _lines(contents: Contents) -> Iterator[dict]:
    for prompt, samples in contents.prompts:
        yield {"kind": "prompt", "prompt": prompt.text, "id": prompt.id, "facts": prompt.facts}
        for sample in samples:
            line = {"kind": "sample", "prompt": prompt.text} | vars(sample)
            yield {name: value for name, value in line.items() if name != "ended" or not value}
    for name in contents.labellers:
        simulated = {"simulated": True} if name in contents.simulated else {}
        yield {"kind": "labeller", "labeller": name} | simulated
    for entry in contents.entries:
        given = {
            field.name: getattr(entry, field.name)
            for field in fields(Entry)
            if field.default is MISSING or getattr(entry, field.name) != field.default
        }
        yield {"kind": entry.kind} | given | {"prompt": entry.prompt.text}
    for who in contents.forgotten:
        yield {"kind": "forgotten"} | vars(who)
    for hash in sorted(contents.gone):
        yield {"kind": "gone", "entry": hash}


def _write(path: str | Path, lines: list[dict]) -> int:
    if not lines:
        raise UserError(f"there is nothing to write to {path}")
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return len(lines)


# ---- lines that are read ------------------------------------------------------------------------


def _read(path: str | Path) -> Contents:
    rows: dict[str, list[Row]] = {kind: [] for kind in FIELDS}
    for row in read_rows(path):
        rows[_kind(row)].append(row)
    prompts: dict[str, tuple[Prompt, list[Sample]]] = {}
    for row in rows["prompt"]:
        prompt = Prompt(row.get("id", str), row.text("prompt"), row.get("facts", dict, {}))
        prompts.setdefault(prompt.text, (prompt, []))
    for row in rows["sample"]:
        _, samples = _of_prompt(row, prompts)
        made = row.get("model", str, ""), row.get("settings", dict, {})
        samples.append(Sample(row.get("text", str), *made, row.get("ended", bool, True)))
    labellers = [row.text("labeller") for row in rows["labeller"]]
    simulated = {
        row.text("labeller") for row in rows["labeller"] if row.get("simulated", bool, False)
    }
    entries = [_entry(row, prompts) for kind in ENTRY_KINDS for row in rows[kind]]
    forgotten = [_forgotten(row) for row in rows["forgotten"]]
    gone = {_hex(row, "entry", 64) for row in rows["gone"]}
    return Contents(list(prompts.values()), labellers, entries, simulated, forgotten, gone)


def _kind(row: Row) -> str:
    if "kind" not in row.fields and {*map(str.lower, row.fields)} & {"ranking", "chosen"}:
        row.refuse(
            "kind",
            "is missing, as in rankings from another tool: to import those, say who made them "
            "(--labeller NAME)",
        )
    kind = row.text("kind")
    if kind not in FIELDS:
        row.refuse("kind", f"is {kind!r}: the kinds are {', '.join(FIELDS)}")
    row.only(("kind", *FIELDS[kind]))
    return kind


def _entry(row: Row, prompts: dict) -> Entry:
    texts = {name: row.get(name, str, default) for name, default in TEXTS.items()}
    seconds = row.fields.get("seconds", 0.0)
    if type(seconds) not in (int, float):
        row.refuse("seconds", f"is {KINDS[type(seconds)]}: give a number")
    prompt, _ = _of_prompt(row, prompts)
    return Entry(
        row.text("id"),
        row.text("kind"),
        row.text("labeller"),
        prompt,
        _list(row, "responses", str),
        _list(row, "ranks", int, type(None)),
        _list(row, "shown", int),
        seconds,
        **texts,
    )


def _forgotten(row: Row) -> Forgotten:
    who = Forgotten(_hex(row, "hash", 64), _hex(row, "salt", 32), row.text("until"))
    if not is_time(who.until):
        row.refuse("until", "is not a time: write 2026-01-31T12:00:00.000000+00:00, in UTC")
    return who


def _hex(row: Row, field: str, digits: int) -> str:
    value = row.text(field)
    if not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
        row.refuse(field, f"is not a hash as `export` writes it: {digits} hex digits")
    return value


def _of_prompt(row: Row, prompts: dict) -> tuple[Prompt, list[Sample]]:
    text = row.text("prompt")
    if text not in prompts:
        row.refuse("prompt", "has no line of kind 'prompt' in this file: add one")
    return prompts[text]


def _list(row: Row, field: str, *kinds: type) -> tuple:
    values = row.get(field, list, [])
    for place, value in enumerate(values, 1):
        if type(value) not in kinds:
            row.refuse(field, f"number {place} is {KINDS[type(value)]}: give {KINDS[kinds[0]]}")
    return tuple(values)
