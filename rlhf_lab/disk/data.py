"""Where the files that come with the lab are: the clone's data/ folder."""

import os
from pathlib import Path

from rlhf_lab.errors import UserError


def data_folder() -> Path:
    """The folder data/ of the clone, or the one that RLHF_LAB_DATA names.

    Raises UserError if it is not there, as when the package was installed without its clone.
    """
    named = os.environ.get("RLHF_LAB_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "data"
    if not folder.is_dir():
        raise UserError(f"no data folder at {folder}: work from a clone, or set RLHF_LAB_DATA")
    return folder


def base_model() -> Path:
    """The folder of the compact base model and its tokenizer."""
    return data_folder() / "base"


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
