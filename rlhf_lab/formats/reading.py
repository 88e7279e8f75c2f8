"""Read the rows of a source, all or the first few, as rankings, demonstrations or prompts.

A row that cannot be used raises a BadRow that names file, row and field. With `skip_bad` such rows
are skipped, and counted by what is wrong with them.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from rlhf_lab.errors import BadRow, UserError
from rlhf_lab.formats import layouts
from rlhf_lab.formats.chat import Messages, render
from rlhf_lab.formats.fields import Fields
from rlhf_lab.formats.fitting import fit_prompt
from rlhf_lab.formats.layouts import Example, Layout
from rlhf_lab.formats.sources import rows_of
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.text import encode_behind, encode_prompt

Item = TypeVar("Item", Ranking, Demonstration, Prompt)

NAMED = 3  # bad rows of each kind whose places are listed
PATIENCE = 100  # first rows that may fit no known layout before reading stops
STRANGE = "in no known layout"
HINT = "; to skip such rows, add --skip-bad-rows (skip_bad=True)"


@dataclass
class Reading(Generic[Item]):
    """A source to iterate over, each time from its beginning. str() reports on the last iteration.

    tokenizer: renders chat messages and counts tokens. max_tokens: limit for a prompt and its
    longest response together. max_prompt_tokens: limit for a prompt alone. Of a longer prompt, only
    the end is kept. skip_bad: skip bad rows. layout: the name of the layout, if the columns fit
    several. columns: new names for columns, {theirs: ours}. options: whether messages may advise
    command-line options; a task's files have none.

    read, shortened: the numbers of items read and of prompts that lost their beginning. bad,
    places: the number of skipped rows of each kind, and where the first few are.
    """

    source: str | Path
    families: Sequence[Sequence[Layout]]
    finish: Callable[[Fields, Example, Prompt], Item]
    tokenizer: PreTrainedTokenizerBase | None = None
    max_tokens: int | None = None
    max_prompt_tokens: int | None = None
    skip_bad: bool = False
    layout: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    options: bool = True

    def __post_init__(self) -> None:
        if self.tokenizer is None and (self.max_tokens or self.max_prompt_tokens):
            raise UserError(
                "a length limit needs a tokenizer to count tokens: give a tokenizer, or no limit"
            )
        self._begin()

    def _begin(self) -> None:
        self.read, self.shortened, self.chat = 0, 0, False
        self.used, self.bad = Counter[str](), Counter[str]()
        self.places: dict[str, list[str]] = {}
        self.first: Layout | None = None
        self.strange: UserError | None = None
        self.unused: list[str] = []

    def __iter__(self) -> Iterator[Item]:
        """The items, one at a time. Raises UserError if the source cannot be read, has no usable
        row, or is in no known layout; raises BadRow at the first bad row, unless skip_bad."""
        self._begin()
        for row in rows_of(self.source):
            try:
                item = self._item(row)
            except BadRow as bad:
                self._pass_over(bad)
                continue
            self.read += 1
            yield item
        if not self.read and self.first is None and self.strange:
            raise self.strange
        if not self.read:
            what = self._bad_rows() or "it is empty"
            raise UserError(f"there is no usable row in {self.source}: {what}")

    def __str__(self) -> str:
        how = " and ".join(self.used)
        parts = [f"read {self.read:,} row{'s' * (self.read != 1)} of {self.source} as {how}"]
        if self.chat:
            own = getattr(self.tokenizer, "chat_template", None)
            parts.append(
                "messages in the tokenizer's chat template"
                if own
                else "messages as plain Human:/Assistant: text"
            )
        if self.bad:
            parts.append(self._bad_rows())
        if self.shortened:
            prompts = f"prompt{'s' * (self.shortened != 1)}"
            parts.append(f"{self.shortened:,} long {prompts} shortened to the end")
        if self.unused:
            parts.append(f"columns not used: {', '.join(self.unused)}")
        return "; ".join(parts)

    def _item(self, row: Fields | BadRow) -> Item:
        if isinstance(row, BadRow):
            raise row
        row = self._renamed(row)
        layout = self._layout_of(row)
        example = layout.read(row, self.tokenizer)
        item = self.finish(row, example, self._prompt(row, example))
        self.used[layout.name] += 1
        return item

    def _renamed(self, row: Fields) -> Fields:
        if not self.columns:
            return row
        missing = [name for name in self.columns if name not in row.fields]
        if missing and self.first is None:
            self._unknown(
                row,
                UserError(
                    f"{row.where}: there is no column {missing[0]!r} to rename: the columns are "
                    f"{', '.join(row.fields)}"
                ),
            )
        taken = set(self.columns.values())
        kept = {
            name: value
            for name, value in row.fields.items()
            if name not in taken and name not in self.columns
        }
        new = {ours: row.fields[name] for name, ours in self.columns.items() if name in row.fields}
        return replace(row, fields=kept | new)

    def _layout_of(self, row: Fields) -> Layout:
        """The layout of the first row, unless this row's columns fit only another one."""
        if self.first is None:
            columns = list(row.fields)
            try:
                self.first = layouts.recognise(
                    row.where, columns, self.families, self.layout, self.options
                )
            except UserError as error:
                self._unknown(row, error)
            self.unused = layouts.unused(self.first, columns)
        if self.layout or set(self.first.columns) <= row.fields.keys():
            return self.first
        others = [layouts.matching(row.fields, family) for family in self.families]
        return next((fitting[0] for fitting in others if len(fitting) == 1), self.first)

    def _unknown(self, row: Fields, error: UserError) -> NoReturn:
        """Handle a row that fits no layout, before any row did. With skip_bad it counts as a bad
        row; after PATIENCE such rows the whole source is refused."""
        self.strange = self.strange or error
        if not self.skip_bad or self.layout or self.bad[STRANGE] == PATIENCE:
            raise self.strange
        raise BadRow(str(error), STRANGE, row.where)

    def _prompt(self, row: Fields, example: Example) -> Prompt:
        self.chat |= not isinstance(example.prompt, str)
        try:
            text, cut = self._fitted(row, example)
        except TemplateError as error:
            why = " ".join(str(error).split())
            row.reject(
                f"the tokenizer's chat template does not accept these messages: {why}",
                "refused by the chat template",
            )
        self.shortened += cut
        given = row.fields.get("id")
        if type(given) is int or (type(given) is float and given.is_integer()):
            row = replace(row, fields=row.fields | {"id": str(int(given))})
        by_text = hashlib.sha256(text.encode()).hexdigest()[:12]
        return Prompt(row.text("id", by_text), text, row.get("facts", dict, {}))

    def _fitted(self, row: Fields, example: Example) -> tuple[str, bool]:
        """The prompt's text, or only its end if it is too long; and whether it was too long."""
        messages: Messages = ()
        whole = example.prompt
        if not isinstance(whole, str):
            messages, whole = whole, render(whole, self.tokenizer)
        limits = self.max_prompt_tokens, self._room(row, whole, example)
        limit = min((n for n in limits if n is not None), default=None)
        if limit is None or self.tokenizer is None:  # no limit without a tokenizer
            return whole, False
        text, cut = fit_prompt(whole, self.tokenizer, limit, messages)
        if not text:
            row.reject(
                f"the limits leave {limit} tokens for the prompt, too few for any of it: allow "
                "more, or shorten the response",
                "no room for the prompt",
            )
        return text, cut

    def _room(self, row: Fields, prompt: str, example: Example) -> int | None:
        """The number of tokens that the longest response and its end token leave for the prompt."""
        if self.max_tokens is None or self.tokenizer is None:
            return None
        before = encode_prompt(self.tokenizer, prompt)
        lengths = [
            len(encode_behind(self.tokenizer, prompt, before, text)) for text in example.responses
        ]
        longest = max(lengths, default=0)
        if longest >= self.max_tokens:
            row.reject(
                f"a response has {longest} tokens with its end token, but the model reads only "
                f"{self.max_tokens} with the prompt: shorten the response",
                "response too long",
            )
        return self.max_tokens - longest

    def _pass_over(self, bad: BadRow) -> None:
        if not self.skip_bad:
            raise BadRow(f"{bad}{HINT if self.options else ''}", bad.kind, bad.where) from bad
        self.bad[bad.kind] += 1
        places = self.places.setdefault(bad.kind, [])
        if len(places) < NAMED:
            places.append(bad.where.rpartition(", ")[2])

    def _bad_rows(self) -> str:
        if not self.bad:
            return ""
        kinds = []
        for kind, count in self.bad.most_common():
            more = ", ..." if count > NAMED else ""
            kinds.append(f"{count:,} {kind} ({', '.join(self.places[kind])}{more})")
        total = self.bad.total()
        return f"skipped {total:,} bad row{'s' * (total != 1)}: {', '.join(kinds)}"


def read_preferences(
    source: str | Path, tokenizer: PreTrainedTokenizerBase | None = None, **how: Any
) -> Reading[Ranking]:
    """The rankings in a source; a chosen and a rejected response make a ranking of two.

    how: the fields of `Reading`, in all three readers.
    """
    return Reading(source, (layouts.PREFERENCES,), _ranking, tokenizer, **how)


def read_demonstrations(
    source: str | Path, tokenizer: PreTrainedTokenizerBase | None = None, **how: Any
) -> Reading[Demonstration]:
    """The demonstrations in a source; from preferences, the best response is taken."""
    families = (layouts.DEMONSTRATIONS, layouts.PREFERENCES)
    return Reading(source, families, _demonstration, tokenizer, **how)


def read_prompts(
    source: str | Path, tokenizer: PreTrainedTokenizerBase | None = None, **how: Any
) -> Reading[Prompt]:
    """The prompts in a source; preferences and demonstrations give the same text as in training."""
    families = (layouts.PREFERENCES, layouts.DEMONSTRATIONS, layouts.PROMPTS)
    return Reading(source, families, _prompt_alone, tokenizer, **how)


def _ranking(row: Fields, example: Example, prompt: Prompt) -> Ranking:
    labeller = row.get("labeller", str, "")
    return Ranking(prompt, example.responses, example.ranks, labeller, _ended(row, example))


def _ended(row: Fields, example: Example) -> tuple[bool, ...]:
    """Which of the responses ended: all, unless the row says otherwise."""
    said, count = row.fields.get("ended"), len(example.responses)
    if isinstance(said, str) and said.strip().lower() in ("true", "false"):  # a cell of a table
        said = said.strip().lower() == "true"
    values = (said,) if type(said) is bool else tuple(row.get("ended", list, [True] * count))
    if len(values) != count or not all(type(value) is bool for value in values):
        row.refuse(
            "ended",
            f"is not true or false for each of the {count} responses: give that, or leave it out",
            "wrong type",
        )
    return values


def _demonstration(row: Fields, example: Example, prompt: Prompt) -> Demonstration:
    each = zip(example.ranks, example.responses, _ended(row, example))
    ranked = [(rank, response, ended) for rank, response, ended in each if rank is not None]
    if not ranked:
        row.reject(
            "there is no answer at the end: add a response to learn from", "no answer at the end"
        )
    _, response, ended = min(ranked, key=lambda one: one[0])
    if not response.strip():
        row.reject(
            "the response is empty: write at least one word, or leave the row out", "empty text"
        )
    return Demonstration(prompt, response, ended)


def _prompt_alone(row: Fields, example: Example, prompt: Prompt) -> Prompt:
    return prompt
