"""Figures of one saved rollout: which tokens hold its KL, how lambda spreads a score over tokens,
and which tokens the update pushed."""

from collections.abc import Sequence

import matplotlib
import torch
from matplotlib.axes import Axes

from rlhf_lab.show.microscope import SavedRollout, check_row, name_of, recompute
from rlhf_lab.show.plots import GUIDE, SERIES, STYLE, Picture

OPEN = 0.9  # a token drawn with a probability below this counts as a choice
MARKED = 0.1  # share of the tokens for which the figure states their share of the KL
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)  # of the ratio
LOOKS = (("--", GUIDE), ("-.", SERIES["best_of_n"]), ("-", SERIES["policy"]), (":", SERIES["mark"]))


def kl_share(rollout: SavedRollout) -> Picture:
    """The share of the KL that the tokens with most of it hold, and how sure the policy was."""
    kl, probability = recompute(rollout).kl[rollout.mask], rollout.logprobs[rollout.mask].exp()
    sizes = kl.abs().sort(descending=True).values
    share = sizes.cumsum(0) / sizes.sum()
    tokens = torch.arange(1, len(sizes) + 1) / len(sizes)
    held = float(share[tokens <= MARKED][-1])
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(8.8, 3.3))
        left, right = figure.subplots(1, 2)
        left.plot(100 * tokens, 100 * share, color=SERIES["kl"])
        left.plot([0, 100], [0, 100], ":", color=GUIDE, linewidth=1, label="if all had the same")
        left.annotate(
            f"{100 * MARKED:.0f} % of the tokens hold {100 * held:.0f} %",
            (100 * MARKED, 100 * held),
            (28, 62),
            arrowprops={"arrowstyle": "->", "color": GUIDE},
        )
        left.annotate("if all had the same", (47, 30), color=GUIDE, fontsize=9)
        left.set(
            title="Few tokens carry the KL",
            xlabel="tokens, those with most first (%)",
            ylabel="share of all |log-ratio| (%)",
        )
        right.plot(
            100 * probability,
            kl,
            "o",
            color=SERIES["kl"],
            alpha=0.4,
            markersize=4,
            markeredgewidth=0,
        )
        right.axhline(0, color=GUIDE, linewidth=0.8)
        right.set(
            title="They are those where there was a choice",
            ylabel="log-ratio (nats)",
            xlabel="probability with which the token was drawn (%)",
        )
    return figure


def advantages_by_lambda(
    rollout: SavedRollout, row: int, lams: Sequence[float] = (0.0, 0.5, 0.95, 1.0)
) -> Picture:
    """The advantage of every token of a response under up to four lambdas."""
    check_row(rollout, row)
    with matplotlib.rc_context(STYLE):
        figure, axes = _along(rollout.token_texts[row])
        n = len(axes.get_xticks())
        for lam, (style, colour) in zip(lams, LOOKS):
            advantages = recompute(rollout, lam=lam).raw_advantages[row, :n]
            axes.plot(advantages, style, color=colour, label=f"λ = {lam:g}")
        axes.axhline(0, color=GUIDE, linewidth=0.8)
        axes.set(title="How far back does the score reach?", ylabel="advantage (score units)")
        figure.legend(loc="outside lower center", ncols=len(lams))
    return figure


def values_along(rollout: SavedRollout, row: int) -> Picture:
    """The value network's prediction before each token, and the rewards that followed, summed."""
    check_row(rollout, row)
    came = recompute(rollout, gamma=1.0, lam=1.0).returns[row]
    with matplotlib.rc_context(STYLE):
        figure, axes = _along(rollout.token_texts[row])
        n = len(axes.get_xticks())
        axes.plot(
            rollout.values[row, :n],
            "o-",
            markersize=4,
            color=SERIES["value"],
            label="value: expected before the token",
        )
        axes.plot(
            came[:n], color=SERIES["score"], label="what came: the rewards from this token on"
        )
        axes.set(title="Expected, and got", ylabel="score units")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def pushes(rollout: SavedRollout) -> Picture:
    """The ratio of every token, plotted against its advantage in the loss."""
    numbers, mask = recompute(rollout), rollout.mask
    ratio, advantage = numbers.ratio[mask], numbers.advantages[mask]
    choice = rollout.logprobs[mask].exp() < OPEN
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(6.4, 4.0))
        axes = figure.add_subplot()
        kinds = (
            (~choice, "o", GUIDE, f"drawn with {100 * OPEN:.0f} % or more"),
            (choice, "D", SERIES["policy"], f"drawn with less than {100 * OPEN:.0f} %: a choice"),
        )
        for chosen, marker, colour, label in kinds:
            axes.plot(
                advantage[chosen],
                ratio[chosen],
                marker,
                color=colour,
                alpha=0.5,
                markersize=4.5,
                markeredgewidth=0,
                label=f"{int(chosen.sum())} tokens {label}",
            )
        s = rollout.settings
        for x in (1 - s.epsilon, 1 + s.epsilon):
            axes.axhline(x, color=SERIES["kl"], linewidth=1, linestyle="--")
        axes.axhline(1, color=GUIDE, linewidth=0.8)
        axes.axvline(0, color=GUIDE, linewidth=0.8)
        axes.set_yscale("log")
        ticks = [t for t in TICKS if ratio.min() / 2 < t < ratio.max() * 2]
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.set(
            title="What was asked for, and what happened",
            xlabel="advantage, whitened",
            ylabel="ratio (dashed: the clip range)",
        )
        axes.legend(loc="upper left")
    return figure


def _along(token_texts: Sequence[str]) -> tuple[Picture, Axes]:
    """A wide figure with the tokens of a response under its axis."""
    figure = Picture(figsize=(8.8, 3.8))
    axes = figure.add_subplot()
    names = [name_of(text) for text in token_texts]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axes.grid(False, axis="x")
    axes.margins(x=0.01)
    return figure, axes
