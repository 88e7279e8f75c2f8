"""`rlhf-lab study`: run the arms of a study one after the other and print a line for each run."""

import argparse
from pathlib import Path

from rlhf_lab.errors import UserError
from rlhf_lab.studies import hacking
from rlhf_lab.studies.ground import Ground

# Every arm of every study by its name: what runs it, given the ground and the seed.
STUDIES = {
    "hacking": {arm.name: lambda ground, seed, arm=arm: hacking.run_arm(ground, arm, seed)
                for arm in (*hacking.ARMS, *hacking.ENSEMBLE_ARMS)}
    | {hacking.BEST_OF_N: hacking.run_best_of_n},
}  # fmt: skip


def study_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("study", choices=STUDIES, help="which study")
    sub.add_argument("--out", help="folder of the study; what is there already is not run again; if "
                     "not given, runs/STUDY")
    sub.add_argument("--arms", nargs="+", metavar="ARM", help="which arms; all if not given")
    sub.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="each arm's seeds")


def study(options: argparse.Namespace) -> None:
    """Run the arms, some minutes each. Raises UserError for an arm that the study has not."""
    arms = STUDIES[options.study]
    for name in options.arms or arms:
        if name not in arms:
            raise UserError(f"no arm '{name}' in the study {options.study}: there are "
                            + ", ".join(f"'{arm}'" for arm in arms))  # fmt: skip
    ground = Ground(Path(options.out or f"runs/{options.study}"))
    for name in options.arms or arms:
        for seed in options.seeds:
            print(line(name, seed, arms[name](ground, seed)), flush=True)


def line(name: str, seed: int, summary: dict) -> str:
    """What a run came to, in one line."""
    start, end = summary.get("sft"), summary.get("policy")
    told = ", ".join(f"{what} {start[what][0]:.2f} -> {end[what][0]:.2f}"
                     for what in ("mark", "score", "kl")) if start and end else "done"  # fmt: skip
    return f"{name}, seed {seed}: {told}"
