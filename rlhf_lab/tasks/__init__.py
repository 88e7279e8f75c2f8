"""Tasks: what is asked, and what is good.

A task is prompts, demonstrations, labellers and, where somebody knows the truth, a judge. To add
one, write a class with the attributes of `Task` (about fifty lines: tests/tiny_task.py is one) and
pass it to `runs.pipeline.Pipeline`, or its prompts and demonstrations to the stages. Without a
judge, a task is a folder with files (`folder.py`, docs/your-own-task.md).
"""

from typing import Protocol

from rlhf_lab.errors import UserError
from rlhf_lab.records import Demonstration, Mark, Prompt
from rlhf_lab.tasks.folder import FolderTask, is_folder, read_folder
from rlhf_lab.tasks.labellers import Labeller


class Task(Protocol):
    """What the pipeline asks of a task.

    Every method gives the same for the same seed. Held-out prompts never occur in the others.
    """

    name: str
    labellers: list[Labeller]

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
    if name == "support_desk":
        from rlhf_lab.tasks.support_desk import SupportDesk

        return SupportDesk()
    if is_folder(name):
        return read_folder(name)
    raise UserError(
        f"no task called '{name}': the lab has 'support_desk', and `rlhf-lab task new "
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
