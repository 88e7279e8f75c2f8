"""Every figure that the package makes, of shipped results of studies or of a few numbers."""

import json
from collections.abc import Callable
from functools import partial

import pandas as pd
import torch

from rlhf_lab.compare import comparison_plots
from rlhf_lab.compare.measure import Comparison
from rlhf_lab.course import bug_hunt, pictures
from rlhf_lab.disk.data import data_folder, shipped
from rlhf_lab.runs.costs import estimate
from rlhf_lab.show import feedback_plots, microscope_plots, plots
from rlhf_lab.show.microscope import load_rollout
from rlhf_lab.show.panels import PANELS
from rlhf_lab.show.widgets import clip
from rlhf_lab.studies import (
    assistant_reading,
    constitution_reading,
    praise_reading,
    ratings_reading,
    roads_reading,
    rounds_reading,
)
from rlhf_lab.studies import overoptimisation as hacking
from rlhf_lab.studies import overoptimisation_plots as hacking_plots
from rlhf_lab.studies.results import table

FOLDER = data_folder()
RUN = [json.loads(line) for line in shipped("metrics.jsonl").read_text("utf-8").splitlines()]
PPO = [record for record in RUN if record["stage"] == "ppo"]
INTERVALS = {"mark": [5.0, 4.0, 6.0], "rubric": {"kind": [0.5, 0.4, 0.6], "true": [0.6, 0.5, 0.7]}}
SUMMARY = {"samples": 4, "models": dict.fromkeys(("base", "sft", "policy"), INTERVALS)}
PEOPLE = {"labeller": ["ann", "bob"], "low": [0.6, 0.5], "high": [0.8, 0.72], "chance": [0.2, 0.3]}
ALIKE = pd.DataFrame({"first": ["ann", "ann"], "second": ["bob", "cat"], "agreement": [0.9, 0.6]})
COLOURS = {"60 at once": "#767676", "3 rounds of 20": "#009E73"}
RULED = {"SFT policy": "#767676", "labellers": "#0072B2", "rules": "#009E73"}
SHARES = {"judge": 0.56, "hurried": 0.43}
KINDS = {"all": {"accuracy": 0.9, "pairs": 100}, "style": {"accuracy": 0.7, "pairs": 30}}
BINS = tuple(map(torch.tensor, ([0.55, 0.9], [0.5, 0.95], [20, 40])))
DPO = [{"update": u, "dpo/chosen": -0.1 * u, "dpo/rejected": -0.3 * u} for u in range(1, 4)]
WEIGHED = pd.DataFrame(
    {
        "helpful": [None, 0.0, 1.0],
        "seed": 0,
        "complied": [0.2, 0.0, 0.3],
        "refused": [0.3, 0.5, 0.1],
    }
)
PARTS = estimate.Estimate("ppo", 1, 1, 10**9, 2 * 10**9, 3 * 10**9, 10**9, 10**8, 1e9, 10)


def rollout():
    return load_rollout(shipped("rollout.safetensors"))


def people(value: str) -> pd.DataFrame:
    return pd.DataFrame(PEOPLE | {value: [0.7, 0.65]})


def learned() -> tuple[pd.DataFrame, pd.DataFrame]:
    models = ["before", "after", "control 1"]
    scores = pd.DataFrame({"rank": [1.0, 2.0, None], **{m: [0.4, 0.1, -0.2] for m in models}})
    rows = {"model": models, "accuracy": [0.5, 0.8, 0.55], "low": 0.4, "high": 0.9}
    return scores, pd.DataFrame(rows)


def comparison() -> Comparison:
    def row(name: str, value: float) -> dict:
        ends = [value, value - 0.3, value + 0.3]
        return {"model": name, "value": ends, "difference": ends, "kl": ends}

    names = ("start", "new")
    return Comparison(
        [row("start", 5.0), row("new", 7.0)], [], [{"models": [name]} for name in names]
    )


def hacked(draw: Callable, **given) -> plots.Picture:
    return draw(metrics=hacking.load_metrics(FOLDER / "hacking"), **given)


def fitted() -> plots.Picture:
    fits = {"beta 0": hacking.Fit("rl", 1.0, 0.1, 0.9)}
    return hacked(hacking_plots.fitted, fits=fits, starts={"beta 0": 6.9})


def best_of_n() -> plots.Picture:
    found = hacking.load_best_of_n(FOLDER / "hacking")
    return hacked(hacking_plots.best_of_n, frontiers=found, arms=["beta 0"])


def ceiling() -> plots.Picture:
    folder = FOLDER / "ratings"
    asked, ways = ratings_reading.people(folder), ratings_reading.ways(folder)
    return ratings_reading.towards_the_ceiling(ways, asked)


def frontiers() -> plots.Picture:
    found = hacking.load_best_of_n(FOLDER / "hacking")
    runs = roads_reading.ends(FOLDER / "roads")
    return roads_reading.frontiers(runs, found[found["arm"] == "beta 0"])


def estimates() -> plots.Picture:
    kinds = {"without": torch.linspace(-1, 2, 100), "with": torch.linspace(0, 1, 100)}
    return pictures.estimates(kinds, 0.33, title="Both are right", xlabel="gradient")


def lines_of_seeds() -> plots.Picture:
    curves = {"without": [[4.0, 4.5, 4.2], [4.0, 4.1, 4.6]], "with": [[4.0, 4.9, 5.0]]}
    return pictures.seeds(curves, 5.1, title="Seeds", xlabel="step", ylabel="value")


PICTURES: dict[str, Callable[[], plots.Picture]] = {
    "training_curves": partial(plots.training_curves, RUN),
    "curve": partial(plots.curve, PANELS[0], RUN),
    "reward_and_kl": partial(plots.reward_and_kl, PPO),
    "score_against_mark": partial(plots.score_against_mark, PPO),
    "marks_by_rubric": partial(plots.marks_by_rubric, SUMMARY),
    "kl_share": lambda: microscope_plots.kl_share(rollout()),
    "values_along": lambda: microscope_plots.values_along(rollout(), 26),
    "advantages_by_lambda": lambda: microscope_plots.advantages_by_lambda(rollout(), 26),
    "pushes": lambda: microscope_plots.pushes(rollout()),
    "clip_picture": lambda: clip.clip_picture(rollout()),
    "agreement_by_labeller": lambda: feedback_plots.agreement_by_labeller(people("agreement")),
    "agreement_by_pair": partial(feedback_plots.agreement_by_pair, ALIKE),
    "consistency": lambda: feedback_plots.consistency(people("agreement")),
    "position_bias": lambda: feedback_plots.position_bias(people("first_best")),
    "pace": lambda: feedback_plots.pace(people("seconds")),
    "reliability": lambda: feedback_plots.reliability(people("reliability")),
    "relearned": lambda: feedback_plots.relearned(*learned()),
    "values": lambda: comparison_plots.values(comparison(), "mark"),
    "differences": lambda: comparison_plots.differences(comparison(), "mark"),
    "value_against_kl": lambda: comparison_plots.value_against_kl(comparison(), "mark"),
    "memory": partial(estimate.memory, {"as it comes": PARTS}),
    "score_and_mark": partial(hacked, hacking_plots.score_and_mark, arms=["beta 0"]),
    "marks": partial(
        hacked, hacking_plots.marks, arms={"beta 0": "#D55E00", "beta 0.2": "#0072B2"}
    ),
    "kl_over_updates": partial(
        hacked, hacking_plots.kl_over_updates, arms={"beta 0": "#D55E00", "beta 0.2": "#0072B2"}
    ),
    "best_of_n": best_of_n,
    "fitted": fitted,
    "progress": lambda: rounds_reading.progress(
        table(FOLDER / "rounds", "metrics"), {"60 rankings": COLOURS}
    ),
    "frontier": lambda: assistant_reading.frontier(WEIGHED),
    "worth": lambda: rounds_reading.worth(rounds_reading.label_rows(FOLDER / "labels")),
    "who_agrees": lambda: praise_reading.who_agrees(praise_reading.gains(FOLDER / "praise")),
    "towards_the_ceiling": ceiling,
    "rule_picture": lambda: constitution_reading.rule_picture(FOLDER / "constitution", RULED),
    "frontiers": frontiers,
    "likelier": lambda: pictures.likelier({"rude": torch.tensor([1.0, -2.0, 0.5])}),
    "shares": partial(pictures.shares, SHARES, "Who wins?", "share", xlim=(0.3, 0.9)),
    "calibration": partial(pictures.calibration, {"as shipped": BINS, "times 2": BINS}),
    "by_kind": partial(pictures.by_kind, {"900": KINDS, "300": KINDS}, [KINDS, KINDS]),
    "overview": lambda: bug_hunt.overview(bug_hunt.recorded_runs()),
    "estimates": estimates,
    "seeds": lines_of_seeds,
    "implicit_scores": partial(pictures.implicit_scores, DPO),
}
