"""Which metrics of each stage are drawn, in which unit and colour: the panels of every picture of
training."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

# The colours of Okabe and Ito: most colour-blind readers can tell them apart. One means the same
# thing in every picture.
SERIES = {
    "base": "#767676",
    "sft": "#0072B2",
    "best_of_n": "#E69F00",
    "policy": "#009E73",
    "score": "#CC79A7",
    "mark": "#000000",
    "kl": "#D55E00",
    "value": "#56B4E9",
}
# One for each series of a picture, so that nobody needs to tell colours apart.
MARKERS = "osD^vP*X"
HATCHES = ("", "//", "..", "xx", "--", "oo")
# A metric closer to 0 than this, in its unit, is only float32's rounding error and is drawn as 0.
ROUNDING = {"objective/kl": 1e-4}
GUIDE = "#595959"  # what is neither data nor frame: notes, lines that mark a level


def drawn(metric: str, value: float) -> float:
    """A metric's value as a picture shows it: 0 if it is only rounding error."""
    return 0.0 if abs(value) < ROUNDING.get(metric, 0.0) else value


@dataclass(frozen=True)
class Line:
    """One metric of a panel. error: the metric that holds its standard error, drawn as a band.
    rare: logged at some updates only, so drawn as dots."""

    metric: str
    colour: str
    label: str = ""
    error: str = ""
    rare: bool = False


@dataclass(frozen=True)
class Panel:
    """What one pair of axes shows: metrics of one stage, in one unit. level: a value to compare
    with, and what it means."""

    stage: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    level: tuple[float, str] | None = None


SFT_AND_REWARD = (
    Panel(
        "sft",
        "SFT: loss",
        "nats per token",
        (
            Line("loss/sft", "sft", "training batch"),
            Line("loss/held_out", "sft", "held out", rare=True),
        ),
    ),
    Panel(
        "reward",
        "Reward model: loss",
        "nats per pair",
        (Line("loss/reward", "score", "training batch"),),
        (math.log(2), "guessing"),
    ),
    Panel(
        "reward",
        "Reward model: accuracy",
        "share of pairs in order",
        (
            Line("reward/accuracy", "score", "training batch"),
            Line("reward/held_out_accuracy", "score", "held out", rare=True),
        ),
        (0.5, "guessing"),
    ),
)

PPO = (
    Panel("ppo", "PPO: score", "sd of SFT's scores", (Line("objective/scores", "score"),)),
    Panel("ppo", "PPO: judge's mark", "points", (Line("judge/mark", "mark"),)),
    Panel(
        "ppo",
        "PPO: KL to the reference",
        "nats per response",
        (Line("objective/kl", "kl", error="objective/kl_se"),),
    ),
    Panel("ppo", "PPO: entropy", "nats per token", (Line("policy/entropy_avg", "policy"),)),
    Panel("ppo", "PPO: clip fraction", "share of tokens", (Line("policy/clipfrac_avg", "policy"),)),
    Panel(
        "ppo",
        "PPO: value fit",
        "share of variance explained",
        (Line("val/explained_variance", "value"),),
    ),
    Panel("ppo", "PPO: value loss", "squared reward", (Line("loss/value_avg", "value"),)),
    Panel("ppo", "PPO: length", "tokens per response", (Line("response/length", "policy"),)),
)

DPO = (
    Panel(
        "dpo",
        "DPO: loss",
        "nats per pair",
        (
            Line("loss/dpo", "policy", "training batch"),
            Line("loss/held_out", "policy", "held out", rare=True),
        ),
        (math.log(2), "guessing"),
    ),
    Panel(
        "dpo",
        "DPO: accuracy",
        "share of pairs in order",
        (
            Line("dpo/accuracy", "policy", "training batch"),
            Line("dpo/held_out_accuracy", "policy", "held out", rare=True),
        ),
        (0.5, "guessing"),
    ),
    Panel("dpo", "DPO: judge's mark", "points", (Line("judge/mark", "mark", rare=True),)),
    Panel(
        "dpo",
        "DPO: KL to the reference",
        "nats per response",
        (Line("objective/kl", "kl", rare=True),),
    ),
)


def _without_values(stage: str) -> tuple[Panel, ...]:
    """PPO's panels for a stage that has no value network."""
    return tuple(
        replace(panel, stage=stage, title=panel.title.replace("PPO", stage.upper()))
        for panel in PPO
        if all(line.colour != "value" for line in panel.lines)
    )


PANELS = (*SFT_AND_REWARD, *PPO, *DPO, *_without_values("rloo"), *_without_values("grpo"))


def panels_of(metrics: Iterable[dict], only: Collection[str] = ()) -> list[Panel]:
    """The panels for which there is something to draw. only: metrics to draw, by default all."""
    found = {
        (r.get("stage"), name)
        for r in metrics
        for name in r
        if r[name] is not None and (not only or name in only)
    }
    return [p for p in PANELS if any((p.stage, line.metric) in found for line in p.lines)]
