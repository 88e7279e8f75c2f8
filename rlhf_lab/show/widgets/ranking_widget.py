"""Ranking in a notebook: a session on screen, in JupyterLab, VS Code, Colab and Voila.

Python holds the session and the store; the page shows what `state` holds and answers with messages.
Messages are untrusted, and every one is checked. A message about an item that is no longer shown (a
second click, a second view) changes nothing.
"""

import os
import shlex
import threading
from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.selection import Selection
from rlhf_lab.feedback.session import RankingSession, ranks_from_order
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.show.markup import Html, tag, visible
from rlhf_lab.tasks.labellers import GENERAL, Guidelines

HERE = Path(__file__).parent
SCRIPTS = (  # one program, in this order
    "elements",
    "ranking_order",
    "ranking_parts",
    "ranking_drag",
    "ranking_keys",
    "ranking_view",
)
SHORT = 400  # characters of a text on the page that is saved with the notebook, and of a fact
LABELLER = "RLHF_LAB_LABELLER"  # the environment variable with the labeller's name
UNREADABLE = "The page sent an answer that cannot be read; nothing was saved. Run the cell again."


class RankingWidget(anywidget.AnyWidget):
    """Shows prompts with a few responses each, and stores the order that a person gives them.

    store: where prompts and samples come from, and where every answer is written before the next
    prompt is shown. labeller: a name that the person chooses; a session under the same name
    continues where it stopped. None takes the environment variable RLHF_LAB_LABELLER; if that is
    not set, the widget asks. responses: how many to show, 2 to 9. goal: how many answers make a
    full session; all prompts by default. selection: how prompts and responses are picked (it
    replaces `responses`). uncertainty: by prompt text, for active selection. guidelines: what the
    person is asked to look for.

    labeller is "" and session None until a name is given. Raises UserError for a labeller's name
    that is blank or too long.
    """

    _esm = "\n".join((HERE / f"{part}.js").read_text("utf-8") for part in SCRIPTS)
    _css = "".join((HERE / f"{part}.css").read_text("utf-8") for part in ("frame", "ranking"))
    state = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        store: FeedbackStore,
        labeller: str | None = None,
        responses: int = 4,
        goal: int | None = None,
        selection: Selection | None = None,
        uncertainty: dict[str, float] | None = None,
        guidelines: Guidelines = GENERAL,
    ):
        selection = selection or Selection(responses=responses)
        self.store, self.labeller, self.guidelines = store, "", guidelines
        self.session: RankingSession | None = None
        self._begin = lambda name: RankingSession(
            store, name, selection, goal, uncertainty, guidelines
        )
        if (name := labeller if labeller is not None else os.environ.get(LABELLER)) is not None:
            self._start(name)
        self._serial = 0  # goes up with every item shown
        self._heard = 0  # goes up with every message, so that each gets an answer
        self._one_at_a_time = threading.Lock()
        super().__init__(state=self._state())
        self.on_msg(self._hear)

    def _start(self, name: str) -> None:
        self.session, self.labeller = self._begin(name), name

    def _hear(self, _widget, message, _buffers) -> None:
        """Do what a message asks, and answer with the new state."""
        with self._one_at_a_time:
            said = problem = ""
            try:
                said = self._do(message)
            except UserError as error:
                problem = str(error)
            self._heard += 1
            self.state = self._state(said, problem)

    def _do(self, message) -> str:
        """Act on a message from the page; returns what to announce."""
        if not isinstance(message, dict):
            raise UserError(UNREADABLE)
        action, session = message.get("action"), self.session
        if message.get("serial") != self._serial:
            return ""
        if session is None:
            return self._named(message)
        if not session.current and action != "undo":
            return ""
        match action:
            case "pause":
                session.pause()
                return "Paused."
            case "resume":
                session.resume()
                return "Resumed."
            case "submit":
                session.submit(self._ranks(message.get("order")))
                said = "Saved."
            case "skip":
                session.skip()
                said = "Skipped."
            case "flag":
                session.flag(message.get("reason"))
                said = f"Flagged as {message['reason']}."
            case "undo":
                said = "Undone." if session.undo() else "There was nothing to undo."
            case _:
                raise UserError(UNREADABLE)
        self._serial += 1
        return f"{said} {self._outlook()}"

    def _named(self, message) -> str:
        """Begin with the name that the page sent."""
        name = message.get("name")
        if message.get("action") != "name" or not isinstance(name, str):
            raise UserError(UNREADABLE)
        self._start(name.strip())
        self._serial += 1
        return f"Welcome, {visible(self.labeller)}. {self._outlook()}"

    def _ranks(self, order) -> list[int | None]:
        """Ranks in stored order from the page's groups of places on screen, best first."""
        shown = self.session.current.shown
        groups = order if isinstance(order, list) else []
        places = [place for group in groups if isinstance(group, list) for place in group]
        fits = all(type(place) is int and 0 <= place < len(shown) for place in places)
        if not (places and fits and all(groups) and len(set(places)) == len(places)):
            raise UserError(UNREADABLE)
        return ranks_from_order([[shown[place] for place in group] for group in groups], len(shown))

    def _outlook(self) -> str:
        done, goal = self._progress
        return f"{done} of {goal} done." if self.session.current else "That was the last one."

    @property
    def _progress(self) -> tuple[int, int]:
        return self.session.progress if self.session else (0, 0)

    def _state(self, said: str = "", problem: str = "") -> dict:
        """All that the page needs."""
        done, goal = self._progress
        guidelines = self.guidelines
        return {
            "asks": self.session is None,
            "serial": self._serial,
            "heard": self._heard,
            "item": self._item(),
            "done": done,
            "goal": goal,
            "labeller": visible(self.labeller),
            "store": visible(self.store.path.name),
            "paused": bool(self.session and self.session.paused),
            "guidelines": {"version": guidelines.version, "text": guidelines.text},
            "said": said,
            "problem": problem,
        }

    def _item(self) -> dict | None:
        """The prompt, its responses in the order on screen, and the order given so far."""
        item = self.session and self.session.current
        if not item:
            return None
        ranks = self.session.restored or [None] * len(item.shown)
        return {
            "prompt": visible(item.prompt.text),
            "facts": [
                [visible(_clipped(str(text))) for text in fact]
                for fact in item.prompt.facts.items()
            ],
            "texts": [visible(item.responses[index]) for index in item.shown],
            "order": order_on_screen([ranks[index] for index in item.shown]),
        }

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and a page for viewers that run no widgets and have no kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": self._fallback()}, metadata

    def __repr__(self) -> str:
        done, goal = self._progress
        return f"<RankingWidget: {self.labeller!r}, {done} of {goal} done, {self.store.path.name}>"

    def _fallback(self) -> Html:
        item = self.session and self.session.current
        done, goal = self._progress
        who = f" by {self.labeller}: {done} of {goal} done." if self.session else ": name needed."
        name = self.labeller or "NAME"
        command = ["rlhf-lab", "rank", str(self.store.path), "--labeller", name]
        return tag(
            "div",
            tag("p", tag("b", "Ranking"), who),
            item and tag("blockquote", _clipped(item.prompt.text), dir="auto"),
            item
            and tag(
                "ol",
                *(tag("li", _clipped(item.responses[index]), dir="auto") for index in item.shown),
                type="A",
            ),
            tag(
                "p",
                "To rank, run this cell in a notebook; or, without one, on the terminal: ",
                tag("code", shlex.join(command)),
            ),
        )


def order_on_screen(ranks: Sequence[int | None]) -> list[list[int]]:
    """Groups of places on screen, best first, from the rank of each place."""
    return [
        [place for place, other in enumerate(ranks) if other == rank]
        for rank in sorted({rank for rank in ranks if rank is not None})
    ]


def _clipped(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[:SHORT]} …"
