"""The pictures of the hacking study: score, mark and KL over the updates, and score and mark
against the distance d = sqrt(KL)."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rlhf_lab.show.panels import GUIDE, MARKERS, SERIES
from rlhf_lab.show.plots import STYLE, Picture
from rlhf_lab.studies.overoptimisation import WINDOW, Fit, path_of

DISTANCE = "distance: sqrt(KL / nats)"
UPDATE = "update"
ROWS = (
    ("objective/scores", "score", "score (sd of SFT's)"),
    ("judge/mark", "mark", "judge's mark (points)"),
)


def score_and_mark(
    metrics: pd.DataFrame, arms: Sequence[str], window: int = WINDOW, over: str = DISTANCE
) -> Picture:
    """A column for each arm: the score above and the judge's mark below, a line for every seed.
    over: DISTANCE or UPDATE.

    A dot marks the end of a run. Where the upper curves rise and the lower ones fall, the policy
    pleases the reward model and no longer the judge.
    """
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(1.2 + 2.3 * len(arms), 4.4))
        grid = figure.subplots(2, len(arms), sharex="col", sharey="row", squeeze=False)
        for column, arm in enumerate(arms):
            for row, (name, colour, _) in enumerate(ROWS):
                _runs(grid[row, column], metrics, arm, name, SERIES[colour], window, over=over)
            grid[0, column].set_title(arm.replace(", ", ",\n"))
            grid[1, column].set_xlabel(over)
        for row, (_, colour, label) in enumerate(ROWS):
            grid[row, 0].set_ylabel(label, color=SERIES[colour])
    return figure


def marks(
    metrics: pd.DataFrame,
    arms: Mapping[str, str],
    title: str = "",
    window: int = WINDOW,
    over: str = DISTANCE,
) -> Picture:
    """The judge's mark of several arms against the distance (or over=UPDATE), in one pair of axes;
    arms: name and colour of each. Every seed is a line that ends in the arm's marker."""
    return _together(metrics, arms, "judge/mark", "judge's mark (points)", title, window, over)


def kl_over_updates(
    metrics: pd.DataFrame, arms: Mapping[str, str], title: str = "", window: int = WINDOW
) -> Picture:
    """How far several arms have gone after each update, in nats on a logarithmic axis; arms and
    lines as in `marks`."""
    figure = _together(metrics, arms, "objective/kl", "KL (nats)", title, window, UPDATE)
    axes = figure.axes[0]
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.1)
    axes.yaxis.set_major_formatter("{x:g}")
    return figure


def _together(
    metrics: pd.DataFrame,
    arms: Mapping[str, str],
    name: str,
    label: str,
    title: str,
    window: int,
    over: str,
) -> Picture:
    """A metric of several arms in one pair of axes."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(6.4, 3.8))
        axes = figure.add_subplot()
        for (arm, colour), marker in zip(arms.items(), MARKERS):
            _runs(axes, metrics, arm, name, colour, window, arm, marker=marker, over=over)
        axes.set(title=title, xlabel=over, ylabel=label)
        axes.legend()
    return figure


def best_of_n(
    frontiers: pd.DataFrame,
    metrics: pd.DataFrame,
    arms: Sequence[str],
    window: int = WINDOW,
    farthest: float = 4.0,
) -> Picture:
    """A column for each arm: the score above and the mark below, against the distance, for
    best-of-n (a dot for each n) and PPO (a line, up to `farthest`) with the same reward model,
    every seed. A grey dot is best-of-n with its KL by the bound ln n - (n - 1) / n."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(1.2 + 2.9 * len(arms), 4.6))
        grid = figure.subplots(2, len(arms), sharex=True, sharey="row", squeeze=False)
        for column, arm in enumerate(arms):
            for row, (name, _, label) in enumerate(ROWS):
                axes = grid[row, column]
                _runs(axes, metrics, arm, name, SERIES["policy"], window, "PPO", farthest)
                _dots(axes, frontiers[frontiers["arm"] == arm], name)
                if column == 0:
                    axes.set_ylabel(label)
            grid[0, column].set_title(arm.replace(", ", ",\n"))
            grid[1, column].set_xlabel(DISTANCE)
        grid[1, 0].legend(loc="lower right")
    return figure


def fitted(
    metrics: pd.DataFrame,
    fits: Mapping[str, Fit],
    starts: Mapping[str, float],
    window: int = WINDOW,
) -> Picture:
    """The mark gained by each arm against the distance, all seeds, and the curve fitted to them;
    starts: the mark with which each arm began."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(1.2 + 2.9 * len(fits), 3.1))
        for axes, (arm, fit) in zip(figure.subplots(1, len(fits), squeeze=False)[0], fits.items()):
            farthest = 0.0
            for _, run in metrics[metrics["arm"] == arm].groupby("seed"):
                d, y = path_of(run, "judge/mark", window)
                axes.plot(d, y - starts[arm], ".", color=SERIES["mark"], markersize=3.5)
                farthest = max(farthest, d.max())
            x = np.linspace(1, farthest, 200)
            axes.plot(x, fit(x), color=SERIES["kl"], linewidth=1.8)
            axes.axhline(0, color=GUIDE, linewidth=0.8, linestyle=":")
            axes.set(
                title=arm.replace(", ", ",\n") + f"\nR² = {fit.explained:.2f}", xlabel=DISTANCE
            )
        figure.axes[0].set_ylabel("mark gained (points)")
    return figure


def _runs(
    axes: Axes,
    metrics: pd.DataFrame,
    arm: str,
    name: str,
    colour: str,
    window: int,
    label: str | None = None,
    farthest: float = np.inf,
    marker: str = "o",
    over: str = DISTANCE,
) -> None:
    """Every seed of an arm: a line along the updates with a marker at its end. A line that goes
    beyond `farthest` is cut off there and has no marker."""
    for _, run in metrics[metrics["arm"] == arm].groupby("seed"):
        x, y = path_of(run, name, window)
        x = x if over == DISTANCE else run["update"].to_numpy(float)
        beyond = np.flatnonzero(x > farthest)
        cut = beyond[0] if len(beyond) else len(x)
        whole = cut == len(x)
        axes.plot(
            x[:cut],
            y[:cut],
            color=colour,
            linewidth=1.2,
            label=label,
            marker=marker if whole else None,
            markevery=[-1] if whole else None,
            markersize=5,
        )
        label = None


def _dots(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    """Best-of-n of every seed, at the estimated KL and at its bound."""
    for number, (_, seed) in enumerate(rows.groupby("seed")):
        first = number == 0
        axes.plot(
            np.sqrt(seed["objective/kl_bound"]),
            seed[name],
            ".",
            color="#BBBBBB",
            markersize=5,
            label="best of n, KL by the bound" if first else None,
        )
        axes.plot(
            np.sqrt(seed["objective/kl"].clip(lower=0)),
            seed[name],
            "o-",
            color=SERIES["best_of_n"],
            linewidth=1.0,
            markersize=4,
            label="best of n, KL estimated" if first else None,
        )
