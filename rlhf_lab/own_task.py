"""A task of your own on the command line: `rlhf-lab task` begins one and says how far it is, and
the other commands take from its folder what `--task FOLDER` asks of them."""

import argparse
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.pairs import CHANCE_PICKS
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.jsonl import write_whole
from rlhf_lab.markup import visible
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.tasks.folder import SETTINGS, FolderTask, is_folder, read_folder
from rlhf_lab.tasks.parts import HELD_OUT, PARTS, SECOND, TRAIN

PROMPTS, DEMONSTRATIONS = 400, 200  # in a new task
TASK = "folder of a task of your own (docs/your-own-task.md), in place of --data"
ONLY_DATA = ("layout", "columns", "max_prompt_tokens", "skip_bad_rows")  # options of --data


# ---- the command ---------------------------------------------------------------------------------


def task_options(sub: argparse.ArgumentParser) -> None:
    """The options of `rlhf-lab task`: an action and a folder."""
    actions = sub.add_subparsers(title="actions", metavar="ACTION", required=True)
    for action, text in (
        (new, "write a task into a new folder, for you to change: it runs as it is, on the shipped "
         "model and the support desk's prompts"),
        (show, "count what is in each part of a task, and say what is missing"),
    ):  # fmt: skip
        chosen = actions.add_parser(action.__name__, help=text,
                                    description=text[0].upper() + text[1:] + ".")
        chosen.add_argument("folder", help="the task's folder")
        chosen.set_defaults(action=action)


def task(options: argparse.Namespace) -> None:
    """Do what the options say. Raises UserError if that cannot be done."""
    options.action(options)


def new(options: argparse.Namespace) -> None:
    """Write the template. Raises UserError, and writes nothing, if the folder holds anything."""
    from rlhf_lab.tasks import load_judged

    folder = Path(options.folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder} is not empty: name a new folder, so that nothing is overwritten")
    settings = files("rlhf_lab.tasks").joinpath("template.toml").read_text(encoding="utf-8")
    named = settings.replace('"my task"', json.dumps(folder.resolve().name, ensure_ascii=False), 1)
    desk, end = load_judged("support_desk"), "\nAgent:"
    asked = dict.fromkeys(p.text.removesuffix(end) for p in desk.prompts(0, 2 * PROMPTS))
    shown = [{"prompt": d.prompt.text.removesuffix(end), "response": d.response}
             for d in desk.demonstrations(0, DEMONSTRATIONS)]  # fmt: skip
    _write(folder / "prompts.jsonl", [{"prompt": text} for text in list(asked)[:PROMPTS]])
    _write(folder / "demonstrations.jsonl", shown)
    write_whole(folder / SETTINGS, named)  # last: what has it is a task
    print(f"wrote {folder}: change {SETTINGS}, and put your own prompts and demonstrations into "
          f"its files; `rlhf-lab task show {options.folder}` says how far it is")  # fmt: skip


def show(options: argparse.Namespace) -> None:
    """Print how much each part holds, and what is missing."""
    task = read_folder(options.folder)
    ranked = store_of(task).rankings() if task.store.exists() else []
    rows = {"prompts": [task.part_of(p) for p in task.prompts()]}
    if task.sources[1]:
        shown = [d for part in PARTS for d in task.demonstrations(part)]
        rows["demonstrations"] = [task.part_of(d.prompt) for d in shown]
    rows["rankings"] = [task.part_of(r.prompt) for r in ranked]
    print(visible(task.name))
    print(f"{'':16s}" + "".join(f"{part:>10s}" for part in PARTS))
    for what, found in rows.items():
        print(f"{what:16s}" + "".join(f"{found.count(part):10,d}" for part in PARTS))
    for line in _missing(task, ranked):
        print(line)


def _missing(task: FolderTask, ranked: Sequence[Ranking]) -> list[str]:
    """What there is still to do, in the order of doing it."""
    said = []
    if not ranked:
        said.append(f"Nothing is ranked yet: `rlhf-lab sample --task {task.folder} --model MODEL "
                    "--responses 4 --out FILE`, then `rlhf-lab rank "
                    f"{task.folder} --labeller NAME --samples FILE`.")  # fmt: skip
    for part in (TRAIN, SECOND) if ranked else ():
        try:
            task.rankings(ranked, part)
        except UserError as error:
            said.append(str(error))
    unused = sum(task.part_of(r.prompt) == HELD_OUT for r in ranked)
    if unused:
        said.append(f"Rankings of prompts that are held out: {unused}. Nothing learns from them.")
    strangers = len(task.strangers(ranked))
    if strangers:
        said.append(f"Rankings of prompts that {task.sources[0]} does not hold: {strangers}. If `end` "
                    f"in {SETTINGS} was changed since they were ranked, put it back: with another end "
                    "a prompt may be in another part, and what was ranked held out.")  # fmt: skip
    return said


def _write(file: Path, rows: Sequence[dict]) -> None:
    write_whole(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


# ---- what the other commands take from the folder ------------------------------------------------


def own(options: argparse.Namespace, judged: bool = False) -> FolderTask | None:
    """The task that is to be taken in place of --data; None if the data is in --data. judged:
    whether --task may name one whose judge looks on.

    Raises UserError unless there is one of the two, for options that go with the other, and for
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
            raise UserError(f"--{name.replace('_', '-')} goes with --data: a task's files are read "
                            "as they are")  # fmt: skip
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


def demonstrations(options: argparse.Namespace, tokenizer, context: int | None
                   ) -> tuple[list[Demonstration], list[Demonstration]]:  # fmt: skip
    """Those to imitate, and of a task those whose prompts are held out."""
    from rlhf_lab.formats import read_demonstrations
    from rlhf_lab.formats.options import read_data

    task = own(options)
    if task is None:
        return read_data(options, read_demonstrations, tokenizer, context), []
    parts = task.demonstrations(TRAIN)[: options.rows], task.demonstrations(HELD_OUT)
    rows = [(d.prompt, [d.response]) for part in parts for d in part]
    check_room(task.sources[1], rows, tokenizer, context)
    _check_prompts(task, tokenizer, context, task.longest_response)
    return parts


def rankings(options: argparse.Namespace, tokenizer, context: int | None
             ) -> tuple[list[Ranking], list[Ranking]]:  # fmt: skip
    """Those to learn from, and of a task those of the other reward model's part to test on: none
    of their prompts is among the first, and chance picked them."""
    from rlhf_lab.formats import read_preferences
    from rlhf_lab.formats.options import read_data

    task = own(options)
    if task is None:
        return read_data(options, read_preferences, tokenizer, context), []
    store, part = store_of(task), options.part
    ranked = task.rankings(store.rankings(options.labellers), part)
    other = SECOND if part == TRAIN else TRAIN
    fair = [r for r in store.rankings(options.labellers, CHANCE_PICKS)
            if task.part_of(r.prompt) == other]  # fmt: skip
    parts = ranked[: options.rows], task.rankings(fair, other) if fair else []
    rows = [(r.prompt, r.responses) for part in parts for r in part]
    check_room(task.store, rows, tokenizer, context)
    return parts


def prompts(options: argparse.Namespace, tokenizer, context: int | None, new_tokens: int,
            parts: Sequence[str], judged: bool = False) -> list[Prompt]:  # fmt: skip
    """Prompts to answer; of a task, those of these parts."""
    from rlhf_lab.formats import read_prompts
    from rlhf_lab.formats.options import read_data

    task = own(options, judged)
    if task is None:
        return read_data(options, read_prompts, tokenizer, context, new_tokens)
    _check_prompts(task, tokenizer, context, new_tokens)
    return task.prompts(*parts)[: options.rows]


def check_replaceable(out: Path, data: str | None) -> None:
    """Raise UserError if samples written to `out` would take the place of anything but samples, or of
    the file that they are made from."""
    from rlhf_lab.jsonl import Row, read_numbered

    if not out.exists():
        return
    if data and Path(data).exists() and out.samefile(data):
        raise UserError(f"{out} is what --data reads: name another file for the samples")
    try:
        first = next((Row.parse(*line).fields for line in read_numbered(out)), None)
    except UserError:
        first = {}
    if first is not None and not first.keys() >= {"responses", "model", "settings"}:
        raise UserError(f"{out} is there, and holds no samples: name another file, so that it is "
                        "not lost")  # fmt: skip


def check_room(file: str | Path, rows: Sequence[tuple[Prompt, Sequence[str]]], tokenizer,
               context: int | None, new_tokens: int = 0) -> None:  # fmt: skip
    """Raise UserError if a prompt and a response, there or to come, are longer than what the model
    reads. (Nothing is cut, as it is with --data: a shorter text could be in another part.)"""
    from rlhf_lab.text import encode_prompt, encode_response

    for prompt, responses in rows if context else ():
        longest = max((len(encode_response(tokenizer, prompt.text, text)) for text in responses
                       if text.strip()), default=new_tokens)  # fmt: skip
        tokens = len(encode_prompt(tokenizer, prompt.text)) + longest
        if tokens > context:
            todo = "its response" if responses else f"longest_response in {SETTINGS}"
            raise UserError(f"{file}: the prompt {prompt.text[:40]!r} and its response have "
                            f"{tokens} tokens, and the model reads {context}: shorten it, or {todo}")


def _check_prompts(task: FolderTask, tokenizer, context: int | None, new_tokens: int) -> None:
    """The same of every prompt of a task, whatever its part: what is held out is read last of all,
    and hours of work later is late to learn that one is too long."""
    check_room(task.sources[0], [(p, []) for p in task.every_prompt], tokenizer, context, new_tokens)


def store_of(task: FolderTask) -> FeedbackStore:
    """The task's rankings. Raises UserError if nothing was ranked yet."""
    if not task.store.exists():
        raise UserError(f"there are no rankings in {task.folder} yet: `rlhf-lab rank {task.folder} "
                        "--labeller NAME --samples FILE` makes some, `rlhf-lab feedback import` "
                        "takes some in")  # fmt: skip
    return FeedbackStore(task.store)
