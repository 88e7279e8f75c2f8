"""`rlhf-lab study`: run the arms of a study one after another and print a line for each run."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError
from rlhf_lab.studies import (
    assistant,
    bug_hunt,
    code,
    constitution,
    hacking,
    labels,
    praise,
    ratings,
    roads,
    rounds,
    second,
    stories,
)
from rlhf_lab.studies.ground import Ground
from rlhf_lab.tasks import SHIPPED, TASKS, load_judged

COSTS = "costs.json"  # a file that `benchmarks/roads.py` writes beside its runs
STUDIES = (
    "hacking",
    "rounds",
    "labels",
    "roads",
    "constitution",
    "ratings",
    "praise",
    "second",
    "bug_hunt",
    "assistant",
    "code",
    "stories",
)
JUDGED = 480  # held-out prompts: shares are taken of a part of them
ANY_MODEL = ("ratings", "praise")  # the studies that can start from another model
Run = Callable[[Ground, int], dict]


def arms_of(study: str) -> dict[str, Run]:
    """Every arm of a study by its name: a function of the ground and the seed that runs it."""
    if study == "hacking":
        arms = (*hacking.ARMS, hacking.CONSTANT_RATE, *hacking.ENSEMBLE_ARMS)
        return _named(hacking.run_arm, arms) | {hacking.BEST_OF_N: hacking.run_best_of_n}
    if study == "roads":
        asked = [(road, price, "") for road in roads.ROADS for price in roads.STRENGTHS[road]]
        asked += [(road, roads.STRENGTHS[road][0], variant) for road, variant in roads.VARIANTS]
        return {roads.Arm(*one[:2], variant=one[2]).name: _tuned(*one) for one in asked}
    if study == "ratings":
        return _named(ratings.run_arm, ratings.ARMS) | {ratings.PEOPLE: ratings.run_people}
    module = {
        "rounds": rounds,
        "labels": labels,
        "constitution": constitution,
        "praise": praise,
        "second": second,
        "bug_hunt": bug_hunt,
        "assistant": assistant,
        "code": code,
        "stories": stories,
    }[study]
    return _named(module.run_arm, module.ARMS)


def _named(run_arm: Callable, arms: Sequence) -> dict[str, Run]:
    def of(arm: Any) -> Run:
        return lambda ground, seed: run_arm(ground, arm, seed)

    return {arm.name: of(arm) for arm in arms}


def _tuned(road: str, strength: float, variant: str) -> Run:
    """A run of a road with the best setting of its trials, which run first if they have not."""
    return lambda ground, seed: roads.run_arm(
        ground, roads.tuned(ground, road, strength, variant), seed
    )


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("study", choices=STUDIES, help="which study")
    sub.add_argument(
        "--out",
        help="folder of the study; finished runs in it are not repeated; if not given, runs/STUDY",
    )
    sub.add_argument("--arms", nargs="+", metavar="ARM", help="arms to run; if not given, all")
    sub.add_argument(
        "--model",
        help="for the studies ratings and praise: folder or hub id of the model to start "
        "from; if not given, the compact model, as in the other studies",
    )
    sub.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "float32", "bf16"],
        help="for the same two studies: precision of the arithmetic; bf16 is twice as fast on a "
        "processor that supports it",
    )
    sub.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds to run each arm with"
    )


def run(options: argparse.Namespace) -> None:
    """Run the arms, a few minutes each. Raises UserError for an arm that the study does not have,
    and for a model or precision if the study cannot use them."""
    for name, usual in (("model", None), ("precision", "auto")):
        if getattr(options, name) != usual and options.study not in ANY_MODEL:
            raise UserError(
                f"--{name} works only for the studies {' and '.join(ANY_MODEL)}, and the study "
                f"{options.study} starts from the compact model: leave --{name} out"
            )
    arms = arms_of(options.study)
    for name in options.arms or arms:
        if name not in arms:
            raise UserError(
                f"no arm '{name}' in the study {options.study}: choose from "
                + ", ".join(f"'{arm}'" for arm in arms)
            )
    folder = Path(options.out or f"runs/{options.study}")
    check_place(folder, _other_than_study, folder=True, link=True)
    own = options.study in TASKS  # a study of a task of that name, on all its held-out prompts
    task = load_judged(options.study if own else SHIPPED)
    judged = JUDGED if own else Ground.judged
    ground = Ground(folder, task, judged=judged, model=options.model, precision=options.precision)
    for name in options.arms or arms:
        for seed in options.seeds:
            print(line(name, seed, arms[name](ground, seed)), flush=True)


def _other_than_study(folder: Path) -> str:
    """Why a study must not use this folder, "" if it may. A study holds runs in ARM/SEED, and the
    models they start from."""
    for entry in sorted(folder.iterdir()):
        if entry.name == COSTS or entry.name.startswith("."):
            continue
        inside = [e.name for e in entry.iterdir()] if entry.is_dir() else ["a file"]
        if not (all(name.isdigit() for name in inside) or "config.json" in inside):
            return f"holds '{entry.name}', which is not part of a study"
    return ""


def line(name: str, seed: int, summary: dict) -> str:
    """The result of a run in one line."""
    if "way" in summary:
        share, low, high = summary["way"]
        return (
            f"{name}, seed {seed}: accuracy {summary['accuracy'][0]:.3f}, {share:.3f} "
            f"({low:.3f} to {high:.3f}) of the way to the ceiling"
        )
    if "gain" in summary:
        gains = ", ".join(f"{who} {gain[0]:.2f}" for who, gain in summary["gain"].items())
        return f"{name}, seed {seed}: gained {gains} at {summary['policy']['kl'][0]:.1f} nats"
    if "change" in summary:
        changes = ", ".join(f"{who} {change[0]:+.2f}" for who, change in summary["change"].items())
        return f"{name}, seed {seed}: {changes} at {summary['kl'][0]:.1f} nats"
    start, end = summary.get("sft"), summary.get("policy")
    told = (
        ", ".join(
            f"{what} {start[what][0]:.2f} -> {end[what][0]:.2f}" for what in ("mark", "score", "kl")
        )
        if start and end
        else "done"
    )
    return f"{name}, seed {seed}: {told}"
