"""Pictures that one lesson needs and nothing else, in the style of `show.plots`."""

from collections.abc import Mapping, Sequence

import matplotlib
import torch
from matplotlib.axes import Axes
from torch import Tensor

from rlhf_lab.intervals import interval, wilson_interval
from rlhf_lab.show import plots
from rlhf_lab.show.markup import Html, tag, visible
from rlhf_lab.show.panels import GUIDE, SERIES
from rlhf_lab.show.plots import STYLE, Picture

DEAREST = 4.0  # nats: a token with this loss or more has the darkest cell
DARK = 310  # red, green and blue together: white letters are easier to read on it than black ones
COUNTED, NOT_COUNTED = (0, 114, 178), (118, 118, 118)  # red, green, blue
BASELINE = (("base", "--"), ("policy", "-"))  # colour and line without one, with one


# ---- 01: supervised fine-tuning ------------------------------------------------------------------


def loss_table(texts: Sequence[str], losses: Tensor, start: int, width: int = 11) -> Html:
    """Each token, whether it counts in the loss of SFT, and its loss; darker where it is dearer.

    texts: of the T tokens; losses: (T - 1,), of each but the first, in nats; start: where the
    response begins; width: tokens in a row.
    """
    rows = []
    for first in range(0, len(texts), width):
        columns = range(first, min(first + width, len(texts)))
        counts = ["yes" if t >= start else "no" for t in columns]
        rows += [
            tag("tr", tag("th", "token"), *(_token(texts[t]) for t in columns)),
            tag("tr", tag("th", "counts"), *(tag("td", word) for word in counts)),
            tag("tr", tag("th", "loss"), *(_loss(t, losses, t >= start) for t in columns)),
        ]
    return tag("div", tag("table", *rows), style="overflow-x: auto")


def _token(text: str) -> Html:
    return tag("td", tag("b", visible(text).replace("\n", "↵")))


def _loss(t: int, losses: Tensor, counted: bool) -> Html:
    if t == 0:
        return tag("td", "–")  # no token predicts the first
    depth = min(float(losses[t - 1]) / DEAREST, 1.0)
    ground = [round(255 - (255 - c) * depth) for c in (COUNTED if counted else NOT_COUNTED)]
    ink = "white" if sum(ground) < DARK else "black"
    look = f"background: rgb({ground[0]}, {ground[1]}, {ground[2]}); color: {ink}"
    return tag("td", f"{losses[t - 1]:.2f}", style=look)


@matplotlib.rc_context(STYLE)
def likelier(changes: Mapping[str, Tensor]) -> Picture:
    """What SFT made likelier: for each kind of demonstration the mean change of its
    log-probability, with the 95 % interval; changes: (n,) of each, in nats."""
    axes = plots.blank(5.6, 3, "What SFT made likelier")
    found = [interval(some[:, None]) for some in changes.values()]
    means, halves = [mean for mean, *_ in found], [high - mean for mean, _, high in found]
    axes.bar(
        range(len(means)), means, 0.6, yerr=halves, color=SERIES["sft"], error_kw={"capsize": 3}
    )
    axes.axhline(0, color=GUIDE, linewidth=1)
    names = [f"{kind}\n({len(some)} demonstrations)" for kind, some in changes.items()]
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("change of log-probability\n(nats per response, 95 % interval)")
    axes.grid(False, axis="x")
    return _picture(axes)


# ---- 03: the reward model ------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def shares(
    values: Mapping[str, float],
    title: str,
    xlabel: str,
    colours: Mapping[str, str] | None = None,
    xlim: tuple[float, float] = (0.5, 1.0),
) -> Picture:
    """Shares of pairs, from below to above, each with a line from one half, which is guessing.

    colours: names in SERIES; grey where none is given.
    """
    axes = plots.blank(6.6, 1.05 + 0.27 * len(values) + 0.4, title, xlabel)
    for place, (name, value) in enumerate(values.items()):
        colour = SERIES[(colours or {}).get(name, "base")]
        axes.hlines(place, 0.5, value, color=colour)
        axes.plot(value, place, "o", color=colour)
        side = 1 if value > 0.5 else -1
        where, away = value + 0.012 * side, "left" if side > 0 else "right"
        axes.text(where, place, f"{value:.0%}", va="center", ha=away)
    if xlim[0] < 0.5:
        axes.axvline(0.5, color=GUIDE, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(values)), list(values))
    axes.set(xlim=xlim, ylim=(-0.6, len(values) - 0.4))
    axes.grid(False, axis="y")
    return _picture(axes)


@matplotlib.rc_context(STYLE)
def calibration(models: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> Picture:
    """How often a model is right by how sure it is: for each model, as `maths.calibration` returns
    them, the predicted and the observed share of each bin, and its number of pairs."""
    axes = plots.blank(4.6, 4, "How sure, and how often right?")
    axes.plot([0.5, 1], [0.5, 1], ":", color=GUIDE, label="calibrated")
    for (name, found), (colour, marker) in zip(models.items(), (("score", "o"), ("sft", "s"))):
        predicted, observed, counts = found
        axes.errorbar(
            predicted,
            observed,
            torch.tensor(list(map(_reach, observed.tolist(), counts.tolist()))).T,
            fmt=f"{marker}-",
            capsize=3,
            color=SERIES[colour],
            label=name,
        )
    axes.set(xlim=(0.5, 1), ylim=(0.4, 1.02), xlabel="the model's probability for its favourite")
    axes.set_ylabel("share of pairs it is right on (95 % interval)")
    axes.legend(loc="lower right")
    return _picture(axes)


@matplotlib.rc_context(STYLE)
def by_kind(models: Mapping[str, Mapping], people: Sequence[Mapping]) -> Picture:
    """The accuracy of two models and of people on each kind of pairs; each as
    `evaluate.reward_accuracy` returns it."""
    axes = plots.blank(6.6, 3.3, "Pairs ordered as the judge does, by kind")
    for number, (name, kinds) in enumerate(models.items()):
        rows = list(kinds.values())
        axes.errorbar(
            [place + 0.16 * number - 0.16 for place in range(len(rows))],
            [row["accuracy"] for row in rows],
            torch.tensor([_reach(row["accuracy"], row["pairs"]) for row in rows]).T,
            fmt="os"[number],
            capsize=3,
            color=SERIES["score"],
            markerfacecolor=[None, "white"][number],
            label=name,
        )
    kinds = next(iter(models.values()))
    ordered = [(place, one[kind]["accuracy"]) for one in people for place, kind in enumerate(kinds)]
    axes.plot(
        [place + 0.16 for place, _ in ordered],
        [accuracy for _, accuracy in ordered],
        "_",
        color=SERIES["base"],
        markersize=11,
        markeredgewidth=2,
        label=f"the {len(people)} labellers",
    )
    axes.axhline(0.5, color=GUIDE, linestyle=":", linewidth=1)
    names = [f"{kind}\n({row['pairs']} pairs)" for kind, row in kinds.items()]
    axes.set_xticks(range(len(names)), names)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(0.42, 1.02))
    axes.set_ylabel("share of pairs (95 % interval;\ndotted: guessing)")
    axes.grid(False, axis="x")
    axes.legend(loc="lower left", ncols=3)
    return _picture(axes)


def _reach(share: float, count: float) -> tuple[float, float]:
    """How far the 95 % interval of a share reaches down and up; each pair counts for itself."""
    _, low, high = wilson_interval(share, int(count))
    return share - low, high - share


# ---- 04: the tiny world, and 08: DPO -------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def estimates(kinds: Mapping[str, Tensor], exact: float, xlabel: str, title: str) -> Picture:
    """Histograms of two estimates of the same number, and the number."""
    axes = plots.blank(
        6.4, 3.2, title, xlabel, f"estimates (of {len(next(iter(kinds.values()))):,})"
    )
    bins = torch.linspace(-2, 3.5, 60).tolist()
    for (name, values), (colour, _), hatch in zip(kinds.items(), BASELINE, ("////", "")):
        axes.hist(
            values.tolist(),
            bins,
            color=SERIES[colour],
            alpha=0.65,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=name,
        )
    axes.axvline(exact, color="black", linestyle="--", label="exact")
    axes.legend()
    return _picture(axes)


@matplotlib.rc_context(STYLE)
def seeds(kinds: Mapping[str, Sequence[Sequence[float]]], best: float, **labels: str) -> Picture:
    """A line for every seed of two kinds of training, and the best that is possible; labels: title,
    xlabel, ylabel."""
    axes = plots.blank(6.4, 3.2, **labels)
    for (name, curves), (colour, line) in zip(kinds.items(), BASELINE):
        for number, curve in enumerate(curves):
            label = None if number else name
            axes.plot(curve, line, color=SERIES[colour], alpha=0.7, linewidth=1, label=label)
    axes.axhline(best, color="black", linestyle=":", label="the best there is")
    axes.legend()
    return _picture(axes)


@matplotlib.rc_context(STYLE)
def implicit_scores(records: Sequence[Mapping]) -> Picture:
    """DPO's implicit scores of the chosen and the rejected responses over the updates."""
    ylabel = "dpo_beta × log-ratio (nats)"
    axes = plots.blank(6.4, 3.2, "DPO: implicit scores of both answers", "update", ylabel)
    updates = [r["update"] for r in records]
    for name, colour, line in (("chosen", "policy", "-"), ("rejected", "kl", "--")):
        values = [r[f"dpo/{name}"] for r in records]
        axes.plot(updates, values, line, color=SERIES[colour], label=name)
    axes.axhline(0, color=GUIDE, linewidth=0.8)
    axes.legend()
    return _picture(axes)


def _picture(axes: Axes) -> Picture:
    assert isinstance(axes.figure, Picture)
    return axes.figure
