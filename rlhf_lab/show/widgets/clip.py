"""The clipped objective: its formula as a curve, and where the tokens of a real rollout lie on it.

The curve is minus `maths.clipped_policy_loss` for one token. The dots are the tokens of a saved
rollout after its update, each divided by the absolute value of its own advantage.
"""

from dataclasses import dataclass

import ipywidgets
import matplotlib
import torch
from matplotlib.axes import Axes

from rlhf_lab import maths
from rlhf_lab.show.markup import join, tag
from rlhf_lab.show.microscope import SavedRollout, recompute
from rlhf_lab.show.plots import GUIDE, SERIES, STYLE, Picture

WIDEST = 0.5  # largest clip range of the slider
SEEN = (0.0, 2.0)  # ratios in the picture; larger ones are drawn at its edge, with their number
STEPS = 201  # points of the curve


@dataclass(frozen=True)
class Clipping:
    """One side of the picture.

    sign: of the advantage, 1 or -1. ratios, objective: the curve for an advantage of 1 or -1.
    token_ratios, token_objective, clipped: the real tokens whose advantage has this sign.
    """

    sign: int
    epsilon: float
    ratios: torch.Tensor
    objective: torch.Tensor
    token_ratios: torch.Tensor
    token_objective: torch.Tensor
    clipped: torch.Tensor

    @property
    def says(self) -> str:
        moved, count = int(self.clipped.sum()), len(self.clipped)
        side = "positive" if self.sign > 0 else "negative"
        return (
            f"{moved} of {count} tokens with {side} advantage lie where the clip removes the "
            "gradient."
        )


def clipping(rollout: SavedRollout, sign: int, epsilon: float) -> Clipping:
    """The curve and the tokens of one sign of the advantage."""
    numbers = recompute(rollout, epsilon=epsilon)
    chosen = rollout.mask & (numbers.advantages * sign > 0)
    ratios = torch.linspace(*SEEN, STEPS)
    token_ratios = numbers.ratio[chosen]
    return Clipping(
        sign,
        epsilon,
        ratios,
        objective(ratios, sign, epsilon),
        token_ratios,
        objective(token_ratios, sign, epsilon),
        numbers.clipped[chosen],
    )


def objective(ratios: torch.Tensor, advantage: float, epsilon: float) -> torch.Tensor:
    """Minus the clipped loss of one token at each of these ratios, for this advantage: (M,)."""
    one = torch.ones(1, 1, dtype=torch.bool)
    old, size = torch.zeros(1, 1), torch.full((1, 1), float(advantage))
    losses = [
        maths.clipped_policy_loss(r.log().view(1, 1), old, size, one, epsilon) for r in ratios
    ]
    return -torch.stack(losses) if losses else torch.zeros(0)


def clip_picture(rollout: SavedRollout, epsilon: float | None = None) -> Picture:
    """Both signs side by side."""
    epsilon = rollout.settings.epsilon if epsilon is None else epsilon
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(8.8, 3.6))
        for axes, sign in zip(figure.subplots(1, 2), (1, -1)):
            _draw(axes, clipping(rollout, sign, epsilon))
    return figure


class ClippedObjective(ipywidgets.VBox):
    """The picture with a switch for the sign of the advantage and a slider for the clip range."""

    def __init__(self, rollout: SavedRollout):
        self.rollout = rollout
        self.sign = ipywidgets.ToggleButtons(
            options=[("advantage above 0", 1), ("advantage below 0", -1)], description="Sign"
        )
        self.epsilon = ipywidgets.FloatSlider(
            rollout.settings.epsilon,
            min=0.05,
            max=WIDEST,
            step=0.01,
            description="ε, clip range",
            style={"description_width": "initial"},
        )
        self.page = ipywidgets.HTML()
        super().__init__([self.sign, self.epsilon, self.page])
        for control in (self.sign, self.epsilon):
            control.observe(self._redraw, "value")
        self._redraw()

    def _redraw(self, _change=None) -> None:
        shown = clipping(self.rollout, self.sign.value, self.epsilon.value)
        with matplotlib.rc_context(STYLE):
            figure = Picture(figsize=(6.4, 3.9))
            _draw(figure.add_subplot(), shown)
        self.page.value = join(figure.page(), tag("p", shown.says))

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and a picture of both signs for viewers that run no widgets."""
        data = super()._repr_mimebundle_(**kwargs)
        return data | clip_picture(self.rollout, self.epsilon.value)._repr_mimebundle_()

    def __repr__(self) -> str:
        return f"<ClippedObjective: clip range {self.epsilon.value:g}>"


def _draw(axes: Axes, c: Clipping) -> None:
    axes.plot(
        c.ratios,
        c.ratios * c.sign,
        color=GUIDE,
        linewidth=1.1,
        linestyle="--",
        label="not clipped: ratio × A",
    )
    axes.plot(c.ratios, c.objective, color=SERIES["policy"], linewidth=2.4, label="clipped: min(…)")
    axes.axvspan(1 - c.epsilon, 1 + c.epsilon, color="#EDEDED", zorder=0)
    axes.axvline(1, color=GUIDE, linewidth=0.8, linestyle=":")
    free, beyond = ~c.clipped, c.token_ratios > SEEN[1]
    at, height = c.token_ratios.clamp(max=SEEN[1]), c.token_objective
    axes.plot(
        at[free],
        height[free],
        "o",
        color=SERIES["sft"],
        markersize=4.5,
        alpha=0.45,
        markeredgewidth=0,
        label=f"{int(free.sum())} tokens that still pull",
    )
    axes.plot(
        at[c.clipped],
        height[c.clipped],
        "X",
        color=SERIES["kl"],
        markersize=8,
        clip_on=False,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=f"{int(c.clipped.sum())} whose gradient is gone",
    )
    if beyond.any():
        edge = (SEEN[1], float(height[beyond].max()))
        axes.annotate(
            f"{int(beyond.sum())} further right →",
            edge,
            (-4, 9),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    axes.set(
        title=f"Advantage {'above' if c.sign > 0 else 'below'} 0, ε = {c.epsilon:g}",
        xlabel="ratio, after the update to before (grey: the clip range)",
        ylabel="objective, −loss / |advantage|",
        xlim=SEEN,
        ylim=(-0.1, 2.0) if c.sign > 0 else (-2.0, 0.1),
    )
    axes.legend(loc="upper left" if c.sign > 0 else "lower left", fontsize=8)
