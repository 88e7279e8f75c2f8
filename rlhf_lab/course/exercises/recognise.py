"""Which mistake, or which two, give the answers that a function gave.

An exercise has mistakes of its own; others can be made in any exercise (common.py). An answer that
equals a mistake's on every case was most likely made that way.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from rlhf_lab.course.exercises.common import common_mistakes
from rlhf_lab.course.exercises.exercise import (
    Case,
    Exercise,
    Mistake,
    Raised,
    is_number,
    mistake,
    same,
)

NOT_ZERO = mistake(
    "It is right on the real tokens. On padding, where the mask is False, it should be 0."
)
NAN_ON_PADDING = mistake(
    "Padding that holds nan or inf spoils the answer: 0 times nan is nan, so a product with the "
    "mask does not remove it. Put 0 there first, x.masked_fill(~mask, 0), or pick the real tokens, "
    "x[mask]."
)
SAME_ANSWER = mistake(
    "Your function gives the same answer for every input, as if the numbers of one example "
    "were written into it: compute it from the arguments."
)


def recognise(
    exercise: Exercise, answers: list, expected: list, right_kind: bool = True
) -> tuple[Mistake, ...]:
    """The mistake or the two mistakes that give these answers; none if no usual mistakes do.

    right_kind: whether the answers have the right type and shape; if not, there may be a simpler
    message."""
    if all(map(same, answers, expected)):
        return ()
    whole = [i for i, answer in enumerate(answers) if not isinstance(answer, Raised)]
    finite = [i for i in whole if not _spoilt(exercise.cases[i], answers[i], expected[i])]
    if all(same(answers[i], expected[i]) for i in finite):
        return (NAN_ON_PADDING,) if whole != finite else ()
    real = partial(_real, mask=exercise.mask)
    littered = any(not same(real(answers[i], exercise.cases[i]), answers[i]) for i in finite)
    mistakes = [*exercise.mistakes, *common_mistakes(exercise)]
    single = [(some,) for some in mistakes]
    # A trial runs models: of these, only pairs of the exercise's own mistakes are tried.
    paired = exercise.mistakes if exercise.trial else mistakes
    pairs = [both for both in combinations(paired, 2) if both[0].goes_with(both[1])]
    view, rest = (real, (NOT_ZERO,)) if littered else (_as_it_is, ())
    tries = [(single, _as_it_is, ()), (single, view, rest)]
    if any(
        _comparable(answers[i], expected[i]) and _finite(answers[i])
        for i in _wrong(answers, expected, finite)
    ):
        tries.append((pairs, view, rest))
    for candidates, only, besides in tries:
        if besides and not _wrong(
            [real(*x) for x in zip(answers, exercise.cases)], expected, finite
        ):
            return besides
        if found := _matching(exercise, answers, expected, whole, candidates, only):
            return (*found, *besides)[:2]
        spared = finite if finite != whole else []
        if found := _matching(exercise, answers, expected, spared, candidates, only):
            return (*found, NAN_ON_PADDING)[:2]
        if _constant(answers, expected) and (right_kind or any(map(same, answers, expected))):
            return (SAME_ANSWER,)
    return _multiple(answers, expected, finite)


def _wrong(answers: list, expected: list, cases: list[int]) -> list[int]:
    return [i for i in cases if not same(answers[i], expected[i])]


def _matching(
    exercise: Exercise,
    answers: list,
    expected: list,
    cases: list[int],
    candidates: list[tuple[Mistake, ...]],
    only: Callable[[Any, Case], Any],
) -> tuple[Mistake, ...]:
    """The first of the candidates that gives these answers on these cases."""
    if all(same(only(answers[i], exercise.cases[i]), expected[i]) for i in cases):
        return ()  # nothing is wrong with these
    kept = {i: only(answers[i], exercise.cases[i]) for i in cases}
    wrong_first = sorted(cases, key=lambda i: same(kept[i], expected[i]))
    for candidate in candidates:
        function = exercise.written(*candidate)
        if all(
            same(kept[i], only(_answer(function, exercise.cases[i]), exercise.cases[i]))
            for i in wrong_first
        ):
            return candidate
    return ()


def _answer(function: Callable, case: Case) -> Any:
    """As answer_to, for functions of this folder: they do not change their inputs, so none are
    copied, and a mistake may make them raise an error."""
    try:
        return function(*case.inputs.values())
    except Exception as error:
        return Raised(error)


def _as_it_is(answer: Any, case: Case) -> Any:
    return answer


def _real(answer: Any, case: Case, mask: str | None) -> Any:
    """The answer with 0 on padding, if it has a number for each token; other answers unchanged."""
    parts = _parts(answer)
    if mask is None or not all(
        isinstance(x, Tensor) and x.shape == case.inputs[mask].shape for x in parts
    ):
        return answer
    cleaned = tuple(x.masked_fill(~case.inputs[mask], 0) for x in parts)
    return cleaned if isinstance(answer, (tuple, list)) else cleaned[0]


def _spoilt(case: Case, answer: Any, wanted: Any) -> bool:
    """Whether nan or inf on the padding has got into the answer."""
    return not_finite(case) and _finite(wanted) and not _finite(answer)


def not_finite(case: Case) -> bool:
    """Whether a case has nan or inf in its inputs, on padding."""
    return not all(map(_finite, case.inputs.values()))


def _finite(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_finite, value))
    return not isinstance(value, Tensor) or bool(value.isfinite().all())


def _constant(answers: list, expected: list) -> bool:
    """Whether all answers are the same although different ones are right."""
    if any(isinstance(answer, Raised) or answer is None for answer in answers):
        return False
    first, *rest = (tuple(map(_tensor, _parts(answer))) for answer in answers)
    varied = any(not same(wanted, expected[0]) for wanted in expected)
    return varied and all(same(answer, first) for answer in rest)


def _parts(answer: Any) -> tuple:
    return tuple(answer) if isinstance(answer, (tuple, list)) else (answer,)


def _tensor(answer: Any) -> Any:
    return torch.tensor(float(answer)) if is_number(answer) else answer


def _comparable(answer: Any, wanted: Any) -> bool:
    """Whether an answer consists of as many tensors or numbers as the right one."""
    if isinstance(wanted, bool):
        return isinstance(answer, bool)
    mine, right = _parts(answer), _parts(wanted)
    numbers = all(isinstance(_tensor(x), Tensor) for x in mine)
    return numbers and len(mine) == len(right)


def _multiple(answers: list, expected: list, cases: list[int]) -> tuple[Mistake, ...]:
    """Say so if every answer is the right one times the same number."""
    factors = []
    for i in cases:
        answer, wanted = _tensor(answers[i]), expected[i]
        if not isinstance(answer, Tensor) or not isinstance(wanted, Tensor):
            return ()
        if answer.shape != wanted.shape or torch.bool in (answer.dtype, wanted.dtype):
            return ()
        some = wanted.abs() > 1e-6
        if not torch.allclose(answer[~some].double(), wanted[~some].double(), atol=1e-5):
            return ()
        factors.append((answer[some] / wanted[some]).double())
    every = torch.cat(factors) if factors else torch.zeros(0)
    if (
        len(every) < 2
        or not torch.allclose(every, every[:1], rtol=1e-3)
        or not 1e-3 < abs(every[0]) < 1e3
    ):
        return ()
    return (mistake(f"It is {every[0]:.4g} times the right answer, on every input."),)
