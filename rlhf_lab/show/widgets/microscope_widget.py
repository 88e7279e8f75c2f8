"""The token microscope: a response of a real rollout, each token coloured by one of PPO's numbers.

Python holds the rollout and does the arithmetic (`rlhf_lab.show.microscope`); the page shows what
`state` holds, and sends the values of its sliders. Messages are untrusted: each is checked. Token
texts are untrusted too: they are sent as data and shown as text.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import anywidget
import pandas as pd
import traitlets

from rlhf_lab.errors import UserError
from rlhf_lab.show.markup import visible
from rlhf_lab.show.microscope import (
    Recomputed,
    SavedRollout,
    check_row,
    name_of,
    recompute,
    spread_by_score,
    token_table,
)
from rlhf_lab.show.widgets.microscope_still import still
from rlhf_lab.show.widgets.quantities import (
    BY_KEY,
    COLOURS,
    QUANTITIES,
    ends,
    level,
    number,
    sign,
    spans,
)

HERE = Path(__file__).parent
SCRIPTS = ("elements", "microscope_parts", "microscope_view")  # one program, in this order
RANGES = {"beta": (0.0, 1.0), "lam": (0.0, 1.0), "gamma": (0.9, 1.0), "epsilon": (0.05, 0.5)}
MOVED = 0.01  # a ratio this far from 1 counts as pushed
NAMED = 4  # tokens named in either direction
UNREADABLE = "A value is unknown or out of range; nothing was changed. Run the cell again."


@dataclass(frozen=True)
class View:
    """What a person has chosen to see."""

    row: int
    quantity: str
    beta: float
    lam: float
    gamma: float
    epsilon: float


class Microscope(anywidget.AnyWidget):
    """Shows a rollout token by token.

    rollout: see `rlhf_lab.show.microscope`. row: the response shown first. quantity: what colours
    the tokens at first, a column of `token_table`. rows: the responses to choose from, by default
    12 from the lowest to the highest score.

    Raises UserError for a row or quantity that does not exist.
    """

    _esm = "\n".join((HERE / f"{part}.js").read_text("utf-8") for part in SCRIPTS)
    _css = "\n".join(
        [
            *((HERE / f"{part}.css").read_text("utf-8") for part in ("frame", "microscope")),
            ".rlhf-microscope {",
            *(f"--{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items()),
            "}",
        ]
    )
    state = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        rollout: SavedRollout,
        row: int | None = None,
        quantity: str = "advantage",
        rows: Sequence[int] | None = None,
    ):
        self.rollout = rollout
        self.rows = spread_by_score(rollout) if rows is None else list(rows)
        row = self.rows[0] if row is None and self.rows else row
        self.rows += [] if row in self.rows else [row]
        for shown in self.rows:
            check_row(rollout, shown)
        if quantity not in BY_KEY:
            raise UserError(f"there is no quantity {quantity!r}: choose from {', '.join(BY_KEY)}")
        self._saved = recompute(rollout)
        tables = [token_table(rollout, i, self._saved) for i in range(len(rollout.texts))]
        self._spans = spans(tables)
        s = rollout.settings
        self._ranges = {
            name: (min(low, getattr(s, name)), max(high, getattr(s, name)))
            for name, (low, high) in RANGES.items()
        }
        self.view = View(row, quantity, s.beta, s.lam, s.gamma, s.epsilon)
        self._one_at_a_time = threading.Lock()
        super().__init__(state=self._state())
        self.on_msg(self._hear)

    @property
    def numbers(self) -> Recomputed:
        """PPO's numbers under the settings of the sliders."""
        v = self.view
        return recompute(self.rollout, v.beta, v.gamma, v.lam, v.epsilon)

    @property
    def table(self) -> pd.DataFrame:
        """All numbers of each token of the response shown, under these settings."""
        return token_table(self.rollout, self.view.row, self.numbers)

    # ---- talking -----------------------------------------------------------------------------

    def _hear(self, _widget, message, _buffers) -> None:
        """Show what a message asks for, and answer with the new state."""
        with self._one_at_a_time:
            heard, problem = "", ""
            try:
                self.view = self._wish(message)
                heard = message["id"]
            except UserError as error:
                problem = str(error)
            self.state = self._state(heard, problem)

    def _wish(self, message) -> View:
        """The view that a message describes: {id, row, quantity, beta, lam, gamma, epsilon}."""
        names = {"id", *View.__dataclass_fields__}
        if not isinstance(message, dict) or set(message) != names:
            raise UserError(UNREADABLE)
        id, row, quantity = message["id"], message["row"], message["quantity"]
        if not (
            isinstance(id, str)
            and len(id) <= 40
            and type(row) is int
            and row in self.rows
            and isinstance(quantity, str)
            and quantity in BY_KEY
        ):
            raise UserError(UNREADABLE)
        settings = {name: message[name] for name in RANGES}
        for name, x in settings.items():
            low, high = self._ranges[name]
            if type(x) not in (int, float) or not math.isfinite(x) or not low <= x <= high:
                raise UserError(UNREADABLE)
        return View(row, quantity, **{name: float(x) for name, x in settings.items()})

    def _state(self, heard: str = "", problem: str = "") -> dict:
        """All that the page needs; numbers as the text that it shows."""
        numbers, row = self.numbers, self.view.row
        table = token_table(self.rollout, row, numbers)
        columns = {q.key: table[q.key].tolist() for q in QUANTITIES}
        levels = {
            q.key: [level(q, x, self._spans[q.key]) for x in columns[q.key]] for q in QUANTITIES
        }
        return {
            "heard": heard,
            "problem": problem,
            "view": asdict(self.view),
            "saved": {name: getattr(self.rollout.settings, name) for name in RANGES},
            "ranges": self._ranges,
            "rows": [{"row": i, "label": self._label(i)} for i in self.rows],
            "prompt": visible(self.rollout.prompts[row]),
            "summary": self._summary(numbers),
            "tokens": [{"text": _on_screen(text), "name": name_of(text)} for text in table["text"]],
            "cells": {key: [number(x) for x in column] for key, column in columns.items()},
            "levels": levels,
            "signs": {q.key: [sign(q, x) for x in levels[q.key]] for q in QUANTITIES},
            "clipped": table["clipped"].tolist(),
            "quantities": [asdict(q) | {"ends": ends(q, self._spans[q.key])} for q in QUANTITIES],
            "moved": moved(table),
            "losses": self._losses(numbers),
        }

    # ---- words and numbers -------------------------------------------------------------------

    def _label(self, row: int) -> str:
        text = name_of(self.rollout.texts[row]).replace("␣", " ")
        return f"score {self.rollout.scores[row]:+.2f}: {text[:48]}{'…' if len(text) > 48 else ''}"

    def _summary(self, numbers: Recomputed) -> str:
        row = self.view.row
        return (
            f"Score {numbers.scores[row]:.2f} − beta {numbers.settings.beta:g} × "
            f"{numbers.kl[row].sum():.2f} nats of KL = {numbers.rewards[row].sum():.2f}, "
            "the sum of its rewards."
        )

    def _losses(self, numbers: Recomputed) -> list[dict]:
        def figures(n: Recomputed) -> dict[str, str]:
            mean = n.raw_advantages.sum() / self.rollout.mask.sum()
            return {
                "policy loss": number(n.policy_loss),
                "value loss": number(n.value_loss),
                "mean advantage, before whitening": number(float(mean)),
                "tokens clipped": f"{n.clip_share:.1%}",
            }

        now, then = figures(numbers), figures(self._saved)
        return [{"label": label, "now": now[label], "saved": then[label]} for label in now]

    # ---- without a front end -----------------------------------------------------------------

    def show(self, **changes) -> "Microscope":
        """Change what is shown, from Python: show(row=3, quantity="ratio", lam=0.5).

        Raises UserError for an unknown name and for a value that is unknown or out of range.
        """
        try:
            wish = asdict(replace(self.view, **changes))
        except TypeError as error:
            raise UserError(
                f"unknown argument of show(): {error}; use {', '.join(asdict(self.view))}"
            ) from error
        self.view = self._wish(wish | {"id": ""})
        self.state = self._state()
        return self

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and a page for viewers that run no widgets and have no kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        q = BY_KEY[self.view.quantity]
        return data | {"text/html": still(self.state, q, self._spans[q.key])}, metadata

    def __repr__(self) -> str:
        count, view = len(self.rollout.texts), self.view
        return f"<Microscope: {count} responses, row {view.row} by {view.quantity}>"


def moved(table: pd.DataFrame) -> str:
    """Which tokens of a response the update pushed, in words."""

    def those(some: pd.DataFrame) -> str:
        return ", ".join(
            f"“{name_of(text)}” × {ratio:.2f}" for text, ratio in zip(some["text"], some["ratio"])
        )

    if (table["ratio"] == 1).all():
        return "No update was made: every ratio is 1."
    ordered = table.sort_values("ratio", kind="stable")
    down, up = ordered[ordered["ratio"] < 1 - MOVED], ordered[ordered["ratio"] > 1 + MOVED][::-1]
    still = len(table) - len(down) - len(up)
    said = [
        f"The update pushed {len(up)} of these {len(table)} tokens up, {len(down)} down and "
        f"left {still} within {MOVED:.0%} of where they were."
    ]
    said += [f"Most up: {those(up[:NAMED])}."] if len(up) else []
    said += [f"Most down: {those(down[:NAMED])}."] if len(down) else []
    return " ".join(said)


def _on_screen(text: str) -> str:
    """A token as it appears in the text, with blanks written out."""
    shown = visible(text).replace("\n", "↵\n").replace("\t", "⇥")
    return shown if text.strip() else shown.replace(" ", "␣")
