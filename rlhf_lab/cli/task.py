"""`rlhf-lab task`: start a task of your own, and see what it still needs."""

import argparse
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from rlhf_lab.cli.inputs import store_of
from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError
from rlhf_lab.records import Ranking
from rlhf_lab.show.markup import visible
from rlhf_lab.tasks import SHIPPED, TASKS, Task, load_judged
from rlhf_lab.tasks.folder import SETTINGS, FolderTask, read_folder
from rlhf_lab.tasks.parts import HELD_OUT, PARTS, SECOND, TRAIN
from rlhf_lab.text import counted

PROMPTS, DEMONSTRATIONS = 400, 200  # in a new task
GAP = "..."  # stands for the message in a prompt


def add_options(sub: argparse.ArgumentParser) -> None:
    """The options of `rlhf-lab task`: an action and a folder."""
    actions = sub.add_subparsers(title="actions", metavar="ACTION", required=True)
    for action, text in (
        (
            new,
            "write an example task into a new folder, for you to change; it works unchanged with "
            "the shipped model",
        ),
        (show, "count the rows in each part of a task, and list what is missing"),
    ):
        chosen = actions.add_parser(
            action.__name__, help=text, description=text[0].upper() + text[1:] + "."
        )
        chosen.add_argument("folder", help="the task's folder")
        if action is new:
            chosen.add_argument(
                "--like",
                choices=list(TASKS),
                default=SHIPPED,
                help="start with the prompts and demonstrations of this task of the lab",
            )
        chosen.set_defaults(action=action)


def run(options: argparse.Namespace) -> None:
    """Run the chosen action. Raises UserError if it fails."""
    options.action(options)


def new(options: argparse.Namespace) -> None:
    """Write the template. Raises UserError, and writes nothing, if the folder is not empty."""

    folder = Path(options.folder)
    check_place(folder, folder=True)
    task = load_judged(options.like)
    end = task.prompt_of(GAP).partition(GAP)[2]
    asked = dict.fromkeys(p.text.removesuffix(end) for p in task.prompts(0, 2 * PROMPTS))
    shown = [
        {"prompt": d.prompt.text.removesuffix(end), "response": d.response}
        for d in task.demonstrations(0, DEMONSTRATIONS)
    ]
    _write(folder / "prompts.jsonl", [{"prompt": text} for text in list(asked)[:PROMPTS]])
    _write(folder / "demonstrations.jsonl", shown)
    settings = _settings(task, end, folder.resolve().name)
    write_whole(folder / SETTINGS, settings)  # last: a folder with this file is a task
    print(
        f"wrote {folder}: change {SETTINGS}, and put your own prompts and demonstrations into "
        f"its files; `rlhf-lab task show {options.folder}` lists what is missing"
    )


def _settings(task: Task, end: str, name: str) -> str:
    """The template of `task.toml` with this name, and the task's end of prompts, longest response
    and, unless it is the shipped one, guidelines."""
    text = files("rlhf_lab.tasks").joinpath("template.toml").read_text(encoding="utf-8")
    for blank, value in (("...", end), ("my task", name)):
        text = text.replace(f'"{blank}"', json.dumps(value, ensure_ascii=False), 1)
    text = text.replace("longest_response = 64", f"longest_response = {task.longest_response}")
    if task.name == SHIPPED:
        return text
    before, _, rest = text.partition('guidelines = """')
    after = rest.partition('"""')[2]
    return f'{before}guidelines = """\n{task.guidelines.text}"""{after}'


def show(options: argparse.Namespace) -> None:
    """Print the number of rows in each part, and what is missing."""
    task = read_folder(options.folder)
    store = store_of(task) if task.store.exists() else None
    ranked = store.rankings() if store else []
    rows = {"prompts": [task.part_of(p) for p in task.prompts()]}
    if task.sources[1]:
        shown = [d for part in PARTS for d in task.demonstrations(part)]
        rows["demonstrations"] = [task.part_of(d.prompt) for d in shown]
    rows["rankings"] = [task.part_of(r.prompt) for r in ranked]
    others = len(store.rankings(simulated=True)) - len(ranked) if store else 0
    print(visible(task.name))
    print(f"{'':16s}" + "".join(f"{part:>10s}" for part in PARTS))
    for what, found in rows.items():
        print(f"{what:16s}" + "".join(f"{found.count(part):10,d}" for part in PARTS))
    if others:
        print(f"{counted(others, 'ranking')} by simulated labellers are left out")
    for line in _missing(task, ranked):
        print(line)


def _missing(task: FolderTask, ranked: Sequence[Ranking]) -> list[str]:
    """The steps still to do, in order."""
    said = []
    if not ranked:
        said.append(
            f"Nothing is ranked yet: `rlhf-lab sample --task {task.folder} --model MODEL "
            "--responses 4 --out FILE`, then `rlhf-lab rank "
            f"{task.folder} --labeller NAME --samples FILE`."
        )
    for part in (TRAIN, SECOND) if ranked else ():
        try:
            task.rankings(ranked, part)
        except UserError as error:
            said.append(str(error))
    unused = sum(task.part_of(r.prompt) == HELD_OUT for r in ranked)
    if unused:
        said.append(f"Rankings of held-out prompts: {unused}. No model is trained on them.")
    strangers = len(task.strangers(ranked))
    if strangers:
        said.append(
            f"Rankings of prompts that are not in {task.sources[0]}: {strangers}. If `end` "
            f"in {SETTINGS} was changed after the ranking, restore it: with another end "
            "a prompt may move to another part, and a ranked prompt may become held out."
        )
    return said


def _write(file: Path, rows: Sequence[dict]) -> None:
    write_whole(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
