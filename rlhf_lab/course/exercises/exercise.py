"""What an exercise consists of: inputs, the right function, and its usual mistakes.

The right function has switches: keyword arguments whose defaults are right. A usual mistake turns
one or two of them, so that two mistakes made at once are the two together.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One input: what is special about it, in a few words, and the arguments in their order."""

    name: str
    inputs: Inputs


@dataclass(frozen=True)
class Mistake:
    """What learners do wrong, and what to tell them.

    function: stands in place of the right one. before: what is done to the inputs first. after:
    what is made of the answer and the inputs. switches: of the right function, with wrong values.
    """

    sentence: str
    function: Callable | None = None
    before: Callable[[Inputs], Inputs] | None = None
    after: Callable[[Any, Inputs], Any] | None = None
    switches: dict[str, Any] = field(default_factory=dict)

    def goes_with(self, other: "Mistake") -> bool:
        """Whether both can be made at once."""
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
    gradient must flow. mask: the input that is False on padding.
    """

    name: str
    right: Callable
    cases: tuple[Case, ...]
    mistakes: tuple[Mistake, ...]
    use: str
    outputs: tuple[str, ...] = ()
    gradient: str | None = None
    mask: str | None = None

    def written(self, *mistakes: Mistake) -> Callable:
        """The function as somebody writes it who makes these mistakes."""

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


@dataclass(frozen=True)
class Raised:
    """Stands for the answer of a function that stopped with an error."""

    error: Exception


def answer_to(function: Callable, case: Case) -> Any:
    """What a function returns for a copy of a case's inputs, or how it stopped."""
    try:
        return function(*copy.deepcopy(case.inputs).values())
    except Exception as error:  # whatever a learner's code may raise
        return Raised(error)


def is_number(answer: Any) -> bool:
    """Whether it is one real number outside a tensor, of Python or of numpy."""
    if type(answer).__module__ == "numpy":
        return getattr(answer, "ndim", 1) == 0 and not isinstance(answer.item(), bool)
    return isinstance(answer, Real) and not isinstance(answer, bool)


def same(answer: Any, wanted: Any) -> bool:
    """Whether an answer has the type, shape and values wanted, to float32's precision. A number is
    as good as a tensor of one number, and one tensor as good as the several that it unpacks to."""
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
