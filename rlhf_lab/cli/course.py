"""`rlhf-lab course`: the notebooks for a class, without solutions or to grade by."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlhf_lab.course.editions import EDITIONS, write_edition
from rlhf_lab.errors import UserError


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "edition",
        choices=sorted(EDITIONS),
        help="student: without solutions; instructor: solutions in the stubs, for nbgrader",
    )
    sub.add_argument("folder", help="where to write it")
    sub.add_argument("notebooks", nargs="+", help="notebooks of the course")


def run(options: argparse.Namespace) -> None:
    for path in write_edition(
        options.edition, list(_existing(options.notebooks)), Path(options.folder)
    ):
        print(f"wrote {path}")


def _existing(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        if not Path(name).is_file():
            raise UserError(f"there is no notebook {name}: check its name and folder")
        yield Path(name)
