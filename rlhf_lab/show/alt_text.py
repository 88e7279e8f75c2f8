"""A figure in words, for who cannot see it: the alternative text of every picture.

The words are made from what is drawn: title and axes of each panel; every series with its values,
all of them where they are few, else where it begins and ends and its extremes; levels; bars; and
what is written into the picture.
"""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from rlhf_lab.show.read_figure import (
    NUMERIC,
    Group,
    Points,
    flat_of,
    groups,
    level_of,
    names_of,
    one_line,
    placed,
)

FEW = 8  # points of a series that are all told
CELLS = 40  # of a heat map that are all told
BARS = 15  # more bars than these are a histogram
LONGEST = 4000  # characters
NOTHING = 1e-7  # closer to 0 is only rounding error


def alt_text(figure: Figure) -> str:
    """What the figure shows, in at most LONGEST characters."""
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    said = [one_line(figure.get_suptitle()), *(one_line(text.get_text()) for text in figure.texts)]
    if len(panels) > 1:
        said.append(f"{len(panels)} panels")
    for number, axes in enumerate(panels, 1):
        words = _panel(axes)
        said.append(f"Panel {number}: {words}" if len(panels) > 1 else words)
    text = _sentences(said)
    return text if len(text) <= LONGEST else text[: LONGEST - 2].rsplit(" ", 1)[0] + " …"


def _panel(axes: Axes) -> str:
    labels = [
        f"{name}: {one_line(axis.get_label_text())}" + ", logarithmic" * (axis.get_scale() == "log")
        for name, axis in (("x axis", axes.xaxis), ("y axis", axes.yaxis))
        if axis.get_label_text()
    ]
    shown = groups(axes)
    written = [one_line(t.get_text()) for t in axes.texts if not NUMERIC.fullmatch(t.get_text())]
    told = {group.label for group in shown}
    title = axes.get_title("left") or axes.get_title() or axes.get_title("right")
    return _sentences(
        [
            one_line(title),
            "; ".join(labels),
            *(_bars(bars, axes) for bars in axes.containers if isinstance(bars, BarContainer)),
            *(_group(group, axes) for group in shown),
            *_levels(axes),
            *(_heat_map(axes, image.get_array()) for image in axes.images),
            *(text for text in written if text not in told),
        ]
    )


# ---- in words ------------------------------------------------------------------------------------


def _group(group: Group, axes: Axes) -> str:
    flat = flat_of(axes)
    names = names_of(axes.yaxis if flat else axes.xaxis)
    members = [m for m in group.members if len(m)]
    head = f"{group.label}: " if group.label else "" if names else f"{group.kind}: "
    if not members:
        return f"{head}nothing"
    together = np.concatenate(members)
    if names and (group.dots or len(members) == 1) and len(names) <= 3 * FEW:
        return head + _by_place(together, names)
    if group.dots and len(together) > FEW:
        return head + _cloud(together)
    if group.dots or len(members) == 1:
        return head + _points(together, names)
    each = "; ".join(_course(m, names) for m in members)
    return f"{group.label or group.kind}, {len(members)} lines: {each}"


def _points(points: Points, names: dict) -> str:
    """All points if they are few, else how they run."""
    if len(points) > FEW:
        return _course(points, names)
    return ", ".join(
        f"{_number(value)}{_interval(*ends)} at {_at(place, names)}"
        for place, value, *ends in points
    )


def _by_place(points: Points, names: dict) -> str:
    """The values at each named place, such as those of every seed."""
    at: dict[str, list[str]] = {}
    for place, value, *ends in points:
        at.setdefault(_at(place, names), []).append(_number(value) + _interval(*ends))
    return "; ".join(f"{place} {', '.join(values)}" for place, values in at.items())


def _course(points: Points, names: dict) -> str:
    """Where a line begins and ends, and how far it goes below and above that."""
    values = points[:, 1]
    told = [f"{_number(value)} at {_at(place, names)}" for place, value, *_ in points]
    said = f"from {told[0]} to {told[-1]}"
    for word, at in (("lowest", values.argmin()), ("highest", values.argmax())):
        if values[at] not in (values[0], values[-1]):
            said += f", {word} {told[at]}"
    return said


def _cloud(points: Points) -> str:
    x, y = points[:, 0], points[:, 1]
    said = f"{len(points)} dots, x from {_number(x.min())} to {_number(x.max())}"
    said += f", y from {_number(y.min())} to {_number(y.max())}, mean {_number(y.mean())}"
    if x.std() and y.std():
        said += f", correlation {np.corrcoef(x, y)[0, 1]:.2f}"
    return said


def _bars(bars: BarContainer, axes: Axes) -> str:
    upright = bars.orientation == "vertical"
    names = names_of(axes.xaxis if upright else axes.yaxis)
    boxes = [patch.get_bbox() for patch in bars.patches]
    edges = np.array([(b.x0, b.x1) if upright else (b.y0, b.y1) for b in boxes], dtype=float)
    edges = edges.reshape(-1, 2)  # of no bars, too
    values = np.asarray(bars.datavalues, dtype=float)
    columns = bars.errorbar.lines[2] if bars.errorbar is not None else ()
    own = [segment for column in columns for segment in column.get_segments()]
    ends = np.column_stack([edges.mean(1), values][:: 1 if upright else -1])
    points = placed(ends, own, [], not upright)
    given = [x.get_label() for x in (bars, *bars.patches[:1]) if x.get_label()[:1] != "_"]
    label = one_line(given[0]) if given else ""
    if len(points) > BARS:
        return f"{label or 'bars'}: {_histogram(edges, points)}"
    told = _by_place(points, names) if names else _points(points, names)
    return f"{label or 'bars'}: {told}"


def _histogram(edges: np.ndarray, points: Points) -> str:
    centres, counts = points[:, 0], points[:, 1]
    if not counts.sum():
        return "a histogram of nothing"
    mean = (centres * counts).sum() / counts.sum()
    spread = np.sqrt(((centres - mean) ** 2 * counts).sum() / counts.sum())
    top = counts.argmax()
    return (
        f"a histogram of {_number(counts.sum())}, mean {_number(mean)}, standard deviation "
        f"{_number(spread)}, most ({_number(counts[top])}) between {_number(edges[top, 0])} and "
        f"{_number(edges[top, 1])}"
    )


def _levels(axes: Axes) -> list[str]:
    said = []
    for line in axes.lines:
        found = level_of(line, axes)
        if found is not None:
            label = "" if line.get_label().startswith("_") else f"{one_line(line.get_label())}: "
            said.append(f"{label}{found[0]} line at {_number(found[1])}")
    return said


def _heat_map(axes: Axes, grid) -> str:
    if grid.ndim != 2:  # colours of a photograph
        return ""
    columns, rows = names_of(axes.xaxis), names_of(axes.yaxis)
    square = grid.shape[0] == grid.shape[1]  # then it may be a table and its mirror image
    cells = [
        (f"{rows.get(float(i), i)} and {columns.get(float(j), j)}", float(grid[i, j]))
        for i, j in np.ndindex(*grid.shape)
        if np.isfinite(grid[i, j]) and not (square and j < i and np.isclose(grid[i, j], grid[j, i]))
    ]
    if len(cells) > CELLS:
        cells.sort(key=lambda cell: cell[1])
        cells = [cells[0], cells[-1]]
    return "squares: " + ", ".join(f"{name} {_number(value)}" for name, value in cells)


# ---- pieces --------------------------------------------------------------------------------------


def _at(place: float, names: dict[float, str]) -> str:
    """The name nearest to a place, or the place as a number if there are no names."""
    nearest = min(names, key=lambda known: abs(known - place)) if names else place
    return names[nearest] if names else _number(place)


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    """Three digits, as people write them."""
    if abs(value) < NOTHING:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 3 if abs(value) < 100 else 4
    return f"{value:.{digits}g}"


def _sentences(said: Iterable[str]) -> str:
    return " ".join(s if s[-1] in ".?!…" else f"{s}." for s in said if s)
