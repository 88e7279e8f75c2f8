"""Results of the ratings study: how close each learner comes to the ceiling, and with how many
ratings; with its pictures."""

import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes

from rlhf_lab.errors import UserError
from rlhf_lab.show.plots import GUIDE, SERIES, STYLE, Picture
from rlhf_lab.studies.results import place_of, summaries

# What learned, in the order of the pictures: label, colour, marker.
LEARNERS = {
    "words alone": (GUIDE, "s"),
    "3.7M, whole": (SERIES["score"], "o"),
    "135M, head alone": (SERIES["sft"], "^"),
    "135M, whole": (SERIES["policy"], "D"),
}
ALIKE = 0.4969  # share of the test side's comparisons between two praises or between two blames
PRICE = 6000  # ratings that each arm of the second picture costs, or nearly


def ways(folder: Path) -> pd.DataFrame:
    """Each run's results: columns learner (a key of LEARNERS, or a name like those), model, read,
    sentences, ratings (of each), paid (in all), seed, accuracy, way, low, high (95 % interval of
    the way), alike (the way among sheets of the same leaning), apart (the way between praise and
    blame), correlation (with the mean rating).

    Raises UserError if there is no run in the folder.
    """
    rows = []
    for s in summaries(folder):
        arm, (share, low, high) = s["arm"], s["way"]
        rows.append(
            {
                "learner": learner(s),
                "model": s["model"],
                "read": arm["read"],
                "sentences": arm["sentences"],
                "ratings": arm["ratings"],
                "paid": arm["sentences"] * arm["ratings"],
                "seed": s["seed"],
                "accuracy": s["accuracy"][0],
                "way": share,
                "low": low,
                "high": high,
                "alike": s["alike"]["way"][0],
                "apart": apart(s),
                "correlation": s["correlation"],
            }
        )
    return pd.DataFrame(rows).sort_values(
        ["learner", "sentences", "ratings", "read", "seed"], ignore_index=True
    )


def learner(summary: Mapping) -> str:
    """What learned in a run: the words, or a model by its number of parameters, the whole model or
    its head alone."""
    arm = summary["arm"]
    if arm.get("words"):
        return "words alone"
    part = "head alone" if arm.get("head_alone") else "whole"
    millions = summary["parameters"] / 1e6
    return f"{millions:.0f}M, {part}" if millions >= 10 else f"{millions:.1f}M, {part}"


def people(folder: Path) -> pd.DataFrame:
    """How well people's own ratings and VADER's lexicon do on the same test sentences: a row for
    each, columns accuracy, way, low, high, alike, apart. Raises UserError if `run_people` was not
    run."""
    path = place_of(folder, "people", 0) / "summary.json"
    if not path.exists():
        raise UserError(
            f"{path} is missing: make it with `rlhf-lab study ratings --out {folder} --seeds 0 "
            "--arms people`"
        )
    found = json.loads(path.read_text(encoding="utf-8"))["opinions"]
    rows = {
        name: dict(zip(("way", "low", "high"), of["way"]))
        | {"accuracy": of["accuracy"][0], "alike": of["alike"]["way"][0], "apart": apart(of)}
        for name, of in found.items()
    }
    return pd.DataFrame(rows).T[["accuracy", "way", "low", "high", "alike", "apart"]]


def apart(found: Mapping) -> float:
    """The way between praise and blame: that of all comparisons, with those between two praises or
    two blames taken out."""
    accuracy, ceiling = (
        (found[what][0] - ALIKE * found["alike"][what][0]) / (1 - ALIKE)
        for what in ("accuracy", "ceiling")
    )
    return (accuracy - 0.5) / (ceiling - 0.5)


def table(found: pd.DataFrame, learner: str) -> pd.DataFrame:
    """The mean way over seeds: a row for each number of sentences, a column for each number of
    ratings of a sentence. For a learner that was run with and without reading: with reading."""
    return _usual(found, learner).pivot_table(index="sentences", columns="ratings", values="way")


def kinds(
    found: pd.DataFrame, asked: pd.DataFrame, sentences: int = 6000, ratings: int = 1
) -> pd.DataFrame:
    """The way in both kinds of comparisons: a row for each learner after this number of sentences
    with this number of ratings (means over seeds), and one for another person."""
    rows = {}
    for name in LEARNERS:
        mine = _usual(found, name)
        mine = mine[(mine["sentences"] == sentences) & (mine["ratings"] == ratings)]
        rows[name] = mine[["way", "apart", "alike"]].mean()
    rows["another person"] = asked.loc["1 rating", ["way", "apart", "alike"]]
    return (
        pd.DataFrame(rows)
        .T.astype(float)
        .rename(columns={"apart": "praise against blame", "way": "all"})
        .dropna()
    )


def _usual(found: pd.DataFrame, learner: str) -> pd.DataFrame:
    """The runs of a learner, without the control runs that skip its reading."""
    mine = found[found["learner"] == learner]
    return mine[mine["read"]] if mine["read"].any() else mine


# ---- pictures ------------------------------------------------------------------------------------


def towards_the_ceiling(found: pd.DataFrame, asked: pd.DataFrame) -> Picture:
    """The way to the ceiling. Left: more sentences, one rating of each. Right: the same number of
    ratings, of many sentences or of few. Every seed is a dot, their mean a line; the dashed lines
    are one other person's rating of the same sentence, and the lexicon."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(9.6, 4.2))
        left, right = figure.subplots(1, 2, sharey=True)
        _learners(left, found[found["ratings"] == 1], "sentences")
        same = found[found["paid"].between(0.9 * PRICE, PRICE)]
        _learners(right, same, "ratings")
        for axes in (left, right):
            axes.set(xscale="log", ylim=(0, 1))
            for name in ("1 rating", "VADER's lexicon"):
                axes.axhline(asked.loc[name, "way"], color=GUIDE, linestyle="--", linewidth=1)
            axes.minorticks_off()
        for name, text in (
            ("1 rating", "another person's rating of the sentence"),
            ("VADER's lexicon", "VADER's lexicon"),
        ):
            left.text(
                0.02,
                asked.loc[name, "way"] + 0.012,
                text,
                fontsize=8.5,
                color="#444444",
                transform=left.get_yaxis_transform(),
            )
        left.set(title="One rating a sentence", xlabel="sentences", ylabel="way to the ceiling")
        right.set(title=f"{PRICE:,} ratings in all", xlabel="ratings of each sentence")
        _ticks(left, found["sentences"])
        _ticks(right, same["ratings"])
        right.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 0.999))
    return figure


def _learners(axes: Axes, found: pd.DataFrame, x: str) -> None:
    for name, (colour, marker) in LEARNERS.items():
        mine = _usual(found, name)
        if len(mine):
            axes.plot(mine[x], mine["way"], marker, color=colour, markersize=4.5, alpha=0.6)
            mean = mine.groupby(x)["way"].mean()
            axes.plot(mean.index, mean, marker + "-", color=colour, markersize=4.5, label=name)


def _ticks(axes: Axes, values: pd.Series) -> None:
    ticks = sorted(set(values))
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
