"""Try a learner's function on a few inputs and say in plain words what went wrong."""

import copy
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from rlhf_lab.course.exercises import wording
from rlhf_lab.course.exercises.common import per_token
from rlhf_lab.course.exercises.exercise import (
    Case,
    Exercise,
    Inputs,
    Raised,
    WrongForm,
    answer_to,
    is_number,
    same,
)
from rlhf_lab.course.exercises.recognise import not_finite, recognise
from rlhf_lab.course.exercises.variants import OnVariant, varied

THE_LAB = str(Path(__file__).resolve().parents[2]) + os.sep  # the package's folder
HELPERS = ("masked_mean", "masked_sum")  # functions of the lab that a learner may call
MOST = 100  # records that are taken from a loop


@dataclass(frozen=True)
class Result:
    """right: whether the function is right; attempted: whether one was written; text: what was
    printed."""

    right: bool
    attempted: bool
    text: str

    def _ipython_display_(self) -> None:
        """A notebook shows nothing more: the text is printed already."""


def examine(exercise: Exercise, function: Callable | OnVariant) -> Result:
    """Try the function, print the result and return it.

    An OnVariant is tried on its variant's inputs and then, if these are right, on the hidden ones.

    If nbgrader runs the notebook (it sets NBGRADER_EXECUTION) and the function is not right, raises
    AssertionError with the same text, so that the exercise counts as failed.
    """
    attempt = function if isinstance(function, OnVariant) else OnVariant(function, "")
    result = judge(varied(exercise, attempt.variant), attempt.function, own=True)
    if result.right and attempt.hidden:
        result = _on_hidden(
            result, judge(varied(exercise, attempt.hidden), attempt.function, own=True)
        )
    if os.environ.get("NBGRADER_EXECUTION") and not result.right:
        raise AssertionError(result.text)
    print(result.text)
    return result


def _on_hidden(result: Result, hidden: Result) -> Result:
    """The result of a function that is right on the inputs its writer knows."""
    if hidden.right:
        return result
    text = hidden.text.removeprefix("Not yet. ")
    return _wrong(f"It is right on the inputs you know, but not on others of the kind. {text}")


def judge(exercise: Exercise, function: Callable, own: bool = False) -> Result:
    """The result, without printing it. own: it is a learner's function, which goes through the
    exercise's trial, if there is one, and may not call the lab's functions."""
    if not callable(function):
        return _wrong(
            f"Give the check the function itself, check.{exercise.name}({exercise.name})"
            f", not what it returns: it was given {wording.kind_of(function)}."
        )
    answers: list[Any] = []
    borrowed: list[str] = []
    changed, wrong_form = None, None
    tried = _watched(exercise, function, borrowed)
    tried = exercise.trial(tried) if own and exercise.trial else tried
    for case in exercise.cases:
        inputs = copy.deepcopy(case.inputs)
        try:
            answers.append(tried(*inputs.values()))
        except WrongForm as error:
            wrong_form = str(error)
            break
        except Exception as error:  # whatever a learner's code may raise
            if isinstance(error, NotImplementedError) and "not implemented for" not in str(error):
                return _not_attempted(exercise)
            answers.append(Raised(error))
        changed = changed or _changed(case.inputs, inputs)
    if own and borrowed:
        return _wrong(
            f"It calls {borrowed[0]} of the lab. Write these lines yourself: they are the exercise."
        )
    if wrong_form:
        return _wrong(wrong_form)
    return _compare(exercise, function, answers, changed)


def _watched(exercise: Exercise, function: Callable, borrowed: list[str]) -> Callable:
    """The function, under watch; of a loop that yields records, the list of them."""

    def watched(*values: Any) -> Any:
        with _watching(exercise, borrowed):
            answer = function(*values)
            loop = exercise.trial and isinstance(answer, Iterator)
            return list(itertools.islice(answer, MOST)) if loop else answer

    return watched


@contextmanager
def _watching(exercise: Exercise, borrowed: list[str]) -> Iterator[None]:
    """Record which functions of the lab are called that the learner should have written, under
    whatever name they were imported."""
    given = exercise.instead
    instead = None if given is None else {exercise.name, *given}

    def note(frame: FrameType, event: str, _: object) -> None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        ours = file.startswith(THE_LAB) and file != __file__
        if (
            event == "call"
            and ours
            and (name not in HELPERS if instead is None else name in instead)
        ):
            borrowed.append(name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def _not_attempted(exercise: Exercise) -> Result:
    return Result(
        False,
        False,
        f"Not attempted yet: write {exercise.name} in the cell above, run it, then run this check.",
    )


def _compare(exercise: Exercise, function: Callable, answers: list, changed: str | None) -> Result:
    """What the answers to all cases say about the function."""
    expected = [answer_to(exercise.right, case) for case in exercise.cases]
    failed = [i for i, answer in enumerate(answers) if not same(answer, expected[i])]
    note = wording.changed_input(changed) if changed else None
    if failed:
        return _wrong("\n".join(filter(None, (*_why(exercise, function, answers, expected), note))))
    if note:
        return _wrong("The numbers are right. " + note)
    remark = None
    if exercise.gradient:
        if any(is_number(answer) for answer in answers):
            return _wrong("The numbers are right. " + wording.PYTHON_NUMBER)
        for case in exercise.cases:
            problem, spoilt = _gradient_problem(exercise, function, case)
            if problem:
                return _wrong(problem)
            remark = remark or (wording.nan_gradient(exercise.gradient) if spoilt else None)
    return Result(True, True, " ".join(filter(None, (wording.praise(exercise), remark))))


def _why(exercise: Exercise, function: Callable, answers: list, expected: list) -> list[str | None]:
    """The first input that went wrong, and the reason where there is a likely one."""
    failed = [i for i, answer in enumerate(answers) if not same(answer, expected[i])]
    if crashed := [i for i in failed if isinstance(answers[i], Raised)]:
        error, case = answers[crashed[0]].error, exercise.cases[crashed[0]]
        reason = wording.mistakes(recognise(exercise, answers, expected))
        plain = wording.explanation(error, case, exercise.mask)
        return [wording.crash(error, function, case), plain, reason and f"Besides: {reason}"]
    first = exercise.cases[failed[0]]
    answer, wanted = answers[failed[0]], expected[failed[0]]
    kind = wording.wrong_kind(answer, wanted, exercise.outputs)
    reason = (
        wording.mistakes(recognise(exercise, answers, expected, right_kind=kind is None))
        or kind
        or _padding(exercise, function, first, answer, wanted)
    )
    return [wording.difference(exercise, first, failed, answer, wanted), reason]


def _wrong(text: str) -> Result:
    return Result(False, True, "Not yet. " + text)


def _changed(before: Inputs, after: Inputs) -> str | None:
    """The first input that the function changed."""
    for name, value in before.items():
        if isinstance(value, Tensor) and not same(after[name], value):
            return name
    return None


def _padding(
    exercise: Exercise,
    function: Callable,
    case: Case,
    answer: Tensor | tuple,
    wanted: Tensor | tuple,
) -> str | None:
    """Say so if padding alone is the cause."""
    if exercise.mask is None:
        return None
    mask = case.inputs[exercise.mask]
    clean = {
        name: x.masked_fill(~mask, 0) if per_token(x, mask) else x
        for name, x in copy.deepcopy(case.inputs).items()
    }
    try:
        moved = not same(answer, function(*clean.values()))
    except Exception:  # the answer itself is what counts
        return None
    return (
        (
            "Values on padding change your answer: use the mask, so that tokens where it is "
            "False do not count."
        )
        if moved
        else None
    )


def _gradient_problem(
    exercise: Exercise, function: Callable, case: Case
) -> tuple[str | None, bool]:
    """What is wrong with the gradient of the input that needs one, and whether it is nan or inf on
    padding that holds such numbers; there the gradient is not compared."""
    name = str(exercise.gradient)
    mine, right = (_gradient(some, case, name) for some in (function, exercise.right))
    if mine is None or right is None:
        return wording.no_gradient(name), False
    spoilt = ~mine.isfinite() & (right == 0) if not_finite(case) else torch.zeros_like(right).bool()
    if same(mine.masked_fill(spoilt, 0), right):
        return None, bool(spoilt.any())
    text = wording.wrong_gradient(exercise, case, mine, right)
    for some in exercise.mistakes:  # mistakes that give the right numbers
        theirs = _gradient(exercise.written(some), case, name)
        if theirs is not None and same(theirs, mine):
            return f"{text}\n{some.sentence}", False
    return text, False


def _gradient(function: Callable, case: Case, name: str) -> Tensor | None:
    """The gradient of the answer's sum; None if no gradient reaches the input."""
    inputs = copy.deepcopy(case.inputs)
    x = inputs[name].requires_grad_()
    try:
        output = function(*inputs.values()).sum()
        return torch.autograd.grad(output, x)[0] if output.requires_grad else None
    except Exception:  # not connected to x, changed in place on the way, or no tensor any more
        return None
