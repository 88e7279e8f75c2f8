"""Small curves as SVG text: what the dashboard redraws after every update, in a millisecond.

A figure of matplotlib takes a hundred times as long. Lines and letters take the colour of the page
(currentColor), so that a curve is readable in dark mode too.
"""

import math
from collections.abc import Sequence

from rlhf_lab.show.markup import Html, tag
from rlhf_lab.show.panels import SERIES, Line, Panel, drawn

WIDTH, HEIGHT = 280, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 22, 22  # margins, for labels
Points = list[tuple[float, float]]


def curve(panel: Panel, records: Sequence[dict], updates: int | None = None) -> Html:
    """One panel as an <svg>: its lines over the updates, 95 % bands where a line has an error.

    updates: how many the whole run has, so that the axis keeps its length while the run goes on.
    A number that is not finite leaves a gap.
    """
    rows = [r for r in records if r.get("stage") == panel.stage]
    lines = [(line, _points(line, rows)) for line in panel.lines]
    bands = {line: _band(line, rows) for line in panel.lines if line.error}
    level = [panel.level[0]] if panel.level else []
    heights = [y for _, points in lines for _, y in points] + level
    heights += [y for low, high in bands.values() for _, y in low + high]
    if not any(points for _, points in lines):
        return Html("")
    low, high = _nice(min(heights), max(heights))
    last = max(updates or 0, *(r["update"] for r in rows), 2)

    def place(x: float, y: float) -> str:
        across = LEFT + (x - 1) / (last - 1) * (WIDTH - LEFT - RIGHT)
        down = TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    shapes = [_grid(low, high, last, place)]
    for line, (under, over) in bands.items():
        outline = " ".join(place(*point) for point in under + over[::-1])
        shapes.append(tag("polygon", points=outline, fill=_colour(line), fill_opacity=0.2))
    if panel.level:
        ends = " ".join(place(x, panel.level[0]) for x in (1, last))
        shapes.append(tag("polyline", points=ends, stroke="currentColor", stroke_dasharray="2 3"))
    for line, points in lines:
        shapes += _drawn(line, points, place)
    newest = [f"{points[-1][1]:.3g}" for _, points in lines if points]
    title = f"{panel.title.partition(': ')[2] or panel.title}  {' / '.join(newest)}"
    shapes += [
        tag("text", title, x=2, y=14, font_weight="bold", fill="currentColor"),
        tag(
            "text",
            panel.unit,
            x=WIDTH - 1,
            y=14,
            text_anchor="end",
            fill="currentColor",
            fill_opacity=0.8,
        ),
    ]
    return tag(
        "svg",
        *shapes,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        width=WIDTH,
        height=HEIGHT,
        role="img",
        aria_label=f"{panel.title} ({panel.unit}), now {', '.join(newest)}",
        font_size=11,
        font_family="sans-serif",
        fill="none",
    )


def _points(line: Line, rows: Sequence[dict]) -> Points:
    return [
        (r["update"], drawn(line.metric, r[line.metric]))
        for r in rows
        if r.get(line.metric) is not None and math.isfinite(r[line.metric])
    ]


def _band(line: Line, rows: Sequence[dict]) -> tuple[Points, Points]:
    """The lower and the upper edge of the 95 % interval."""
    known = [
        r
        for r in rows
        if r.get(line.metric) is not None
        and r.get(line.error) is not None
        and math.isfinite(r[line.metric])
        and math.isfinite(r[line.error])
    ]
    edges = [
        [
            (r["update"], drawn(line.metric, r[line.metric] + sign * 1.96 * r[line.error]))
            for r in known
        ]
        for sign in (-1, 1)
    ]
    return edges[0], edges[1]


def _nice(low: float, high: float) -> tuple[float, float]:
    """Lower and upper end of the axis: round numbers just outside the data."""
    span = high - low or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span)) / 2
    bottom, top = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return bottom * step, max(top, bottom + 1) * step


def _grid(low: float, high: float, last: int, place) -> Html:
    """Lines at the lower end, the middle and the upper end of the axis, with their numbers."""
    shapes = []
    for y in (low, (low + high) / 2, high):
        across, down = place(1, y).split(",")
        shapes.append(
            tag(
                "polyline",
                points=f"{place(1, y)} {place(last, y)}",
                stroke="currentColor",
                stroke_opacity=0.2,
            )
        )
        shapes.append(
            tag(
                "text",
                f"{y:.3g}",
                x=float(across) - 4,
                y=float(down) + 4,
                text_anchor="end",
                fill="currentColor",
            )
        )
    for x in (1, last):
        across, down = place(x, low).split(",")
        shapes.append(
            tag(
                "text",
                f"update {x}" if x == 1 else x,
                x=across,
                y=float(down) + 14,
                fill="currentColor",
                text_anchor="start" if x == 1 else "end",
            )
        )
    return tag("g", *shapes)


def _drawn(line: Line, points: Points, place) -> list[Html]:
    """A line, or dots where the metric is logged at some updates only."""
    if line.rare or len(points) == 1:
        places = [place(*point).split(",") for point in points]
        return [tag("circle", cx=x, cy=y, r=2.5, fill=_colour(line)) for x, y in places]
    joined = " ".join(place(*point) for point in points)
    return [tag("polyline", points=joined, stroke=_colour(line), stroke_width=1.8)]


def _colour(line: Line) -> str:
    return "currentColor" if line.colour == "mark" else SERIES[line.colour]
