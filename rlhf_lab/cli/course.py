"""`rlhf-lab course`: the notebooks in a folder of one's own, whole or for a class."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlhf_lab.course.editions import EDITIONS, LINKED, write_edition
from rlhf_lab.disk.data import project_file
from rlhf_lab.errors import UserError


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "edition",
        choices=list(EDITIONS),
        help="notebooks: whole, as they were run; student: without solutions; instructor: "
        "solutions in the stubs, for nbgrader",
    )
    sub.add_argument("folder", help="where to write it")
    sub.add_argument("notebooks", nargs="*", help="which notebooks; if none are named, all")


def run(options: argparse.Namespace) -> None:
    notebooks = list(_existing(options.notebooks)) or sorted(
        project_file("notebooks").glob("*.ipynb")
    )
    for path in write_edition(options.edition, notebooks, Path(options.folder)):
        print(f"wrote {path}")
    linked = Path(options.folder) / LINKED
    if linked.is_dir():
        print(f"what they link to is in {linked}, to read")


def _existing(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        if not Path(name).is_file():
            raise UserError(f"there is no notebook {name}: check its name and folder")
        yield Path(name)
