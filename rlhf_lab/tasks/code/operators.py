"""Operators of the evaluator (+, *, ==, in, ...), each charged in steps and limited in size before
it runs."""

import ast
import operator
from collections.abc import Sequence
from typing import Any

from rlhf_lab.tasks.code.limits import (
    CONTAINERS,
    MOST_BITS,
    Budget,
    LimitError,
    check_plain,
    check_size,
    checked,
    weight_of,
)

ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
UNARY = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
SEQUENCES = (str, list, tuple)


def combine(budget: Budget, kind: type[ast.operator], a: Any, b: Any) -> Any:
    """a + b, a * b and so on. Raises LimitError before too large a result is made."""
    if kind not in ARITHMETIC:
        raise TypeError(f"there is no {kind.__name__} here")
    if kind is ast.Mod and isinstance(a, str):
        return _percent(a, b)
    if kind is ast.Pow and not _is_small_power(a, b):
        raise LimitError("makes too large a number")
    if kind is ast.Mult and (isinstance(a, SEQUENCES) or isinstance(b, SEQUENCES)):
        things, times = (a, b) if isinstance(a, SEQUENCES) else (b, a)
        if isinstance(times, int):
            check_size(len(things) * max(0, times))
    if kind is ast.Add and isinstance(a, SEQUENCES) and isinstance(b, SEQUENCES):
        check_size(len(a) + len(b))
        budget.spend((len(a) + len(b)) // (16 if isinstance(a, str) else 1))
    for value in (a, b):
        if isinstance(value, set | dict):
            budget.spend(len(value))
    return checked(ARITHMETIC[kind](a, b))


def _is_small_power(a: Any, b: Any) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return abs(b) <= MOST_BITS and a.bit_length() * abs(b) <= 2 * MOST_BITS
    return isinstance(a, int | float) and isinstance(b, int | float) and abs(b) < 100


def compare(budget: Budget, kind: type[ast.cmpop], a: Any, b: Any) -> Any:
    """a < b, a in b and so on, paid for by size."""
    if kind in (ast.In, ast.NotIn):
        if isinstance(b, str):
            budget.spend(len(b) // 8)
        else:
            budget.weigh(a if isinstance(b, set | dict) else b)
    elif isinstance(a, CONTAINERS) and isinstance(b, CONTAINERS):
        budget.weigh(a), budget.weigh(b)
    return COMPARISONS[kind](a, b)


def _percent(text: str, values: Any) -> str:
    """text % values, for plain %s alone: other forms can ask for any width."""
    parts = text.split("%s")
    values = values if isinstance(values, tuple) else (values,)
    if "%" in "".join(parts):
        raise TypeError("only a plain %s is known here")
    return filled(parts, values)


def filled(parts: list[str], values: Sequence) -> str:
    """The parts of a text with one value between any two."""
    if len(values) != len(parts) - 1:
        raise TypeError("the text has not as many places as there are values")
    out = parts[0]
    for part, value in zip(parts[1:], values):
        out += text_of(value) + part
        check_size(len(out))
    return out


def text_of(value: Any, quoted: bool = False) -> str:
    """str(value), or repr(value), of a plain value; a set has none, as it has no order."""
    if isinstance(value, set):
        raise TypeError("a set has no order")
    check_plain(value)
    check_size(weight_of(value))
    return checked(repr(value) if quoted else str(value))
