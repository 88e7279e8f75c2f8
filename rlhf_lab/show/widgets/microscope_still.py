"""The microscope as plain HTML for a saved notebook: the same tokens, colours and numbers.

Colours are written into the elements: they stay even if a viewer removes style sheets.
"""

from rlhf_lab.show.markup import Html, join, tag
from rlhf_lab.show.widgets.quantities import INK, QUANTITIES, Quantity, blend, end_colour, ends


def still(state: dict, quantity: Quantity, span: float) -> Html:
    """A page that shows the microscope's state, coloured by one quantity."""
    losses = "; ".join(f"{loss['label']}: {loss['now']}" for loss in state["losses"])
    tokens = [_token(state, quantity, at) for at in range(len(state["tokens"]))]
    return tag(
        "div",
        tag(
            "p",
            tag("b", "Microscope: "),
            f"{quantity.label} ({quantity.symbol}). ",
            quantity.meaning,
        ),
        tag("blockquote", tag("bdi", state["prompt"]), style="white-space: pre-wrap"),
        tag("p", *tokens, style="line-height: 2.1; white-space: pre-wrap"),
        tag("p", _legend(quantity, span)),
        tag("p", state["moved"]),
        tag("p", state["summary"]),
        tag("p", "The whole batch: ", losses, "."),
        tag(
            "details",
            tag("summary", "The numbers as a table"),
            tag("div", _table(state), style="overflow-x: auto"),
        ),
    )


def _table(state: dict) -> Html:
    heads = ["token", *(q.label for q in QUANTITIES), "clipped"]
    lines = [
        [
            token["name"],
            *(state["cells"][q.key][at] for q in QUANTITIES),
            "yes" if state["clipped"][at] else "no",
        ]
        for at, token in enumerate(state["tokens"])
    ]
    return tag(
        "table",
        tag("tr", *(tag("th", head, scope="col") for head in heads)),
        *(tag("tr", *(tag("td", cell) for cell in line)) for line in lines),
    )


def _token(state: dict, q: Quantity, at: int) -> Html:
    token, strength = state["tokens"][at], state["levels"][q.key][at]
    content = join(tag("bdi", token["text"]), tag("sup", state["signs"][q.key][at]))
    says = f"{token['name']}: {q.label} {state['cells'][q.key][at]}"
    return _coloured(content, end_colour(q, strength), abs(strength), title=says)


def _legend(q: Quantity, span: float) -> Html:
    stops = [0.0, 0.5, 1.0] if q.centre is None else [-1.0, -0.5, 0.0, 0.5, 1.0]
    words = ends(q, span)
    labels = dict(zip((stops[0], stops[-1]) if len(words) == 2 else (-1.0, 0.0, 1.0), words))
    boxes = [
        _coloured(labels.get(stop, "\u2003"), end_colour(q, stop), abs(stop)) for stop in stops
    ]
    return tag("span", "Colours: ", *boxes)


def _coloured(content, colour: str, strength: float, **attributes) -> Html:
    look = f"background-color: {blend(colour, strength)}; color: {INK}; padding: 2px 1px"
    return tag("span", content, style=look, **attributes)
