"""Read the runs of a study: their summaries and their tables, with each run's arm and seed."""

import gzip
import json
from pathlib import Path

import pandas as pd

from rlhf_lab.errors import UserError


def place_of(folder: Path, arm: str, seed: int) -> Path:
    """The folder of one run."""
    return folder / arm.replace(", ", "-").replace(" ", "_") / str(seed)


def summaries(folder: Path) -> list[dict]:
    """The summary of every run that trained something; arm has its name, seed is a number.

    Raises UserError if there is no run in the folder.
    """
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*/*/summary.json"))
    ]
    found = [summary for summary in found if "arm" in summary]
    if not found:
        raise UserError(
            f"no run in {folder}: make them with `rlhf-lab study {folder.name} --out {folder}`"
        )
    return found


def made_by(folder: Path) -> dict[str, str]:
    """The version of the lab that made each arm's runs; "before 0.3.0" if it is not recorded."""
    found: dict[str, set[str]] = {}
    for summary in summaries(folder):
        arm = summary["arm"]["name"]
        found.setdefault(arm, set()).add(summary.get("version", "before 0.3.0"))
    return {arm: ", ".join(sorted(versions)) for arm, versions in found.items()}


def table(folder: Path, name: str) -> pd.DataFrame:
    """The table NAME.jsonl.gz of every run that has it, with columns arm and seed in front. Raises
    UserError if no run has it."""
    rows = []
    for summary in summaries(folder):
        names = {"arm": summary["arm"]["name"], "seed": summary["seed"]}
        path = place_of(folder, names["arm"], names["seed"]) / f"{name}.jsonl.gz"
        rows += [names | row for row in lines(path)] if path.exists() else []
    if not rows:
        raise UserError(
            f"no run in {folder} has {name}.jsonl.gz: run the study again into a new folder (--out)"
        )
    return pd.DataFrame(rows)


def lines(path: Path) -> list[dict]:
    """The rows of a compressed table."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
