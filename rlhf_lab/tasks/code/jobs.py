"""The jobs of the coder, from `jobs.toml` and `phrases.toml`: what can be asked, in which words,
and how people write it in Python.

A job with a value for each of its axes is one order (`Order`): "count the numbers above 7". A fixed
hash keeps some orders for the held-out prompts alone.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import Any

from rlhf_lab.tasks.writing import is_held_out, read_toml

SPLIT = "task123"  # goes into the hash: with it, every job keeps some orders and none keeps many


@dataclass(frozen=True)
class Value:
    """One value of an axis: its words for prompts, other words for the set apart, its code."""

    name: str
    say: tuple[str, ...]
    code: str
    apart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One kind of function that can be asked for. The codes are bodies of the function, with
    {a}, {b} for its arguments and {axis} for the code of an axis."""

    id: str
    takes: str  # what its arguments are (see cases.py)
    axes: tuple[str, ...]
    names: tuple[str, ...]
    asks: tuple[str, ...]
    gives: tuple[str, ...]
    apart: tuple[str, ...]
    right: tuple[str, ...]
    wasteful: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    fragile: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    deed: bool = False  # whether its result is what a file, a machine or a table would say


@dataclass(frozen=True)
class Order:
    """A job with a value for each axis."""

    job: Job
    values: tuple[Value, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """What a judge must know of it, as JSON can hold it."""
        return {"job": self.job.id, "values": [value.name for value in self.values]}

    @property
    def numbers(self) -> list[int]:
        """The numbers that it is about."""
        codes = [value.code.lstrip("-") for value in self.values]
        return [int(code) for code in codes if code.isdecimal()]

    def words(self, rng: Random, template: str, apart: bool = False) -> str:
        """A template of words, filled in."""
        chosen = {
            axis: rng.choice(value.apart if apart and value.apart else value.say)
            for axis, value in zip(self.job.axes, self.values)
        }
        return template.format(**{k: text.format(**chosen) for k, text in chosen.items()})

    def code(self, template: str, a: str, b: str) -> str:
        """A template of code, filled in."""
        plain = {axis: value.code for axis, value in zip(self.job.axes, self.values)}
        plain |= {"a": a, "b": b}
        return template.format(**{k: text.format(**plain) for k, text in plain.items()})


@dataclass(frozen=True, eq=False)
class World:
    jobs: dict[str, Job]
    axes: dict[str, dict[str, Value]]
    phrases: dict[str, Any]

    @cached_property
    def _orders(self) -> dict[bool, dict[str, list[Order]]]:
        sides: dict[bool, dict[str, list[Order]]] = {False: {}, True: {}}
        for job in self.jobs.values():
            for values in itertools.product(*(self.axes[a].values() for a in job.axes)):
                side = is_held_out(SPLIT, job.id, *(value.name for value in values))
                sides[side].setdefault(job.id, []).append(Order(job, values))
        return sides

    def orders(self, held_out: bool) -> dict[str, list[Order]]:
        """All orders by their job, held out or not."""
        return self._orders[held_out]

    def order(self, facts: dict[str, Any]) -> Order:
        """The order that the facts of a prompt speak of."""
        job = self.jobs[facts["job"]]
        names = zip(job.axes, facts["values"], strict=True)
        return Order(job, tuple(self.axes[axis][name] for axis, name in names))


@lru_cache(maxsize=1)
def load_world() -> World:
    """Read the two TOML files beside this module."""
    here = Path(__file__).parent
    facts, phrases = read_toml(here / "jobs.toml"), read_toml(here / "phrases.toml")
    jobs = {entry["id"]: Job(**entry) for entry in facts["job"]}
    return World(jobs, {name: _axis(values) for name, values in facts["axes"].items()}, phrases)


def _axis(values: Any) -> dict[str, Value]:
    if isinstance(values, tuple):  # plain values stand for themselves
        return {value: Value(value, (value,), value) for value in values}
    return {name: Value(name, **value) for name, value in values.items()}
