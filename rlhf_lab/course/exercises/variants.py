"""The same exercise with other numbers: a variant for each student, drawn from a seed.

The numbers of a case are stretched: each distance between neighbouring numbers grows or shrinks at
random. Order, sign, equal numbers, 0, nan and inf stay, as do masks, whole numbers, shapes, and the
settings (beta, epsilon). A case is there to show certain mistakes and to tell them apart, so a
stretched case is used only if it still does: functions whose answers differed, the right one or two
with mistakes, must differ on it too. Where an answer depends on order or words alone, the exercise
draws inputs anew (`Exercise.draw`) and keeps its cases beside them.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from rlhf_lab.course.exercises.common import common_mistakes
from rlhf_lab.course.exercises.exercise import Case, Exercise, Inputs

WIDEST, NARROWEST = 0.3, 0.01  # how far a distance may be changed, as a share of it
TRIES = 8  # with each width, before it is halved
STEPS = 8  # numbers are rounded to such a power of two that the smallest distance is this many
DRAWN = 2  # inputs drawn anew, where an exercise says how


@dataclass(frozen=True)
class OnVariant:
    """A learner's function with the variant that it is tried on. hidden: the seed of further
    inputs, in grading; "" for none."""

    function: Callable
    variant: str
    hidden: str = ""


def variant(function: Callable, seed: str, hidden: str = "") -> OnVariant:
    """To be given to a check in place of the function: `check.gae(check.variant(gae, "k7f3"))`
    tries it on the numbers of variant k7f3."""
    return OnVariant(function, seed, hidden)


def varied(exercise: Exercise, seed: str) -> Exercise:
    """The exercise with the numbers of a variant; with seed "" the exercise itself."""
    if not seed:
        return exercise
    dice = random.Random(f"{seed} {exercise.name}")
    if exercise.draw:
        names = [f"inputs of this variant, {number + 1}" for number in range(DRAWN)]
        drawn = [Case(name, exercise.draw(dice)) for name in names]
        return replace(exercise, cases=(*drawn, *exercise.cases))
    mistakes = (*exercise.mistakes, *common_mistakes(exercise))
    functions = [exercise.right, *map(exercise.written, mistakes)]
    cases = tuple(_stretched(case, functions, dice) for case in exercise.cases)
    return replace(exercise, cases=cases)


def _stretched(case: Case, functions: list[Callable], dice: random.Random) -> Case:
    """The case with other numbers that tell apart all functions that the old ones do; as it is if
    none are found."""
    if not any(_is_stretched(x) for x in case.inputs.values()):
        return case
    told_apart, width = _differ(functions, case), WIDEST
    while width >= NARROWEST:
        for _ in range(TRIES):
            other = Case(case.name, _other_numbers(case.inputs, width, dice))
            if not (told_apart & ~_differ(functions, other)).any():
                return other
        width /= 2
    return case


def _is_stretched(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def _other_numbers(inputs: Inputs, width: float, dice: random.Random) -> Inputs:
    """The inputs with every distance between neighbouring sizes changed by up to this share; the
    largest grows no larger."""
    floats = [x for x in inputs.values() if _is_stretched(x)]
    sizes = sorted({abs(v) for x in floats for v in x[x.isfinite()].tolist()} | {0.0})
    moved = [0.0]
    for low, high in pairwise(sizes):
        moved.append(moved[-1] + (high - low) * dice.uniform(1 - width, 1 + width))
    shrink = min(1.0, sizes[-1] / moved[-1]) if moved[-1] else 1.0
    closest = min((high - low for low, high in pairwise(sizes)), default=1.0)
    grid = 2 ** math.ceil(math.log2(STEPS / closest))  # float32 holds multiples of it
    new = {size: round(shrink * value * grid) / grid for size, value in zip(sizes, moved)}

    def stretch(value: float) -> float:
        return new.get(abs(value), abs(value)) * (-1 if value < 0 else 1)

    return {
        name: torch.tensor([stretch(v) for v in x.flatten().tolist()]).view(x.shape)
        if _is_stretched(x)
        else x
        for name, x in inputs.items()
    }


def _differ(functions: list[Callable], case: Case) -> Tensor:
    """Which functions give different answers, (F, F)."""
    answers = [_numbers(function, case) for function in functions]
    table = torch.zeros(len(answers), 1 + max(map(len, answers)), dtype=torch.double)
    for row, answer in zip(table, answers):
        row[0], row[1 : 1 + len(answer)] = len(answer), answer
    return ~table.unsqueeze(1).isclose(table, 1e-4, 1e-5, equal_nan=True).all(-1)


def _numbers(function: Callable, case: Case) -> Tensor:
    """All numbers of an answer in a row; none if the function, one with a mistake, stopped."""
    try:
        answer = function(*case.inputs.values())  # functions of this folder change no input
    except Exception:
        return torch.zeros(0)
    parts = answer if isinstance(answer, (tuple, list)) else (answer,)
    return torch.cat([torch.as_tensor(x, dtype=torch.double).flatten() for x in parts])
