"""Removing one person everywhere below some folders: what would go, and then its removal.

Found by name: their rankings in feedback stores; their lines in files of JSON lines, such as
exports and the rankings of a run; and in a class's folder what they handed in, with everything made
from it, their edition, their marks and their predictions. Any other file that has the name in it,
and what cannot be read, is reported and left as it is, for a person to look at.
"""

import csv
import io
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rlhf_lab.course.grading import CONFIG, MARKS
from rlhf_lab.course.roster import EDITIONS, STUDENTS
from rlhf_lab.disk.jsonl import opened, write_whole
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.store import FeedbackStore, contents_of_store, copied
from rlhf_lab.text import counted

FOLDERS = ("submitted", "autograded", "feedback", "released", EDITIONS)  # one for each student
SQLITE = b"SQLite format 3\0"
LINES = (".jsonl", ".jsonl.gz")
BESIDE = ("-wal", "-shm", "-journal")  # files that SQLite keeps beside a database
TOO_LARGE = "is too large to search for the name"
MOST = 64 * 2**20  # bytes of a file that is searched for the name


@dataclass(frozen=True)
class Found:
    """Something of a person. place: where. what: in words. remove: deletes it; None if a person has
    to decide."""

    place: Path
    what: str
    remove: Callable[[], object] | None = None


def survey(name: str, places: Iterable[Path]) -> list[Found]:
    """All that is found of a person in these files and below these folders; changes nothing.

    Raises UserError for a blank name and for a place that does not exist.
    """
    if not name.strip():
        raise UserError("who should be forgotten? Give the name as it was stored")
    found: dict[Path, list[Found]] = {}
    for place in places:
        if not os.path.lexists(place):
            raise UserError(f"there is no {place}: check its name and folder")
        for path, here in _below(name, place):
            found.setdefault(path.absolute(), here)
    return [each for here in found.values() for each in here]


def _below(name: str, place: Path) -> Iterator[tuple[Path, list[Found]]]:
    """Each folder and file that has something of the person."""
    if place.is_symlink() or not place.is_dir():
        yield place, _in_file(name, place)
        return
    try:
        entries = sorted(place.iterdir())
    except OSError as error:
        yield place, [Found(place, f"cannot be read ({error.strerror}), so nothing in it is known")]
        return
    a_class = any(path.name == CONFIG for path in entries)
    for path in entries:
        own = path / name
        if a_class and path.name in FOLDERS and _is_name(name) and os.path.lexists(own):
            yield own, [Found(own, _contents(own), lambda own=own: _delete(own))]
            for other in sorted(set(path.iterdir()) - {own}):
                yield from _below(name, other)
        elif not path.name.endswith(BESIDE):
            yield from _below(name, path)


def _is_name(name: str) -> bool:
    """Whether a name is one of a single folder."""
    return Path(name).name == name and name not in (".", "..")


def _contents(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    predictions = sum(path.name == "predictions.json" for path in files)
    also = f", {predictions} of them predictions" if predictions else ""
    return f"the person's folder with {counted(len(files), 'file')}{also}"


def _delete(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder)


def _in_file(name: str, path: Path) -> list[Found]:
    """What a file has of the person."""
    try:
        if path.is_symlink():
            return [Found(path, "is a link, which is not followed")] if path.exists() else []
        if not path.is_file():
            return []
        with path.open("rb") as file:
            head = file.read(len(SQLITE))
        if head == SQLITE:
            return _in_database(name, path)
        if path.name.endswith(LINES):
            return _in_lines(name, path)
        if path.name in (STUDENTS, MARKS):
            return _in_table(name, path)
        return _mention(name, path)
    except (OSError, UserError, ValueError, sqlite3.Error) as error:
        return [Found(path, f"cannot be read, so what it holds is not known: {error}")]


def _in_database(name: str, path: Path) -> list[Found]:
    if path.name == "gradebook.db":
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as book:
            known = book.execute("SELECT count(*) FROM student WHERE id = ?", [name]).fetchone()[0]
        what = "the marks and comments in the gradebook"
        return [Found(path, what, lambda: _leave_gradebook(name, path))] if known else []
    try:
        contents = contents_of_store(path)
    except UserError:
        return _mention(name, path)
    if name not in contents.labellers:
        return []
    count = sum(entry.labeller == name for entry in contents.entries)
    with copied(path) as store:
        made = [Found(Path(use), f"was made from rankings in {path}") for use in store.uses(name)]
    what = f"a feedback store with {counted(count, 'entry', 'entries')}"
    return [Found(path, what, lambda: FeedbackStore(path).forget(name)), *made]


def _leave_gradebook(name: str, path: Path) -> None:
    """Delete a student with all submissions, down to the bytes of the file."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{path.absolute()}") as book:
        book.remove_student(name)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")


def _in_lines(name: str, path: Path) -> list[Found]:
    """Lines of JSON of which the person is the labeller."""
    content = _read(path)
    if content is None:
        return [Found(path, TOO_LARGE)]
    lines = content.splitlines(keepends=True)
    kept = [line for line in lines if not _is_labellers(name, line)]
    if len(kept) == len(lines):
        return _mention(name, path)
    what = f"{counted(len(lines) - len(kept), 'line')} of {len(lines)}"
    return [Found(path, what, lambda: write_whole(path, b"".join(kept)))]


def _read(path: Path) -> bytes | None:
    """A file's content, unpacked if it ends in .gz; None if it is longer than MOST."""
    with opened(path) as file:
        content = file.read(MOST + 1)
    return content if len(content) <= MOST else None


def _is_labellers(name: str, line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:  # a line that is cut off, or no JSON: what it mentions is reported
        return False
    return isinstance(row, dict) and row.get("labeller") == name


def _in_table(name: str, path: Path) -> list[Found]:
    """Rows of the class's tables, which begin with the student's name."""
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"), newline="")))
    kept = [row for row in rows if row[:1] != [name]]
    if len(kept) == len(rows):
        return _mention(name, path)
    table = io.StringIO(newline="")
    csv.writer(table).writerows(kept)
    what = counted(len(rows) - len(kept), "row")
    return [Found(path, what, lambda: write_whole(path, table.getvalue()))]


def _mention(name: str, path: Path) -> list[Found]:
    """A file that has the name in it, as a word of its own."""
    content = _read(path)
    if content is None:
        return [Found(path, TOO_LARGE)]
    words = {name.encode(), json.dumps(name)[1:-1].encode()}  # in JSON, accents may be escaped
    if not any(re.search(rb"(?<!\w)" + re.escape(w) + rb"(?!\w)", content) for w in words):
        return []
    return [Found(path, "contains the name; check whether it means this person")]
