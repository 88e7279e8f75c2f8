"""95 % intervals by bootstrap over prompts.

Rankings of one prompt share its difficulty, so they are not independent: what is drawn again, with
replacement, is whole prompts (a cluster bootstrap; Efron and Tibshirani 1993). The draws depend on
the seed alone.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

Interval = tuple[float, float, float]  # estimate, lower and upper end at 95 %
DRAWS = 1000


def times_drawn(prompts: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each prompt occurs in each of the draws, (draws, prompts)."""
    chances = np.full(prompts, 1 / prompts)
    return np.random.default_rng(seed).multinomial(prompts, chances, size=draws)


def share(parts: ArrayLike, wholes: ArrayLike, seed: int = 0) -> Interval:
    """sum(parts) / sum(wholes), a share from 0 to 1, with its interval; both (prompts,).

    For the interval two made-up prompts join in, one with nothing and one with everything. Without
    them, few prompts or full agreement would give an interval of no width; with them it is a little
    too wide, and sound, as with the made-up successes and failures of Agresti and Coull (1998).
    nan without any prompt.
    """
    parts, wholes = np.asarray(parts, float), np.asarray(wholes, float)
    if not wholes.sum():
        return np.nan, np.nan, np.nan
    size = wholes.mean()
    drawn = times_drawn(len(wholes) + 2, seed=seed)
    shares = (drawn @ np.append(parts, [0, size])) / (drawn @ np.append(wholes, [size, size]))
    return parts.sum() / wholes.sum(), *_ends(shares)


def median(values: ArrayLike, prompts: ArrayLike, seed: int = 0) -> Interval:
    """The median of values, each of which belongs to a prompt (given by name), with its interval.

    nan without any value, and no interval from a single prompt.
    """
    values = np.asarray(values, float)
    if not len(values):
        return np.nan, np.nan, np.nan
    order = values.argsort()
    _, prompt = np.unique(np.asarray(prompts), return_inverse=True)
    if prompt.max() == 0:
        return float(np.median(values)), np.nan, np.nan
    counts = times_drawn(prompt.max() + 1, seed=seed)[:, prompt[order]].cumsum(1)
    middle = (counts >= counts[:, -1:] / 2).argmax(1)
    return float(np.median(values)), *_ends(values[order][middle])


def resampled(prompts: Sequence, statistic: Callable[[list], float], draws: int = DRAWS,
              seed: int = 0) -> Interval:
    """statistic(prompts) with its interval; prompts holds what there is of each of them.

    nan without any prompt, and no interval from a single one.
    """
    if not prompts:
        return np.nan, np.nan, np.nan
    if len(prompts) == 1:
        return statistic(list(prompts)), np.nan, np.nan
    drawn = [statistic([p for p, n in zip(prompts, times) for _ in range(n)])
             for times in times_drawn(len(prompts), draws, seed)]  # fmt: skip
    return statistic(list(prompts)), *_ends(drawn)


def _ends(draws: ArrayLike) -> tuple[float, float]:
    if np.isnan(draws).all():
        return np.nan, np.nan
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)
