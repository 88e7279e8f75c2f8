"""Mistakes that can be made in any exercise, worked out from its inputs."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from rlhf_lab.course.exercises.exercise import (
    Exercise,
    Inputs,
    Mistake,
    answer_to,
    is_number,
    mistake,
)


def common_mistakes(exercise: Exercise) -> list[Mistake]:
    """The mistakes that follow from an exercise's inputs: a number in place of an argument, two
    swapped arguments, an unused mask, an input returned unchanged, and sums in place of means."""
    return [
        *_about_the_mask(exercise),
        *_changed_places(exercise),
        *_fixed_numbers(exercise),
        *_handed_back(exercise),
        *_sums(exercise),
    ]


def _about_the_mask(exercise: Exercise) -> Iterator[Mistake]:
    name = exercise.mask
    if name is None:
        return
    yield mistake(
        "It looks as if padding counts: use the mask, so that values where it is False have no "
        "effect.",
        before=lambda inputs: {**inputs, name: torch.ones_like(inputs[name])},
    )
    yield mistake(
        "Padding is set to 0, but still counts as a token: divide by mask.sum(), the number of "
        "real tokens.",
        before=lambda inputs: {
            **{
                key: x.masked_fill(~inputs[name], 0) if per_token(x, inputs[name]) else x
                for key, x in inputs.items()
            },
            name: torch.ones_like(inputs[name]),
        },
    )
    yield mistake(
        "It looks as if the last real token of each response is left out: it ends the response, "
        "and it counts.",
        before=lambda inputs: {**inputs, name: inputs[name] & _moved(inputs[name], -1)},
    )


def per_token(x: Any, mask: Tensor) -> bool:
    """Whether x holds a float for each token."""
    return isinstance(x, Tensor) and x.shape == mask.shape and x.is_floating_point()


def _moved(mask: Tensor, by: int) -> Tensor:
    """The mask moved by one column, with False in the column that becomes free."""
    moved = mask.roll(by, 1)
    moved[:, -1 if by < 0 else 0] = False
    return moved


def _changed_places(exercise: Exercise) -> Iterator[Mistake]:
    for one, other in combinations(exercise.cases[0].inputs, 2):
        pairs = [(case.inputs[one], case.inputs[other]) for case in exercise.cases]
        if all(_alike(*pair) for pair in pairs):
            yield mistake(
                f"It looks as if {one} and {other} are swapped.",
                before=partial(_swapped, one=one, other=other),
            )


def _alike(one: Any, other: Any) -> bool:
    return (
        isinstance(one, Tensor)
        and isinstance(other, Tensor)
        and one.dim() == other.dim()
        and one.dtype == other.dtype
        and one.dtype != torch.bool
    )


def _swapped(inputs: Inputs, one: str, other: str) -> Inputs:
    return {**inputs, one: inputs[other], other: inputs[one]}


def _fixed_numbers(exercise: Exercise) -> Iterator[Mistake]:
    for name, value in exercise.cases[0].inputs.items():
        if not is_number(value):
            continue
        used = {case.inputs[name] for case in exercise.cases}
        for fixed in sorted(used | ({1.0} if isinstance(value, float) else set())):
            yield mistake(
                f"It looks as if {name} is always {fixed} in your function: use the argument "
                f"{name}.",
                before=lambda inputs, name=name, fixed=fixed: {**inputs, name: fixed},
            )


def _handed_back(exercise: Exercise) -> Iterator[Mistake]:
    for place, (name, value) in enumerate(exercise.cases[0].inputs.items()):
        if isinstance(value, Tensor):
            yield mistake(
                f"You return {name} unchanged.", lambda *values, place=place: values[place]
            )


def _sums(exercise: Exercise) -> Iterator[Mistake]:
    """The right answer times or divided by a number of things, or with the wrong sign."""
    wanted = answer_to(exercise.right, exercise.cases[0])
    if not isinstance(wanted, Tensor) or not wanted.is_floating_point():
        return
    counts: dict[str, Callable[[Inputs], Any]] = {
        "rows": lambda inputs: len(_table(inputs)),
        "columns": lambda inputs: _table(inputs).shape[-1],
        "rows times columns": lambda inputs: _table(inputs).numel(),
    }
    if name := exercise.mask:
        counts |= {
            "real tokens": lambda inputs: inputs[name].sum(),
            "real tokens to a response": lambda inputs: inputs[name].float().sum(1).mean(),
        }
    for what, count in counts.items():
        yield mistake(
            f"It is the right answer times the number of {what}: did you take a sum in place of a "
            "mean?",
            after=lambda answer, inputs, count=count: answer * count(inputs),
        )
        yield mistake(
            f"It is the right answer divided by the number of {what}: did you take a mean in place "
            "of a sum, or twice?",
            after=lambda answer, inputs, count=count: answer / count(inputs),
        )
    yield mistake("It is right except for its sign.", after=lambda answer, inputs: -answer)


def _table(inputs: Inputs) -> Tensor:
    return next(x for x in inputs.values() if isinstance(x, Tensor))
