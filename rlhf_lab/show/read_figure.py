"""What stands in a figure, read from its artists: series with their intervals, levels, and the
words at its ticks. `alt_text` makes sentences of it.
"""

import re
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from rlhf_lab.show.markup import visible

PALE = 0.3  # an unlabelled line as pale as this lies under its running mean
NO_LINE = ("None", "none", "", " ")
NUMERIC = re.compile(r"[\d.,%±+−\- ]*")
Points = np.ndarray  # (n, 4): place, value, and the ends of its interval, NaN if it has none


@dataclass
class Group:
    """Series of one label and look, such as the seeds of one arm. look: colour, line, marker."""

    label: str
    look: tuple[str, str, str]
    members: list[Points]

    @property
    def kind(self) -> str:
        return "dots" if self.dots else "line"

    @property
    def dots(self) -> bool:
        """Whether its points are not joined by lines."""
        return self.look[1] in NO_LINE


def groups(axes: Axes) -> list[Group]:
    """What is drawn as lines and dots, without levels, intervals and bars. Series without a label
    belong to one with a label that looks the same."""
    flat, found = flat_of(axes), []
    errors, parts = _error_bars(axes)
    segments = [c for c in axes.collections if isinstance(c, LineCollection) and c not in parts]
    ends = [end for collection in segments for end in collection.get_segments()]
    for line in axes.lines:
        if line in parts or level_of(line, axes) is not None:
            continue
        points = np.array(line.get_xydata(), dtype=float)
        if line not in errors and _is_interval(line, points, flat):
            ends.append(points)
            continue
        label, own = errors.get(line, (line.get_label(), []))
        look = (to_hex(line.get_color()), line.get_linestyle(), str(line.get_marker()))
        pale = (line.get_alpha() or 1) <= PALE and line.get_linestyle() != "None"
        found.append((label, look, placed(points, own, ends, flat), pale))
    for dots in axes.collections:
        if isinstance(dots, PathCollection):
            points = np.array(dots.get_offsets(), dtype=float)
            shape = str(dots.get_paths()[0].vertices.round(3).tolist())
            filled = len(dots.get_facecolor()) > 0
            colours = dots.get_facecolor() if filled else dots.get_edgecolor()
            look = (to_hex(colours[0]), "None", shape)
            found.append((dots.get_label(), look, placed(points, [], ends, flat), False))
    return _named(_grouped(found))


def placed(points: np.ndarray, own: list, ends: list, flat: bool) -> Points:
    """Place, value and interval of each point that has finite numbers."""
    swapped = points[:, ::-1] if flat else points
    placed = np.column_stack([swapped, np.full((len(points), 2), np.nan)])
    for segment in own:
        _attach(placed, segment, flat, touching=True)
    for segment in ends:
        _attach(placed, segment, flat, touching=False)
    return placed[np.isfinite(placed[:, :2]).all(1)]


def _grouped(found: list[tuple]) -> list[Group]:
    made: list[Group] = []
    for label, look, points, pale in found:
        name = "" if str(label).startswith("_") else one_line(str(label))
        same = [g for g in made if g.look == look and (g.label == name or not name)]
        if same:
            same[-1].members.append(points)
        elif not pale or not any(o[1][0] == look[0] and o[2] is not points for o in found):
            made.append(Group(name, look, [points]))
    return made


def _named(made: list[Group]) -> list[Group]:
    """Groups without a label get the one of their colour. Dots that lie on the line of their colour
    are not a series of their own: the line gets their marker, and their label if it has none."""
    shown: list[Group] = []
    for dots in [group for group in made if group.dots]:
        for line in made:
            if not line.dots and line.look[0] == dots.look[0] and _within(dots, line):
                line.look = (*line.look[:2], dots.look[2])
                line.label = line.label or dots.label
                made = [group for group in made if group is not dots]
    for group in made:
        alike = [g for g in made if g is not group and g.look[0] == group.look[0] and g.label]
        label = group.label or (f"{alike[0].label}, {group.kind}" if alike else "")
        shown.append(Group(label, group.look, group.members))
    return shown


def _within(some: Group, other: Group) -> bool:
    every = {(x, y) for member in other.members for x, y in member[:, :2].tolist()}
    return all((x, y) in every for member in some.members for x, y in member[:, :2].tolist())


def _attach(points: Points, segment: np.ndarray, flat: bool, touching: bool) -> None:
    """Give an interval to the point that lies on it. touching: also if the point is its end; if
    not, a line that ends at the point is the stem of a lollipop."""
    if len(segment) != 2:  # of a value that is not finite there is none
        return
    ends = np.array(segment, dtype=float)[:, :: -1 if flat else 1]
    (place, low), (other, high) = ends
    low, high = min(low, high), max(low, high)
    if not np.isclose(place, other) or not np.isfinite([low, high]).all():
        return
    inside = np.isclose(points[:, 0], place) & (low <= points[:, 1]) & (points[:, 1] <= high)
    edge = np.isclose(points[:, 1], low) | np.isclose(points[:, 1], high)
    points[inside & (touching | ~edge), 2:] = low, high


def _is_interval(line: Line2D, points: np.ndarray, flat: bool) -> bool:
    """Whether an unlabelled line of two points without markers spans an interval at one place."""
    plain = str(line.get_marker()) in NO_LINE and line.get_label().startswith("_")
    return plain and len(points) == 2 and bool(np.isclose(*points[:, 1 if flat else 0]))


def _error_bars(axes: Axes) -> tuple[dict, set]:
    """For the line of each errorbar its label and intervals; and all artists that are parts of bars
    and error bars."""
    errors, parts = {}, set()
    for container in axes.containers:
        bars = container.errorbar if isinstance(container, BarContainer) else container
        if isinstance(bars, ErrorbarContainer):
            line, caps, columns = bars.lines
            parts |= {*caps, *columns}
            if line is not None:
                segments = [s for column in columns for s in column.get_segments()]
                errors[line] = (container.get_label(), segments)
    return errors, parts


# ---- levels, names, texts ------------------------------------------------------------------------


def level_of(line: Line2D, axes: Axes) -> tuple[str, float] | None:
    """Direction and value of a line across the whole panel (axhline, axvline)."""
    in_x, in_y = line.get_transform().contains_branch_seperately(axes.transData)
    if in_x == in_y:
        return None
    value = line.get_ydata()[0] if in_y else line.get_xdata()[0]
    return ("horizontal" if in_y else "vertical"), float(value)


def flat_of(axes: Axes) -> bool:
    """Whether names stand along the vertical axis, so that values run across."""
    return bool(names_of(axes.yaxis)) and not names_of(axes.xaxis)


def names_of(axis: Axis) -> dict[float, str]:
    """The words at the ticks of an axis, by place; none if they are numbers."""
    locator, formatter = axis.get_major_locator(), axis.get_major_formatter()
    if not isinstance(locator, FixedLocator) and not isinstance(formatter, StrCategoryFormatter):
        return {}
    places = [float(place) for place in locator()]
    words = [one_line(text) for text in formatter.format_ticks(places)]
    numbers = all(NUMERIC.fullmatch(word) for word in words)
    return {} if numbers else dict(zip(places, words))


def one_line(text: str) -> str:
    """A text without line breaks, its invisible characters written out."""
    return " ".join(visible(str(text or "")).split())
