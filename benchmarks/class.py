"""A class that is made, solved, handed in, graded and exported: how long it takes, and whether
everybody gets the points that they should.

    python benchmarks/class.py --students 30
    python benchmarks/class.py --students 30 --notebooks notebooks/04*.ipynb

Each student has an edition with numbers of their own. Of every five students, three hand in right
answers, one hands in a mistake in one exercise, and one the stubs as they were. Students hand in
whole notebooks; grading runs their exercises and checks, on their own inputs and on hidden ones.
The times are those of this machine with whatever else it does, so they are printed with the load.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from rlhf_lab.course.editions import exercises, tags
from rlhf_lab.course.grading import ASSIGNMENT, add_students, grade_class, write_class

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("right", "right", "right", "one mistake", "blank")


def main() -> int:
    args = parse_arguments()
    paths = args.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    names = [f"student{number:02d}" for number in range(args.students)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "class"
        began = time.perf_counter()
        write_class(folder, paths)
        made = time.perf_counter()
        add_students(folder, names)
        numbered = time.perf_counter()
        for name, kind in zip(names, KINDS * len(names)):
            hand_in(folder, name, kind, paths)
        handed_in = time.perf_counter()
        rows = grade_class(folder)
        graded = time.perf_counter()
        size = (folder / "gradebook.db").stat().st_size / 2**20
    wrong = [row for row in rows if row["points"] != points(row, names, paths)]
    count = len(names) * len(paths)
    print(f"{len(names)} students, {len(paths)} notebooks each; load {os.getloadavg()[0]:.1f}")
    print(f"class made in {made - began:.0f} s, editions in {numbered - made:.1f} s")
    print(
        f"{count} notebooks graded in {graded - handed_in:.0f} s, "
        f"{(graded - handed_in) / count:.1f} s each; gradebook {size:.1f} MB"
    )
    print(f"rows of marks: {len(rows)}; points other than expected: {len(wrong)}")
    for row in wrong:
        print(f"   {row}")
    return 1 if wrong or len(rows) != count else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--notebooks", type=Path, nargs="+", help="default: all of the course")
    return parser.parse_args()


def hand_in(folder: Path, name: str, kind: str, paths: list[Path]) -> None:
    """Write into a student's edition what a student of this kind writes, and hand it in."""
    for path in paths:
        edition = nbformat.read(folder / "editions" / name / ASSIGNMENT / path.name, as_version=4)
        source = nbformat.read(folder / "source" / ASSIGNMENT / path.name, as_version=4)
        right = {of(cell): cell.source for cell in source.cells if "exercise" in tags(cell)}
        stubs = [cell for cell in edition.cells if "exercise" in tags(cell) and kind != "blank"]
        for number, cell in enumerate(stubs):
            cell.source = right[of(cell)]
            if kind == "one mistake" and number == 0:
                cell.source += f"\n\n\n{mistaken(cell.source)}"
        for cell in edition.cells:
            if "written" in tags(cell) and kind != "blank":
                cell.source = "I expected the opposite, because the score is all that it sees."
        target = folder / "submitted" / name / ASSIGNMENT / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(edition, target)


def of(cell: nbformat.NotebookNode) -> str:
    return cell.metadata.nbgrader.grade_id


def mistaken(source: str) -> str:
    """A function that takes the place of a right one, and gives twice its answer or its reverse."""
    name = source.split("def ")[1].split("(")[0]
    return (
        f"def wrong(*given, right={name}):\n    answer = right(*given)\n"
        "    parts = answer if isinstance(answer, tuple) else (answer,)\n"
        "    parts = [2 * x if getattr(x, 'dtype', bool) not in (bool, torch.bool) else x == 0"
        " for x in parts]\n"
        f"    return tuple(parts) if isinstance(answer, tuple) else parts[0]\n\n\n{name} = wrong"
    )


def points(row: dict, names: list[str], paths: list[Path]) -> float:
    """What a student should get before a person has marked anything."""
    path = next(path for path in paths if path.stem == row["notebook"])
    count = len(exercises(nbformat.read(path, as_version=4)))
    kind = KINDS[names.index(row["student"]) % len(KINDS)]
    return {"right": count, "one mistake": count - 1, "blank": 0}[kind]


if __name__ == "__main__":
    sys.exit(main())
