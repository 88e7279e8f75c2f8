"""The lecture as one HTML file that needs no network: slides, and notes for the speaker."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rlhf_lab.course.lecture.facts import facts
from rlhf_lab.course.lecture.figures import figure
from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.disk.places import check_place
from rlhf_lab.runs.report import SECURITY, other_than_page
from rlhf_lab.show.markup import Html, join, picture, tag

TITLE = "RLHF lecture"
MARKS = (  # what stands for emphasis and code in lecture.toml, after escaping
    (re.compile(r"\*([^*]+)\*"), r"<strong>\1</strong>"),
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
)


@dataclass(frozen=True)
class Slide:
    """One slide; lecture.toml says what its fields hold."""

    title: str
    minutes: int
    notes: str
    points: Sequence[str] = ()
    formula: str = ""
    examples: Sequence[Sequence[str]] = ()
    figure: str = ""
    alt: str = ""
    wide: bool = False
    ordered: bool = False


def slides() -> list[Slide]:
    """The slides as lecture.toml has them, before any value is filled in."""
    text = files("rlhf_lab.course.lecture").joinpath("lecture.toml").read_text("utf-8")
    return [Slide(**slide) for slide in tomllib.loads(text)["slide"]]


def write_slides(place: Path) -> Path:
    """Write the lecture and return its path.

    Raises UserError, before any drawing, if something else than such slides is there.
    """
    check_place(place, other_than_page(TITLE))
    write_whole(place, page(slides(), facts()))
    return place


def page(shown: Sequence[Slide], values: Mapping[str, Any]) -> Html:
    """The whole page: a section for each slide, with its notes, which the script shows one at a
    time. Without a script, and on paper, all of them stand one below the other."""
    sections = (section(shown, number, values) for number in range(len(shown)))
    head = join(
        tag("meta", charset="utf-8"),
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content=f"{SECURITY}; script-src 'unsafe-inline'",
        ),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", TITLE),
        tag("style", _part("slides.css")),
    )
    body = join(tag("main", *sections), _bar(), tag("script", _part("slides.js")))
    whole = tag("html", tag("head", head), tag("body", body), lang="en")
    return Html(f"<!doctype html>\n{whole}\n")


def section(shown: Sequence[Slide], number: int, values: Mapping[str, Any]) -> Html:
    """Slide `number`, counted from 0, and its notes."""
    return tag(
        "section",
        face(shown[number], number + 1, len(shown), values),
        notes(shown, number, values),
        id=f"{number + 1}",
        aria_label=f"Slide {number + 1} of {len(shown)}",
    )


def face(slide: Slide, number: int, of: int, values: Mapping[str, Any]) -> Html:
    """What the room sees."""

    def fill(text: str) -> Html:
        return filled(text, values)

    points = "ol" if slide.ordered else "ul"
    words = [
        tag("p", fill(slide.formula), class_="formula") if slide.formula else None,
        tag("dl", *(_example(*map(fill, e)) for e in slide.examples)) if slide.examples else None,
        tag(points, *(tag("li", fill(p)) for p in slide.points)) if slide.points else None,
    ]
    drawn = None
    if slide.figure:
        drawn = picture(figure(slide.figure), slide.alt.format(**values))
    layout = "wide" if slide.wide else "beside" if drawn else "first" if number == 1 else "plain"
    return tag(
        "div",
        tag("h1" if number == 1 else "h2", fill(slide.title)),
        tag("div", drawn, tag("div", *words, class_="words"), class_="content"),
        tag("p", f"{number} / {of}", class_="number", aria_hidden="true"),
        class_=f"face {layout}",
    )


def notes(shown: Sequence[Slide], number: int, values: Mapping[str, Any]) -> Html:
    """What the speaker sees beside slide `number`, counted from 0: when, what to say, what comes
    next."""
    slide, following = shown[number], [later.title for later in shown[number + 1 : number + 2]]
    begun = sum(earlier.minutes for earlier in shown[:number])
    return tag(
        "aside",
        tag("p", f"from minute {begun}, for {slide.minutes}", class_="when"),
        *(tag("p", filled(line, values)) for line in slide.notes.strip().splitlines()),
        *(tag("p", f"Next: {title}", class_="when") for title in following),
        aria_label="Speaker's notes",
    )


def filled(text: str, values: Mapping[str, Any]) -> Html:
    """A marked text with the values in it, whose own characters mark nothing."""
    safe = {name: join(x) if isinstance(x, str) else x for name, x in values.items()}
    return Html(str(marked(text)).format(**safe))


def marked(text: str) -> Html:
    """Text, escaped, with *emphasis* and `code`."""
    done = str(join(text))
    for pattern, written in MARKS:
        done = pattern.sub(written, done)
    return Html(done)


def _example(who: Html, text: Html, mark: Html | None = None) -> Html:
    said = join(text, tag("span", mark, class_="mark") if mark else None)
    return tag("div", tag("dt", who), tag("dd", said))


def _bar() -> Html:
    """Buttons for those without a keyboard, and the line that a screen reader hears."""
    buttons = {
        "back": ("Back", "←"),
        "on": ("Next", "→"),
        "notes": ("Notes (n)", "Notes"),
        "second": ("Notes in a second window that follows this one (w)", "Second window"),
    }
    return tag(
        "nav",
        *(
            tag("button", face, id=id, title=name, type="button")
            for id, (name, face) in buttons.items()
        ),
        tag("output", id="where", aria_live="polite"),
        aria_label="Slides",
    )


def _part(name: str) -> Html:
    return Html(files("rlhf_lab.course.lecture").joinpath(name).read_text("utf-8"))
