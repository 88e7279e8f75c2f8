"""Answers as cards to read: the prompt, and each answer with its mark, its score and the reasons.

Cards stand side by side where there is room and below each other where there is not. Lines wrap
between words, and a dollar sign is a dollar sign, not the beginning of a formula. Colours are those
of the page, light or dark, and carry no meaning; styles are written into the elements, as some
viewers of saved notebooks remove style sheets. A terminal gets the same as plain text.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlhf_lab.errors import UserError
from rlhf_lab.records import Mark, Prompt, Ranking
from rlhf_lab.show.markup import Html, tag, visible

if TYPE_CHECKING:
    from rlhf_lab.evaluate import Responses

LONGEST = 2000  # characters of a text that are shown
SHORT = 120  # characters of reasons that stand on one line
MOST = 50  # prompts that are shown
WIDTH = 96  # of a line of plain text
SPEAKER = re.compile(r"\n\w+:\s*$")  # at the end of a prompt: who speaks next

NO_FORMULAS = "mathjax_ignore tex2jax_ignore"  # MathJax, of this time and older
LINE = "1px solid rgba(128, 128, 128, .55)"
TEXT = "white-space: pre-wrap; overflow-wrap: break-word; word-break: normal; text-align: start"
GRID = (
    "display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); "
    "gap: .5rem; margin: .4rem 0 0"
)
STACK = "display: grid; grid-template-columns: minmax(0, 1fr); gap: .5rem; margin: .4rem 0 0"
CARD = (
    f"border: {LINE}; border-radius: 6px; padding: .4rem .7rem; min-width: 0; "
    "background: rgba(128, 128, 128, .08)"
)
GROUP = "margin: .3rem 0 1.1rem; max-width: 70rem; font-size: 14px; line-height: 1.45"
PROMPT = f"border-left: 4px solid rgba(128, 128, 128, .7); padding-left: .6rem; {TEXT}"
HEAD = "display: flex; flex-wrap: wrap; gap: 0 .8rem; margin-bottom: .15rem"
REASONS = f"margin-top: .25rem; font-size: 13px; opacity: .85; {TEXT}"


@dataclass(frozen=True)
class Card:
    """One answer. title: who gave it, or its place ("SFT", "rank 1"). mark: the judge's, as a Mark,
    whose reasons are shown, or as a number. score: the reward model's. reasons: why, in words;
    those of the Mark if not given."""

    response: str
    title: str = ""
    mark: Mark | float | None = None
    score: float | None = None
    reasons: Sequence[str] = ()

    def facts(self) -> list[str]:
        """The mark and the score in words, as far as there are any."""
        points = self.mark.mark if isinstance(self.mark, Mark) else self.mark
        return [
            f"{name} {float(value):z.{digits}f}"
            for name, value, digits in (("mark", points, 1), ("score", self.score, 2))
            if value is not None
        ]

    def why(self) -> str:
        """The reasons: on one line if they are short, else a line for each."""
        reasons = self.reasons or (self.mark.reasons if isinstance(self.mark, Mark) else ())
        short = "; ".join(reasons)
        one_line = len(short) <= SHORT or len(reasons) == 1
        return short if one_line else "\n".join(f"– {reason}" for reason in reasons)


class Cards:
    """Prompts, each with the cards of its answers. A notebook shows it as it is; `str` gives text.

    groups: pairs of a prompt (a Prompt or its text) and its cards. The first MOST are shown, and of
    each text the first LONGEST characters. stacked: cards below each other even where there is
    room.
    """

    def __init__(
        self, groups: Sequence[tuple[Prompt | str, Sequence[Card]]], stacked: bool = False
    ):
        self.grid = STACK if stacked else GRID
        self.groups = [(p if isinstance(p, str) else p.text, list(cards)) for p, cards in groups]

    def _repr_html_(self) -> Html:
        shown = [_group(prompt, cards, self.grid) for prompt, cards in self.groups[:MOST]]
        return tag(
            "div", *shown, tag("p", self._rest()) if self._rest() else None, class_=NO_FORMULAS
        )

    def __str__(self) -> str:
        blocks = [_plain(prompt, cards) for prompt, cards in self.groups[:MOST]]
        return "\n\n".join(blocks + [self._rest()] * bool(self._rest()))

    __repr__ = __str__

    def _rest(self) -> str:
        more = len(self.groups) - MOST
        return f"… and {more:,} more prompts" if more > 0 else ""


def cards_of(
    answers: "Responses | Mapping[str, Responses]", scores=None, most: int | None = None
) -> Cards:
    """The answers of one model, or of several to the same prompts, as `respond` gives them.

    answers: of one model, or {name: answers}. scores: (P, S), the reward model's, for one model; or
    {name: (P, S)}. most: how many prompts, the first ones; all if None. Raises UserError if the
    models answered different prompts.
    """
    named = answers if isinstance(answers, Mapping) else {"": answers}
    given = scores if isinstance(scores, Mapping) else dict.fromkeys(named, scores)
    prompts = next(iter(named.values())).prompts
    for name, some in named.items():
        if [p.text for p in some.prompts] != [p.text for p in prompts]:
            raise UserError(f"{name!r} answered other prompts than {next(iter(named))!r}")
    return Cards(
        [
            (
                prompt,
                [
                    card
                    for name, some in named.items()
                    for card in _row(some, row, name, given.get(name))
                ],
            )
            for row, prompt in enumerate(prompts[:most])
        ]
    )


def ranked(ranking: Ranking, scores=None, marks: Sequence[Mark] | None = None) -> Cards:
    """The responses of a ranking below each other, from the best to the worst, then those that are
    unranked.

    scores, marks: one for each response, in the stored order.
    """
    places = sorted(
        range(len(ranking.responses)),
        key=lambda i: (ranking.ranks[i] is None, ranking.ranks[i] or 0),
    )
    cards = [
        Card(
            ranking.responses[i],
            "unranked" if ranking.ranks[i] is None else f"rank {ranking.ranks[i]}",
            marks[i] if marks is not None else None,
            float(scores[i]) if scores is not None else None,
        )
        for i in places
    ]
    return Cards([(ranking.prompt, cards)], stacked=True)


# ---- one prompt and its answers ------------------------------------------------------------------


def _row(answers: "Responses", row: int, title: str, scores) -> list[Card]:
    """The cards of one model's answers to one prompt."""
    marks = answers.marks[row] if answers.marks is not None else [None] * answers.per_prompt
    values = [None] * answers.per_prompt if scores is None else [float(x) for x in scores[row]]
    return [
        Card(text, title, mark, score)
        for text, mark, score in zip(answers.texts[row], marks, values)
    ]


def _group(prompt: str, cards: Sequence[Card], grid: str) -> Html:
    answers = tag("div", *map(_card, cards), style=grid, role="list")
    asked = tag("div", _bounded(SPEAKER.sub("", prompt)), style=PROMPT, dir="auto")
    return tag("div", asked, answers, style=GROUP)


def _card(card: Card) -> Html:
    head = [tag("b", tag("bdi", card.title)) if card.title else None]
    head += [tag("span", fact) for fact in card.facts()]
    return tag(
        "div",
        tag("div", *head, style=HEAD) if any(head) else None,
        tag("div", _bounded(card.response), style=TEXT, dir="auto"),
        tag("div", _bounded(card.why()), style=REASONS, dir="auto") if card.why() else None,
        style=CARD,
        role="listitem",
    )


def _plain(prompt: str, cards: Sequence[Card]) -> str:
    lines = [_wrapped(SPEAKER.sub("", prompt), "")]
    for card in cards:
        head = "  ".join(filter(None, [visible(card.title), *card.facts()]))
        lines += [f"  [{head}]"] if head else []
        lines.append(_wrapped(card.response, "    "))
        lines += [_wrapped(card.why(), "      ")] if card.why() else []
    return "\n".join(lines)


def _wrapped(text: str, indent: str) -> str:
    """A text with lines of at most WIDTH characters, which break between words where they can."""
    return "\n".join(
        textwrap.fill(
            line, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
        for line in visible(_bounded(text)).splitlines() or [""]
    )


def _bounded(text: str) -> str:
    """The beginning of a long text, and how much was left out; (no text) for an empty one."""
    more = len(text) - LONGEST
    if more > 0:
        return f"{text[:LONGEST]} … ({more:,} more characters)"
    return text if text.strip() else "(no text)"
