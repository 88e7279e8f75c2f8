"""The numbers and responses of the lecture, read from the runs that come with the lab."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from rlhf_lab.disk.data import data_folder, shipped
from rlhf_lab.disk.files import read_rankings
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.records import Ranking
from rlhf_lab.studies import overoptimisation as hacking

SEEN = "beta 0.05"  # the arm whose responses are shown before and after
HACKED = "60 rankings, beta 0"
SWEEP = ("beta 0", "beta 0.02", "beta 0.05", "beta 0.2")


def facts() -> dict[str, Any]:
    """Every value that lecture.toml names."""
    return run_facts() | ranking_facts() | hacking_facts() | best_of_n_facts() | formula_facts()


def run_facts() -> dict[str, Any]:
    """What the shipped run of three stages was, and what the judge found. Shares are in percent."""
    summary = json.loads(shipped("summary.json").read_text("utf-8"))
    settings = json.loads(shipped("config.json").read_text("utf-8"))["settings"]
    models, reward = summary["models"], summary["reward_model"]
    ppo = settings["ppo"]
    found: dict[str, Any] = {
        "demonstrations": settings["demonstrations"],
        "rankings": settings["ranked_prompts"],
        "responses": settings["responses"],
        "updates": ppo["updates"],
        "batch": ppo["batch_size"],
        "beta": ppo["beta"],
        "prompts": summary["prompts"]["held-out"],
        "wins": 100 * models["policy"]["win_rate_against_sft"][0],
        "kl": models["policy"]["kl"][0],
        "accuracy": 100 * reward["labellers"]["accuracy"],
        "clear": 100 * reward["clear"]["accuracy"],
        "correctness": 100 * reward["correctness"]["accuracy"],
    }
    for name, row in models.items():
        found |= {
            f"{name}_mark": row["mark"][0],
            f"{name}_apart": row["mark_by_set"]["apart"][0],
            f"{name}_promises": 100 * row["flaws"]["invented promises"][0],
        }
    return found


def ranking_facts() -> dict[str, Any]:
    """A ranking that is short enough for a slide: the shortest by "patient" without ties."""

    def length(ranking: Ranking) -> int:
        return len(ranking.prompt.text) + sum(map(len, ranking.responses))

    whole = [
        ranking
        for ranking in read_rankings(shipped("rankings.jsonl.gz"))
        if ranking.labeller == "patient"
        and sorted(ranking.ranks) == list(range(1, len(ranking.ranks) + 1))
        and all(ranking.responses)
    ]
    shown = min(whole, key=length)
    ordered = [text for _, text in sorted(zip(shown.ranks, shown.responses))]
    found = {f"rank_{number}": text for number, text in enumerate(ordered, 1)}
    asked = _asked(shown.prompt.text)
    return found | {"rank_prompt": asked, "comparisons": math.comb(len(ordered), 2)}


def hacking_facts() -> dict[str, Any]:
    """Before and after, a hacked policy, and the marks at the end of the runs of each beta."""
    folder = data_folder() / "hacking"
    seen = hacking.load_samples(folder, SEEN, seed=0)
    before = seen[seen["update"] == 0]
    worst = before.loc[before["mark"].idxmin()]
    last = seen[seen["update"] == seen["update"].max()]
    after = last[last["prompt"] == worst["prompt"]].iloc[0]
    hacked = hacking.load_samples(folder, HACKED, seed=0)
    hacked = hacked[hacked["update"] == hacked["update"].max()]
    clips = hacked["response"].str.contains("paper clip")
    return {
        "before_prompt": _asked(worst["prompt"]),
        "before": worst["response"],
        "before_mark": worst["mark"],
        "after": after["response"],
        "after_mark": after["mark"],
        "hacked_prompt": _asked(hacked.iloc[0]["prompt"]),
        "hacked": hacked.iloc[0]["response"],
        "hacked_mark": hacked.iloc[0]["mark"],
        "clips": int(clips.sum()),
        "watched": len(hacked),
    } | _ends(hacking.load_summaries(folder))


def _ends(runs: pd.DataFrame) -> dict[str, Any]:
    """The lowest and the highest mark at the end of an arm's runs, over seeds."""
    found: dict[str, Any] = {"seeds": runs["seed"].nunique(), "sft_before": runs["sft"].mean()}
    names = {"beta 0": "free", "beta 0.05": "fair", "beta 0.2": "dear", HACKED: "sixty"}
    for arm, name in names.items():
        marks = runs[runs["arm"] == arm]["mark"]
        found |= {f"{name}_mark_low": marks.min(), f"{name}_mark_high": marks.max()}
    return found


def best_of_n_facts() -> dict[str, Any]:
    """Best-of-n at its largest n, with the reward model from all rankings: means over seeds."""
    rows = hacking.load_best_of_n(data_folder() / "hacking")
    rows = rows[rows["arm"] == "beta 0"]
    largest = rows[rows["n"] == rows["n"].max()]
    return {
        "n": int(rows["n"].max()),
        "n_mark": largest["judge/mark"].mean(),
        "n_kl": largest["objective/kl"].mean(),
    }


def formula_facts() -> dict[str, Any]:
    """Settings of PPO, and how sure a lead in score is of being preferred, in percent."""
    config = PPOConfig()
    leads = {f"lead_{lead}": 100 / (1 + np.exp(-lead)) for lead in range(4)}
    return leads | {"lam": config.lam, "epsilon": config.epsilon, "passes": config.epochs}


def _asked(prompt: str) -> str:
    """What the customer wrote, without the names of who speaks."""
    return prompt.splitlines()[0].removeprefix("Customer: ")
