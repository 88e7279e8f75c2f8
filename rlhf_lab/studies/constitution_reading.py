"""Results of the constitution study: the arms by the judge's marks and rule by rule."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from rlhf_lab.show.panels import MARKERS
from rlhf_lab.show.plots import STYLE, Picture
from rlhf_lab.studies.results import summaries


def by_the_judge(folder: Path) -> pd.DataFrame:
    """Each run's results on fresh responses: columns arm, seed, sft, supervised (nan without
    that phase), mark, low, high, wins, promises (the share of responses that invent one), kl,
    length, and a column for each item of the rubric."""
    rows = []
    for run in summaries(folder):
        found, between = run["policy"], run["supervised"]
        mark, low, high = found["mark"]
        rows.append(
            {
                "arm": run["arm"]["name"],
                "seed": run["seed"],
                "sft": run["sft"]["mark"][0],
                "supervised": between["mark"][0] if between else np.nan,
                "mark": mark,
                "low": low,
                "high": high,
                "wins": found["wins"][0],
                "promises": found["flaws"].get("invented promises", 0.0),
                "kl": found["kl"][0],
                "length": found["length"],
                **found["rubric"],
            }
        )
    return pd.DataFrame(rows)


def by_rule(folder: Path, arms: Sequence[str]) -> pd.DataFrame:
    """The share of responses that break each rule: a row for each rule, columns the SFT policy and
    the arms, means over seeds."""
    runs = [run for run in summaries(folder) if run["arm"]["name"] in arms]
    columns = {"SFT policy": _mean([run["sft"]["broken"] for run in runs])}
    for arm in arms:
        columns[arm] = _mean([run["policy"]["broken"] for run in runs if run["arm"]["name"] == arm])
    return pd.DataFrame(columns)


def _mean(shares: Sequence[Mapping[str, float]]) -> pd.Series:
    return pd.DataFrame(shares).mean()


def conflict_table(folder: Path, arm: str) -> pd.DataFrame:
    """Pairs of an arm's rules that disagreed about which of two responses is better, the most
    frequent first, means over seeds: columns first, second, share and wins as in
    `constitution.Conflict`."""
    rows = [
        conflict
        for run in summaries(folder)
        if run["arm"]["name"] == arm
        for conflict in run["conflicts"]
    ]
    means = pd.DataFrame(rows).groupby(["first", "second"], sort=False).mean()
    return means.sort_values("share", ascending=False).reset_index()


def rule_picture(folder: Path, arms: Mapping[str, str], rules: Sequence[str] = ()) -> Picture:
    """The share of responses that break each rule, a dot for every seed. arms: name and colour of
    each; "SFT policy" may be one of them."""
    runs = summaries(folder)
    rules = list(rules) or list(runs[0]["sft"]["broken"])
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(7.4, 0.7 + 0.5 * len(rules)))
        axes = figure.add_subplot()
        places = np.linspace(0.24, -0.24, len(arms))
        for offset, marker, (arm, colour) in zip(places, MARKERS, arms.items()):
            chosen = {
                run["seed"]: run["sft"] if arm == "SFT policy" else run["policy"]
                for run in runs
                if arm in ("SFT policy", run["arm"]["name"])
            }
            for number, found in enumerate(chosen.values()):
                axes.plot(
                    [found["broken"][rule] for rule in rules],
                    np.arange(len(rules)) + offset,
                    marker,
                    color=colour,
                    markersize=5,
                    alpha=0.7,
                    markeredgewidth=0,
                    label=arm if number == 0 else None,
                )
        axes.set_yticks(range(len(rules)), rules)
        axes.invert_yaxis()
        axes.set(xlabel="share of responses that break the rule", xlim=(-0.02, 1.02))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(arms))
    return figure
