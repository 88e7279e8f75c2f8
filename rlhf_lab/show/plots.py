"""Figures of a run, from its metrics and its summary.

Every function takes plain records and returns a figure; none uses pyplot or any other shared
state. Colours are those of Okabe and Ito, which most colour-blind readers can tell
apart, and a colour means the same thing in every figure (SERIES). Backgrounds are white, so that a
figure can be printed and can be read on a dark page.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlhf_lab.show.alt_text import alt_text
from rlhf_lab.show.markup import Html, picture
from rlhf_lab.show.panels import GUIDE, HATCHES, SERIES, Line, Panel, drawn, panels_of
from rlhf_lab.show.tables import model_names

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

STYLE: "dict[RcKeyType, Any]" = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,  # a $ in the name of a model or a labeller is a dollar sign
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "rlhf-lab",
}


class Picture(Figure):
    """A figure that a notebook shows as it is, whether or not pyplot was ever imported, with an
    alternative text for who cannot see it.

    It goes into the page as an <img>, since JupyterLab shows a bare PNG without such a text.
    """

    @property
    def alt(self) -> str:
        """What is drawn, in words."""
        return alt_text(self)

    def page(self) -> Html:
        """The figure as an element of a page, with its alternative text."""
        return picture(to_bytes(self, "png"), self.alt, "png", style="max-width: 100%")

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.page(), "text/plain": self.alt}


def blank(width: float, height: float, title: str = "", xlabel: str = "", ylabel: str = "") -> Axes:
    """Empty axes in the style of all figures, for one of your own: `axes.figure` is the Picture.

    width, height: in inches.
    """
    with matplotlib.rc_context(STYLE):
        axes = Picture(figsize=(width, height)).add_subplot()
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return axes


def training_curves(metrics: Sequence[dict], columns: int = 2, only: Sequence[str] = ()) -> Picture:
    """The logged metrics of every stage over its updates, a panel for each kind. only: the metrics
    whose panels are drawn; by default all that there are."""
    panels = panels_of(metrics, only)
    if not panels:
        return _nothing("nothing logged yet")
    rows = math.ceil(len(panels) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(4.4 * columns, 2.5 * rows))
        for number, panel in enumerate(panels, 1):
            _draw(figure.add_subplot(rows, columns, number), panel, metrics)
    return figure


def curve(panel: Panel, metrics: Sequence[dict]) -> Picture:
    """One panel as a figure of its own."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(4.4, 2.6))
        _draw(figure.add_subplot(), panel, metrics)
    return figure


def reward_and_kl(ppo_metrics: Sequence[dict]) -> Picture:
    """PPO's progress in panels one above the other: the score, the judge's mark if there is one,
    the KL, and the learning rate, which limits how far an update can move the policy."""
    if not panels_of(ppo_metrics):
        return _nothing("no update of PPO logged yet")
    panels = [
        (3, "What PPO raises", "score (sd)", Line("objective/scores", "score")),
        (3, "What the judge thinks of it", "mark (points)", Line("judge/mark", "mark")),
        (
            3,
            "How far the policy has gone from where it began",
            "KL (nats)",
            Line("objective/kl", "kl", error="objective/kl_se"),
        ),
        (1.5, "Learning rate", "", Line("lr", "base")),
    ]
    there = [p for p in panels if any(r.get(p[3].metric) is not None for r in ppo_metrics)]
    heights = [height for height, *_ in there]
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(6.2, 0.6 * sum(heights) + 0.5))
        every = figure.subplots(len(there), 1, sharex=True, height_ratios=heights, squeeze=False)
        for [axes], (_, title, unit, line) in zip(every, there):
            axes.set(title=title)
            _line(axes, line, ppo_metrics)
            _coloured_axis(axes, unit, line.colour)
        every[-1][0].set_xlabel("update (shaded: 95 % interval)")
    return figure


def score_against_mark(ppo_metrics: Sequence[dict]) -> Picture:
    """The judge's mark against the score: a dot for each update, joined in order. A path that goes
    right and down is over-optimisation: the score still rises while the answers get worse."""
    pairs = [
        (r["objective/scores"], r["judge/mark"])
        for r in ppo_metrics
        if r.get("objective/scores") is not None and r.get("judge/mark") is not None
    ]
    if not pairs:
        return _nothing("no judge watched PPO")
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(4.4, 3.4))
        axes = figure.add_subplot()
        axes.plot(*zip(*pairs), "o-", color=SERIES["policy"], linewidth=0.8, markersize=4)
        axes.margins(0.12)
        for place, word in ((pairs[0], "first"), (pairs[-1], "last")):
            axes.annotate(
                word, place, (0, -14), textcoords="offset points", ha="center", weight="bold"
            )
        axes.set(
            title="Does the score mean what we want?",
            xlabel="score (sd of SFT's scores)",
            ylabel="judge's mark (points)",
        )
    return figure


def marks_by_rubric(summary: dict) -> Picture:
    """The mean mark, and each item of the rubric, of every model, with 95 % intervals."""
    rows = {name: row for name, row in summary.get("models", {}).items() if row.get("mark")}
    if not rows:
        return _nothing("no judge marked this run")
    names = model_names(summary)
    items = list(next(iter(rows.values())).get("rubric", {}))
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(6.6, 3.2))
        widths = (1, len(items)) if items else (1,)
        axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
        _bars(axes[0], ["mark"], {name: [row["mark"]] for name, row in rows.items()}, names)
        axes[0].set_ylabel("points")
        if items:
            rubric = {name: [row["rubric"][i] for i in items] for name, row in rows.items()}
            _bars(axes[1], items, rubric, names)
            axes[1].set(ylabel="mean of 0 to 1", ylim=(0, 1.05))
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper left", ncols=len(rows))
    return figure


def to_bytes(figure: Figure, kind: str = "svg") -> bytes:
    """A figure as a file's content: svg (the same bytes for the same figure), png or pdf."""
    content = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context(STYLE):
        figure.savefig(content, format=kind, metadata=undated)
    return content.getvalue()


# ------------------------------------------------------------------------------ helpers


def _draw(axes: Axes, panel: Panel, metrics: Sequence[dict]) -> None:
    records = [r for r in metrics if r.get("stage") == panel.stage]
    for line in panel.lines:
        _line(axes, line, records)
    if panel.level:
        value, meaning = panel.level
        axes.axhline(value, color=GUIDE, linewidth=1, linestyle=":", label=meaning)
    axes.set(title=panel.title, ylabel=panel.unit, xlabel="update")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
    if panel.level or len(panel.lines) > 1:
        axes.legend()


def _line(axes: Axes, line: Line, records: Sequence[dict]) -> None:
    """A metric over the updates; if there are many, pale, with its running mean over it."""
    rows = [r for r in records if line.metric in r]
    x, y = _numbers(rows, "update"), _numbers(rows, line.metric)
    colour, window = SERIES[line.colour], len(rows) // 20
    if line.rare:
        axes.plot(x, y, "o--", color=colour, markerfacecolor="white", label=line.label)
        return
    if line.error:
        half = 1.96 * _numbers(rows, line.error)
        axes.fill_between(x, y - half, y + half, color=colour, alpha=0.2, linewidth=0)
    if window > 2:
        axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.9)
        y = running_mean(y, window)
    axes.plot(x, y, color=colour, label=line.label, marker="o" if len(rows) == 1 else None)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of each value and its neighbours: window // 2 on either side, fewer at the ends. NaN
    is left out."""
    half, last = window // 2, len(values)
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.where(known, values, 0.0).cumsum()])
    counts = np.concatenate([[0], known.cumsum()])
    place = np.arange(last)
    start, stop = np.maximum(place - half, 0), np.minimum(place + half + 1, last)
    with np.errstate(invalid="ignore"):
        return (sums[stop] - sums[start]) / (counts[stop] - counts[start])


def _numbers(records: Sequence[dict], name: str) -> np.ndarray:
    """A metric of each record; NaN, which leaves a gap in the line, where it was not finite."""
    return np.array(
        [math.nan if r.get(name) is None else drawn(name, r[name]) for r in records], dtype=float
    )


def _coloured_axis(axes: Axes, label: str, colour: str) -> None:
    axes.set_ylabel(label, color=SERIES[colour])
    axes.tick_params(axis="y", colors=SERIES[colour])


def _bars(axes: Axes, items: list[str], rows: dict[str, list], names: dict[str, str]) -> None:
    """A group of bars for each item, a bar for each model: rows are {model: one interval per
    item}."""
    width = 0.8 / len(rows)
    for number, (model, intervals) in enumerate(rows.items()):
        value, low, high = np.array(intervals, dtype=float).T  # None becomes NaN
        place = np.arange(len(items)) + (number - (len(rows) - 1) / 2) * width
        axes.bar(
            place,
            value,
            width * 0.92,
            color=SERIES.get(model, GUIDE),
            edgecolor="white",
            linewidth=0,
            hatch=HATCHES[number % len(HATCHES)],
            label=names[model],
            yerr=np.nan_to_num([value - low, high - value]),
            error_kw={"linewidth": 1, "capsize": 2},
        )
    axes.set_xticks(range(len(items)), items)
    axes.grid(False, axis="x")


def _nothing(why: str) -> Picture:
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(4.4, 1.2))
        figure.text(0.5, 0.5, why, ha="center", va="center", color=GUIDE)
    return figure
