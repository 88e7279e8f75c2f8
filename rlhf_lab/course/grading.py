"""Grading a class with nbgrader: only the exercises and their checks run, not the whole notebooks.

Students work on whole notebooks and hand those in. Grading must not sample or train, so it keeps
only the exercises, the checks, and what these may need from other cells: imports, functions,
classes, and assignments of literal values.

A class is a folder with nbgrader's layout: `source` with the solutions, `release` to hand out,
`submitted/STUDENT/course` for what students hand in, `autograded`, and the marks in `gradebook.db`.
Beside it stand `students.csv` and the students' own `editions` (roster.py), and `rubrics.md`, with
what a good answer holds to each question that a person marks.
"""

import ast
import copy
import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

from nbformat import NotebookNode

from rlhf_lab.course.editions import read_notebook, tags, write_edition, written_questions
from rlhf_lab.course.roster import enrol, write_own_editions
from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError

ASSIGNMENT = "course"
CONFIG, MARKS, RUBRICS = "nbgrader_config.py", "marks.csv", "rubrics.md"
COLUMNS = ["student", "notebook", "points", "of", "waiting"]
SECONDS = 60  # for one cell; nbgrader's own limit is 30 s
SETTINGS = f'''"""How nbgrader grades this class: written by `rlhf-lab course grading`."""

from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearOutput,
    DeduplicateIds,
    OverwriteCells,
    OverwriteKernelspec,
)

from rlhf_lab.course.grading_preprocessor import OnlyExercises

c = get_config()
c.CourseDirectory.course_id = "rlhf_lab"
c.Execute.timeout = {SECONDS}
c.Autograde.sanitize_preprocessors = [
    ClearOutput,
    DeduplicateIds,
    OverwriteKernelspec,
    OverwriteCells,  # the checks are those of `source`, whatever was handed in
    OnlyExercises,
    CheckCellMetadata,
]
'''


def only_exercises(notebook: NotebookNode) -> NotebookNode:
    """A copy with only the exercises, the checks, and what they may need from other cells."""
    edition = copy.deepcopy(notebook)
    edition.cells = [cell for cell in map(_to_grade, edition.cells) if cell]
    return edition


def write_class(folder: Path, notebooks: Sequence[Path]) -> Path:
    """Make the folder of a class; returns the folder to hand out, which nbgrader makes from the
    instructor edition. Raises UserError, before anything is written, if files exist there already
    or nbgrader is not installed; and if nbgrader fails."""
    _have_nbgrader()
    check_place(folder / CONFIG)
    check_place(folder / "release" / ASSIGNMENT, folder=True)
    write_edition("instructor", notebooks, folder / "source" / ASSIGNMENT)
    write_whole(folder / CONFIG, SETTINGS)
    write_whole(folder / RUBRICS, _rubrics(notebooks))
    _nbgrader(folder, "generate_assignment", ASSIGNMENT)
    return folder / "release" / ASSIGNMENT


def add_students(folder: Path, names: Iterable[str]) -> list[Path]:
    """Make an edition with numbers of their own for each of these that the class does not have yet;
    returns the folders to hand out. Raises UserError as `write_own_editions` does, and if the
    folder is not a class."""
    _check_class(folder)
    return write_own_editions(folder, folder / "release" / ASSIGNMENT, names)


def grade_class(folder: Path) -> list[dict]:
    """Grade all that was handed in, and return and write the marks as `class_marks` does. Answers
    in words wait for a person; points that a person gave before are kept.

    Raises UserError if the folder is not a class, if nothing was handed in, or if nbgrader is not
    installed or fails.
    """
    _have_nbgrader()
    _check_class(folder)
    handed_in = {path.parts[-3] for path in (folder / "submitted").glob(f"*/{ASSIGNMENT}/*.ipynb")}
    if not handed_in:
        raise UserError(
            f"nothing was handed in: put each student's notebooks into "
            f"{folder / 'submitted' / 'STUDENT' / ASSIGNMENT}"
        )
    check_place(folder / MARKS, lambda place: "" if _is_marks(place) else "holds no marks")
    enrol(folder, sorted(handed_in), own_numbers=False)
    _nbgrader(folder, "autograde", ASSIGNMENT, "--force")
    return class_marks(folder)


def class_marks(folder: Path) -> list[dict]:
    """The marks as they stand, after grading or after a person has marked answers in words: a row
    for each student and notebook, with columns student, notebook, points, of, and waiting, the
    points of answers that a person has yet to mark or look at again. They are written to MARKS.

    Raises UserError if the folder is not a class that was graded.
    """
    _have_nbgrader()
    _check_class(folder)
    book = folder / "gradebook.db"
    if not book.is_file():
        raise UserError(f"nothing was graded yet: `rlhf-lab course grade {folder}`")
    check_place(folder / MARKS, lambda place: "" if _is_marks(place) else "holds no marks")
    rows = _marks(book)
    table = StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / MARKS, table.getvalue())
    return rows


def _check_class(folder: Path) -> None:
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not a class: make one with `rlhf-lab course grading {folder}`"
        )


def _rubrics(notebooks: Sequence[Path]) -> str:
    """The questions of all notebooks that a person marks, each with its rubric."""
    parts = ["# What a good answer holds\n\nFor whoever marks. Do not hand this out."]
    for path in notebooks:
        for each in written_questions(read_notebook(path), path.name):
            parts.append(f"## {path.stem}: {each.name} ({each.points:g} points)")
            parts += [re.sub("^#+ (.*)", r"**\1**", each.question), each.rubric]
    return "\n\n".join(parts) + "\n"


def _to_grade(cell: NotebookNode) -> NotebookNode | None:
    """The part of a cell that grading needs; None if it needs nothing of it."""
    graded = cell.metadata.get("nbgrader", {})
    kept = {"exercise", "check", "question"} & set(tags(cell))
    if kept or graded.get("grade") or graded.get("solution"):
        return cell
    source = _definitions(cell.source) if cell.cell_type == "code" else ""
    cell.source = source
    return cell if source else None


def _definitions(source: str) -> str:
    """The imports, functions, classes and assignments of literal values of a cell; "" if the code
    is not Python."""
    plain = "\n".join(
        line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))
    )
    try:
        statements = ast.parse(plain).body
    except (SyntaxError, ValueError):
        return ""
    return "\n".join(ast.unparse(each) for each in statements if _defines(each))


def _defines(statement: ast.stmt) -> bool:
    if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value:
        try:
            ast.literal_eval(statement.value)
        except ValueError:
            return False
        return True
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return isinstance(statement, kinds)


def _have_nbgrader() -> None:
    try:
        import nbgrader  # noqa: F401
    except ImportError as error:
        raise UserError(
            "grading needs nbgrader: pip install 'rlhf-lab[teach]', or `make setup` in a clone"
        ) from error


def _nbgrader(folder: Path, *arguments: str) -> None:
    """Run nbgrader in the folder of a class."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=folder,
        text=True,
        capture_output=True,
        env=os.environ | {"PATH": path},  # so that nbgrader finds alembic
    )
    if ran.returncode:
        why = [line for line in ran.stderr.splitlines() if "ERROR" in line] or [ran.stderr[-500:]]
        raise UserError(f"nbgrader {' '.join(arguments)} failed in {folder}: {why[-1]}")


def _marks(database: Path) -> list[dict]:
    """The points in a gradebook."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{database.absolute()}") as book:
        return [
            {
                "student": submission.student.id,
                "notebook": notebook.name,
                "points": notebook.score,
                "of": notebook.max_score,
                "waiting": sum(g.max_score for g in notebook.grades if g.needs_manual_grade),
            }
            for submission in sorted(
                book.assignment_submissions(ASSIGNMENT), key=lambda s: s.student.id
            )
            for notebook in sorted(submission.notebooks, key=lambda n: n.name)
        ]


def _is_marks(place: Path) -> bool:
    return place.read_text(errors="replace").startswith("student,notebook,points,of")  # any version


def points_by_student(rows: Iterable[dict]) -> dict[str, tuple[float, float, float]]:
    """Each student's points, the highest possible number of points, and how many of these wait for
    a person."""
    sums: dict[str, tuple[float, float, float]] = {}
    for row in rows:
        points, of, waiting = sums.get(row["student"], (0.0, 0.0, 0.0))
        sums[row["student"]] = points + row["points"], of + row["of"], waiting + row["waiting"]
    return sums
