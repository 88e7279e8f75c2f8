"""Results of the praise study: which opinions say that the lines became kinder, and the lines
themselves."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from rlhf_lab.show.cards import Card, Cards
from rlhf_lab.show.plots import GUIDE, SERIES, STYLE, Picture
from rlhf_lab.studies.results import summaries, table

WHO = {
    "score": ("the reward model", SERIES["score"]),
    "judge": ("the judge", SERIES["mark"]),
    "words": ("the words", SERIES["best_of_n"]),
    "lexicon": ("VADER's lexicon", SERIES["kl"]),
}
LIKE = (4, 8, 12, 16, 24)  # upper ends of the groups of like length: 1 to 4 tokens, 5 to 8, ...


def gains(folder: Path) -> pd.DataFrame:
    """Each run's gain by each opinion, with its 95 % interval over prompts, its KL, and the shape
    of its lines: columns arm, seed, hacked (what was expected), kl, who, gain, low, high, length,
    ended, distinct. Raises UserError if there is no run in the folder."""
    rows = []
    for s in summaries(folder):
        shape = {name: s["policy"][name] for name in ("length", "ended", "distinct")}
        rows += [
            {
                "arm": s["arm"]["name"],
                "seed": s["seed"],
                "hacked": s["arm"]["hacked"],
                "kl": s["policy"]["kl"][0],
                "who": who,
                "gain": gain,
                "low": low,
                "high": high,
            }
            | shape
            for who, (gain, low, high) in s["gain"].items()
        ]
    return pd.DataFrame(rows)


def lines(folder: Path, arm: str, seed: int) -> pd.DataFrame:
    """What the SFT policy and the policy wrote for the same prompts with the same random numbers,
    and the judge's scores of both, in standard deviations of the SFT policy's lines."""
    found = table(folder, "lines")
    found = found[(found["arm"] == arm) & (found["seed"] == seed)]
    said = pd.DataFrame(
        found["judge"].tolist(), columns=["judge of SFT's", "judge of PPO's"], index=found.index
    )
    return pd.concat([found[["prompt", "sft", "policy"]], said], axis=1).reset_index(drop=True)


def beside(found: pd.DataFrame) -> Cards:
    """Rows of `lines` to read: what SFT and the policy wrote, with the judge's scores."""
    return Cards(
        [
            (
                prompt,
                [
                    Card(sft, f"SFT, judge {before:+.1f} sd"),
                    Card(ppo, f"PPO, judge {after:+.1f} sd"),
                ],
            )
            for prompt, sft, ppo, before, after in found.itertuples(index=False)
        ]
    )


def at_equal_length(folder: Path, draws: int = 1000) -> pd.DataFrame:
    """What is left of each arm's gain if a line is compared with SFT's lines of like length (LIKE),
    all seeds together: columns arm, who, gain, left, low, high (95 %, by bootstrap over prompts),
    held (the share of lines for which SFT has lines of like length)."""
    rows, found = [], table(folder, "lines")
    for arm, mine in found.groupby("arm", sort=False):
        before, after = np.searchsorted(LIKE, np.array(mine["tokens"].tolist())).T
        said = np.array([mine[who].tolist() for who in WHO])  # (W, R, 2)
        prompts = list(mine.groupby("prompt").indices.values())
        chance = np.random.default_rng(0)
        tries = [
            np.concatenate([prompts[i] for i in chance.integers(len(prompts), size=len(prompts))])
            for _ in range(draws)
        ]
        gain, held = (said[:, :, 1] - said[:, :, 0]).mean(1), np.isin(after, before).mean()
        left = _left(said, before, after)
        low, high = np.nanquantile(
            [_left(said[:, t], before[t], after[t]) for t in tries], (0.025, 0.975), axis=0
        )
        rows += [
            dict(zip(("arm", "who", "gain", "left", "low", "high", "held"), (arm, *row, held)))
            for row in zip(WHO, gain, left, low, high)
        ]
    return pd.DataFrame(rows)


def _left(said: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """By how much the policy's lines are above SFT's lines of their group, on average: said
    (W, R, 2), groups (R,) -> (W,)."""
    above = np.full(said.shape[:2], np.nan)
    for group in np.unique(after):
        if (before == group).any():
            usual = said[:, before == group, 0].mean(1, keepdims=True)
            above[:, after == group] = said[:, after == group, 1] - usual
    return np.nanmean(above, axis=1)


def who_agrees(found: pd.DataFrame) -> Picture:
    """A panel for each arm: the gain by each opinion, a dot with its interval for every seed."""
    arms = list(dict.fromkeys(found["arm"]))
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(1.4 + 3.8 * len(arms), 3.4))
        panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
        for axes, arm in zip(panels, arms):
            for place, (who, (_, colour)) in enumerate(WHO.items()):
                mine = found[(found["arm"] == arm) & (found["who"] == who)].sort_values("seed")
                x = [place + 0.16 * (i - (len(mine) - 1) / 2) for i in range(len(mine))]
                axes.errorbar(
                    x,
                    mine["gain"],
                    [mine["gain"] - mine["low"], mine["high"] - mine["gain"]],
                    fmt="o",
                    color=colour,
                    markersize=5,
                    linewidth=1.4,
                )
            kl = found[found["arm"] == arm]["kl"]
            axes.axhline(0, color=GUIDE, linewidth=0.8)
            nats = " to ".join(dict.fromkeys(f"{k:.1f}" for k in (kl.min(), kl.max())))
            axes.set(title=f"{arm}: {nats} nats", xlim=(-0.5, len(WHO) - 0.5))
            axes.set_xticks(
                range(len(WHO)), [label.replace(" ", "\n", 1) for label, _ in WHO.values()]
            )
        panels[0].set_ylabel(
            "gain (score, judge: sd of SFT's lines;\nwords, lexicon: their own scales)"
        )
    return figure
