"""Reading a study: how far the mark fell from its peak, and both curves over the distance gone.

The distance is d = sqrt(KL), in which proxy and gold curves of optimised policies are smooth (Gao et
al. 2022).
"""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from rlhf_lab.errors import UserError
from rlhf_lab.plots import SERIES, STYLE, Picture, running_mean

WINDOW = 8  # updates of a running mean: one batch of 64 marks is noisy


def load_metrics(folder: Path) -> pd.DataFrame:
    """The metrics of every run of a study: a row for each update, with the arm's name and the seed.

    Raises UserError if there is no run in the folder.
    """
    rows = []
    for path in sorted(folder.glob("*/*/metrics.jsonl.gz")):
        summary = json.loads((path.parent / "summary.json").read_text(encoding="utf-8"))
        names = {"arm": summary["arm"]["name"], "seed": summary["seed"]}
        rows += [names | json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    if not rows:
        raise UserError(f"no run in {folder}: `rlhf-lab study hacking --out {folder}` makes them")
    return pd.DataFrame(rows)


def overoptimisation(metrics: pd.DataFrame, window: int = WINDOW) -> pd.DataFrame:
    """How far each run fell from its best: a row for each arm and seed.

    Columns arm, seed, start, peak, end (marks; the last two of a running mean), peak_update,
    peak_kl, end_kl, fell: (peak - end) / (peak - start), 0 where the end is the peak, 1 where all
    that was won is lost; nan where nothing was won. The peak is the best of many noisy means, so
    that a little above 0 is what a run has that stays level: confirm a fall on fresh samples.
    """
    rows = []
    for (arm, seed), run in metrics.groupby(["arm", "seed"], sort=False):
        marks = running_mean(run["judge/mark"].to_numpy(float), window)
        kl = running_mean(run["objective/kl"].to_numpy(float), window)
        best, start = int(np.nanargmax(marks)), float(run["judge/mark"].iloc[0])
        won = marks[best] - start
        rows.append({"arm": arm, "seed": seed, "start": start, "peak": marks[best], "end": marks[-1],
                     "peak_update": int(run["update"].iloc[best]), "peak_kl": kl[best],
                     "end_kl": kl[-1],
                     "fell": (marks[best] - marks[-1]) / won if won > 0 else np.nan})  # fmt: skip
    return pd.DataFrame(rows)


def score_and_mark(metrics: pd.DataFrame, arms: Sequence[str], window: int = WINDOW) -> Picture:
    """A column for each arm: score above, judge's mark below, over sqrt(KL), every seed a line.

    The end of a run is a dot: where the upper curves climb and the lower ones turn down, the policy
    pleases the reward model and no longer the judge.
    """
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(1.2 + 2.3 * len(arms), 4.4))
        grid = figure.subplots(2, len(arms), sharex="col", sharey="row", squeeze=False)
        for column, arm in enumerate(arms):
            for row, (name, colour) in enumerate((("objective/scores", "score"),
                                                  ("judge/mark", "mark"))):  # fmt: skip
                axes = grid[row, column]
                for _, run in metrics[metrics["arm"] == arm].groupby("seed"):
                    kl = running_mean(run["objective/kl"].to_numpy(float), window)
                    y = running_mean(run[name].to_numpy(float), window)
                    x = np.sqrt(np.clip(kl, 0, None))
                    axes.plot(x, y, color=SERIES[colour], linewidth=1.2)
                    axes.plot(x[-1], y[-1], "o", color=SERIES[colour], markersize=5)
            grid[0, column].set_title(arm)
            grid[1, column].set_xlabel("sqrt(KL / nats)")
        grid[0, 0].set_ylabel("score (sd of SFT's)", color=SERIES["score"])
        grid[1, 0].set_ylabel("judge's mark (points)")
    return figure
