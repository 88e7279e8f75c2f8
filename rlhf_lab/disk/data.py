"""Where the files that come with the lab are: in the clone, or in the installed package."""

import os
from pathlib import Path

from rlhf_lab.errors import UserError

PACKAGE = Path(__file__).parents[1]
# The build puts what the package needs from outside its own folder here (see pyproject.toml).
SHIPPED = PACKAGE / "_shipped"


def project_file(name: str) -> Path:
    """The path of a project file or folder, such as "notebooks" or "rlhf_lab/ppo.py", given its
    path in a clone. An installed package has most of them, but not all: the path may not exist."""
    root = SHIPPED if SHIPPED.is_dir() and not name.startswith("rlhf_lab") else PACKAGE.parent
    return root / name


def data_folder() -> Path:
    """The folder data/ that came with the lab, or the one that RLHF_LAB_DATA names.

    Raises UserError if it is not there.
    """
    named = os.environ.get("RLHF_LAB_DATA")
    folder = Path(named) if named else project_file("data")
    if not folder.is_dir():
        what = "set RLHF_LAB_DATA to the lab's data folder" + ", or unset it" * bool(named)
        raise UserError(f"no data folder at {folder}: {what}")
    return folder


def base_model(name: str = "base") -> Path:
    """The folder of a compact base model and its tokenizer; a task names its own (`Task.base`)."""
    return data_folder() / name


def base_model_name(name: str = "base") -> str:
    """The same path as a run records it: relative to the working folder, so that a run in a clone
    contains no path of this machine. On Windows it is absolute if the two are on different
    drives."""
    folder = base_model(name)
    try:
        return os.path.relpath(folder)
    except ValueError:
        return str(folder)


def shipped(name: str) -> Path:
    """A file or folder of the run that comes with the lab (data/demo): the models "sft",
    "reward_model" and "policy", "rankings.jsonl.gz", "metrics.jsonl", "summary.json", ...

    Raises UserError, which lists the known names, for any other name.
    """
    folder = data_folder() / "demo"
    if not (folder / name).exists():
        there = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise UserError(f"no '{name}' in {folder}: choose one of {there}")
    return folder / name
