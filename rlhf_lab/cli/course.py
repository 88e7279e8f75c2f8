"""`rlhf-lab course`: write the notebooks into a folder, complete or for a class; the
slides of a lecture; grade a class; forget a person."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlhf_lab.course import grading
from rlhf_lab.course.editions import EDITIONS, LINKED, write_edition
from rlhf_lab.course.forgetting import survey
from rlhf_lab.course.grading import ASSIGNMENT
from rlhf_lab.course.lecture.slides import write_slides
from rlhf_lab.disk.data import project_file
from rlhf_lab.errors import UserError
from rlhf_lab.show.markup import visible
from rlhf_lab.text import counted

BEYOND = (
    "Not reached: models that were trained on somebody's rankings (train them anew without them), "
    "files without names such as exports by --pairs and predictions outside a class's folder, "
    "copies, backups, and what is on other machines."
)
EDITION_TEXTS = {
    "notebooks": "write the notebooks, complete, with their outputs",
    "student": "write the notebooks without solutions and outputs",
    "instructor": "write the notebooks with solutions in the stubs, for nbgrader",
}


def add_options(sub: argparse.ArgumentParser) -> None:
    """The options of `rlhf-lab course`: an action, a folder, and what the action needs."""
    actions = sub.add_subparsers(title="actions", metavar="ACTION", required=True, dest="edition")

    def action(name: str, text: str, act) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
        parser.set_defaults(action=act)
        return parser

    for name in EDITIONS:
        sub_parser = action(name, EDITION_TEXTS[name], _write)
        sub_parser.add_argument("folder", help="folder to write to")
    make = action("grading", "make a class's folder for nbgrader, or add students to it", _make)
    make.add_argument("folder", help="the class's folder")
    make.add_argument(
        "--students",
        metavar="FILE",
        help="a name on each line: each student gets a copy whose checks try other numbers",
    )
    for parser in (*(actions.choices[name] for name in EDITIONS), make):
        parser.add_argument("notebooks", nargs="*", help="files of the notebooks; default: all")
    slides = action("slides", "write a lecture of an hour as a page that works offline", _slides)
    slides.add_argument("folder", metavar="page", help="the page to write, such as lecture.html")
    leave = action(
        "forget", "list everything stored about a person; with --delete, remove it", _forget
    )
    leave.add_argument("name", help="a student's name, or the one under which somebody ranked")
    leave.add_argument(
        "places", nargs="+", help="where to look: class's folders, stores, exports, runs' folders"
    )
    leave.add_argument("--delete", action="store_true", help="remove it; cannot be undone")
    for name, text, act in (
        ("grade", "grade what was handed in to a class's folder", _grade),
        ("marks", "print the marks again, with what a person has marked in the meantime", _marks),
    ):
        action(name, text, act).add_argument("folder", help="the class's folder")


def run(options: argparse.Namespace) -> None:
    """Do what the options say. Raises UserError if that cannot be done."""
    options.action(options)


def _write(options: argparse.Namespace) -> None:
    folder = Path(options.folder)
    for path in write_edition(options.edition, _notebooks(options.notebooks), folder):
        print(f"wrote {path}")
    if (folder / LINKED).is_dir():
        print(f"the pages they link to are in {folder / LINKED}")


def _make(options: argparse.Namespace) -> None:
    folder = Path(options.folder)
    names = _names(Path(options.students)) if options.students else []
    there = bool(names) and (folder / grading.CONFIG).is_file()
    if there and options.notebooks:
        raise UserError(f"{folder} is a class already: add students without naming notebooks")
    if not there:
        release = grading.write_class(folder, _notebooks(options.notebooks))
        if not names:
            print(f"hand out {release}")
    for own in grading.add_students(folder, names) if names else []:
        print(f"hand out {own} to {own.parent.name}")
    print(
        f"put what the students hand in into {folder / 'submitted' / 'STUDENT' / ASSIGNMENT}, "
        f"then: rlhf-lab course grade {folder}"
    )


def _grade(options: argparse.Namespace) -> None:
    folder = Path(options.folder)
    _tell(folder, grading.grade_class(folder))
    print(f"what each check said: {folder / 'autograded'}")


def _marks(options: argparse.Namespace) -> None:
    folder = Path(options.folder)
    _tell(folder, grading.class_marks(folder))


def _slides(options: argparse.Namespace) -> None:
    place = write_slides(Path(options.folder))
    print(f"wrote {place}: open it in a browser; the key n shows the notes")


def _tell(folder: Path, rows: list[dict]) -> None:
    """Everybody's points, and what waits for a person."""
    waiting = 0.0
    for student, (points, of, wait) in grading.points_by_student(rows).items():
        note = f"  (of these points {wait:g} wait for a person)" if wait else ""
        print(f"{points:5g} of {of:g}  {visible(student)}{note}")
        waiting += wait
    if waiting:
        print(
            f"answers in words wait: mark them in `nbgrader formgrader`, started in {folder} (what "
            f"to look for: {folder / grading.RUBRICS}), then: rlhf-lab course marks {folder}"
        )
    print(f"notebook by notebook: {folder / grading.MARKS}")


def _forget(options: argparse.Namespace) -> None:
    places = [Path(place) for place in options.places]
    found = survey(options.name, places)
    going = [(each, each.remove) for each in found if each.remove]
    failed = 0
    for each, remove in going:
        done = "would be removed"
        if options.delete:
            try:
                remove()
                done = "removed"
            except Exception as error:  # whatever stops one thing must not stop the others
                done, failed = f"NOT removed ({error})", failed + 1
        print(f"{done}: {visible(str(each.place))}: {each.what}")
    rest = survey(options.name, places) if options.delete else found
    for each in [*rest, *(made for made in found if made not in rest)]:
        if not each.remove:
            print(f"look at: {visible(str(each.place))}: {each.what}")
    if not found:
        print(f"nothing of {visible(options.name)} was found")
    elif not options.delete and going:
        print('nothing was changed: add --delete to remove what "would be removed"')
    print(BEYOND)
    if failed:
        raise UserError(f"{counted(failed, 'thing')} could not be removed: see above")


def _notebooks(names: Sequence[str]) -> list[Path]:
    return list(_existing(names)) or sorted(project_file("notebooks").glob("*.ipynb"))


def _existing(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        if not Path(name).is_file():
            raise UserError(f"there is no notebook {name}: check its name and folder")
        yield Path(name)


def _names(file: Path) -> list[str]:
    """The names in a file, one on each line."""
    try:
        names = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: it should hold a name on each line") from error
    if not names:
        raise UserError(f"{file} is empty: write a name on each line")
    return names
