"""What keeps a run within bounds: a budget of steps, and a limit to the size of every value.

Whatever takes longer for larger values pays for their size before it is done; whatever makes a
value is measured before it is made, or at once afterwards where it cannot grow by much.
"""

from collections.abc import Iterable, Iterator
from typing import Any

MOST_ITEMS = 4000  # of a list, a string, ...
MOST_BITS = 128  # of a whole number
MOST_WEIGHT = 10_000  # of all that a value holds, what it holds twice counted twice
MOST_NESTING = 8

CONTAINERS = (list, tuple, set, dict, frozenset)


class LimitError(Exception):
    """A run needs more steps, or more memory, than it may have. No `except` in the code that is
    run catches it."""


class Budget:
    """The steps that a run may still take."""

    def __init__(self, steps: int):
        self.steps = self.left = steps

    @property
    def spent(self) -> int:
        return self.steps - self.left

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise LimitError("takes too many steps")

    def each(self, things: Iterable) -> Iterator:
        """The things one by one, a step for each; those of a set in the same order everywhere."""
        for thing in sorted(things, key=_order) if isinstance(things, set) else things:
            self.spend()
            yield thing

    def all(self, things: Iterable) -> list:
        """The things as a list that is not too long."""
        out = []
        for thing in self.each(things):
            out.append(thing)
            check_size(len(out))
        return out

    def weigh(self, value: Any) -> int:
        """How many values a value holds, itself included; paid for in steps. Raises LimitError if
        they are too many or nested too deeply (as in a list that holds itself)."""
        weight = weight_of(value)
        self.spend(weight)
        return weight


def _order(thing: Any) -> tuple[bool, float, str]:
    is_number = isinstance(thing, int | float)
    return not is_number, thing if is_number else 0, "" if is_number else repr(thing)


def weight_of(value: Any, nesting: int = 0, most: int = MOST_WEIGHT) -> int:
    """How many values a value holds, itself included."""
    if not isinstance(value, CONTAINERS):
        return 1 + len(value) // 16 if isinstance(value, str) else 1
    if nesting > MOST_NESTING:
        raise LimitError("nests its values too deeply")
    weight = 1
    for item in [*value, *value.values()] if isinstance(value, dict) else value:
        weight += weight_of(item, nesting + 1, most - weight)
        if weight > most:
            raise LimitError("needs too much memory")
    return weight


def check_plain(value: Any) -> None:
    """Raise LimitError for a value that is too large to be shown, TypeError for one that is, or
    holds, anything but texts, numbers and None."""
    weight_of(value)
    if isinstance(value, CONTAINERS):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            check_plain(item)
    elif value is not None and not isinstance(value, str | int | float):
        raise TypeError("this is no plain value")


def check_size(size: int) -> None:
    """Raise LimitError for more items or characters than a value may have."""
    if size > MOST_ITEMS:
        raise LimitError("needs too much memory")


def checked(value: Any) -> Any:
    """A value just made, if it is not too large."""
    if isinstance(value, str | list | tuple | set | dict):
        check_size(len(value))
    elif isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise LimitError("makes too large a number")
    return value
