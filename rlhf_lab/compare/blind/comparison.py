"""The pairs of a blind comparison, a person's choices, and the store that keeps them."""

import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rlhf_lab.compare.blind.outcome import Outcome
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import Responses
from rlhf_lab.feedback.selection import Item
from rlhf_lab.feedback.session import RankingSession
from rlhf_lab.feedback.store import FeedbackStore, Sample
from rlhf_lab.records import Prompt
from rlhf_lab.show.markup import Html, tag
from rlhf_lab.show.terminal_ranking import WIDTH, rank_in_terminal
from rlhf_lab.tasks.labellers import GENERAL, Guidelines
from rlhf_lab.training import seed_of

INTRO = """\
Two responses to each prompt, by two models, in a new random order every time; you learn at the end
which model wrote which. Type the letter of the better one, a or b, or a=b if you cannot tell."""


@dataclass(frozen=True)
class Pair:
    """A prompt, the two models' responses to it, and their order on screen. passed: how many
    prompts with equal responses were drawn after the previous pair and before this one."""

    prompt: Prompt
    texts: tuple[str, str]
    shown: tuple[int, int]
    passed: int


@dataclass(frozen=True)
class Pairs:
    """The pairs of a session, in order; it chooses items as a `Selection` does."""

    pairs: tuple[Pair, ...]

    def next_item(
        self, store: FeedbackStore, labeller: str, uncertainty: Mapping[str, float] | None = None
    ) -> Item | None:
        """The first pair that this labeller has not answered; None if none is left."""
        done = {entry.prompt.text for entry in store.entries(labeller)}
        return next(
            (
                Item(p.prompt, p.texts, p.shown, "random")
                for p in self.pairs
                if p.prompt.text not in done
            ),
            None,
        )


class BlindComparison:
    """Pairs of two models' responses, and what a person chooses.

    first, second: the models' responses to the same prompts; only the first response to each
    counts. count: how many choices to make. The prompts are drawn at random (`seed`), and a larger
    count begins with the prompts of a smaller one. Prompts with equal responses are not shown; they
    count as ties. names: the models' names, shown at the end. store: the file of a feedback store,
    in which the person can continue later, also to a larger count; without it a temporary store is
    used, so running the cell again starts from zero. labeller: any name for the person. guidelines:
    what the person should look for.

    Raises UserError if the models answered different prompts, and if the store holds choices
    between other responses.
    """

    def __init__(
        self,
        first: Responses,
        second: Responses,
        count: int = 20,
        seed: int = 0,
        names: tuple[str, str] = ("first", "second"),
        store: str | Path | None = None,
        labeller: str = "me",
        guidelines: Guidelines = GENERAL,
    ):
        if [p.text for p in first.prompts] != [p.text for p in second.prompts]:
            raise UserError("the two models answered different prompts: give both the same ones")
        if count < 1:
            raise UserError(f"count is {count}: make at least 1 choice")
        self.names, self.labeller, self.guidelines = names, labeller, guidelines
        self.pairs, self._same_after = draw_pairs(first, second, count, seed)
        self.kept = store is not None
        if store is None:
            self._folder = tempfile.TemporaryDirectory(prefix="rlhf-lab-")  # deleted with self
            store = Path(self._folder.name) / "blind.sqlite3"
        self.store = FeedbackStore(store)
        self.store.add_all(
            (p.prompt, [Sample(t, name) for t, name in zip(p.texts, names)]) for p in self.pairs
        )
        self._check_store()

    def session(self) -> RankingSession:
        """The person's session with the pairs, for any front end."""
        return RankingSession(
            self.store,
            self.labeller,
            Pairs(tuple(self.pairs)),
            len(self.pairs) or None,
            guidelines=self.guidelines,
        )

    def ask(self, read: Callable[[str], str] = input, write: Callable[[str], None] = print) -> None:
        """Let the person choose on the terminal, then print the result. A person who stops early
        sees the result so far; but if a store keeps the choices, only that there are more to make,
        since they can continue later."""
        write(INTRO)
        rank_in_terminal(self.session(), read, write, self.kept)
        write(textwrap.fill(str(self.result(early=not self.kept)), WIDTH))

    def result(self, early: bool = False) -> Outcome:
        """The result of the choices. early: show it even if pairs are left."""
        given = {entry.prompt.text: entry for entry in self.store.entries(self.labeller)}
        found = [given.get(pair.prompt.text) for pair in self.pairs]
        counts = {"wins": 0, "ties": 0, "losses": 0, "skipped": 0, "same": 0}
        for pair, entry in zip(self.pairs, found):
            if entry:
                counts["same"] += pair.passed
                counts[_kind(entry)] += 1
        left = found.count(None)
        counts["same"] += 0 if left else self._same_after
        return Outcome(*self.names, **counts, left=left, asked=early)

    @cached_property
    def widget(self):
        """The ranking widget on these pairs."""
        from rlhf_lab.show.widgets.ranking_widget import RankingWidget

        return RankingWidget(
            self.store,
            self.labeller,
            2,
            len(self.pairs) or None,
            Pairs(tuple(self.pairs)),
            guidelines=self.guidelines,
        )

    def still(self) -> Html:
        """The next pair and the progress, as HTML that needs no front end."""
        item, outcome = self.session().current, self.result()
        parts = [tag("p", tag("b", "Blind comparison"), f" by {self.labeller}: {outcome}")]
        if item:
            parts += [
                tag("blockquote", item.prompt.text, dir="auto"),
                tag(
                    "ol", *(tag("li", item.responses[i], dir="auto") for i in item.shown), type="A"
                ),
                tag(
                    "p",
                    "To choose, run this cell in a notebook; without one, call ",
                    tag("code", ".ask()"),
                    " in a terminal.",
                ),
            ]
        return tag("div", *parts)

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and HTML that needs no front end and no kernel."""
        data, metadata = self.widget._repr_mimebundle_(**kwargs)
        return data | {"text/html": self.still(), "text/plain": repr(self)}, metadata

    def __repr__(self) -> str:
        return f"<BlindComparison by {self.labeller!r}: {self.result()}>"

    def _check_store(self) -> None:
        """Raise UserError if the store holds choices between other responses, which would count as
        these."""
        texts = {pair.prompt.text: pair.texts for pair in self.pairs}
        for entry in self.store.entries(self.labeller):
            if texts.get(entry.prompt.text) != entry.responses:
                raise UserError(
                    f"{self.store.path} holds choices of {self.labeller!r} between "
                    "other responses: give another store, or another labeller"
                )


def draw_pairs(
    first: Responses, second: Responses, count: int, seed: int
) -> tuple[list[Pair], int]:
    """At most `count` pairs of different responses to prompts drawn at random, each pair in a
    random order; and how many prompts with equal responses were drawn after the last pair."""
    pairs: list[Pair] = []
    passed = 0
    for place in drawn(first.prompts, seed):
        if len(pairs) >= count:
            break
        prompt = first.prompts[place]
        texts = first.texts[place][0], second.texts[place][0]
        if texts[0].strip() == texts[1].strip():
            passed += 1
            continue
        shown = (1, 0) if seed_of("blind side", seed, prompt.text) % 2 else (0, 1)
        pairs.append(Pair(prompt, texts, shown, passed))
        passed = 0
    return pairs, passed


def drawn(prompts: Sequence[Prompt], seed: int) -> list[int]:
    """The indices of the prompts, each text once, in a random order that depends only on the texts
    and the seed, so that a larger count begins with the prompts of a smaller one."""
    places = {prompt.text: place for place, prompt in enumerate(prompts)}
    return [places[text] for text in sorted(places, key=lambda t: seed_of("blind", seed, t))]


def _kind(entry) -> str:
    """What a choice counts as for the second model."""
    if entry.kind != "ranking":
        return "skipped"
    first, second = (3 if rank is None else rank for rank in entry.ranks)  # unranked is last
    return "wins" if second < first else "losses" if first < second else "ties"
