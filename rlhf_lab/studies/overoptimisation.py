"""Results of the hacking study: how far the mark fell from its peak, marks at equal KL, and the
curves that Gao et al. (2022) found.

The distance is d = sqrt(KL); as functions of it, the score and the mark of optimised policies are
smooth curves.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rlhf_lab import maths
from rlhf_lab.errors import UserError
from rlhf_lab.intervals import interval
from rlhf_lab.show.plots import running_mean
from rlhf_lab.studies.results import lines, place_of, summaries, table

WINDOW = 8  # updates of a running mean: one batch of 64 marks is noisy
LOST = 0.2  # share of the gain: a run that loses more is hacked, if the fall is beyond chance

# ---- what is in the folder -----------------------------------------------------------------------


def load_metrics(folder: Path) -> pd.DataFrame:
    """The metrics of every run of a study: a row for each update, with the arm's name and the seed.

    Raises UserError if there is no run in the folder.
    """
    return table(folder, "metrics")


def load_summaries(folder: Path) -> pd.DataFrame:
    """Each run's results on fresh responses: columns arm, hacked (what was expected), seed, sft
    and mark (mean marks of the SFT policy and of the policy), low, high (95 % interval of mark,
    over prompts), score and kl (of the policy)."""
    rows = []
    for summary in summaries(folder):
        mark, low, high = summary["policy"]["mark"]
        rows.append(
            {
                "arm": summary["arm"]["name"],
                "hacked": summary["arm"]["hacked"],
                "seed": summary["seed"],
                "sft": summary["sft"]["mark"][0],
                "mark": mark,
                "low": low,
                "high": high,
                "score": summary["policy"]["score"][0],
                "kl": summary["policy"]["kl"][0],
            }
        )
    return pd.DataFrame(rows)


def load_samples(folder: Path, arm: str, seed: int) -> pd.DataFrame:
    """One run's responses to the watched prompts during training: columns update, prompt, response,
    mark and, where the run recorded it, score. Raises UserError if there is no such run."""
    path = place_of(folder, arm, seed) / "samples.jsonl.gz"
    if not path.exists():
        raise UserError(
            f"no run of '{arm}' with seed {seed} in {folder}: load_summaries lists the runs there"
        )
    return pd.DataFrame(lines(path))


def load_best_of_n(folder: Path) -> pd.DataFrame:
    """Best-of-n of every seed with the reward model of each arm: the rows of `best_of_n.frontier`,
    with arm and seed."""
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("best_of_n/*/summary.json"))
    ]
    return pd.DataFrame(
        [
            {"arm": arm, "seed": s["seed"]} | row
            for s in found
            for arm, rows in s["frontier"].items()
            for row in rows
        ]
    )


def load_fresh(folder: Path) -> pd.DataFrame:
    """Fresh responses to prompts that were not trained on, every ten updates (update 0 is the SFT
    policy): a row for each arm, seed and update, with the metrics' names (judge/mark,
    objective/scores, objective/kl). Arms that were run before version 0.3.0 have none."""
    names = {"mark": "judge/mark", "score": "objective/scores", "kl": "objective/kl"}
    return table(folder, "fresh").rename(columns=names)


# ---- how far it fell -----------------------------------------------------------------------------


def falls(folder: Path) -> pd.DataFrame:
    """How far each run fell on fresh responses, from the policy at its peak to the last one: a row
    for each arm and seed.

    Columns arm, seed, expected (to be hacked), sft, peak, end (marks), peak_update, peak_kl,
    end_kl, fall with its 95 % interval low and high, which is paired by prompt, and hacked: True if
    the interval lies above 0 and more than a fifth of the gain was lost. The peak was chosen by the
    marks in training, so this choice does not make the fresh marks too high: of runs whose true
    mark does not fall, one in forty has an interval above 0. Arms that were run before version
    0.3.0, whose peak was not judged, are left out.
    """
    rows = []
    for summary in summaries(folder):
        if "peak" not in summary:
            continue
        sft, peak, end = summary["sft"], summary["peak"], summary["policy"]
        lost = torch.tensor(peak["marks"]) - torch.tensor(end["marks"])
        fall, low, high = interval(lost[:, None])
        won = peak["mark"][0] - sft["mark"][0]
        rows.append(
            {
                "arm": summary["arm"]["name"],
                "seed": summary["seed"],
                "expected": summary["arm"]["hacked"],
                "sft": sft["mark"][0],
                "peak": peak["mark"][0],
                "end": end["mark"][0],
                "peak_update": peak["update"],
                "peak_kl": peak["kl"][0],
                "end_kl": end["kl"][0],
                "fall": fall,
                "low": low,
                "high": high,
                "hacked": low > 0 and fall > LOST * max(won, 0.0),
            }
        )
    return pd.DataFrame(rows)


def beside_best_of_n(
    runs: pd.DataFrame, frontiers: pd.DataFrame, n: int = 64, window: int = 1
) -> pd.DataFrame:
    """The marks of best-of-n and of PPO at the same KL with the same reward model: a row for each
    arm and seed, columns kl, best_of_n and ppo. PPO's mark is the one where it first reaches that
    KL, on the line between two updates.

    runs: the rows of `load_fresh`, or of `load_metrics` with a window, since those marks are noisy.
    """
    rows = []
    for (arm, seed), run in runs.groupby(["arm", "seed"], sort=False):
        of_run = (frontiers["arm"] == arm) & (frontiers["seed"] == seed) & (frontiers["n"] == n)
        for row in frontiers[of_run].to_dict("records"):
            kl = max(row["objective/kl"], 0.0)
            mark = at_distance(run, [kl**0.5], window=window).iloc[0, -1]
            rows.append(
                {"arm": arm, "seed": seed, "kl": kl, "best_of_n": row["judge/mark"], "ppo": mark}
            )
    return pd.DataFrame(rows)


def overoptimisation(metrics: pd.DataFrame, window: int = WINDOW) -> pd.DataFrame:
    """How far each run fell from its best: a row for each arm and seed.

    Columns arm, seed, start, peak, end (marks; the last two of a running mean), peak_update,
    peak_kl, end_kl, fell: (peak - end) / (peak - start), which is 0 if the end is the peak, 1 if
    the whole gain was lost, and nan if there was no gain. The peak is the best of many noisy means,
    so fell is a little above 0 even if the true mark never falls: confirm a fall on fresh samples.
    """
    rows = []
    for (arm, seed), run in metrics.groupby(["arm", "seed"], sort=False):
        marks = running_mean(run["judge/mark"].to_numpy(float), window)
        kl = running_mean(run["objective/kl"].to_numpy(float), window)
        best, start = int(np.nanargmax(marks)), float(run["judge/mark"].iloc[0])
        won = marks[best] - start
        rows.append(
            {
                "arm": arm,
                "seed": seed,
                "start": start,
                "peak": marks[best],
                "end": marks[-1],
                "peak_update": int(run["update"].iloc[best]),
                "peak_kl": kl[best],
                "end_kl": kl[-1],
                "fell": (marks[best] - marks[-1]) / won if won > 0 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def path_of(run: pd.DataFrame, name: str, window: int = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """A run's path: the distance d and a metric at every update, both running means, (U,)."""
    kl = running_mean(run["objective/kl"].to_numpy(float), window)
    return np.sqrt(np.clip(kl, 0, None)), running_mean(run[name].to_numpy(float), window)


def at_distance(
    metrics: pd.DataFrame,
    distances: Sequence[float],
    name: str = "judge/mark",
    window: int = WINDOW,
) -> pd.DataFrame:
    """A metric of every run where the run first reaches each distance, to compare arms at equal KL
    and not at equal beta. A row for each arm and seed, a column for each distance; nan if a run
    never reached it, or had reached it at its first update."""
    rows = []
    for (arm, seed), run in metrics.groupby(["arm", "seed"], sort=False):
        d, values = path_of(run, name, window)
        rows.append({"arm": arm, "seed": seed} | {x: _first_at(d, values, x) for x in distances})
    return pd.DataFrame(rows)


def _first_at(d: np.ndarray, values: np.ndarray, wanted: float) -> float:
    """The value where d first reaches `wanted`, on the line between two updates."""
    reached = np.flatnonzero(d >= wanted)
    if not len(reached) or reached[0] == 0:
        return np.nan
    after = reached[0]
    share = (wanted - d[after - 1]) / (d[after] - d[after - 1])
    return float(values[after - 1] + share * (values[after] - values[after - 1]))


# ---- the curves of Gao et al. --------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A fitted curve: its gain, its penalty, and the share of the points' variance that it explains
    (R squared)."""

    form: str
    gain: float
    penalty: float
    explained: float

    def __call__(self, d: np.ndarray) -> np.ndarray:
        """The mark gained at a distance."""
        curve = {"rl": maths.overoptimisation_rl, "bon": maths.overoptimisation_bon}[self.form]
        return curve(torch.as_tensor(d, dtype=torch.float64), self.gain, self.penalty).numpy()


def fit(d: np.ndarray, gained: np.ndarray, form: str, nearest: float = 1.0) -> Fit:
    """Fit a curve to points (distance, mark gained) by least squares: `form` "rl" is
    d (gain - penalty ln d), "bon" is d (gain - penalty d).

    nearest: for "rl", whose slope at 0 is infinite, points with a smaller distance are left out.
    Raises UserError with fewer than three points. The form is an assumption; check `explained`.
    """
    d, gained = np.asarray(d, float), np.asarray(gained, float)
    if form == "rl":
        d, gained = d[d >= nearest], gained[d >= nearest]
    if len(d) < 3:
        raise UserError(
            f"a fit needs three points, and only {len(d)} points can be used: give more (form 'rl' "
            f"leaves out those nearer than {nearest:g})"
        )
    columns = np.stack([d, -d * np.log(d) if form == "rl" else -d * d], axis=1)
    (gain, penalty), *_ = np.linalg.lstsq(columns, gained, rcond=None)
    left = ((gained - columns @ (gain, penalty)) ** 2).sum()
    return Fit(
        form, float(gain), float(penalty), float(1 - left / ((gained - gained.mean()) ** 2).sum())
    )
