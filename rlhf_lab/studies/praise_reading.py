"""Reading the study of praise: who says that the lines have become kinder, and what they read like."""

from pathlib import Path

import matplotlib
import pandas as pd

from rlhf_lab.plots import GUIDE, SERIES, STYLE, Picture
from rlhf_lab.studies.runs import summaries, table

WHO = {"score": ("the reward model", SERIES["score"]), "judge": ("the judge", SERIES["mark"]),
       "words": ("the words", SERIES["best_of_n"]), "lexicon": ("VADER's lexicon", SERIES["kl"])}


def gains(folder: Path) -> pd.DataFrame:
    """What each run gained by each opinion, with its 95 % interval over prompts, the KL, and what the
    lines became: columns arm, seed, hacked (what was expected), kl, who, gain, low, high, length,
    ended, distinct. Raises UserError if there is no run in the folder."""
    rows = []
    for s in summaries(folder):
        shape = {name: s["policy"][name] for name in ("length", "ended", "distinct")}
        rows += [{"arm": s["arm"]["name"], "seed": s["seed"], "hacked": s["arm"]["hacked"],
                  "kl": s["policy"]["kl"][0], "who": who, "gain": gain, "low": low, "high": high}
                 | shape for who, (gain, low, high) in s["gain"].items()]
    return pd.DataFrame(rows)


def known(folder: Path) -> pd.DataFrame:
    """How far each is towards the ceiling on rated sentences of the test side: a row for each, columns
    way, low, high, alike; the reward model's of each seed."""
    rows = {}
    for s in summaries(folder):
        for who, found in s["known"].items():
            name = WHO[who][0] + (f", seed {s['seed']}" if who == "score" else "")
            rows[name] = dict(zip(("way", "low", "high"), found["way"])) | {
                "alike": found["alike"]["way"][0]}
    return pd.DataFrame(rows).T.sort_index()


def lines(folder: Path, arm: str, seed: int) -> pd.DataFrame:
    """What SFT policy and policy wrote to the same beginnings with the same luck, and what the judge
    said of both, in standard deviations of the SFT policy's lines."""
    found = table(folder, "lines")
    found = found[(found["arm"] == arm) & (found["seed"] == seed)]
    said = pd.DataFrame(found["judge"].tolist(), columns=["judge of SFT's", "judge of PPO's"],
                        index=found.index)  # fmt: skip
    return pd.concat([found[["prompt", "sft", "policy"]], said], axis=1).reset_index(drop=True)


def who_agrees(found: pd.DataFrame) -> Picture:
    """A panel for each arm: what each opinion gained, every seed a dot with its interval."""
    arms = list(dict.fromkeys(found["arm"]))
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(1.4 + 3.8 * len(arms), 3.4))
        panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
        for axes, arm in zip(panels, arms):
            for place, (who, (label, colour)) in enumerate(WHO.items()):
                mine = found[(found["arm"] == arm) & (found["who"] == who)].sort_values("seed")
                x = [place + 0.16 * (i - (len(mine) - 1) / 2) for i in range(len(mine))]
                axes.errorbar(x, mine["gain"], [mine["gain"] - mine["low"], mine["high"] - mine["gain"]],
                              fmt="o", color=colour, markersize=5, linewidth=1.4)
            kl = found[found["arm"] == arm]["kl"]
            axes.axhline(0, color=GUIDE, linewidth=0.8)
            nats = " to ".join(dict.fromkeys(f"{k:.1f}" for k in (kl.min(), kl.max())))
            axes.set(title=f"{arm}: {nats} nats", xlim=(-0.5, len(WHO) - 0.5))
            axes.set_xticks(range(len(WHO)), [label.replace(" ", "\n", 1) for label, _ in WHO.values()])
        panels[0].set_ylabel("gain (score, judge: sd of SFT's lines;\nwords, lexicon: their own scales)")
    return figure
