"""Try a learner's function on a few inputs and say in plain words what went wrong.

An exercise has cases (inputs), the right function, and usual mistakes: wrong functions, each with
the sentence that its author needs to hear. An answer that equals a mistake's on every case was
most likely made that way.
"""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_lab.course.exercises import wording

Inputs = dict[str, object]


@dataclass(frozen=True)
class Case:
    """One input: what is special about it, in a few words, and the arguments in their order."""

    name: str
    inputs: Inputs


@dataclass(frozen=True)
class Mistake:
    """A wrong function that learners write, and what to tell them."""

    function: Callable
    sentence: str


@dataclass(frozen=True)
class Exercise:
    """What a function should do.

    right: the function as it should be. use: a sentence on what it is good for. outputs: names of
    the tensors it returns, if more than one. gradient: the input to which a gradient must flow.
    mask: the input that is False on padding.
    """

    name: str
    right: Callable
    cases: tuple[Case, ...]
    mistakes: tuple[Mistake, ...]
    use: str
    outputs: tuple[str, ...] = ()
    gradient: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class Result:
    """Whether the function is right, whether there was one, and the text that was printed."""

    right: bool
    attempted: bool
    text: str

    def _ipython_display_(self) -> None:
        """A notebook shows nothing more: the text is printed already."""


def examine(exercise: Exercise, function: Callable) -> Result:
    """Try the function, print what there is to say, and return it.

    Raises AssertionError with the same text if it is not right while nbgrader executes the
    notebook (it sets NBGRADER_EXECUTION), so that it counts as failed.
    """
    result = judge(exercise, function)
    if os.environ.get("NBGRADER_EXECUTION") and not result.right:
        raise AssertionError(result.text)
    print(result.text)
    return result


def judge(exercise: Exercise, function: Callable) -> Result:
    """The result, without printing it."""
    if not callable(function):
        return _wrong(
            f"Give the check the function itself, check.{exercise.name}({exercise.name})"
            f", not what it returns: it was given {wording.kind_of(function)}."
        )
    answers, changed = [], None
    for case in exercise.cases:
        inputs = copy.deepcopy(case.inputs)
        try:
            answers.append(function(*inputs.values()))
        except NotImplementedError:
            return Result(
                False,
                False,
                f"Not attempted yet: write {exercise.name} in the cell "
                "above, run it, then run this check.",
            )
        except Exception as error:  # whatever a learner's code may raise
            return _wrong(wording.crash(error, function, case))
        changed = changed or _changed(case.inputs, inputs)
    return _compare(exercise, function, answers, changed)


def _compare(exercise: Exercise, function: Callable, answers: list, changed: str | None) -> Result:
    """What the answers to all cases say about the function."""
    expected = [_call(exercise.right, case.inputs) for case in exercise.cases]
    failed = [i for i, answer in enumerate(answers) if not same(answer, expected[i])]
    note = wording.changed_input(changed) if changed else None
    if failed:
        mistake = recognise(exercise, answers)
        reason = mistake and mistake.sentence
        first = exercise.cases[failed[0]]
        answer, wanted = answers[failed[0]], expected[failed[0]]
        reason = (
            reason
            or wording.wrong_kind(answer, wanted, exercise.outputs)
            or _padding(exercise, function, first, answer, wanted)
        )
        text = wording.difference(exercise, first, failed, answer, wanted)
        return _wrong("\n".join(filter(None, (text, reason, note))))
    if note:
        return _wrong("The numbers are right. " + note)
    if exercise.gradient:
        for case in exercise.cases:
            if problem := _gradient_problem(exercise, function, case):
                return _wrong(problem)
    return Result(True, True, wording.praise(exercise))


def recognise(exercise: Exercise, answers: list) -> Mistake | None:
    """The usual mistake that gives these answers on all cases."""
    for mistake in exercise.mistakes:
        if all(
            same(answer, _call(mistake.function, case.inputs))
            for answer, case in zip(answers, exercise.cases)
        ):
            return mistake
    return None


def same(answer: object, wanted: Tensor | tuple | bool) -> bool:
    """Whether an answer has the type, shape and values wanted, to float32's precision."""
    if isinstance(wanted, tuple):
        return (
            isinstance(answer, (tuple, list))
            and len(answer) == len(wanted)
            and all(map(same, answer, wanted))
        )
    if isinstance(wanted, bool):
        return isinstance(answer, bool) and answer == wanted
    if not isinstance(answer, Tensor) or answer.shape != wanted.shape:
        return False
    if wanted.dtype == torch.bool or answer.dtype == torch.bool:
        return answer.dtype == wanted.dtype and torch.equal(answer, wanted)
    return torch.allclose(answer.detach().double(), wanted.double(), 1e-4, 1e-5, equal_nan=True)


def _call(function: Callable, inputs: Inputs) -> Tensor | tuple:
    return function(*copy.deepcopy(inputs).values())


def _wrong(text: str) -> Result:
    return Result(False, True, "Not yet. " + text)


def _changed(before: Inputs, after: Inputs) -> str | None:
    """The first input that the function changed."""
    for name, value in before.items():
        if isinstance(value, Tensor) and not torch.equal(value, after[name]):
            return name
    return None


def _padding(
    exercise: Exercise,
    function: Callable,
    case: Case,
    answer: Tensor | tuple,
    wanted: Tensor | tuple,
) -> str | None:
    """Say so if padding alone is to blame."""
    if exercise.mask is None:
        return None
    mask = case.inputs[exercise.mask]
    pairs = list(zip(answer, wanted)) if isinstance(wanted, tuple) else [(answer, wanted)]
    if all(mine.shape == mask.shape and same(mine[mask], right[mask]) for mine, right in pairs):
        return wording.NOT_ZERO
    clean = {
        name: x.masked_fill(~mask, 0) if _per_token(x, mask) else x
        for name, x in copy.deepcopy(case.inputs).items()
    }
    try:
        moved = not same(answer, function(*clean.values()))
    except Exception:  # the answer itself is what counts
        return None
    return (
        (
            "What stands on padding moves your answer: use the mask, so that tokens where it is "
            "False do not count."
        )
        if moved
        else None
    )


def _per_token(x: object, mask: Tensor) -> bool:
    return isinstance(x, Tensor) and x.shape == mask.shape and x.is_floating_point()


def _gradient_problem(exercise: Exercise, function: Callable, case: Case) -> str | None:
    """What is wrong with the gradient to the input that needs one."""
    gradients = []
    for some in (function, exercise.right):
        inputs = copy.deepcopy(case.inputs)
        x = inputs[exercise.gradient].requires_grad_()
        try:
            output = some(*inputs.values()).sum()
            gradients.append(torch.autograd.grad(output, x)[0] if output.requires_grad else None)
        except RuntimeError:  # not connected to x, or changed in place on the way
            gradients.append(None)
    mine, right = gradients
    if mine is None:
        return wording.no_gradient(exercise.gradient)
    return None if same(mine, right) else wording.wrong_gradient(exercise, case, mine, right)
