"""The layouts of data, each recognised by its columns, and how to read a row of each.

    preferences      prompt/chosen/rejected      two responses to a prompt
                     chosen/rejected             two whole dialogues with different ends
                     prompt/responses/ranking    the lab's own: ranks, 1 is best, null is unranked
                     query/sample0.../best       the best of several (Ziegler et al. 2019)
    demonstrations   prompt/response, prompt/completion
                     messages, text              a dialogue that ends with the response
    prompts          prompt

A prompt, response or dialogue is a text or a list of chat messages; a dialogue in one text has
Human: and Assistant: turns. Any row may have an "id", "facts" for a judge, a "labeller", and
"ended": a list of true or false, one for each response, or a single value for a single response.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from rlhf_lab.disk.files import ranked
from rlhf_lab.disk.jsonl import kind_of
from rlhf_lab.errors import UserError
from rlhf_lab.formats import chat, dialogues
from rlhf_lab.formats.chat import Message, Messages
from rlhf_lab.formats.fields import Fields

OPTIONAL = ("id", "facts", "labeller", "ended")
SAMPLE = r"sample\d+"
GPT2_VOCABULARY = 50257  # Ziegler et al. published GPT-2 tokens; higher ids are padding

MIXED = "is a list, and the other is a text: write both as lists or both as text", "wrong type"
EARLY = (
    "differs from the other dialogue before the last answer: give two dialogues that differ in "
    "the last answer only",
    "dialogues differ before their end",
)


@dataclass(frozen=True)
class Example:
    """The content of a row: a prompt, any number of responses to it, and their ranks."""

    prompt: str | Messages
    responses: tuple[str, ...] = ()
    ranks: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A layout. columns: those that identify it. read: parses a row; raises BadRow."""

    name: str
    columns: tuple[str, ...]
    read: Callable[[Fields, PreTrainedTokenizerBase | None], Example]


def recognise(
    where: str,
    columns: Collection[str],
    families: Sequence[Sequence[Layout]],
    chosen: str | None = None,
    options: bool = True,
) -> Layout:
    """The layout that a row's columns fit, or the `chosen` one.

    families: groups of layouts, the preferred group first. options: whether the message may advise
    --layout and --columns. Raises UserError, which lists columns and layouts, if no layout fits, or
    if several of one family do.
    """
    known = [layout for family in families for layout in family]
    names = ", ".join(layout.name for layout in known)
    if chosen:
        if found := [layout for layout in known if layout.name == chosen]:
            return found[0]
        raise UserError(f"there is no layout {chosen!r} for this data: choose one of {names}")
    for family in families:
        fitting = matching(columns, family)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            several = " and ".join(layout.name for layout in fitting)
            todo = (
                f"choose with --layout {fitting[0].name} (layout=)"
                if options
                else "keep the columns of one of them"
            )
            raise UserError(f"{where}: the columns {', '.join(columns)} fit {several}: {todo}")
    raise UserError(
        f"{where}: the columns {', '.join(columns)} fit no layout: the "
        f"layouts are {names}; {_renaming(columns, known, options)}"
    )


def _renaming(columns: Collection[str], known: Sequence[Layout], options: bool) -> str:
    """Advice on renaming columns to those of a layout: the exact names, if the columns differ from
    them only in capital letters and white space."""
    theirs = {name.strip().lower(): name for name in columns}
    fitting = matching(theirs, known)
    alike = len(theirs) < len(columns)  # both "Prompt" and "prompt": ambiguous
    if len(fitting) != 1 or alike or _may_lose_the_prompt(fitting[0], theirs):
        return (
            "rename them with --columns yours=known (columns=)"
            if options
            else "rename them in the file"
        )
    others = unused(fitting[0], list(theirs))
    meant = {name: ours for ours, name in theirs.items() if name != ours and ours not in others}
    if options and all(name == name.strip() for name in meant):
        names = ",".join(f"{name}={ours}" for name, ours in meant.items())
        return f"add --columns {names} (columns=)"
    pairs = ", ".join(f"{name!r} to {ours!r}" for name, ours in meant.items())
    return f"in the file, rename {pairs}"


def _may_lose_the_prompt(layout: Layout, columns: Collection[str]) -> bool:
    """Whether the layout has no prompt column, and one of the columns it ignores might be the
    prompt."""
    return not {"prompt", "query"} & set(layout.columns) and bool(unused(layout, list(columns)))


def matching(columns: Collection[str], family: Sequence[Layout]) -> list[Layout]:
    """The layouts whose columns are all present, without those whose columns are a part of
    another's."""
    fitting = [layout for layout in family if set(layout.columns) <= set(columns)]
    return [
        layout
        for layout in fitting
        if not any(set(layout.columns) < set(other.columns) for other in fitting)
    ]


def unused(layout: Layout, columns: Sequence[str]) -> list[str]:
    """The columns that a layout ignores."""
    known = (*layout.columns, *OPTIONAL)
    return [
        name
        for name in columns
        if name not in known and not ("best" in layout.columns and re.fullmatch(SAMPLE, name))
    ]


# ---- what a row holds, layout by layout ---------------------------------------------------------


def _three(row: Fields, _: object) -> Example:
    prompt, chosen, rejected = row.said("prompt"), row.said("chosen"), row.said("rejected")
    if isinstance(chosen, tuple) and isinstance(rejected, tuple):
        if chosen[0].role != "assistant":
            return _two_dialogues(row, chosen, rejected)  # these repeat the prompt
        responses = _one(row, "chosen", chosen), _one(row, "rejected", rejected)
        return _pair(row, _asked(prompt), *responses)
    if isinstance(chosen, tuple) or isinstance(rejected, tuple):
        row.refuse(
            "rejected",
            f"is {kind_of(row.fields['rejected'])} and 'chosen' is not: give both the same type",
            "wrong type",
        )
    start = prompt if isinstance(prompt, str) and prompt.rstrip().endswith("Assistant:") else None
    if start and chosen.startswith(start) and rejected.startswith(start):  # dialogues, again
        chosen, rejected = chosen[len(start) :].strip(), rejected[len(start) :].strip()
    return _pair(row, prompt, chosen, rejected)


def _two(row: Fields, _: object) -> Example:
    chosen, rejected = row.said("chosen"), row.said("rejected")
    if isinstance(chosen, tuple) and isinstance(rejected, tuple):
        return _two_dialogues(row, chosen, rejected)
    if isinstance(chosen, tuple):
        row.refuse("chosen", *MIXED)
    if isinstance(rejected, tuple):
        row.refuse("rejected", *MIXED)
    split = dialogues.split_pair(chosen, rejected)
    if split is None:
        row.refuse(
            "chosen",
            "shares no 'Assistant:' turn with 'rejected': give two dialogues that begin with the "
            "same prompt",
            "no Assistant: turn in common",
        )
    prompt, *rests = split
    for field, rest in zip(("chosen", "rejected"), rests):
        if dialogues.goes_on(prompt, rest):
            row.refuse(field, *EARLY)
    return _pair(row, prompt, *(rest.strip() for rest in rests))


def _two_dialogues(row: Fields, chosen: Messages, rejected: Messages) -> Example:
    split = chat.split_pair(chosen, rejected)
    if split is None:
        row.refuse("chosen", *EARLY)
    return _pair(row, *split)


def _pair(row: Fields, prompt: str | Messages, chosen: str, rejected: str) -> Example:
    if not prompt:
        row.refuse("chosen", "begins with the answer: put the prompt before it", "no prompt")
    for field, response in (("chosen", chosen), ("rejected", rejected)):
        if not response.strip():
            row.refuse(field, "has an empty answer: leave the row out", "empty text")
    if chosen.strip() == rejected.strip():
        row.refuse(
            "rejected", "is the same text as 'chosen': leave the row out", "chosen same as rejected"
        )
    return Example(prompt, (chosen, rejected), (1, 2))


def _ranked(row: Fields, _: object) -> Example:
    return Example(row.said("prompt"), *ranked(row))


def _best(row: Fields, tokenizer: PreTrainedTokenizerBase | None) -> Example:
    names = sorted(
        (name for name in row.fields if re.fullmatch(SAMPLE, name)), key=lambda name: int(name[6:])
    )
    wanted = [f"sample{i}" for i in range(max(len(names), 2))]
    missing = [name for name in wanted if name not in names]
    if missing:
        row.refuse(missing[0], "is missing: number the samples from 0", "missing field")
    best = row.get("best", int)
    if type(best) is not int:
        row.refuse("best", f"is {kind_of(best)}: give a number", "wrong type")
    if not 0 <= best < len(names):
        row.refuse(
            "best",
            f"is {best}: with {len(names)} samples it must be from 0 to {len(names) - 1}",
            "best out of range",
        )
    prompt = _text_or_tokens(row, "query", tokenizer)
    if not prompt.strip():
        row.refuse("query", "is empty: leave the row out", "empty text")
    samples = tuple(_text_or_tokens(row, name, tokenizer) for name in wanted)
    if len(set(samples)) == 1:
        row.refuse(
            "best",
            "prefers nothing, as all samples are the same text: leave the row out",
            "samples all the same",
        )
    return Example(prompt, samples, tuple(1 if i == best else None for i in range(len(samples))))


def _text_or_tokens(row: Fields, field: str, tokenizer: PreTrainedTokenizerBase | None) -> str:
    if not isinstance(row.fields.get(field), list):
        return row.get(field, str)
    tokens = row.get(field, list)
    if any(type(token) is not int for token in tokens):
        row.refuse(field, "is a list of other things than token ids: give a text", "wrong type")
    if (
        tokenizer is None
        or tokenizer.vocab_size != GPT2_VOCABULARY
        or tokenizer.convert_ids_to_tokens(GPT2_VOCABULARY - 1) != "<|endoftext|>"
    ):
        row.refuse(
            field,
            "holds GPT-2 tokens, as the labels of Ziegler et al. do: use a model with GPT-2's "
            "tokenizer (--model gpt2), or decode the tokens first",
            "tokens",
        )
    text = tokenizer.decode([token for token in tokens if 0 <= token < GPT2_VOCABULARY - 1])
    assert isinstance(text, str)  # one row of tokens is one text
    return text


def _response(row: Fields, _: object) -> Example:
    return Example(row.said("prompt"), (_one(row, "response", row.said("response")),), (1,))


def _completion(row: Fields, _: object) -> Example:
    prompt, said = row.said("prompt"), row.said("completion")
    prompt = prompt if isinstance(said, str) else _asked(prompt)
    return Example(prompt, (_one(row, "completion", said),), (1,))


def _messages(row: Fields, _: object) -> Example:
    said = row.said("messages")
    if isinstance(said, str):
        row.refuse("messages", "is a text: give a list of {role, content}", "wrong type")
    prompt, response = chat.split_last(said)
    if not prompt:
        row.refuse("messages", "begins with the answer: put the prompt before it", "no prompt")
    return Example(prompt) if response is None else Example(prompt, (response,), (1,))


def _text(row: Fields, _: object) -> Example:
    split = dialogues.split_last(row.text("text"))
    if split is None:
        row.refuse(
            "text",
            "has no 'Assistant:' turn to split it at: write prompt and response as two columns",
            "no Assistant: turn",
        )
    prompt, response = split
    if dialogues.goes_on(prompt, response):
        row.refuse(
            "text",
            "ends with a 'Human:' turn: end it with an answer, or with 'Assistant:'",
            "no answer at the end",
        )
    return Example(prompt, (response.strip(),), (1,)) if response.strip() else Example(prompt)


def _prompt(row: Fields, _: object) -> Example:
    return Example(row.said("prompt"))


def _asked(prompt: str | Messages) -> Messages:
    """A prompt as a user's message, to go with responses that are messages."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def _one(row: Fields, field: str, said: str | Messages) -> str:
    """A response: a text, or one message of the assistant's."""
    if isinstance(said, str):
        return said
    if len(said) != 1 or said[0].role != "assistant":
        row.refuse(field, f"holds {len(said)} messages: give one, the assistant's", "wrong type")
    return said[0].content


PREFERENCES = (
    Layout("prompt/chosen/rejected", ("prompt", "chosen", "rejected"), _three),
    Layout("chosen/rejected", ("chosen", "rejected"), _two),
    Layout("prompt/responses/ranking", ("prompt", "responses", "ranking"), _ranked),
    Layout("query/sample0.../best", ("query", "sample0", "sample1", "best"), _best),
)
DEMONSTRATIONS = (
    Layout("prompt/response", ("prompt", "response"), _response),
    Layout("prompt/completion", ("prompt", "completion"), _completion),
    Layout("messages", ("messages",), _messages),
    Layout("text", ("text",), _text),
)
PROMPTS = (Layout("prompt", ("prompt",), _prompt),)
