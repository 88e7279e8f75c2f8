"""The pairs of a blind comparison, a person's way through them, and what is kept."""

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
Two responses to each prompt, by two models, in a new random order every time; which model wrote
which is told at the end. Type the letter of the better one, a or b, or a=b if you cannot tell."""


@dataclass(frozen=True)
class Pair:
    """A prompt, the two models' responses to it, and their order on screen. passed: how many
    prompts were drawn since the pair before to which both models wrote the same."""

    prompt: Prompt
    texts: tuple[str, str]
    shown: tuple[int, int]
    passed: int


@dataclass(frozen=True)
class Pairs:
    """What a session is to show: the pairs in their order, as a `Selection` chooses items."""

    pairs: tuple[Pair, ...]

    def next_item(
        self, store: FeedbackStore, labeller: str, uncertainty: Mapping[str, float] | None = None
    ) -> Item | None:
        """The first pair that this labeller has not answered; None when there is none left."""
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

    first, second: their answers to the same prompts, of which the first response counts. count: how
    many choices to make; the prompts are drawn at random (`seed`), more of them beginning with the
    same as fewer, and those to which both models wrote the same are passed over and counted as
    ties. names: what the models are called at the end. store: file of a feedback store, where one
    can go on later, also to a larger count; if none is given, one that goes with this object, so
    that running the cell again starts afresh. labeller: a name of the person's own choice.
    guidelines: what the person is asked to look for.

    Raises UserError if the two did not answer the same prompts, and for a store that holds choices
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
            raise UserError(f"{count} choices: make at least 1")
        self.names, self.labeller, self.guidelines = names, labeller, guidelines
        self.pairs, self._same_after = draw_pairs(first, second, count, seed)
        self.kept = store is not None
        if store is None:
            self._folder = tempfile.TemporaryDirectory(prefix="rlhf-lab-")  # goes with this object
            store = Path(self._folder.name) / "blind.sqlite3"
        self.store = FeedbackStore(store)
        self.store.add_all(
            (p.prompt, [Sample(t, name) for t, name in zip(p.texts, names)]) for p in self.pairs
        )
        self._check_store()

    def session(self) -> RankingSession:
        """The session of one person with the pairs, for any front end."""
        return RankingSession(
            self.store,
            self.labeller,
            Pairs(tuple(self.pairs)),
            len(self.pairs) or None,
            guidelines=self.guidelines,
        )

    def ask(self, read: Callable[[str], str] = input, write: Callable[[str], None] = print) -> None:
        """Let the person choose on the terminal, then tell what came of it. Whoever stops before
        the end is told what there is, unless a store keeps the choices: then they can go on."""
        write(INTRO)
        rank_in_terminal(self.session(), read, write, self.kept)
        write(textwrap.fill(str(self.result(early=not self.kept)), WIDTH))

    def result(self, early: bool = False) -> Outcome:
        """What the choices came to. early: tell it even though there are pairs left."""
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
        """The pair that is next, and how far one has got, as a page that needs no front end."""
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
        """The widget, and beside it a page that needs no front end and no kernel."""
        data, metadata = self.widget._repr_mimebundle_(**kwargs)
        return data | {"text/html": self.still(), "text/plain": repr(self)}, metadata

    def __repr__(self) -> str:
        return f"<BlindComparison by {self.labeller!r}: {self.result()}>"

    def _check_store(self) -> None:
        """Refuse a store with choices between other responses, which would be counted as these."""
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
    """Pairs of different responses from prompts drawn at random, at most `count`, each in a random
    order; and how many prompts with equal responses were drawn after the last of them."""
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
    """The places of the prompts, each text once, in a random order that goes by the texts and the
    seed alone, so that a larger count begins with the prompts of a smaller one."""
    places = {prompt.text: place for place, prompt in enumerate(prompts)}
    return [places[text] for text in sorted(places, key=lambda t: seed_of("blind", seed, t))]


def _kind(entry) -> str:
    """What an answer counts as, seen from the second model."""
    if entry.kind != "ranking":
        return "skipped"
    first, second = (3 if rank is None else rank for rank in entry.ranks)  # unranked is last
    return "wins" if second < first else "losses" if first < second else "ties"
