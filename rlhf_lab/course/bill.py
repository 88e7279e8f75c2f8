"""What a plan costs: labels, and compute on one machine or another, at prices that you put in.

Multiplications and additions come from `estimate`, so the hours are as rough as its own, and
sampling on a GPU takes longer than they say (docs/larger-models.md). Prices are nobody's but yours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from rlhf_lab.errors import UserError


@dataclass(frozen=True)
class Machine:
    """flops: multiplications and additions a second that it could do; reached: the share of them
    that training comes to; hour: its price, in the currency of the labels."""

    flops: float
    reached: float
    hour: float

    def hours(self, flops: float) -> float:
        return flops / (self.flops * self.reached * 3600)


@dataclass(frozen=True)
class Work:
    """One part of a plan: so many labels at so much each, and so many multiplications and
    additions."""

    flops: float = 0.0
    labels: int = 0
    each: float = 0.0


def bill(plan: Mapping[str, Work], machines: Mapping[str, Machine]) -> pd.DataFrame:
    """A row for each part of the plan and one for all: labels, their price, and hours and price of
    the compute on each machine by itself.

    Raises UserError for a machine that does nothing: its hours would have no end.
    """
    for name, machine in machines.items():
        if machine.flops <= 0 or not 0 < machine.reached <= 1:
            raise UserError(
                f"machine '{name}': flops must be above 0 and reached from 0 to 1, not "
                f"{machine.flops:g} and {machine.reached:g}"
            )
    rows = {}
    for part, work in plan.items():
        rows[part] = {"labels": work.labels, "price of labels": work.labels * work.each}
        for name, machine in machines.items():
            hours = machine.hours(work.flops)
            rows[part] |= {f"hours, {name}": hours, f"price, {name}": hours * machine.hour}
    table = pd.DataFrame(rows).T
    table.loc["all"] = table.sum()
    return table.astype({"labels": int})
