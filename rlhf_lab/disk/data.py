"""Where the files that come with the lab are: in the clone, or in the installed package."""

import os
from pathlib import Path

from rlhf_lab.errors import UserError

PACKAGE = Path(__file__).parents[1]
# The build puts what the package needs from outside its own folder here (see pyproject.toml).
SHIPPED = PACKAGE / "_shipped"


def project_file(name: str) -> Path:
    """Where a file or folder of the project is, such as "notebooks" or "rlhf_lab/ppo.py", by its
    path in a clone. A package that was installed without its clone has most of them; the path may
    lead to nothing."""
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


def base_model() -> Path:
    """The folder of the compact base model and its tokenizer."""
    return data_folder() / "base"


def base_model_name() -> str:
    """The same, as a run notes it: relative to the working folder, so that a run in a clone names
    no machine's paths. On Windows it is absolute if the two are on different drives."""
    try:
        return os.path.relpath(base_model())
    except ValueError:
        return str(base_model())


def shipped(name: str) -> Path:
    """A file or folder of the run that comes with the lab (data/demo): the models "sft",
    "reward_model" and "policy", "rankings.jsonl.gz", "metrics.jsonl", "summary.json", ...

    Raises UserError, with what there is, for any other name.
    """
    folder = data_folder() / "demo"
    if not (folder / name).exists():
        there = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise UserError(f"no '{name}' in {folder}: there are {there}")
    return folder / name
