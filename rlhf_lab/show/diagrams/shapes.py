"""What the diagrams are made of. A white card of its own lets a picture be read on a dark page, and
what a box is can be seen without colour: a model has a thick frame, a frozen one a dashed frame,
data has round corners."""

from collections.abc import Sequence

from rlhf_lab.show.markup import Html, join, tag

INK, FRAME, PANEL = "#16191D", "#C5CAD1", "#F5F6F8"
SCORE, PRICE = "#A8487F", "#B34A00"  # those of SERIES for score and KL, darker, to be read as text
FRAMES = {  # kind of box: its attributes
    "model": {"stroke_width": 3},
    "frozen": {"stroke_width": 3, "stroke_dasharray": "7 4"},
    "data": {"stroke_width": 1.5, "rx": 16},
}
Point = tuple[float, float]


def svg(title: str, words: str, width: int, height: int, parts: Sequence[Html]) -> str:
    """A whole picture on a white card of its own, so that it can be read on a dark page."""
    head = tag(
        "marker",
        tag("path", d="M0 0 L9 4.5 L0 9 z", fill=INK),
        id="head",
        markerWidth=9,
        markerHeight=9,
        refX=8,
        refY=4.5,
        orient="auto",
        markerUnits="userSpaceOnUse",
    )
    card = rect(1, 1, width - 2, height - 2, fill="white", stroke=FRAME, rx=8)
    body = join(tag("title", title, id="title"), tag("desc", words, id="words"))
    return tag(
        "svg",
        body,
        tag("defs", head),
        card,
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_labelledby="title words",
        font_family="'DejaVu Sans', Verdana, Arial, sans-serif",
    )


def panel(x: float, width: float, heading: str, more: str) -> Html:
    """The ground of a stage, with its heading."""
    return join(
        rect(x, 16, width, 406, fill=PANEL, stroke=FRAME, rx=8),
        text(x + width / 2, 40, heading, 16, bold=True),
        text(x + width / 2, 60, more, 13),
    )


def box(
    x: float,
    y: float,
    width: float,
    kind: str,
    name: str,
    *lines: str,
    height: float = 72,
    colour: str = INK,
    dashes: str | None = None,
) -> Html:
    """A box of a kind in FRAMES, with a name and lines of small text below it."""
    look = FRAMES[kind] | ({"stroke_dasharray": dashes} if dashes else {})
    first = y + height / 2 + 5 - 9 * len(lines)
    return join(
        rect(x, y, width, height, fill="white", stroke=colour, **look),
        text(x + width / 2, first, name, 15, bold=True),
        *(
            text(x + width / 2, first + 18 * number, line, 13)
            for number, line in enumerate(lines, 1)
        ),
    )


def rect(x: float, y: float, width: float, height: float, **look) -> Html:
    return tag("rect", x=x, y=y, width=width, height=height, **look)


def text(
    x: float,
    y: float,
    words: str,
    size: int,
    anchor: str = "middle",
    colour: str = INK,
    bold: bool = False,
) -> Html:
    """One line of text; y is its baseline."""
    weight = "bold" if bold else None
    return tag(
        "text", words, x=x, y=y, font_size=size, text_anchor=anchor, fill=colour, font_weight=weight
    )


def arrow(*points: Point, colour: str = INK) -> Html:
    """A line through the points with a head at its end."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return tag(
        "polyline",
        points=path,
        fill="none",
        stroke=colour,
        stroke_width=1.8,
        marker_end="url(#head)",
    )
