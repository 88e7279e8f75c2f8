"""The bug hunt of notebook 05b: the recorded runs as a learner sees them. What they say to a
diagnosis is in `diagnosis`, the key in `studies.bug_hunt.ARMS`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib
import pandas as pd
import torch
from torch import Tensor

from rlhf_lab.disk.data import data_folder
from rlhf_lab.errors import UserError
from rlhf_lab.show.alarms import alarms
from rlhf_lab.show.cards import Card, Cards
from rlhf_lab.show.panels import PPO, SERIES
from rlhf_lab.show.plots import STYLE, Picture
from rlhf_lab.studies.bug_hunt import ARMS
from rlhf_lab.studies.results import lines, place_of
from rlhf_lab.training import Record

NUMBERS = ("logprob", "new_logprob", "ref_logprob", "reward", "value", "return", "advantage")
DRAWN = (
    "objective/scores",
    "judge/mark",
    "objective/kl",
    "policy/clipfrac_avg",
    "loss/value_avg",
    "response/length",
)
SCALES = {"objective/kl": "symlog", "loss/value_avg": "log"}


@dataclass(frozen=True)
class RecordedRun:
    """One recorded run. metrics: PPO's records. answers: columns update, prompt, response, score,
    mark. tokens: a line for each token of a few responses of one early update, with the response's
    number in `row`. accuracy: the reward model's, on held-out rankings."""

    name: str
    metrics: list[Record]
    answers: pd.DataFrame
    tokens: pd.DataFrame
    accuracy: float

    @cached_property
    def batch(self) -> dict[str, Tensor]:
        """The tokens as tensors: NUMBERS by name and `mask`, each (B, N), 0 on padding; scores,
        (B,)."""
        rows = [rows for _, rows in self.tokens.groupby("row")]
        found = {
            name: torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(row[name].to_numpy(), dtype=torch.float32) for row in rows],
                batch_first=True,
            )
            for name in NUMBERS
        }
        lengths = torch.tensor([len(row) for row in rows])
        found["mask"] = torch.arange(int(lengths.max())) < lengths[:, None]
        return found | {"scores": torch.tensor([row["score"].iloc[0] for row in rows])}


def recorded_runs(folder: Path | None = None, seed: int = 0) -> dict[str, RecordedRun]:
    """The recorded runs by their names; folder: that of the study, if not the shipped one.

    Raises UserError if a run is not there.
    """
    folder = folder or data_folder() / "bug_hunt"
    found = {}
    for arm in ARMS:
        place = place_of(folder, arm.name, seed)
        if not (place / "summary.json").exists():
            raise UserError(
                f"no {arm.name} of seed {seed} in {folder}: make it with `rlhf-lab study bug_hunt "
                f"--out {folder} --seeds {seed}`"
            )
        summary = json.loads((place / "summary.json").read_text(encoding="utf-8"))
        tables = {
            name: lines(place / f"{name}.jsonl.gz") for name in ("metrics", "answers", "tokens")
        }
        found[arm.name] = RecordedRun(
            arm.name,
            tables["metrics"],
            pd.DataFrame(tables["answers"]),
            pd.DataFrame(tables["tokens"]),
            summary["reward_accuracy"],
        )
    return found


# ---- what is shown -------------------------------------------------------------------------------


def overview(runs: Mapping[str, RecordedRun], metrics: Sequence[str] = DRAWN) -> Picture:
    """Small curves: a column for each run, a row for each metric, with one scale along a row. KL
    and value loss have a logarithmic scale, the KL's linear below 1."""
    panels = [panel for panel in PPO if panel.lines[0].metric in metrics]
    with matplotlib.rc_context(STYLE | {"font.size": 8, "axes.titlesize": 9}):
        figure = Picture(figsize=(1.75 * len(runs), 1.45 * len(panels)))
        every = figure.subplots(len(panels), len(runs), sharex=True, sharey="row", squeeze=False)
        for row, panel in zip(every, panels):
            [line] = panel.lines
            for axes, run in zip(row, runs.values()):
                updates = [r["update"] for r in run.metrics]
                axes.plot(updates, [r[line.metric] for r in run.metrics], color=SERIES[line.colour])
            row[0].set_ylabel(f"{panel.title.removeprefix('PPO: ')}\n({panel.unit})")
            if line.metric in SCALES:
                row[0].set_yscale(SCALES[line.metric])
                row[0].yaxis.set_major_formatter("{x:g}")
        for axes, name in zip(every[0], runs):
            axes.set_title(name)
        for axes in every[-1]:
            axes.set_xlabel("update")
    return figure


def alarms_of(run: RecordedRun) -> pd.DataFrame:
    """The alarms that the run raised: columns alarm, update (of the first time) and text (of
    then)."""
    found: dict[str, tuple[int, str]] = {}
    for update in range(1, len(run.metrics) + 1):
        for one in alarms(run.metrics[:update]):
            found.setdefault(one.name, (update, one.text))
    rows = [(name, update, text) for name, (update, text) in found.items()]
    return pd.DataFrame(rows, columns=["alarm", "update", "text"])


def answers_of(run: RecordedRun, prompts: int = 2) -> Cards:
    """The run's answers to the first of its prompts, at the start, half way and at the end."""
    groups = []
    for prompt in run.answers["prompt"].drop_duplicates().head(prompts):
        found = run.answers[run.answers["prompt"] == prompt].sort_values("update")
        cards = [
            Card(row.response, f"update {row.update}", row.mark, row.score)
            for row in found.itertuples()
        ]
        groups.append((prompt, cards))
    return Cards(groups)


def token_row(run: RecordedRun, row: int = 0, last: int = 8) -> pd.DataFrame:
    """What PPO computed for the last tokens of a recorded response."""
    found = run.tokens[run.tokens["row"] == row]
    if found.empty:
        raise UserError(f"no row {row}: {run.name} has rows 0 to {run.tokens['row'].max()}")
    return found[["text", *NUMBERS]].tail(last).round(3)
