"""`rlhf-lab course`: write the notebooks into a folder, complete or for a class, and slides."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlhf_lab.course.editions import EDITIONS, LINKED, write_edition
from rlhf_lab.course.grading import ASSIGNMENT, MARKS, grade_class, points_by_student, write_class
from rlhf_lab.course.lecture.slides import write_slides
from rlhf_lab.disk.data import project_file
from rlhf_lab.errors import UserError
from rlhf_lab.show.markup import visible


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "edition",
        choices=[*EDITIONS, "grading", "grade", "slides"],
        help="notebooks: complete, with their outputs; student: without solutions; instructor: "
        "solutions in the stubs, for nbgrader; grading: a class's folder for nbgrader, with the "
        "notebooks to hand out; grade: grade the notebooks handed in to that folder; slides: a "
        "lecture of an hour, as a page that needs no network",
    )
    sub.add_argument(
        "folder",
        help="folder to write to; for grade: the class's folder; for slides: the page, such as "
        "lecture.html",
    )
    sub.add_argument("notebooks", nargs="*", help="files of the notebooks; if none are given, all")


def run(options: argparse.Namespace) -> None:
    if options.edition == "grade":
        _grade(Path(options.folder))
        return
    if options.edition == "slides":
        place = write_slides(Path(options.folder))
        print(f"wrote {place}: open it in a browser; the key n shows the notes")
        return
    notebooks = list(_existing(options.notebooks)) or sorted(
        project_file("notebooks").glob("*.ipynb")
    )
    if options.edition == "grading":
        release = write_class(Path(options.folder), notebooks)
        print(
            f"hand out {release}; put what the students hand in into "
            f"{Path(options.folder, 'submitted', 'STUDENT', ASSIGNMENT)}, then: rlhf-lab course "
            f"grade {options.folder}"
        )
        return
    for path in write_edition(options.edition, notebooks, Path(options.folder)):
        print(f"wrote {path}")
    linked = Path(options.folder) / LINKED
    if linked.is_dir():
        print(f"the pages they link to are in {linked}")


def _grade(folder: Path) -> None:
    rows = grade_class(folder)
    for student, (points, of) in points_by_student(rows).items():
        print(f"{points:5g} of {of:g}  {visible(student)}")
    print(f"notebook by notebook: {folder / MARKS}; what each check said: {folder / 'autograded'}")


def _existing(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        if not Path(name).is_file():
            raise UserError(f"there is no notebook {name}: check its name and folder")
        yield Path(name)
