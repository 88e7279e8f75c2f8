"""Tasks: the prompts, and what makes a good response.

A task has prompts, demonstrations, labellers and, if correct answers are known, a judge. It also
has guidelines for people who rank, and a format for its prompts. To add one:

1. Make a folder with its name here, such as `tasks/chess/`, for its code and its facts.
2. In its `__init__.py` write a class with every attribute of `Task` below (tests/tiny_task.py is
   one in under seventy lines). Modules that tasks share: labellers and guidelines (`labellers`);
   for a grammar that writes the text, `written` and `writing`; for a judge, `lexicon`, `english`
   and `phrases`.
3. Put the folder and the class into `TASKS`: `--task chess` and `load_task("chess")` now find it,
   and tests/tasks/test_tasks.py checks that it does what `Task` asks.

The shipped base models know only the tasks of the lab; `rlhf-lab pretrain --task chess --out base`
makes one for the task, and `rlhf-lab demo --task chess --model base` runs the stages. A task
without a judge is a folder of files and needs no code (`folder.py`, docs/your-own-task.md).
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from rlhf_lab.disk.data import base_model
from rlhf_lab.errors import UserError
from rlhf_lab.records import Demonstration, Mark, Prompt
from rlhf_lab.tasks.folder import FolderTask, is_folder, read_folder
from rlhf_lab.tasks.labellers import Guidelines, Labeller

TASKS = {  # folder here: class in it, made without arguments
    "support_desk": "SupportDesk",
    "assistant": "Assistant",
    "code": "Coder",
    "stories": "Storyteller",
}
SHIPPED = "support_desk"  # whose base model, demo and constitution.toml are in data/


class Task(Protocol):
    """What a task must have.

    base: the folder in data/ of the base model that has read the task's raw text.
    longest_response: in tokens. truth and manner: which items of the judge's rubric say whether a
    response is right, and which say how it is expressed, so that a reward model can be tested on
    pairs that differ in one of the two (`evaluate.reward_accuracy`); either may be empty.

    Every method gives the same result for the same seed. Held-out prompts never occur elsewhere.
    """

    name: str
    base: str
    longest_response: int
    labellers: Sequence[Labeller]
    guidelines: Guidelines
    truth: Sequence[str]
    manner: Sequence[str]

    def prompt_of(self, message: str) -> str:
        """The text of the prompt for a message that a person typed."""

    def raw_text(self, seed: int, count: int, late: bool = False) -> list[str]:
        """Documents to pretrain a base model on; `late` gives the mixture for the last part of
        it."""

    def demonstrations(self, seed: int, count: int) -> list[Demonstration]:
        """Prompts with responses to imitate."""

    def prompts(self, seed: int, count: int) -> list[Prompt]:
        """Prompts to rank responses to and to train PPO on."""

    def held_out(self) -> dict[str, list[Prompt]]:
        """Prompts for evaluation, by the name of their set; the first set is the main one."""

    def judge(self, prompt: Prompt, response: str) -> Mark:
        """The mark of one response."""


def load_task(name: str) -> Task | FolderTask:
    """The task of that name, or in that folder. Raises UserError if there is none."""
    if name in TASKS:
        return getattr(import_module(f"rlhf_lab.tasks.{name}"), TASKS[name])()
    if is_folder(name):
        return read_folder(name)
    known = ", ".join(map(repr, TASKS))
    raise UserError(
        f"no task called '{name}': use {known}, or make your own in a folder with "
        f"`rlhf-lab task new {name}`"
    )


def check_base(task: Task) -> None:
    """Raise UserError if no base model that has read this task's raw text comes with the lab."""
    if not base_model(task.base).is_dir():
        readers = " ".join(name for name in TASKS if load_task(name).base == task.base)
        raise UserError(
            f"no base model has read the task {task.name} yet: make one with `rlhf-lab pretrain "
            f"--task {readers} --out {task.base}` (an hour or two on two CPU cores), and run "
            f"`rlhf-lab demo --task {task.name} --model {task.base}`"
        )


def load_judged(name: str) -> Task:
    """The task of that name, which must have a judge. Raises UserError for one that is a folder."""
    task = load_task(name)
    if task.judge is None:
        raise UserError(
            f"the task in {name} has no judge and no simulated labellers, which this "
            "command needs: run the stages one by one (docs/your-own-task.md)"
        )
    return task
