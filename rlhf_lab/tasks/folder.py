"""A task of your own, in a folder: prompts, perhaps demonstrations, and people in place of a judge.

    task.toml               name, end of every prompt, length, guidelines, shares of the parts
    prompts.jsonl           in any layout that `formats` reads
    demonstrations.jsonl    the same; this file may be missing
    rankings.sqlite3        the feedback store, made when somebody first ranks

Each prompt is in one of three parts (`parts.py`). No correct answers are known, so such a task has
no judge and no simulated labellers: the stages, `compare` and `blind` accept it, `demo` does not.
"""

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from rlhf_lab.disk.jsonl import KINDS, Row
from rlhf_lab.errors import UserError
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.tasks.labellers import GENERAL, Guidelines
from rlhf_lab.tasks.parts import HELD_OUT, PARTS, SECOND, TRAIN, Shares

SETTINGS = "task.toml"
FIELDS = ("name", "prompts", "demonstrations", "end", "longest_response", "guidelines", "shares")
HUB = "hub:"


@dataclass(frozen=True)
class FolderTask:
    """What the folder holds. sources: where the prompts and the demonstrations are (None: there are
    none). end: what every prompt ends with. longest_response: in tokens. guidelines: for
    labellers."""

    folder: Path
    name: str
    sources: tuple[str, str | None]
    end: str = ""
    longest_response: int = 64
    guidelines: Guidelines = GENERAL
    shares: Shares = field(default_factory=Shares)

    base = "base"
    judge = None  # no correct answers are known
    labellers = ()  # people rank

    @property
    def store(self) -> Path:
        """The file of the feedback store."""
        return self.folder / "rankings.sqlite3"

    def prompt_of(self, message: str) -> str:
        """The text of the prompt for a message that a person typed."""
        return self._complete(Prompt("", message)).text

    def prompts(self, *parts: str) -> list[Prompt]:
        """The prompts of these parts (by default all), in the file's order, each text once.

        Raises UserError if the file cannot be read, or a part has no prompt.
        """
        parts = parts or PARTS
        for part in parts:
            if not any(self.part_of(p) == part for p in self.every_prompt):
                self._refuse_empty(self.sources[0], "prompt", len(self.every_prompt), part)
        return [p for p in self.every_prompt if self.part_of(p) in parts]

    def demonstrations(self, part: str = TRAIN) -> list[Demonstration]:
        """The demonstrations whose prompts are in a part; only the train part must have some.

        Raises UserError if the task has no demonstrations, or none to train on.
        """
        if self.sources[1] is None:
            raise UserError(
                f"{self.folder / SETTINGS}: names no demonstrations: add a line "
                'demonstrations = "...", or skip SFT and sample from a model that can '
                "already answer"
            )
        found = [d for d in self._demonstrations if self.part_of(d.prompt) == part]
        if not found and part == TRAIN:
            self._refuse_empty(self.sources[1], "demonstration", len(self._demonstrations), part)
        return found

    def held_out(self) -> dict[str, list[Prompt]]:
        """The prompts kept for the end, as `compare` and `blind` ask for them."""
        return {HELD_OUT: self.prompts(HELD_OUT)}

    def part_of(self, prompt: Prompt) -> str:
        """The part that a prompt is in, whether or not it has the `end` yet."""
        return self.shares.part_of(self._complete(prompt).text)

    def rankings(self, rankings: Iterable[Ranking], part: str) -> list[Ranking]:
        """The rankings whose prompts are in a part; `end` is added to prompts that lack it.

        Raises UserError if there are none.
        """
        rankings = list(rankings)
        found = [
            replace(r, prompt=self._complete(r.prompt))
            for r in rankings
            if self.part_of(r.prompt) == part
        ]
        if not found:
            self._refuse_empty(self.store, "ranking", len(rankings), part)
        return found

    def strangers(self, rankings: Iterable[Ranking]) -> list[Ranking]:
        """The rankings whose prompts are not the task's: from elsewhere, or made when `end` was
        different."""
        known = {p.text for p in self.every_prompt}
        return [r for r in rankings if self._complete(r.prompt).text not in known]

    @cached_property
    def every_prompt(self) -> list[Prompt]:
        """The prompts of the file in its order, each text once, whatever part they are in."""
        from rlhf_lab.formats.reading import read_prompts

        read = map(self._complete, read_prompts(self.sources[0], options=False))
        return list({p.text: p for p in read}.values())

    @cached_property
    def _demonstrations(self) -> list[Demonstration]:
        from rlhf_lab.formats.reading import read_demonstrations

        source = self.sources[1]
        assert source is not None  # `demonstrations` has looked
        return [
            replace(d, prompt=self._complete(d.prompt))
            for d in read_demonstrations(source, options=False)
        ]

    def _complete(self, prompt: Prompt) -> Prompt:
        text = prompt.text if prompt.text.endswith(self.end) else prompt.text + self.end
        return prompt if text == prompt.text else replace(prompt, text=text)

    def _refuse_empty(self, file: str | Path, what: str, count: int, part: str) -> None:
        """Raise UserError: a part is empty, and what to do."""
        share = {
            TRAIN: 1 - self.shares.second - self.shares.held_out,
            SECOND: self.shares.second,
            HELD_OUT: self.shares.held_out,
        }[part]
        if what == "ranking":
            todo = "rank more prompts" if count else "rank some prompts"
        else:
            todo = f"add {what}s"
        raise UserError(
            f"{file}: none of its {what}s ({count}) is in the part '{part}', a share of "
            f"{share:.2g} of all prompts: {todo} (with {10 / share:.0f} or more in all, the part "
            "will almost certainly have some)"
        )


def read_folder(folder: str | Path) -> FolderTask:
    """The task in a folder. Raises UserError if there is none, or if a field is wrong, naming the
    file and the field. Prompts and demonstrations are read when they are needed."""
    folder = Path(folder)
    row = _settings(folder / SETTINGS)
    row.only(FIELDS)
    sources: tuple[str, str | None] = _source(row, folder, "prompts"), None
    if "demonstrations" in row.fields:
        sources = sources[0], _source(row, folder, "demonstrations")
    name, guidelines = row.text("name").strip(), row.get("guidelines", str, "").strip()
    return FolderTask(
        folder,
        name,
        sources,
        row.get("end", str, ""),
        _whole(row, "longest_response", 64),
        Guidelines(name, guidelines) if guidelines else GENERAL,
        _shares(row),
    )


def is_folder(name: str | Path | None) -> bool:
    """Whether this is the folder of a task."""
    return name is not None and os.path.isfile(Path(name) / SETTINGS)  # no name makes it raise


def _settings(file: Path) -> Row:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"there is no task in {file.parent} (no {file.name}: {error.strerror}): "
            "make one with `rlhf-lab task new FOLDER`"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8: save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file}: not valid TOML: {error}: put texts in quotes") from error
    row = Row(str(file), found)
    for name, value in found.items():
        if type(value) not in KINDS:
            row.refuse(name, "is a date or a time: put it in quotes if it is meant as a text")
    return row


def _source(row: Row, folder: Path, field: str) -> str:
    """Where prompts or demonstrations are: a path relative to the folder, or a hub data set."""
    named = row.text(field)
    if named.startswith(HUB):
        return named
    if not (folder / named).is_file():
        row.refuse(field, f"there is no file {folder / named}: make it, or name another")
    return str(folder / named)


def _whole(row: Row, field: str, default: int) -> int:
    value = row.get(field, int, default)
    if isinstance(value, bool) or value < 1:
        row.refuse(field, f"is {str(value).lower()}: give a whole number, 1 or more")
    return value


def _shares(row: Row) -> Shares:
    given = Row(f"{row.where}, [shares]", row.get("shares", dict, {}))
    given.only(("second", "held_out"))
    values = {name: _share(given, name) for name in given.fields}
    shares = Shares(**values)
    if shares.second + shares.held_out >= 1:
        row.refuse(
            "shares",
            f"second and held_out add up to {shares.second + shares.held_out:g}, "
            "which leaves nothing to train on: make the sum less than 1",
        )
    return shares


def _share(row: Row, field: str) -> float:
    value = row.fields[field]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        row.refuse(field, f"is {value!r}: give a number above 0 and below 1")
    return float(value)
