"""What the commands read: the data in --data, or a task of one's own in --task FOLDER."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from rlhf_lab.cli import progress
from rlhf_lab.disk.jsonl import Row, read_numbered
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.pairs import CHANCE_PICKS
from rlhf_lab.feedback.store import FeedbackStore, by_people
from rlhf_lab.formats.reading import Reading, read_demonstrations, read_preferences, read_prompts
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.show.markup import visible
from rlhf_lab.tasks.folder import SETTINGS, FolderTask, is_folder, read_folder
from rlhf_lab.tasks.parts import HELD_OUT, SECOND, TRAIN
from rlhf_lab.text import encode_prompt, encode_response

WHERE = "a file (JSON lines, CSV, Parquet) or hub:owner/name[:split]; see docs/data-formats.md"
TASK = "folder of a task of your own (docs/your-own-task.md), in place of --data"
ONLY_DATA = ("layout", "columns", "max_prompt_tokens", "skip_bad_rows")  # options of --data


# ---- --data --------------------------------------------------------------------------------------


def data_options(
    sub: argparse.ArgumentParser, what: str, required: bool = True, rows: bool = True
) -> None:
    """Where the data is and how it is read. what: the columns it should have. rows: whether to ask
    how many to take; False if the command has an option of its own for that."""
    sub.add_argument("--data", required=required, help=f"{what}: {WHERE}")
    sub.add_argument("--layout", help="the layout of --data, where its columns fit several")
    sub.add_argument(
        "--columns",
        metavar="YOURS=KNOWN,...",
        help="other names for columns of --data, such as question=prompt,answer=response",
    )
    if rows:
        sub.add_argument("--rows", type=int, help="take only so many rows of --data, from the top")
    sub.add_argument(
        "--max-prompt-tokens",
        type=int,
        help="longest prompt; of a longer one, and "
        "of one that the model has no room for, the end is kept",
    )
    sub.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="pass over rows of --data that cannot be used, and count them, in place of stopping",
    )


def read_data(
    options: argparse.Namespace,
    read: Callable[..., Reading],
    tokenizer: PreTrainedTokenizerBase,
    context: int | None,
    new_tokens: int = 0,
    count: int | None = None,
) -> list:
    """The data that was asked for; what came of it is said on standard error.

    context: tokens the model reads, None if there is no limit. new_tokens: how many of them to keep
    free, as the response is yet to be written; 0 if it is in the data. count: how many to take, if
    not as many as --rows says.
    """
    longest, count = options.max_prompt_tokens, count or getattr(options, "rows", None)
    for name, value in (("--rows", count), ("--max-prompt-tokens", longest)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: take 1 or more")
    if new_tokens and context:
        if new_tokens >= context:
            raise UserError(
                f"responses of {new_tokens} tokens leave no room for a prompt: the "
                f"model reads {context} in all"
            )
        longest = min(longest or context, context - new_tokens)
    reading = read(
        options.data,
        tokenizer,
        max_tokens=None if new_tokens else context,
        max_prompt_tokens=longest,
        skip_bad=options.skip_bad_rows,
        layout=options.layout,
        columns=_columns(options.columns),
    )
    data = progress.reading(reading, count)
    print(visible(str(reading)), file=sys.stderr)
    return data


def _columns(text: str | None) -> dict[str, str]:
    pairs = [part.split("=") for part in text.split(",")] if text else []
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise UserError(f"--columns {text}: write yours=known, such as question=prompt")
    return {yours.strip(): known.strip() for yours, known in pairs}


# ---- --task FOLDER -------------------------------------------------------------------------------


def folder_task(options: argparse.Namespace, judged: bool = False) -> FolderTask | None:
    """The task in a folder that --task names; None if the data is in --data. judged: whether
    --task beside --data may name a task of the lab, whose judge then marks the responses.

    Raises UserError unless one of the two is given, for options that go with the other one, and for
    --rows below 1.
    """
    if getattr(options, "rows", None) is not None and options.rows < 1:
        raise UserError(f"--rows {options.rows}: take 1 or more")
    chooses = getattr(options, "labellers", None) or getattr(options, "part", TRAIN) != TRAIN
    if options.data and chooses:
        raise UserError("--part and --labellers go with --task: --data has its file's rankings")
    looks_on = judged and options.task and not is_folder(options.task)
    if options.data and (looks_on or not options.task):
        return None
    if options.data:
        raise UserError("--data and --task both say where the data is: give one of them")
    if not options.task:
        raise UserError("no data: give --data FILE, or --task FOLDER for a task of your own")
    for name in ONLY_DATA:
        if getattr(options, name):
            raise UserError(
                f"--{name.replace('_', '-')} goes with --data: a task's files are read as they are"
            )
    return read_folder(options.task)


def defaults(options: argparse.Namespace) -> dict:
    """Where a command on a task in a folder has other defaults: its longest response; and a seed of
    its own for the second reward model, which would else begin with the very head that the first
    began with, and share what that happens to like."""
    if not is_folder(getattr(options, "task", None)):
        return {}
    length = {"max_new_tokens": read_folder(options.task).longest_response}
    seed = {"seed": 1} if getattr(options, "part", TRAIN) == SECOND else {}
    return (length if "max_new_tokens" in options else {}) | seed


def settings(options: argparse.Namespace) -> dict:
    """What a run notes of the task it is of; `compare` finds the task by it."""
    if not is_folder(getattr(options, "task", None)):
        return {}
    part = {"part": options.part, "labellers": options.labellers} if "part" in options else {}
    return {"task": options.task} | part


def demonstrations(
    options: argparse.Namespace, tokenizer, context: int | None
) -> tuple[list[Demonstration], list[Demonstration]]:
    """Those to imitate, and of a task those whose prompts are held out."""

    task = folder_task(options)
    if task is None:
        return read_data(options, read_demonstrations, tokenizer, context), []
    parts = task.demonstrations(TRAIN)[: options.rows], task.demonstrations(HELD_OUT)
    rows = [(d.prompt, [d.response]) for part in parts for d in part]
    assert task.sources[1] is not None  # `task.demonstrations` has looked
    check_room(task.sources[1], rows, tokenizer, context)
    _check_prompts(task, tokenizer, context, task.longest_response)
    return parts


def rankings(
    options: argparse.Namespace, tokenizer, context: int | None
) -> tuple[list[Ranking], list[Ranking]]:
    """Those to learn from, and of a task those of the other reward model's part to test on: none
    of their prompts is among the first, and chance picked them."""

    task = folder_task(options)
    if task is None:
        return read_data(options, read_preferences, tokenizer, context), []
    store, part = store_of(task), options.part
    ranked = task.rankings(by_people(store, options.labellers), part)
    other = SECOND if part == TRAIN else TRAIN
    fair = [
        r
        for r in store.rankings(options.labellers, CHANCE_PICKS)
        if task.part_of(r.prompt) == other
    ]
    parts = ranked[: options.rows], task.rankings(fair, other) if fair else []
    rows = [(r.prompt, r.responses) for part in parts for r in part]
    check_room(task.store, rows, tokenizer, context)
    return parts


def prompts(
    options: argparse.Namespace,
    tokenizer,
    context: int | None,
    new_tokens: int,
    parts: Sequence[str],
    judged: bool = False,
) -> list[Prompt]:
    """Prompts to answer; of a task, those of these parts."""

    task = folder_task(options, judged)
    if task is None:
        return read_data(options, read_prompts, tokenizer, context, new_tokens)
    _check_prompts(task, tokenizer, context, new_tokens)
    return task.prompts(*parts)[: options.rows]


def other_than_samples(file: Path) -> str:
    """Why no samples may take the place of a file: it holds none; "" if it does."""
    try:
        first = next((Row.parse(*line).fields for line in read_numbered(file)), {})
    except UserError:
        first = {}
    return "" if first.keys() >= {"responses", "model", "settings"} else "holds no samples"


def check_room(
    file: str | Path,
    rows: Sequence[tuple[Prompt, Sequence[str]]],
    tokenizer,
    context: int | None,
    new_tokens: int = 0,
) -> None:
    """Raise UserError if a prompt and a response, there or to come, are longer than what the model
    reads. (Nothing is cut, as it is with --data: a shorter text could be in another part.)"""

    if not context:
        return
    for prompt, responses in rows:
        longest = max(
            (
                len(encode_response(tokenizer, prompt.text, text))
                for text in responses
                if text.strip()
            ),
            default=new_tokens,
        )
        tokens = len(encode_prompt(tokenizer, prompt.text)) + longest
        if tokens > context:
            todo = "its response" if responses else f"longest_response in {SETTINGS}"
            raise UserError(
                f"{file}: the prompt {prompt.text[:40]!r} and its response have "
                f"{tokens} tokens, and the model reads {context}: shorten it, or {todo}"
            )


def _check_prompts(task: FolderTask, tokenizer, context: int | None, new_tokens: int) -> None:
    """The same of every prompt of a task, whatever its part: what is held out is read last of all,
    and hours of work later is late to learn that one is too long."""
    check_room(
        task.sources[0], [(p, []) for p in task.every_prompt], tokenizer, context, new_tokens
    )


def store_of(task: FolderTask) -> FeedbackStore:
    """The task's rankings. Raises UserError if nothing was ranked yet."""
    if not task.store.exists():
        raise UserError(
            f"there are no rankings in {task.folder} yet: `rlhf-lab rank {task.folder} "
            "--labeller NAME --samples FILE` makes some, `rlhf-lab feedback import` "
            "takes some in"
        )
    return FeedbackStore(task.store)


def note_use(store: Path, place: str, labellers: Iterable[str]) -> None:
    """Note in a store that a run or file was made from rankings of these labellers; where that
    cannot be written, say so on standard error."""
    try:
        FeedbackStore(store).note_use(str(place), labellers)
    except UserError as error:
        print(
            f"{store} could not note that {place} was made from it ({error}): if somebody asks to "
            "be forgotten, think of it yourself",
            file=sys.stderr,
        )
