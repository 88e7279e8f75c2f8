"""A place to write a prediction: kept beside the notebook, never graded, shown again at the result.

    predict("04 baseline", "What does a baseline change?")    # a box that saves what is typed
    your_prediction("04 baseline")                            # what was written there

All predictions of a folder are in one file, predictions.json:
{name: {"question": ..., "text": ..., "time": ...}}. Nothing else reads it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import ipywidgets
from filelock import FileLock, Timeout

from rlhf_lab.disk.jsonl import MOST, opened, strict_json, write_whole
from rlhf_lab.errors import UserError
from rlhf_lab.show.markup import Html, tag, visible

FILE = "predictions.json"
FIELDS = {"question", "text", "time"}
WAIT = 10  # seconds until another notebook's lock counts as stuck
STYLE = "border-left: 4px solid #56B4E9; margin: 6px 0; padding: 2px 10px; white-space: pre-wrap"
ELSEWHERE = "Move or rename that file, then run this cell again."
Kept = dict[str, dict[str, str]]


class Prediction(ipywidgets.VBox):
    """The box of one prediction. What is typed is saved at once, in `path`; if it cannot be saved,
    a line below the box says why, and the file stays as it was.

    saved: the text in the file. said: the line below the box.
    """

    def __init__(self, name: str, question: str, path: Path):
        self.name, self.question, self.path = name, question, path
        self.saved = ""
        self.box = ipywidgets.Textarea(
            description="I predict",
            placeholder="What do you expect, and why?",
            layout={"width": "95%", "height": "5em"},
        )
        self.line = ipywidgets.HTML()
        super().__init__([self.box, self.line])
        try:
            self.saved = read_predictions(path).get(name, {}).get("text", "")
            self.say(f"It is kept in {FILE}, and never graded.")
        except UserError as error:
            self.say(f"Nothing can be saved here: {error}")
            self.box.disabled = True
        self.box.value = self.saved
        self.box.observe(self._typed, "value")

    def say(self, line: str) -> None:
        """Show a line below the box."""
        self.said, self.line.value = line, tag("small", line)

    def _typed(self, change) -> None:
        text = change["new"].encode(errors="replace").decode()  # half a character becomes "?"
        try:
            keep_prediction(self.path, self.name, self.question, text, before=self.saved)
        except UserError as error:
            self.say(f"Not saved: {error}")
        else:
            self.saved = text
            self.say(f"Saved in {FILE}.")

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and for viewers that run no widgets the text and the line below it."""
        data = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": tag("div", repr(self), style=STYLE), "text/plain": repr(self)}

    def __repr__(self) -> str:
        empty = f'run this cell to write it, or give it as text: predict("{self.name}", ..., "...")'
        return visible(f"Your prediction: {self.saved or empty}\n{self.said}")


@dataclass(frozen=True)
class Written:
    """What somebody predicted, to be shown beside the result."""

    question: str
    text: str
    nothing: str = "You wrote no prediction for this."

    def _repr_html_(self) -> Html:
        if not self.text.strip():
            return tag("small", self.nothing)
        asked = tag("i", tag("bdi", self.question))
        return tag("div", asked, tag("br"), "You wrote: ", tag("bdi", self.text), style=STYLE)

    def __repr__(self) -> str:
        shown = f"{self.question}\nYou wrote: {self.text}" if self.text.strip() else self.nothing
        return visible(shown)


def predict(name: str, question: str, text: str = "", replace: bool = False) -> Prediction:
    """A box to write a prediction in, with what was written before.

    name: unique in the course. text: for use without widgets; it is saved as if it were typed, but
    replaces another text that is there already only with `replace`.
    """
    box = Prediction(name, question, Path(FILE).resolve())
    if box.saved and not replace and text not in ("", box.saved):
        box.say("This was written before and is kept: add replace=True to save the new words.")
    elif text:
        box.box.value = text
    return box


def your_prediction(name: str) -> Written:
    """What was written under this name, beside its question."""
    try:
        kept = read_predictions(Path(FILE).resolve()).get(name, {})
    except UserError as error:
        return Written("", "", nothing=str(error))
    return Written(kept.get("question", ""), kept.get("text", ""))


def read_predictions(path: Path) -> Kept:
    """All predictions in a file; none if there is no file. Raises UserError for any other file."""
    if not path.exists():
        return {}
    with opened(path) as file:
        content = file.read(MOST + 1)
    if len(content) > MOST:
        raise UserError(f"{path.name} is longer than {MOST:,} bytes. {ELSEWHERE}")
    kept = strict_json(path.name, content, ELSEWHERE)
    if not isinstance(kept, dict) or not all(map(_is_entry, kept.values())):
        raise UserError(f"{path.name} holds something other than predictions. {ELSEWHERE}")
    return kept


def keep_prediction(path: Path, name: str, question: str, text: str, before: str) -> None:
    """Save one prediction and leave all others as they are.

    before: the text that it replaces. Raises UserError, and changes nothing, if the file holds
    another one (written in another window), is not a file of predictions or cannot be written.
    """
    with _locked(path):
        kept = read_predictions(path)
        if kept.get(name, {}).get("text", "") != before:
            raise UserError(
                "this prediction was changed in another window. Copy your words, and run this cell "
                "again to see the others."
            )
        time = datetime.now().astimezone().isoformat(timespec="seconds")
        kept[name] = {"question": question, "text": text, "time": time}
        content = json.dumps(kept, ensure_ascii=False, indent=1).encode() + b"\n"
        if len(content) > MOST:
            raise UserError(f"{path.name} would be longer than {MOST:,} bytes: shorten the text")
        write_whole(path, content)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other notebooks from writing the file meanwhile."""
    try:
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=WAIT)
        lock.acquire()
    except Timeout as error:
        raise UserError(f"another notebook has been writing {path.name} for {WAIT} s") from error
    except (OSError, NotImplementedError) as error:
        raise UserError(f"cannot write in {path.parent.name}: {error}") from error
    try:
        yield
    finally:
        lock.release()


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() >= FIELDS
        and all(isinstance(entry[field], str) for field in FIELDS)
    )
