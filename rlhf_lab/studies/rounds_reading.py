"""Results of the rounds and labels studies: tables by round and by seed, and their pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch

from rlhf_lab.compare.measure import paired
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import Responses
from rlhf_lab.records import Prompt
from rlhf_lab.show.panels import GUIDE, MARKERS, SERIES
from rlhf_lab.show.plots import STYLE, Picture, running_mean
from rlhf_lab.studies.results import lines, place_of, summaries

WINDOW = 6  # updates of a running mean


def after_rounds(folder: Path) -> pd.DataFrame:
    """Each run's mark after each of its rounds, on fresh responses: columns arm, seed, round, sft,
    mark, low, high (95 %, over prompts), kl."""
    rows = []
    for run in summaries(folder):
        for number, found in enumerate(run["after"], 1):
            mark, low, high = found["mark"]
            rows.append(
                {
                    "arm": run["arm"]["name"],
                    "seed": run["seed"],
                    "round": number,
                    "sft": run["sft"]["mark"][0],
                    "mark": mark,
                    "low": low,
                    "high": high,
                    "kl": found["kl"][0],
                }
            )
    return pd.DataFrame(rows)


def differences(folder: Path, first: str, second: str) -> pd.DataFrame:
    """How much higher the second arm's mark is than the first's, for each seed, paired by prompt:
    columns seed, difference, low, high. Seeds that only one of the arms has are left out."""
    marks = {
        (run["arm"]["name"], run["seed"]): torch.tensor(run["policy"]["marks"])[:, None]
        for run in summaries(folder)
    }
    seeds = sorted(seed for arm, seed in marks if arm == first and (second, seed) in marks)
    return pd.DataFrame(
        [(seed, *paired(marks[second, seed], marks[first, seed])) for seed in seeds],
        columns=["seed", "difference", "low", "high"],
    )


def liking(folder: Path, arms: Sequence[str]) -> pd.DataFrame:
    """How often each labeller (a column), without noise, likes an arm's responses better than the
    SFT policy's, ties half, averaged over seeds; a row for each arm."""
    found = {
        arm: [
            {who: rate for who, (rate, *_) in run["liked"].items()}
            for run in summaries(folder)
            if run["arm"]["name"] == arm
        ]
        for arm in arms
    }
    return pd.DataFrame({arm: pd.DataFrame(rows).mean() for arm, rows in found.items()}).T


def answers_of(folder: Path, arm: str, seed: int) -> Responses:
    """One response of an arm's policy to each of the judged prompts: texts alone, for people to
    read and compare. Raises UserError if there is no such run."""
    path = place_of(folder, arm, seed) / "answers.jsonl.gz"
    if not path.exists():
        raise UserError(
            f"no run of '{arm}' with seed {seed} in {folder}: after_rounds lists the runs there"
        )
    rows = lines(path)
    prompts = [Prompt(str(i), row["prompt"]) for i, row in enumerate(rows)]
    return Responses(prompts, [[row["policy"]] for row in rows], sequences=None, ended=None)


def progress(
    metrics: pd.DataFrame, columns: Mapping[str, Mapping[str, str]], window: int = WINDOW
) -> Picture:
    """The judge's mark over the updates, a line for every seed and a dotted line where a round
    begins. columns: for each title, the arms with their colours."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(4.4 * len(columns), 4.0))
        all_axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        most = max(map(len, columns.values()))  # lines of the longest legend
        for axes, (title, arms) in zip(all_axes, columns.items()):
            for (arm, colour), marker in zip(arms.items(), MARKERS):
                label = arm
                for _, run in metrics[metrics["arm"] == arm].groupby("seed"):
                    axes.plot(
                        run["update"],
                        running_mean(run["judge/mark"].to_numpy(float), window),
                        color=colour,
                        linewidth=1.3,
                        marker=marker,
                        markevery=10,
                        markersize=4,
                        label=label,
                    )
                    label = None
            for start in _starts(metrics[metrics["arm"].isin(arms)]):
                axes.axvline(start, color=GUIDE, linewidth=0.9, linestyle=":")
            axes.set(xlabel="update (dotted: a round begins)")
            axes.set_title(title, pad=14 + 15 * most)
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
        all_axes[0].set_ylabel("judge's mark (points)")
    return figure


def _starts(metrics: pd.DataFrame) -> list[int]:
    """The first updates of the second and later rounds."""
    rounds = metrics[metrics["round"] > 1].groupby("round")["update"].min()
    return sorted(set(rounds.tolist()))


def label_rows(folder: Path) -> pd.DataFrame:
    """The labels study, a row for each run and number of rankings: columns arm, seed, rankings,
    accuracy, judge_accuracy, correctness, mark, low, high (the last three for best of eight)."""
    rows = []
    for run in summaries(folder):
        for row in run["rows"]:
            mark, low, high = row["best_of_8"]
            rows.append(
                {"arm": run["arm"]["name"], "seed": run["seed"]}
                | {k: v for k, v in row.items() if k != "best_of_8"}
                | {"mark": mark, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def worth(rows: pd.DataFrame) -> Picture:
    """The effect of more rankings, picked at random or where the model is unsure: accuracy on
    rankings picked at random, and the mark of the best of eight; a line for every seed."""
    looks = (("o-", SERIES["base"]), ("s--", SERIES["policy"]))
    look = dict(zip(rows["arm"].unique(), looks))
    shown = (
        ("accuracy", "held-out accuracy (share of pairs)"),
        ("mark", "best of 8: mark (points)"),
    )
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(8.6, 3.4))
        for axes, (name, label) in zip(figure.subplots(1, 2), shown):
            for (arm, seed), run in rows.groupby(["arm", "seed"], sort=False):
                axes.plot(
                    run["rankings"],
                    run[name],
                    look[arm][0],
                    color=look[arm][1],
                    linewidth=1.2,
                    markersize=3.5,
                    label=arm if seed == rows["seed"].min() else None,
                )
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(rows["rankings"].unique()))
            axes.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
            axes.minorticks_off()
            axes.set(xlabel="rankings of four", ylabel=label)
        figure.axes[0].legend()
    return figure


def doubling(rows: pd.DataFrame, name: str = "accuracy") -> float:
    """How much a doubling of the rankings adds, by least squares over log2 of their number, all
    arms and seeds together."""
    return float(np.polyfit(np.log2(rows["rankings"]), rows[name], 1)[0])
