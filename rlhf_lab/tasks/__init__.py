"""Tasks: what is asked, and what is good.

A task is prompts, demonstrations, labellers and, where somebody knows the truth, a judge. It also
brings its own words: guidelines for people who rank, and the form of its prompts. To add one:

1. Make a folder of its name here, such as `tasks/chess/`, with what the task knows in it.
2. In its `__init__.py` write a class with every attribute of `Task` below (tests/tiny_task.py is
   one in under seventy lines). What tasks share is here: labellers and guidelines (`labellers`), a
   little English (`phrases`).
3. Put the folder and the class into `TASKS`: `--task chess` and `load_task("chess")` find it now,
   and tests/tasks/test_tasks.py looks whether it keeps its word.

The shipped base model knows the support desk alone; `rlhf-lab pretrain --task chess --out base`
makes one for the task, `rlhf-lab demo --task chess --model base` does the rest. Without a judge, a
task is a folder with files, and takes no code (`folder.py`, docs/your-own-task.md).
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from rlhf_lab.errors import UserError
from rlhf_lab.records import Demonstration, Mark, Prompt
from rlhf_lab.tasks.folder import FolderTask, is_folder, read_folder
from rlhf_lab.tasks.labellers import Guidelines, Labeller

TASKS = {"support_desk": "SupportDesk"}  # folder here: class in it, made without arguments
SHIPPED = "support_desk"  # whose base model, demo and constitution.toml are in data/


class Task(Protocol):
    """What the lab asks of a task.

    truth and manner: which items of the judge's rubric say whether a response is right, and which
    say how it is put, so that a reward model can be tested on pairs that differ in one of the two
    (`evaluate.reward_accuracy`); either may be empty.

    Every method gives the same for the same seed. Held-out prompts never occur in the others.
    """

    name: str
    labellers: Sequence[Labeller]
    guidelines: Guidelines
    truth: Sequence[str]
    manner: Sequence[str]

    def prompt_of(self, message: str) -> str:
        """The text of a prompt that asks what a person typed."""

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
        f"no task called '{name}': the lab has {known}, and `rlhf-lab task new "
        f"{name}` begins one of your own in a folder"
    )


def load_judged(name: str) -> Task:
    """The same, of a task that has a judge. Raises UserError for one that is a folder."""
    task = load_task(name)
    if task.judge is None:
        raise UserError(
            f"the task in {name} has no judge and no simulated labellers, which this "
            "needs: take its stages one by one (docs/your-own-task.md)"
        )
    return task
