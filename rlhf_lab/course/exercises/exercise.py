"""What an exercise consists of: inputs, the right function, and its usual mistakes.

The right function has switches: keyword arguments whose defaults are right. A usual mistake changes
one or two of them, so two mistakes made at once are tried by changing the switches of both.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from random import Random
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One input. name: what is special about it, in a few words; inputs: the arguments in order."""

    name: str
    inputs: Inputs


@dataclass(frozen=True)
class Mistake:
    """What learners do wrong, and the sentence to tell them.

    function: takes the place of the right one. before: changes the inputs first. after: computes
    the wrong answer from the answer and the inputs. switches: of the right function, with wrong
    values.
    """

    sentence: str
    function: Callable | None = None
    before: Callable[[Inputs], Inputs] | None = None
    after: Callable[[Any, Inputs], Any] | None = None
    switches: dict[str, Any] = field(default_factory=dict)

    def goes_with(self, other: "Mistake") -> bool:
        """Whether both mistakes can be made at once."""
        if self.function or other.function:
            whole, rest = (self, other) if self.function else (other, self)
            return not whole.switches and not rest.function and not rest.switches
        return not self.switches.keys() & other.switches.keys()


def mistake(
    sentence: str,
    function: Callable | None = None,
    *,
    before: Callable[[Inputs], Inputs] | None = None,
    after: Callable[[Any, Inputs], Any] | None = None,
    **switches: Any,
) -> Mistake:
    """A Mistake with its switches written as keyword arguments."""
    return Mistake(sentence, function, before, after, switches)


@dataclass(frozen=True)
class Exercise:
    """What a function should do.

    right: the function as it should be, with its switches. use: a sentence on what it is good for.
    outputs: names of the tensors it returns, if more than one. gradient: the input to which a
    gradient must flow. mask: the input that is False on padding. draw: inputs drawn anew for a
    variant, where other numbers in the same order would not change the answers.

    For a step of a training loop, which calls models and the lab: trial makes of the learner's
    function one of the cases' inputs, plain numbers, that tries it on tiny models and returns
    tensors; `right` and the mistakes' functions are such functions already. instead: the functions
    of the lab that would do the exercise. If it is given, the learner may call all others.
    """

    name: str
    right: Callable
    cases: tuple[Case, ...]
    mistakes: tuple[Mistake, ...]
    use: str
    outputs: tuple[str, ...] = ()
    gradient: str | None = None
    mask: str | None = None
    draw: Callable[[Random], Inputs] | None = None
    trial: Callable[[Callable], Callable] | None = None
    instead: tuple[str, ...] | None = None

    def written(self, *mistakes: Mistake) -> Callable:
        """The function as a learner who makes these mistakes would write it."""

        def function(*values: Any) -> Any:
            inputs = dict(zip(self.cases[0].inputs, values))
            for some in mistakes:
                inputs = some.before(inputs) if some.before else inputs
            whole = [some.function for some in mistakes if some.function]
            switches = {name: value for some in mistakes for name, value in some.switches.items()}
            answer = (whole or [self.right])[0](*inputs.values(), **switches)
            for some in mistakes:
                answer = some.after(answer, inputs) if some.after else answer
            return answer

        return function


class WrongForm(Exception):
    """Raised by a trial if what the learner's function returns cannot be compared; says why."""


@dataclass(frozen=True)
class Raised:
    """Takes the place of an answer if the function stopped with an error."""

    error: Exception


def answer_to(function: Callable, case: Case) -> Any:
    """What a function returns for a copy of a case's inputs, or the error that stopped it."""
    try:
        return function(*copy.deepcopy(case.inputs).values())
    except Exception as error:  # whatever a learner's code may raise
        return Raised(error)


def is_number(answer: Any) -> bool:
    """Whether the answer is a single real number of Python or numpy, not a tensor."""
    if type(answer).__module__ == "numpy":
        return getattr(answer, "ndim", 1) == 0 and not isinstance(answer.item(), bool)
    return isinstance(answer, Real) and not isinstance(answer, bool)


def same(answer: Any, wanted: Any) -> bool:
    """Whether an answer has the right type, shape and values, to float32's precision. A number may
    be given for a tensor of one number, and one tensor for the several that it unpacks to."""
    if isinstance(wanted, tuple):
        if isinstance(answer, Tensor) and answer.dim():
            answer = answer.unbind()
        return (
            isinstance(answer, (tuple, list))
            and len(answer) == len(wanted)
            and all(map(same, answer, wanted))
        )
    if isinstance(wanted, bool):
        return type(answer).__name__ in ("bool", "bool_") and bool(answer) == wanted
    if not isinstance(wanted, Tensor):
        return False
    answer = torch.tensor(float(answer)) if is_number(answer) else answer
    if not isinstance(answer, Tensor) or answer.shape != wanted.shape:
        return False
    if wanted.dtype == torch.bool or answer.dtype == torch.bool:
        return answer.dtype == wanted.dtype and torch.equal(answer, wanted)
    return torch.allclose(answer.detach().double(), wanted.double(), 1e-4, 1e-5, equal_nan=True)
