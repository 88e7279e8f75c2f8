"""The input of the commands: the data in --data, or your own task in --task FOLDER."""

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
TASK = "folder of a task of your own (docs/your-own-task.md), used in place of --data"
ONLY_DATA = ("layout", "columns", "max_prompt_tokens", "skip_bad_rows")  # options of --data


# ---- --data --------------------------------------------------------------------------------------


def data_options(
    sub: argparse.ArgumentParser, what: str, required: bool = True, rows: bool = True
) -> None:
    """Add the options for the data and how to read it. what: the columns it should have. rows:
    whether to add --rows; False if the command has its own option for that."""
    sub.add_argument("--data", required=required, help=f"{what}: {WHERE}")
    sub.add_argument("--layout", help="the layout of --data, if its columns fit several")
    sub.add_argument(
        "--columns",
        metavar="YOURS=KNOWN,...",
        help="rename columns of --data, such as question=prompt,answer=response",
    )
    if rows:
        sub.add_argument("--rows", type=int, help="use only the first ROWS rows of --data")
    sub.add_argument(
        "--max-prompt-tokens",
        type=int,
        help="longest prompt, in tokens; of a longer prompt, or one that does not fit the model, "
        "only the end is kept",
    )
    sub.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="skip and count rows of --data that cannot be used, instead of stopping at the first",
    )


def read_data(
    options: argparse.Namespace,
    read: Callable[..., Reading],
    tokenizer: PreTrainedTokenizerBase,
    context: int | None,
    new_tokens: int = 0,
    count: int | None = None,
) -> list:
    """The items in --data; a report on the rows goes to standard error.

    context: the model's context length in tokens, None for no limit. new_tokens: how many of them
    to reserve for the response; 0 if the response is in the data. count: how many items to take; if
    None, as --rows says.
    """
    longest, count = options.max_prompt_tokens, count or getattr(options, "rows", None)
    for name, value in (("--rows", count), ("--max-prompt-tokens", longest)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: take 1 or more")
    if new_tokens and context:
        if new_tokens >= context:
            raise UserError(
                f"responses of {new_tokens} tokens leave no room for a prompt in the model's "
                f"{context} tokens: lower --max-new-tokens"
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
        raise UserError(f"--columns {text}: write pairs yours=known, such as question=prompt")
    return {yours.strip(): known.strip() for yours, known in pairs}


# ---- --task FOLDER -------------------------------------------------------------------------------


def folder_task(options: argparse.Namespace, judged: bool = False) -> FolderTask | None:
    """The task in the folder that --task names; None if the data is in --data. judged: whether
    --task may be given together with --data, to name a task of the lab whose judge marks the
    responses.

    Raises UserError if neither or both are given, if an option does not go with the one given, or
    if --rows is below 1.
    """
    if getattr(options, "rows", None) is not None and options.rows < 1:
        raise UserError(f"--rows {options.rows}: take 1 or more")
    chooses = getattr(options, "labellers", None) or getattr(options, "part", TRAIN) != TRAIN
    if options.data and chooses:
        raise UserError("--part and --labellers need --task FOLDER: leave them out with --data")
    looks_on = judged and options.task and not is_folder(options.task)
    if options.data and (looks_on or not options.task):
        return None
    if options.data:
        raise UserError("--data and --task both name the data: give only one of them")
    if not options.task:
        raise UserError("no data: give --data FILE, or --task FOLDER for a task of your own")
    for name in ONLY_DATA:
        if getattr(options, name):
            raise UserError(
                f"--{name.replace('_', '-')} works only with --data: leave it out with --task "
                "FOLDER"
            )
    return read_folder(options.task)


def defaults(options: argparse.Namespace) -> dict:
    """The defaults that differ for a task in a folder: the longest response, and another seed for
    the second reward model. With the first one's seed it would start from the same random head, and
    share its accidental preferences."""
    if not is_folder(getattr(options, "task", None)):
        return {}
    length = {"max_new_tokens": read_folder(options.task).longest_response}
    seed = {"seed": 1} if getattr(options, "part", TRAIN) == SECOND else {}
    return (length if "max_new_tokens" in options else {}) | seed


def settings(options: argparse.Namespace) -> dict:
    """What a run records about its task; `compare` finds the task by it."""
    if not is_folder(getattr(options, "task", None)):
        return {}
    part = {"part": options.part, "labellers": options.labellers} if "part" in options else {}
    return {"task": options.task} | part


def demonstrations(
    options: argparse.Namespace, tokenizer, context: int | None
) -> tuple[list[Demonstration], list[Demonstration]]:
    """The demonstrations to train on, and the held-out ones (of a task; [] with --data)."""

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
    """The rankings to train on, and those to test on ([] with --data). The test rankings are of the
    task's other part, so they share no prompt with the first, and were picked at random."""

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
    """The prompts to answer; for a task, those of these parts."""

    task = folder_task(options, judged)
    if task is None:
        return read_data(options, read_prompts, tokenizer, context, new_tokens)
    _check_prompts(task, tokenizer, context, new_tokens)
    return task.prompts(*parts)[: options.rows]


def other_than_samples(file: Path) -> str:
    """Why samples must not replace this file: it holds none; "" if they may."""
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
    """Raise UserError if a prompt and its response, given or still to be sampled, do not fit the
    model's context. (Unlike --data, nothing is cut: the shortened text could fall into another
    part.)"""

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
                f"{tokens} tokens, but the model reads {context}: shorten the prompt, or {todo}"
            )


def _check_prompts(task: FolderTask, tokenizer, context: int | None, new_tokens: int) -> None:
    """The same for every prompt of a task, in any part: held-out prompts are read last, and hours
    into the work is too late to learn that one is too long."""
    check_room(
        task.sources[0], [(p, []) for p in task.every_prompt], tokenizer, context, new_tokens
    )


def store_of(task: FolderTask) -> FeedbackStore:
    """The task's feedback store. Raises UserError if nothing was ranked yet."""
    if not task.store.exists():
        raise UserError(
            f"there are no rankings in {task.folder} yet: make some with `rlhf-lab rank "
            f"{task.folder} --labeller NAME --samples FILE`, or import some with `rlhf-lab "
            "feedback import`"
        )
    return FeedbackStore(task.store)


def note_use(store: Path, place: str, labellers: Iterable[str]) -> None:
    """Record in a store that a run or file was made from rankings of these labellers. If the store
    cannot be written, print a warning on standard error."""
    try:
        FeedbackStore(store).note_use(str(place), labellers)
    except UserError as error:
        print(
            f"{store} could not record that {place} was made from it ({error}): if a labeller "
            "asks to be forgotten, delete or remake it yourself",
            file=sys.stderr,
        )
