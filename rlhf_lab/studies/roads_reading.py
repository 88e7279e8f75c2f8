"""Results of the roads study: frontiers of mark against KL, and what each road spends."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch

from rlhf_lab.intervals import interval
from rlhf_lab.show.panels import MARKERS, SERIES
from rlhf_lab.show.plots import STYLE, Picture
from rlhf_lab.studies.results import summaries

COLOURS = {
    "ppo": SERIES["policy"],
    "rloo": SERIES["sft"],
    "grpo": SERIES["score"],
    "dpo": SERIES["kl"],
    "best of n": SERIES["best_of_n"],
}
Setting = tuple[str, float, str]  # road, strength, variant
NAMES = {"ppo": "PPO", "rloo": "RLOO", "grpo": "GRPO", "dpo": "DPO", "best of n": "best of n"}


def trials(folder: Path) -> pd.DataFrame:
    """Every tuning trial: columns road, trial, settings, mark and kl (means over its seeds), seeds
    (how many), chosen."""
    rows = [
        {
            "road": s["arm"]["road"],
            "trial": s["arm"]["trial"],
            "settings": ", ".join(
                f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}"
                for k, v in s["arm"]["settings"].items()
            ),
            "mark": s["policy"]["mark"][0],
            "kl": s["policy"]["kl"][0],
        }
        for s in summaries(folder)
        if s["arm"]["trial"] is not None
    ]
    by_trial = pd.DataFrame(rows).groupby(["road", "trial", "settings"], as_index=False)
    found = by_trial.agg(mark=("mark", "mean"), kl=("kl", "mean"), seeds=("mark", "size"))
    found["chosen"] = found.groupby("road")["mark"].transform("max") == found["mark"]
    return found


def ends(folder: Path) -> pd.DataFrame:
    """Each run's results on fresh responses and what it spent: columns road, variant ("" for the
    road as tuned), strength, seed, sft, mark, low, high, wins, kl, length, distinct, samples,
    steps, seconds, reward_seconds, peak_memory_mb, marks (the mean mark of each prompt)."""
    rows = []
    for s in summaries(folder):
        if s["arm"]["trial"] is not None:
            continue
        mark, low, high = s["policy"]["mark"]
        rows.append(
            {
                "road": s["arm"]["road"],
                "variant": s["arm"].get("variant", ""),
                "strength": s["arm"]["strength"],
                "seed": s["seed"],
                "sft": s["sft"]["mark"][0],
                "mark": mark,
                "low": low,
                "high": high,
                "wins": s["policy"]["wins"][0],
                "kl": s["policy"]["kl"][0],
                "length": s["policy"]["length"],
                "distinct": s["policy"]["distinct"],
                **s["spent"],
                "marks": s["policy"].get("marks"),
            }
        )
    return pd.DataFrame(rows)


def bracketed(trials: pd.DataFrame) -> pd.Series:
    """Whether each road's best learning rate lies between two worse ones, among its first trials,
    which differ only in the learning rate: an entry for each road."""

    def inside(rows: pd.DataFrame) -> bool:
        marks = rows.sort_values("trial")["mark"].to_numpy()[:-1]  # the last takes more passes
        return 0 < marks.argmax() < len(marks) - 1

    return pd.Series({road: inside(rows) for road, rows in trials.groupby("road")})


def ahead(runs: pd.DataFrame, one: Setting, other: Setting) -> pd.DataFrame:
    """How much higher one road's marks are than another's, with the 95 % interval of the difference
    paired by prompt: a row for each seed, columns ahead, low, high, kl and other_kl.

    one, other: (road, strength, variant).
    """
    rows = {}
    for seed in sorted(set(runs["seed"])):
        a, b = (
            runs[
                (runs["seed"] == seed)
                & (runs["road"] == road)
                & (runs["strength"] == strength)
                & (runs["variant"] == variant)
            ].iloc[0]
            for road, strength, variant in (one, other)
        )
        difference = torch.tensor(a["marks"]) - torch.tensor(b["marks"])
        found = interval(difference[:, None])
        rows[seed] = dict(zip(("ahead", "low", "high"), found)) | {
            "kl": a["kl"],
            "other_kl": b["kl"],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")


def frontiers(runs: pd.DataFrame, best_of_n: pd.DataFrame | None = None) -> Picture:
    """Mark against KL: a dot for each run, joined along the strengths of a seed; a larger dot is a
    larger strength. Best-of-n has a dot for each n. Up and left is better."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(6.8, 4.4))
        axes = figure.add_subplot()
        as_tuned = runs[runs["variant"] == ""]
        for (road, seed), rows in as_tuned.groupby(["road", "seed"], sort=False):
            rows, colour = rows.sort_values("kl"), COLOURS[road]
            distance = np.sqrt(rows["kl"].clip(lower=0))
            axes.plot(distance, rows["mark"], "-", color=colour, linewidth=0.9)
            axes.scatter(
                distance,
                rows["mark"],
                14 * rows["strength"].rank() ** 1.4,
                colour,
                marker=MARKERS[list(NAMES).index(road)],
                zorder=3,
                label=NAMES[road] if seed == runs["seed"].min() else None,
            )
        if best_of_n is not None:
            for seed, rows in best_of_n.groupby("seed"):
                axes.plot(
                    np.sqrt(rows["objective/kl"].clip(lower=0)),
                    rows["judge/mark"],
                    "v--",
                    color=COLOURS["best of n"],
                    linewidth=0.9,
                    markersize=3.5,
                    label="best of n" if seed == best_of_n["seed"].min() else None,
                )
        axes.set(
            xlabel="distance: sqrt(KL / nats)",
            ylabel="judge's mark (points)",
            title="What a nat buys: every seed a line; the larger the dot, the dearer a nat",
        )
        axes.legend(loc="lower right")
    return figure


def spent(runs: pd.DataFrame, costs: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """What a road costs: the samples and gradient steps of the study's runs; from `costs`, the
    seconds for training and for its reward model, their sum relative to PPO's, and the larger peak
    memory of the two in MB; and how many responses one answer needs when the model is used.

    costs: what `benchmarks/roads.py` wrote. The study's own seconds and memory are not used, since
    its runs shared a machine, several in one process.
    """
    as_tuned = runs[runs["variant"] == ""]
    table = as_tuned.groupby("road", sort=False)[["samples", "steps"]].first().astype(int)
    learner = costs["reward model"]
    for road in table.index:
        first = {"seconds": 0.0, "peak_memory_mb": 0.0} if road == "dpo" else learner
        table.loc[road, "seconds"] = costs[road]["seconds"]
        table.loc[road, "reward model, seconds"] = first["seconds"]
        table.loc[road, "peak memory, MB"] = max(
            costs[road]["peak_memory_mb"], first["peak_memory_mb"]
        )
    total = table["seconds"] + table["reward model, seconds"]
    table["of PPO's time"] = total / total["ppo"]
    table["responses at use"] = 1
    return table.rename(index=NAMES)
