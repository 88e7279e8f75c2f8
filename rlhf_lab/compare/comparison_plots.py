"""Pictures of a comparison: the marks with their intervals, and the mark against the KL.

Every seed has its own dot; runs that differ only in their seed share a colour.
"""

import matplotlib
from matplotlib.axes import Axes

from rlhf_lab.compare.measure import Comparison
from rlhf_lab.disk.jsonl import plain
from rlhf_lab.show.markup import visible
from rlhf_lab.show.panels import GUIDE, MARKERS, SERIES
from rlhf_lab.show.plots import STYLE, Picture

COLOURS = tuple(
    SERIES[name] for name in ("sft", "policy", "best_of_n", "score", "kl", "value", "base")
)
LONGEST = 28  # characters of a name beside an axis; longer names show their end


def colours_of(comparison: Comparison) -> dict[str, str]:
    """A colour for each model. Models of one group share a colour; the first group has SFT's."""
    return {
        name: COLOURS[number % len(COLOURS)]
        for number, group in enumerate(comparison.groups)
        for name in group["models"]
    }


def values(comparison: Comparison, unit: str) -> Picture:
    """The mean mark of each model as a dot on its 95 % interval."""
    return _dots(comparison, "value", f"{unit} (95 % interval, by prompt)", unit.capitalize())


def differences(comparison: Comparison, unit: str) -> Picture:
    """The difference of each model from its rival, paired by prompt."""
    drawn = _dots(
        comparison,
        "difference",
        f"{unit} above the first model's\n(paired by prompt, 95 % interval)",
        "Difference",
    )
    drawn.axes[0].axvline(0, color=GUIDE, linewidth=1.2, linestyle=":")
    return drawn


def value_against_kl(comparison: Comparison, unit: str) -> Picture:
    """The mark against the KL: one dot for each model, with both intervals."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(5.2, 3.6))
        axes = figure.add_subplot()
        rows = {row["model"]: row for row in plain(comparison.rows)}
        colours = colours_of(comparison)
        for number, group in enumerate(comparison.groups):
            found = [rows[name] for name in group["models"] if rows[name]["kl"]]
            for first, row in enumerate(found):
                label = None if first else _label(group["models"])
                axes.errorbar(
                    *_point(row),
                    fmt=MARKERS[number % len(MARKERS)],
                    markersize=6,
                    color=colours[row["model"]],
                    linewidth=1.2,
                    label=label,
                )
        axes.margins(0.1)
        axes.set(
            xlabel="KL from the reference (nats per response)",
            ylabel=f"{unit} (mean)",
            title=f"{unit.capitalize()} against KL",
        )
        figure.legend(loc="outside lower center", ncols=1 if len(rows) > 3 else 2)
    return figure


def _dots(comparison: Comparison, measure: str, xlabel: str, title: str) -> Picture:
    rows = [row for row in plain(comparison.rows) if row[measure]]
    colours = colours_of(comparison)
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(5.2, 1.3 + 0.3 * len(rows)))
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            _dot(axes, place, row[measure], colours[row["model"]])
        axes.set_yticks(range(len(rows)), [_name(row["model"]) for row in rows])
        axes.set(ylim=(len(rows) - 0.5, -0.5), title=title, xlabel=xlabel)
        axes.grid(False, axis="y")
    return figure


def _dot(axes: Axes, place: int, value: list, colour: str) -> None:
    estimate, low, high = value
    if None not in (low, high):
        axes.plot([low, high], [place, place], color=colour)
    axes.plot(estimate, place, "o", color=colour)


def _point(row: dict) -> tuple[float, float, float | None, float | None]:
    """x, y, and half the widths of the intervals of y and x, as `errorbar` takes them."""
    (kl, kl_low, _), (value, low, _) = row["kl"], row["value"]
    return kl, value, None if low is None else value - low, None if kl_low is None else kl - kl_low


def _label(names: list[str]) -> str:
    more = len(names) - 1
    return _name(names[0]) + (f" and {more} other seed{'s' * (more > 1)}" if more else "")


def _name(name: str) -> str:
    """A name as a label: its end, no control characters."""
    shown = visible(name)
    return shown if len(shown) <= LONGEST else f"…{shown[1 - LONGEST :]}"
