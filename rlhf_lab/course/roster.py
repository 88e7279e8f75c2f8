"""Who is in a class, which variant of the course each student has, and each one's own edition.

The class's folder holds `students.csv`, a row for each student: their name, the id of their
variant, which they see, and the seed of the hidden inputs that their work is graded on. Grading
reads the id here and not in what was handed in, so nobody can choose it.
"""

import ast
import copy
import csv
import re
import secrets
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields, replace
from io import StringIO
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from rlhf_lab.course.editions import read_notebook, tags
from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError

STUDENTS, EDITIONS = "students.csv", "editions"
NAME = re.compile(r"[^\W.](?:[\w.@-]{0,58}[\w@-])?")  # what is a folder's name on every system
NOTE = (
    "*This is variant `{variant}` of the course, made for one student: its checks try other "
    "numbers than those of your classmates.*"
)


@dataclass(frozen=True)
class Student:
    """variant: "" for the numbers of the ordinary notebooks. hidden: a seed for grading."""

    student: str
    variant: str
    hidden: str


def read_students(folder: Path) -> dict[str, Student]:
    """Those in a class's students.csv by name; none if there is no such file. Raises UserError for
    a file that this package did not write."""
    place = folder / STUDENTS
    if not place.exists():
        return {}
    columns = [field.name for field in fields(Student)]
    try:
        with place.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place} is not UTF-8: save it as 'CSV UTF-8', so that no name is changed"
        ) from error
    if any(list(row) != columns or None in row.values() for row in rows):
        raise UserError(f"{place}: every row needs the columns {', '.join(columns)}")
    return {row["student"]: Student(**row) for row in rows}


def enrol(folder: Path, names: Iterable[str], own_numbers: bool = True) -> list[Student]:
    """Give each new name a variant and a hidden seed, and write them down; returns the new ones.

    own_numbers: with a variant of their own. Raises UserError for a name that cannot be that of a
    folder; then nobody is added.
    """
    known = read_students(folder)
    new = {name: None for name in names if name not in known}
    for name in new:
        if own_numbers and not NAME.fullmatch(name):  # a folder of theirs is made
            raise UserError(
                f"{name!r} cannot be a student's name here: use up to 60 letters, digits, and "
                "_ . @ - without spaces, beginning with a letter or digit"
            )
    taken = {student.variant for student in known.values()}
    added = []
    for name in new:
        while (variant := secrets.token_hex(3)) in taken:
            continue
        taken.add(variant)
        added.append(Student(name, variant if own_numbers else "", secrets.token_hex(8)))
    if added:
        write_students(folder, [*known.values(), *added])
    return added


def _give_variants(folder: Path, names: Iterable[str]) -> None:
    """A variant for those of these who were graded before they had an edition."""
    students = read_students(folder)
    without = [name for name in names if not students[name].variant]
    for name in without:
        students[name] = replace(students[name], variant=secrets.token_hex(3))
    if without:
        write_students(folder, students.values())


def write_students(folder: Path, students: Iterable[Student]) -> None:
    """Write students.csv anew."""
    table = StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(field.name for field in fields(Student))
    writer.writerows(astuple(student) for student in students)
    write_whole(folder / STUDENTS, table.getvalue())


def write_own_editions(folder: Path, release: Path, names: Iterable[str]) -> list[Path]:
    """For each name that has none, a copy of what is handed out with numbers of their own; returns
    their folders. Raises UserError, before anything is written, if a folder of somebody new exists,
    or for a name that cannot be that of a folder."""
    names = list(dict.fromkeys(names))
    known = read_students(folder)
    for name in names:
        if name not in known and NAME.fullmatch(name):
            check_place(folder / EDITIONS / name, folder=True)
    enrol(folder, names)
    files = [path for path in sorted(release.rglob("*")) if path.is_file()]
    places = {name: folder / EDITIONS / name / release.name for name in names}
    missing = {
        name: [path for path in files if not (own / path.relative_to(release)).exists()]
        for name, own in places.items()
    }
    waiting = [name for name in names if missing[name]]  # a full disk may have left some
    _give_variants(folder, waiting)
    students = read_students(folder)
    written = []
    for student in (students[name] for name in waiting):
        own = places[student.student]
        for path in missing[student.student]:
            content: str | bytes = path.read_bytes()
            if path.suffix == ".ipynb":
                edition = own_edition(read_notebook(path), student.variant)
                content = nbformat.writes(edition) + "\n"
            write_whole(own / path.relative_to(release), content)
        written.append(own)
    return written


def own_edition(notebook: NotebookNode, variant: str) -> NotebookNode:
    """A copy whose checks try the inputs of a variant, and which says so."""
    edition = numbered(notebook, variant)
    edition.metadata["rlhf_lab"] = {"variant": variant}
    note = new_markdown_cell(NOTE.format(variant=variant), id="variant", metadata={"tags": ["own"]})
    edition.cells.insert(1, note)
    return edition


def numbered(notebook: NotebookNode, variant: str, hidden: str = "") -> NotebookNode:
    """A copy whose checks try the inputs of a variant, and then hidden ones."""
    edition = copy.deepcopy(notebook)
    for cell in edition.cells:
        if cell.cell_type == "code" and "check" in tags(cell):
            cell.source = _with_variant(cell.source, [variant, hidden] if hidden else [variant])
    return edition


def _with_variant(source: str, seeds: list[str]) -> str:
    """`check.gae(gae)` becomes `check.gae(check.variant(gae, "k7f3"))`."""
    lines = source.split("\n")
    calls = [node for node in ast.walk(ast.parse(source)) if _is_check(node)]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        given = call.args[0]
        if given.lineno == given.end_lineno and lines[given.lineno - 1].isascii():
            line, start, end = lines[given.lineno - 1], given.col_offset, given.end_col_offset
            words = ", ".join([line[start:end], *(f'"{seed}"' for seed in seeds)])
            lines[given.lineno - 1] = f"{line[:start]}check.variant({words}){line[end:]}"
    return "\n".join(lines)


def _is_check(node: ast.AST) -> bool:
    """Whether this is a call such as check.gae(gae)."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "check"
        and bool(node.args)
    )
