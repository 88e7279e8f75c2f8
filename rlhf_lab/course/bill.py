"""What a plan costs: labels, and compute on different machines, at prices that you enter.

The numbers of multiplications and additions come from `estimate`, so the hours are as rough as that
estimate, and sampling on a GPU takes longer than they say (docs/larger-models.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from rlhf_lab.errors import UserError


@dataclass(frozen=True)
class Machine:
    """flops: its peak in multiplications and additions per second; reached: the share of that peak
    that training reaches; hour: price per hour, in the currency of the labels."""

    flops: float
    reached: float
    hour: float

    def hours(self, flops: float) -> float:
        return flops / (self.flops * self.reached * 3600)


@dataclass(frozen=True)
class Work:
    """One part of a plan. flops: multiplications and additions; labels: how many; each: price of
    one label."""

    flops: float = 0.0
    labels: int = 0
    each: float = 0.0


def bill(plan: Mapping[str, Work], machines: Mapping[str, Machine]) -> pd.DataFrame:
    """A row for each part of the plan and one for all: labels, their price, and hours and price of
    the compute if it is all done on that machine.

    Raises UserError unless a machine's flops is above 0 and reached is above 0 and at most 1.
    """
    for name, machine in machines.items():
        if machine.flops <= 0 or not 0 < machine.reached <= 1:
            raise UserError(
                f"machine '{name}': flops must be above 0, and reached above 0 and at most 1, not "
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
