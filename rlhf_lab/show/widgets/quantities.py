"""What the microscope can colour tokens by: each quantity's name, meaning and scale of colours.

Signed quantities go from blue through no colour to orange, which colour-blind readers can tell
apart; log-probabilities go from no colour (sure) to purple (surprising). The scale is fixed by the
run's own settings, so that a slider changes the colours but not their meaning.
"""

import math
from dataclasses import dataclass

import pandas as pd

# Each for a light page and for a dark one; text stays readable on all of them.
COLOURS = {
    "up": ("#f2a33a", "#9a5200"),
    "down": ("#6db5f0", "#0b5fa5"),
    "surprise": ("#bd82cf", "#7a3f8c"),
    "none": ("#ffffff", "#14171a"),
}
INK = "#16191d"  # on the light ones
SHOWN_SIGN = 0.2  # of the scale: from here on a sign (▲ or ▼) is shown as well as the colour


@dataclass(frozen=True)
class Quantity:
    """A column of `microscope.token_table`.

    centre: the value between blue and orange; None for log-probabilities, which end at 0. like:
    the column whose scale this one shares.
    """

    key: str
    label: str
    symbol: str
    meaning: str
    centre: float | None = 0.0
    like: str = ""


QUANTITIES = (
    Quantity(
        "logprob",
        "log-prob, sampling policy",
        "logprobs",
        "How sure the policy was of the token it drew, in nats: 0 is certain.",
        None,
    ),
    Quantity(
        "ref_logprob",
        "log-prob, reference",
        "ref_logprobs",
        "How sure the reference, the policy's frozen start, would have been, in nats.",
        None,
        "logprob",
    ),
    Quantity(
        "new_logprob",
        "log-prob, after the update",
        "new_logprobs",
        "How sure the policy is of the same token after one update, in nats.",
        None,
        "logprob",
    ),
    Quantity(
        "kl",
        "KL (log-ratio to the reference)",
        "logprobs - ref_logprobs",
        "Nats by which the policy likes the token better than the reference does. Single "
        "tokens may be below 0; the sum over a response is KL on average.",
    ),
    Quantity(
        "reward",
        "reward",
        "rewards",
        "Minus beta times the KL of each token; on the last one, the score is added.",
    ),
    Quantity(
        "value",
        "value",
        "values",
        "The reward that the value network expected from here on, before the token.",
    ),
    Quantity(
        "new_value",
        "value, after the update",
        "new_values",
        "The same after the value network has learned from this rollout.",
        like="value",
    ),
    Quantity(
        "return",
        "return",
        "returns",
        "What the value network is trained towards: its old value plus the advantage.",
        like="value",
    ),
    Quantity(
        "raw_advantage",
        "advantage",
        "A",
        "How much better than expected it went from this token on, as lambda and gamma spread it.",
    ),
    Quantity(
        "advantage",
        "advantage, whitened",
        "advantages",
        "The same, brought to mean 0 and variance 1 over the batch: what the loss takes.",
    ),
    Quantity(
        "ratio",
        "ratio",
        "exp(new_logprobs - logprobs)",
        "Probability of the token after the update over that before: above 1 is pushed up.",
        1.0,
    ),
    Quantity(
        "pull",
        "pull left by the clip",
        "-d loss / d new_logprobs",
        "How strongly the loss would still push the token, times the number of tokens: "
        "advantage times ratio, or 0 where the clip has taken it away.",
    ),
)
BY_KEY = {q.key: q for q in QUANTITIES}


def spans(tables: list[pd.DataFrame]) -> dict[str, float]:
    """How far from its centre each quantity's colours reach: enough for 49 of 50 tokens, rounded
    up. Values beyond have the colour of the end."""
    whole = pd.concat(tables)
    own = {
        q.key: _rounded((whole[q.key] - (q.centre or 0.0)).abs().quantile(0.98)) for q in QUANTITIES
    }
    return {q.key: own[q.like or q.key] for q in QUANTITIES}


def level(quantity: Quantity, x: float, span: float) -> float:
    """Where a number stands on its scale: -1 to 1, or 0 to 1 for a log-probability."""
    if quantity.centre is None:
        return min(max(-x / span, 0.0), 1.0)
    return min(max((x - quantity.centre) / span, -1.0), 1.0)


def sign(quantity: Quantity, level: float) -> str:
    """The sign shown as well as the colour, for readers who cannot see it; "" near the centre."""
    if quantity.centre is None or abs(level) < SHOWN_SIGN:
        return ""
    return "▲" if level > 0 else "▼"


def end_colour(quantity: Quantity, level: float) -> str:
    """Which of COLOURS a level has."""
    return "surprise" if quantity.centre is None else "up" if level > 0 else "down"


def ends(quantity: Quantity, span: float) -> list[str]:
    """The numbers under the scale of colours, from left to right."""
    if quantity.centre is None:
        return ["0", f"-{span:g} or less"]
    low, high = quantity.centre - span, quantity.centre + span
    return [f"{low:g} or less", f"{quantity.centre:g}", f"{high:g} or more"]


def blend(colour: str, strength: float) -> str:
    """The light page's colour at a strength from 0 (white) to 1, as #rrggbb."""
    full = COLOURS[colour][0]
    parts = (int(full[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + strength * (part - 255)):02x}" for part in parts)


def number(x: float) -> str:
    """A number to four decimals, and 0 instead of -0."""
    text = f"{x:.4f}"
    return text if text.strip("-0.") else "0.0000"


def _rounded(x: float) -> float:
    if not x > 1e-3:
        return 0.1
    power = 10.0 ** math.floor(math.log10(x))
    return next(step * power for step in (1, 1.5, 2, 3, 5, 7, 10) if step * power >= x - 1e-12)
