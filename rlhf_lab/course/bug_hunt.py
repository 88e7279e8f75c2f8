"""The bug hunt of notebook 05b: the recorded runs as a learner sees them, the six measurements that
tell the faults apart, and what they say to a diagnosis.

    runs = recorded_runs()
    diagnose(runs["run A"], "dropout is on in training", "first log-ratio")

The key is in `studies.bug_hunt.ARMS`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib
import pandas as pd
import torch
from torch import Tensor

from rlhf_lab.course.exercises import nb05b_bug_hunt as checks
from rlhf_lab.course.exercises.examine import judge
from rlhf_lab.disk.data import data_folder
from rlhf_lab.errors import UserError
from rlhf_lab.show.panels import PPO, SERIES
from rlhf_lab.show.plots import STYLE, Picture
from rlhf_lab.studies.bug_hunt import (
    ARMS,
    BETA,
    DROPOUT,
    END,
    FAULTS,
    HEALTHY,
    LABELS,
    PLACE,
    RETURNS,
)
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
CHECKS = {
    exercise.name: exercise
    for exercise in (checks.FIRST_RATIO_CHECK, checks.SCORE_POSITION, checks.LAST_RETURN_GAP)
}


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


def instruments(
    say: Callable[[str], None] = print, **written: Callable
) -> dict[str, Callable[..., Tensor]]:
    """The checks to use: the learner's where they pass their own check, else the package's."""
    chosen = {}
    for name, function in written.items():
        right = judge(CHECKS[name], function, own=True).right
        chosen[name] = function if right else CHECKS[name].right
        say(f"{name}: {'yours' if right else 'the package, as yours does not pass its check yet'}")
    return chosen


# ---- the measurements ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Measurement:
    """of: its value for a run. fine: whether that is as it should be. should: how it should be, in
    words."""

    of: Callable[[RecordedRun], float]
    fine: Callable[[float], bool]
    should: str


def bill(run: RecordedRun) -> float:
    """The largest difference, over the updates, between the rewards of a response, summed, and its
    score minus beta times its KL (mean over the batch)."""
    return max(
        abs(float(r["objective/rlhf_reward"]) - float(r["objective/scores"]) - _price(r))
        for r in run.metrics
    )


def _price(record: Record) -> float:
    return float(record["objective/non_score_reward"])


def first_log_ratio(run: RecordedRun) -> float:
    """The largest |log-ratio| between sampling and training, before the step."""
    some = run.batch
    return float(checks.first_ratio_check(some["logprob"], some["new_logprob"], some["mask"]))


def place_of_score(run: RecordedRun) -> float:
    """How many tokens too early the score stands, in the response where it is most."""
    some = run.batch
    names = ("reward", "logprob", "ref_logprob", "mask")
    beta = float(run.metrics[0]["objective/beta"])
    return float(checks.score_position(*(some[name] for name in names), beta).abs().max())


def last_return(run: RecordedRun) -> float:
    """The largest difference between return and reward at the last token of a response."""
    some = run.batch
    return float(checks.last_return_gap(some["return"], some["reward"], some["mask"]))


MEASUREMENTS = {
    "ended": Measurement(
        lambda run: float(run.metrics[0]["response/ended"]),
        lambda x: x >= 0.8,
        "the share of the responses of the first update that end by themselves should be near 1",
    ),
    "first log-ratio": Measurement(
        first_log_ratio,
        lambda x: x < 1e-3,
        "the largest |log-ratio| between sampling and training, before the step, should be 0",
    ),
    "bill": Measurement(
        bill,
        lambda x: x < 1e-3,
        "the rewards of a response should add up to its score minus beta times its KL; they differ "
        "by at most",
    ),
    "place of the score": Measurement(
        place_of_score, lambda x: x == 0, "the score should stand 0 tokens before the last real one"
    ),
    "last return": Measurement(
        last_return,
        lambda x: x < 1e-3,
        "at the last token the return should be the reward; they differ by at most",
    ),
    "reward model": Measurement(
        lambda run: run.accuracy,
        lambda x: x >= 0.75,
        "the reward model should order about 80 % of held-out pairs as the labellers did",
    ),
}
# The measurement that each fault moves, and no other fault does.
SHOWS = {
    END: "ended",
    DROPOUT: "first log-ratio",
    BETA: "bill",
    PLACE: "place of the score",
    RETURNS: "last return",
    LABELS: "reward model",
}
CURVES = ("curves", "answers", "alarms")  # evidence that proves nothing by itself
CHOICES = (HEALTHY, *FAULTS)
EVIDENCE = (*MEASUREMENTS, *CURVES)


def measured(runs: Mapping[str, RecordedRun]) -> pd.DataFrame:
    """Every measurement of every run: a line for each run."""
    return pd.DataFrame(
        {name: {run: m.of(runs[run]) for run in runs} for name, m in MEASUREMENTS.items()}
    )


# ---- a diagnosis ---------------------------------------------------------------------------------


def diagnose(run: RecordedRun, fault: str = "", evidence: str = "") -> None:
    """Print what the recording says to a diagnosis. fault: one of CHOICES; evidence: one of
    EVIDENCE. Raises UserError for anything else."""
    print(f"{run.name}: {verdict(run, fault, evidence)}")


def verdict(run: RecordedRun, fault: str, evidence: str = "") -> str:
    """What the recording says to a diagnosis, in words. A wrong one is answered with the
    measurement that excludes it, and the right one is not told."""
    if not fault:
        return f"not diagnosed yet. Choose from {', '.join(map(repr, CHOICES))}."
    for name, choices, what in ((fault, CHOICES, "fault"), (evidence, ("", *EVIDENCE), "evidence")):
        if name not in choices:
            raise UserError(f"no {what} {name!r}: choose from {', '.join(map(repr, choices))}")
    off = [name for name, m in MEASUREMENTS.items() if not m.fine(m.of(run))]
    if fault == HEALTHY:
        return _healthy(off)
    decisive = SHOWS[fault]
    reading = _reading(run, decisive)
    if decisive not in off:
        return f"excluded by the measurement {decisive!r}. {reading}, as in a healthy run."
    if evidence == decisive:
        return f"yes. {reading}."
    return f"the fault is right, but {_weak(run, evidence)}"


def _healthy(off: Sequence[str]) -> str:
    if off:
        return "something is wrong: one of the six measurements is not as it should be."
    return "yes, as far as can be told: all six measurements are as they should be."


def _weak(run: RecordedRun, evidence: str) -> str:
    if not evidence:
        return f"what shows it? Name the evidence: {', '.join(map(repr, EVIDENCE))}."
    if evidence in CURVES:
        return (
            f"{evidence} do not prove it: another fault, or another seed, can look the same. "
            f"Which measurement does? {', '.join(map(repr, MEASUREMENTS))}."
        )
    return f"{evidence!r} does not show it. {_reading(run, evidence)}, as in a healthy run."


def _reading(run: RecordedRun, name: str) -> str:
    one = MEASUREMENTS[name]
    return f"Measured: {one.of(run):.2g} ({one.should})"


# ---- what is shown -------------------------------------------------------------------------------


def overview(runs: Mapping[str, RecordedRun], metrics: Sequence[str] = DRAWN) -> Picture:
    """Small curves: a column for each run, a row for each metric, with one scale along a row."""
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
        for axes, name in zip(every[0], runs):
            axes.set_title(name)
        for axes in every[-1]:
            axes.set_xlabel("update")
    return figure


def answers_of(run: RecordedRun, prompts: int = 2) -> pd.DataFrame:
    """The run's answers to the first of its prompts, at the start, half way and at the end."""
    chosen = run.answers["prompt"].drop_duplicates().head(prompts)
    found = run.answers[run.answers["prompt"].isin(chosen)].copy()
    found["order"] = found["prompt"].map({text: i for i, text in enumerate(chosen)})
    found = found.sort_values(["order", "update"])[["update", "score", "mark", "response"]]
    return found.round({"score": 2, "mark": 1}).reset_index(drop=True)


def token_row(run: RecordedRun, row: int = 0, last: int = 8) -> pd.DataFrame:
    """What PPO computed for the last tokens of a recorded response."""
    found = run.tokens[run.tokens["row"] == row]
    if found.empty:
        raise UserError(f"no row {row}: {run.name} has rows 0 to {run.tokens['row'].max()}")
    return found[["text", *NUMBERS]].tail(last).round(3)
