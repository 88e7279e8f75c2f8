"""Figures of people's rankings, in the style of `plots.py`: whether labellers agree, whether the
place on screen influences them, how reliable each is, and what a reward model learned from them.

Each function takes the DataFrame of the function it is named after. Dots are estimates, lines are
intervals (95 % unless the axis says otherwise), and a dotted line is what chance would give. Names
are written by people: they are shown and never interpreted.
"""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rlhf_lab.show.markup import visible
from rlhf_lab.show.plots import GUIDE, SERIES, STYLE, Picture

DOT = SERIES["sft"]


def agreement_by_labeller(table: pd.DataFrame) -> Picture:
    """How often the others agree with each labeller."""
    axes = _dots(table, "agreement", "Do the others agree?", chance=0.5)
    axes.set_xlabel("share of pairs ordered alike, ties half\n(95 % interval)")
    return axes.figure


def agreement_by_pair(table: pd.DataFrame) -> Picture:
    """Every two labellers as a square: the share of pairs that they order alike."""
    names = sorted({*table["first"], *table["second"]})
    grid = np.full((len(names), len(names)), np.nan)
    for row in table.itertuples():
        i, j = names.index(row.first), names.index(row.second)
        grid[i, j] = grid[j, i] = row.agreement
    size = 2.2 + 0.45 * len(names)
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(size + 0.8, size))
        axes = figure.add_subplot()
        axes.set(title="Who agrees with whom")
        image = axes.imshow(grid, cmap="cividis", vmin=0.5, vmax=1)
        figure.colorbar(image, ax=axes, label="share of pairs ordered alike", extend="min")
        axes.set_xticks(range(len(names)), map(_name, names), rotation=90)
        axes.set_yticks(range(len(names)), map(_name, names))
        axes.grid(False)
        if len(names) <= 12:
            _numbers(axes, grid)
    return figure


def consistency(table: pd.DataFrame) -> Picture:
    """How often each labeller repeats their own order."""
    axes = _dots(table, "agreement", "Do they say the same twice?", chance=0.5)
    axes.set_xlabel("share of pairs ordered as before, ties half\n(95 % interval)")
    return axes.figure


def position_bias(table: pd.DataFrame) -> Picture:
    """How often the response shown first wins, beside what chance gives."""
    axes = _dots(table, "first_best", "Does the first one shown win too often?")
    places = range(len(table))
    chance = table["chance"]
    axes.plot(chance, places, "|", color=GUIDE, markersize=14, markeredgewidth=2, label="chance")
    axes.set_xlabel("share of rankings in which the first is best\n(95 % interval; bar: chance)")
    return axes.figure


def pace(table: pd.DataFrame) -> Picture:
    """How long a ranking takes each labeller."""
    axes = _dots(table, "seconds", "How long does a ranking take?")
    axes.set_xlabel("seconds, median (95 % interval)")
    axes.set_xlim(left=0)
    return axes.figure


def reliability(table: pd.DataFrame) -> Picture:
    """How closely each labeller follows the pooled opinion of all (`Pooled.labellers`)."""
    axes = _dots(table, "reliability", "Whom does the pooled ranking trust?", chance=0.0)
    axes.set_xlabel(
        "reliability: 0 is chance, below 0 upside down\n"
        "(two standard deviations either way, by bootstrap)"
    )
    return axes.figure


def relearned(scores: pd.DataFrame, summary: pd.DataFrame) -> Picture:
    """What a reward model learned, on held-out prompts (`relearn.Relearned`): its scores by the
    person's rank, and how often it orders two responses as the person did."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(8.6, 3.4))
        left, right = figure.subplots(1, 2, width_ratios=(5, 4))
        worst = scores["rank"].max() + 1  # the place of unranked responses
        places = scores.assign(place=scores["rank"].fillna(worst)).groupby("place")
        for name in summary["model"]:
            left.plot(places[name].mean(), label=name.partition(" ")[0], **_look(name))
        handles = dict(zip(*reversed(left.get_legend_handles_labels())))  # the controls share one
        left.legend(handles.values(), handles.keys())
        ranks = [place for place, _ in places]
        left.set_xticks(ranks, ["unranked" if r == worst else f"{r:.0f}" for r in ranks])
        left.set(
            title="Scores on other prompts",
            xlabel="the person's rank (1 is best)",
            ylabel="score above the prompt's mean",
        )
        _accuracies(right, summary)
    return figure


def _accuracies(axes: Axes, summary: pd.DataFrame) -> None:
    for place, row in enumerate(summary.itertuples()):
        colour = _look(row.model)["color"]
        axes.plot([row.low, row.high], [place, place], color=colour)
        axes.plot(row.accuracy, place, "o", color=colour)
    axes.axvline(0.5, color=GUIDE, linestyle=":", linewidth=1.2)
    axes.set_yticks(range(len(summary)), summary["model"])
    axes.set(
        title="Ordered as the person did",
        xlim=(0, 1),
        ylim=(len(summary) - 0.5, -0.5),
        xlabel="share of pairs (95 % interval; dotted: guessing)",
    )
    axes.grid(False, axis="y")


def _look(model: str) -> dict:
    """Colour and line of a model in `relearned`."""
    looks = {
        "before": {"color": SERIES["base"], "linestyle": "--", "marker": "s"},
        "after": {"color": SERIES["sft"], "marker": "o"},
    }
    return looks.get(model, {"color": SERIES["kl"], "linestyle": ":", "marker": "x"})


def _dots(table: pd.DataFrame, value: str, title: str, chance: float | None = None) -> Axes:
    """A line for each labeller: the estimate as a dot on its interval."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(6.2, 1.5 + 0.3 * max(1, len(table))))
        axes = figure.add_subplot()
        axes.set_title(title)
        places = np.arange(len(table))
        axes.hlines(places, table["low"], table["high"], color=DOT, linewidth=1.8)
        axes.plot(table[value], places, "o", color=DOT)
        axes.set_yticks(places, map(_name, table["labeller"]))
        axes.set_ylim(max(1, len(table)) - 0.5, -0.5)
        axes.grid(False, axis="y")
        if chance is not None:
            axes.axvline(chance, color=GUIDE, linestyle=":", linewidth=1.2)
        if table.empty:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "nothing to show yet", ha="center", transform=axes.transAxes)
    return axes


def _numbers(axes: Axes, grid: np.ndarray) -> None:
    """Write each share into its square, in a colour that contrasts with the square."""
    for i, j in zip(*np.nonzero(np.isfinite(grid))):
        colour = "black" if grid[i, j] > 0.78 else "white"
        axes.text(j, i, f"{100 * grid[i, j]:.0f}", ha="center", va="center", color=colour)


def _name(name: str) -> str:
    """A labeller's name as a label: no control characters."""
    return visible(name) or "(no name)"
