"""Results of the study of the assistant: rates by kind of request, the frontier of two rewards,
sycophancy from the rankings to the policy, and what alignment costs."""

from pathlib import Path

import matplotlib
import pandas as pd

from rlhf_lab.show.panels import MARKERS, SERIES
from rlhf_lab.show.plots import STYLE, Picture
from rlhf_lab.studies.assistant import SYCOPHANCY
from rlhf_lab.studies.results import summaries

# A flaw, and the kinds of request in which it is counted.
COUNTED = {
    "made-up facts": ("fact", "unknowable"),
    "over-refusals": ("look-alike", "everyday"),
    "harmful compliance": ("decline",),
    SYCOPHANCY: ("belief",),
}


def rates(folder: Path, arms: tuple[str, ...] = ("default",)) -> pd.DataFrame:
    """The share of answers with a flaw, before PPO (the SFT policy) and after: a row for each arm,
    seed, flaw and kind of request in which it is counted; columns before, after, low and high (the
    95 % interval of after)."""
    rows = []
    for run in summaries(folder):
        arm, seed = run["arm"]["name"], run["seed"]
        if arm not in arms:
            continue
        for flaw, kinds in COUNTED.items():
            for kind in kinds:
                before = run["sft"]["rates"][kind][flaw][0]
                after, low, high = run["policy"]["rates"][kind][flaw]
                rows.append(
                    {"arm": arm, "seed": seed, "flaw": flaw, "kind": kind}
                    | {"before": before, "after": after, "low": low, "high": high}
                )
    return pd.DataFrame(rows)


def weighed(folder: Path) -> pd.DataFrame:
    """The arms with two reward models, and the SFT policy: columns helpful (the weight of
    helpfulness; nan for SFT), seed, refused (the share of look-alikes refused), complied (the share
    of requests to decline that it went along with), mark and kl."""
    rows, begun = [], set()
    for run in summaries(folder):
        weight, seed = run["arm"]["helpful"], run["seed"]
        if weight is None:
            continue
        parts = [(weight, run["policy"])] + [(None, run["sft"])] * (seed not in begun)
        begun.add(seed)
        rows += [
            {
                "helpful": helpful,
                "seed": seed,
                "refused": found["rates"]["look-alike"]["over-refusals"][0],
                "complied": found["rates"]["decline"]["harmful compliance"][0],
                "mark": found["mark"][0],
                "kl": found["kl"][0],
            }
            for helpful, found in parts
        ]
    return pd.DataFrame(rows).sort_values(["seed", "helpful"], ignore_index=True)


def frontier(runs: pd.DataFrame) -> Picture:
    """Needless refusals against harmful compliance as the weight of helpfulness moves: each seed is
    a line, its SFT policy a cross. Down and to the left is better."""
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(6.4, 4.2))
        axes = figure.add_subplot()
        for i, (seed, rows) in enumerate(runs.groupby("seed")):
            line = rows.dropna(subset="helpful")
            axes.plot(
                line["complied"],
                line["refused"],
                MARKERS[i] + "-",
                color=SERIES["policy"],
                linewidth=0.9,
                label=f"two reward models, seed {seed}",
            )
            if seed == runs["seed"].min():
                for row in line.itertuples():
                    axes.annotate(
                        f"{row.helpful:g}",
                        (row.complied, row.refused),
                        textcoords="offset points",
                        xytext=(5, 4),
                    )
            start = rows[rows["helpful"].isna()]
            axes.plot(
                start["complied"],
                start["refused"],
                "x",
                color=SERIES["sft"],
                label="SFT policy" if i == 0 else None,
            )
        axes.set(
            xlabel="went along with what should be declined (share)",
            ylabel="refused what is harmless (share)",
            title="Helpful against harmless: the number is the weight of helpfulness",
        )
        axes.legend(loc="best")
    return figure


def sycophancy(folder: Path) -> pd.DataFrame:
    """How often agreement with a wrong belief wins, for each arm and seed: in the rankings, by the
    reward model's scores, and as the share of answers that agree before and after PPO."""
    rows = [
        {
            "arm": run["arm"]["name"],
            "agreeable": run["arm"]["agreeable"],
            "seed": run["seed"],
            "ranked first": run["pairs"][0],
            "scored higher": run["reward"][0],
            "before": run["sft"]["rates"]["belief"][SYCOPHANCY][0],
            "after": run["policy"]["rates"]["belief"][SYCOPHANCY][0],
        }
        for run in summaries(folder)
        if run["arm"]["helpful"] is None and run["arm"]["beta"] == 0.05
    ]
    return pd.DataFrame(rows).sort_values(["agreeable", "seed"], ignore_index=True)


def tax(folder: Path) -> pd.DataFrame:
    """What the policy still knows: the share of facts whose right value it finds likeliest, before
    and after PPO, for each value of beta and seed, with the KL that it went."""
    rows = [
        {
            "beta": run["arm"]["beta"],
            "seed": run["seed"],
            "kl": run["policy"]["kl"][0],
            "sft": run["sft"]["probe"][0],
            "policy": run["policy"]["probe"][0],
            "low": run["policy"]["probe"][1],
            "high": run["policy"]["probe"][2],
        }
        for run in summaries(folder)
        if run["arm"]["helpful"] is None and run["arm"]["agreeable"] == 0.2
    ]
    return pd.DataFrame(rows).sort_values(["beta", "seed"], ascending=[False, True])
