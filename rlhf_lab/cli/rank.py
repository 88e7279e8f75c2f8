"""`rlhf-lab rank`: rank samples on the terminal."""

import argparse
import os
from pathlib import Path

from rlhf_lab.cli.options import seed_option
from rlhf_lab.disk.files import read_samples
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.selection import Selection
from rlhf_lab.feedback.session import RankingSession
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.show.terminal_ranking import rank_in_terminal
from rlhf_lab.tasks import load_task
from rlhf_lab.tasks.folder import FolderTask, is_folder, read_folder
from rlhf_lab.tasks.labellers import GENERAL


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "store",
        help="file of the feedback store, created if missing; or the "
        "folder of a task of your own, which contains its store",
    )
    sub.add_argument("--task", help="show the guidelines of this task of the lab")
    sub.add_argument("--labeller", required=True, help="your name in the store; any name will do")
    sub.add_argument(
        "--goal", type=int, help="stop after GOAL answers in all, earlier sessions included"
    )
    sub.add_argument("--k", type=int, default=4, help="responses to show of each prompt, 2 to 9")
    seed_option(sub)
    sub.add_argument(
        "--samples",
        help="file of prompts and responses (JSON lines) to add to the store first, as "
        "`rlhf-lab sample --responses 4 --out FILE` writes it",
    )


def task_of(place: Path) -> FolderTask | None:
    """The task folder that `place` is, or whose store it is; None if there is none.

    Raises UserError for a folder that holds no task.
    """
    if os.path.isdir(place):
        return read_folder(place)
    task = read_folder(place.parent) if is_folder(place.parent) else None
    return task if task and task.store == place else None


def run(options: argparse.Namespace) -> None:
    selection = Selection(responses=options.k, seed=options.seed)
    samples = read_samples(options.samples) if options.samples else []
    task = task_of(Path(options.store))
    if task and options.task:
        raise UserError(
            f"--task {options.task}: leave it out, as {options.store} belongs to a task's folder "
            "with its own guidelines"
        )
    named = task or (load_task(options.task) if options.task else None)
    guidelines = named.guidelines if named else GENERAL
    store = FeedbackStore(task.store if task else options.store)
    store.add_all(samples)
    if not store.prompts():
        raise UserError(f"there is nothing to rank in {options.store}: give --samples FILE")
    session = RankingSession(
        store, options.labeller, selection, options.goal, guidelines=guidelines
    )
    if session.current is None and session.progress[0] == 0:
        raise UserError(
            f"no prompt in {options.store} has two different responses to compare: "
            "sample several to each (`rlhf-lab sample --responses 4 --out FILE`), and "
            "give them as --samples FILE"
        )
    rank_in_terminal(session)
