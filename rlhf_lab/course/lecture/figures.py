"""The figures of the lecture: those of the notebooks, from the same recorded runs."""

import json

from rlhf_lab.course.lecture.facts import HACKED, SWEEP
from rlhf_lab.disk.data import data_folder, shipped
from rlhf_lab.disk.jsonl import read_lines
from rlhf_lab.show import microscope_plots, plots
from rlhf_lab.show.diagrams.rollout_tensors import rollout_tensors
from rlhf_lab.show.diagrams.three_stages import three_stages
from rlhf_lab.show.microscope import load_rollout
from rlhf_lab.show.panels import SERIES
from rlhf_lab.studies import overoptimisation, overoptimisation_plots, roads_reading

ROW = 26  # the response of the shipped rollout that notebook 05 looks at
ARMS = ("judge, beta 0", "beta 0", HACKED)


def figure(name: str) -> bytes:
    """One of the figures below, as SVG: smaller than in a notebook, so that its text is larger."""
    if name in ("three_stages", "rollout_tensors"):
        return {"three_stages": three_stages, "rollout_tensors": rollout_tensors}[name]().encode()
    draw, size = {
        "run": (run, (5.2, 4.9)),
        "marks": (marks, (6.2, 2.8)),
        "advantages": (advantages, (8.0, 3.2)),
        "hacking": (hacking, (7.4, 3.7)),
        "prices": (prices, (5.0, 4.0)),
        "roads": (roads, (5.0, 4.0)),
    }[name]
    drawn = draw()
    drawn.set_size_inches(size)
    for axes in drawn.axes if name == "roads" else ():
        axes.set_title("", loc="left")  # as wide as the slide; its notes say the same
    return plots.to_bytes(drawn)


def run() -> plots.Picture:
    """Score, mark, KL and learning rate of the shipped run (notebook 04)."""
    rows = read_lines(shipped("metrics.jsonl"))
    return plots.reward_and_kl([row for row in rows if row["stage"] == "ppo"])


def marks() -> plots.Picture:
    """The judge's marks of every model of the shipped run."""
    return plots.marks_by_rubric(json.loads(shipped("summary.json").read_text("utf-8")))


def advantages() -> plots.Picture:
    """The advantages of one response under four lambdas (notebook 05)."""
    rollout = load_rollout(shipped("rollout.safetensors"))
    return microscope_plots.advantages_by_lambda(rollout, ROW)


def hacking() -> plots.Picture:
    """Score and mark of three arms (notebook 06)."""
    metrics = overoptimisation.load_metrics(data_folder() / "hacking")
    return overoptimisation_plots.score_and_mark(metrics, ARMS)


def prices() -> plots.Picture:
    """The mark at four prices of a nat (notebook 06)."""
    colours = (SERIES[name] for name in ("kl", "best_of_n", "policy", "sft"))
    metrics = overoptimisation.load_metrics(data_folder() / "hacking")
    return overoptimisation_plots.marks(metrics, dict(zip(SWEEP, colours)))


def roads() -> plots.Picture:
    """Mark against KL for PPO, RLOO, GRPO, DPO and best-of-n (notebook 08)."""
    frontier = overoptimisation.load_best_of_n(data_folder() / "hacking")
    runs = roads_reading.ends(data_folder() / "roads")
    return roads_reading.frontiers(runs, frontier[frontier["arm"] == "beta 0"])
