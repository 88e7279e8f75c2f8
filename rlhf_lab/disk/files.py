"""Prompts, demonstrations and rankings to and from files of JSON lines.

One JSON object a line, UTF-8; a name that ends in .gz is compressed:

    prompts         {"prompt": "..."}
    demonstrations  {"prompt": "...", "response": "..."}
    samples         {"prompt": "...", "responses": ["...", "..."]}
    rankings        {"prompt": "...", "responses": ["...", "..."], "ranking": [2, 1]}
    comparisons     {"prompt": "...", "chosen": "...", "rejected": "..."}

Any row may have an "id" of its prompt and the "facts" a judge needs. A ranking may also have its
"labeller", and samples the "model" that made them and its "settings". "ended" says which responses
ended by themselves and which were cut off: true or false in a demonstration, elsewhere a list such
as [true, false] (in a comparison: chosen, then rejected). Without it, all of them ended.

In a ranking, 1 is best, equal ranks are ties and null is unranked. A bad row raises a UserError
that names file, line and field. What is written here is always read back the same.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rlhf_lab.disk.jsonl import Row, kind_of, read_rows, write_whole
from rlhf_lab.errors import UserError
from rlhf_lab.records import Demonstration, Prompt, Ranking, Sample, is_rank

Item = Prompt | Demonstration | Ranking

PROMPT = ("prompt", "id", "facts")
DEMONSTRATION = ("prompt", "response", "ended", "id", "facts")
SAMPLED = ("prompt", "responses", "ended", "id", "facts", "model", "settings")
RANKED = ("prompt", "responses", "ranking", "ended", "labeller", "id", "facts")
COMPARED = ("prompt", "chosen", "rejected", "ended", "labeller", "id", "facts")


def read_rankings(path: str | Path) -> list[Ranking]:
    """The rankings in a file. A comparison becomes a ranking of two, and a file may hold both. A
    row without an id gets one made from the text of its prompt.

    Raises UserError at the first invalid line; so does `read_samples`.
    """
    return [_ranking(row) for row in read_rows(path)]


def read_samples(path: str | Path) -> list[tuple[Prompt, list[Sample]]]:
    """The prompts in a file with their responses, as `rlhf-lab sample` writes them."""
    return [_sampled(row) for row in read_rows(path)]


def write_prompts(path: str | Path, prompts: Iterable[Prompt]) -> None:
    """Write a file that `formats.read_prompts` reads back the same: all of it or, after a failure,
    none.

    Raises UserError, and leaves an existing file unchanged, if a reader would refuse an item (an
    empty text, facts that JSON cannot store), if there are no items, or if the file cannot be
    written. So do the other writers.
    """
    _write(path, prompts, _prompt)


def write_demonstrations(path: str | Path, demonstrations: Iterable[Demonstration]) -> None:
    """Write a file that `formats.read_demonstrations` reads back the same."""
    _write(path, demonstrations, _demonstration)


def write_rankings(path: str | Path, rankings: Iterable[Ranking]) -> None:
    """Write a file that `read_rankings` reads back the same."""
    _write(path, rankings, _ranking)


def fingerprint(items: Iterable[Item]) -> str:
    """The sha256 of the file that a writer would write: equal for equal data."""
    return hashlib.sha256("".join(map(_line, items)).encode()).hexdigest()


def _prompt(row: Row, known: tuple[str, ...] = PROMPT) -> Prompt:
    row.only(known)
    text = row.text("prompt")
    by_text = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Prompt(row.text("id", by_text), text, row.get("facts", dict, {}))


def _demonstration(row: Row) -> Demonstration:
    prompt = _prompt(row, DEMONSTRATION)
    return Demonstration(prompt, row.text("response"), row.get("ended", bool, True))


def _ranking(row: Row) -> Ranking:
    if not row.fields.keys() & {"chosen", "rejected"}:
        return _ranked(row)
    prompt = _prompt(row, COMPARED)
    pair = row.text("chosen"), row.text("rejected")
    if pair[0] == pair[1]:
        row.refuse("rejected", "is the same text as 'chosen': leave the row out")
    return Ranking(prompt, pair, (1, 2), row.get("labeller", str, ""), ended(row, 2))


def _ranked(row: Row) -> Ranking:
    either = row.fields.keys() & {"responses", "ranking"}
    prompt = _prompt(row, RANKED if either else tuple(dict.fromkeys(RANKED + COMPARED)))
    if not either:
        row.refuse(
            "responses", "is missing: give 'responses' and 'ranking', or 'chosen' and 'rejected'"
        )
    responses, ranks = ranked(row)
    labeller = row.get("labeller", str, "")
    return Ranking(prompt, responses, ranks, labeller, ended(row, len(responses)))


def ended(row: Row, count: int) -> tuple[bool, ...]:
    """Which of a row's `count` responses ended. Raises BadRow if the field is not that many
    booleans."""
    values = row.get("ended", list, [True] * count)
    if len(values) != count or not all(type(value) is bool for value in values):
        row.refuse(
            "ended",
            f"is {json.dumps(values, default=str)[:60]}: give true or false for each of the "
            f"{count} responses, or leave it out",
            "wrong 'ended' values",
        )
    return tuple(values)


def ranked(row: Row) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """The responses of a row and their ranks. Raises BadRow if they do not make a valid Ranking."""
    responses, ranks = row.get("responses", list), row.get("ranking", list)
    if len(responses) < 2:
        row.refuse(
            "responses", f"has {len(responses)}: a ranking needs at least 2", "too few responses"
        )
    _check_texts(row, responses)
    if len(ranks) != len(responses):
        counts = f"{len(ranks)} ranks for {len(responses)} responses"
        row.refuse(
            "ranking", f"has {counts}: give each response a rank, or null", "wrong number of ranks"
        )
    for rank in ranks:
        if rank is not None and not is_rank(rank):
            shown = json.dumps(rank, default=str)[:60]
            row.refuse(
                "ranking",
                f"{shown} is not a rank: use 1 for the best, then 2, 3, ..., the "
                "same for ties, and null for unranked",
                "invalid rank",
            )
    told: dict[str, int] = {}
    for response, rank in zip(responses, ranks):
        if rank is not None and told.setdefault(response, rank) != rank:
            row.refuse(
                "ranking",
                "gives the same text two different ranks: leave one of them out",
                "same text ranked differently",
            )
    if all(rank is None for rank in ranks):
        row.refuse(
            "ranking",
            "ranks nothing, as all ranks are null: rank at least one, or leave the row out",
            "nothing ranked",
        )
    return tuple(responses), tuple(ranks)


def _sampled(row: Row) -> tuple[Prompt, list[Sample]]:
    prompt = _prompt(row, SAMPLED)
    model, settings = row.get("model", str, ""), row.get("settings", dict, {})
    responses = row.get("responses", list)
    _check_texts(row, responses)
    there = ended(row, len(responses))
    return prompt, [Sample(text, model, settings, end) for text, end in zip(responses, there)]


def _check_texts(row: Row, responses: list) -> None:
    for place, response in enumerate(responses, 1):
        if type(response) is not str:  # it may be empty: a model can end at once
            row.refuse(
                "responses", f"number {place} is {kind_of(response)}: write text", "wrong type"
            )


def _as_row(item: Item) -> dict:
    """The fields of one line; those at their defaults are left out."""
    prompt = item if isinstance(item, Prompt) else item.prompt
    row: dict[str, Any] = {"id": prompt.id, "prompt": prompt.text}
    if isinstance(item, Demonstration):
        row |= {"response": item.response} | ({} if item.ended else {"ended": False})
    if isinstance(item, Ranking):
        row |= {"responses": list(item.responses), "ranking": list(item.ranks)}
        row |= {"labeller": item.labeller} if item.labeller else {}
        row |= {"ended": list(item.ended)} if item.ended else {}
    return row | ({"facts": prompt.facts} if prompt.facts else {})


def _line(item: Item) -> str:
    return json.dumps(_as_row(item), ensure_ascii=False) + "\n"


def _write(path: str | Path, items: Iterable[Item], parse: Callable[[Row], Item]) -> None:
    lines = []
    for number, item in enumerate(items, 1):
        where, row = f"{path}, line {number}", _as_row(item)
        try:
            read_back = parse(Row.parse(where, json.dumps(row).encode()))
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: {error}: use only values that JSON can store") from error
        if _as_row(read_back) != row:
            raise UserError(
                f"{where}, field 'facts': JSON would change the values: use lists, not tuples, "
                "and text as keys"
            )
        lines.append(_line(item))
    if not lines:
        raise UserError(f"nothing to write to {path}: give at least one row")
    write_whole(path, "".join(lines))
