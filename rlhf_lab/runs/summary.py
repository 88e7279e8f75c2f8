"""What a run's summary.json holds, checked before anything is drawn from it: the file may be cut,
changed by hand, or somebody else's."""

import math
from collections.abc import Callable
from typing import Any

from rlhf_lab.errors import UserError

LARGEST = 1e12  # no figure of a run comes near it; beyond, pictures cannot be drawn
Shape = Callable[[Any], str] | dict


def check_summary(summary: Any, where: str = "the summary") -> None:
    """Raise UserError that names the first field of a summary that is not as `demo` writes it. As a
    run may have ended early, fields may be missing, except those in NEEDED."""
    _check(summary, SUMMARY, where, ())
    models = summary.get("models") or {}
    items = {name: {*(model.get("rubric") or {})} for name, model in models.items()}
    for name, found in items.items():
        if missing := set().union(*items.values()) - found:
            raise UserError(
                f"{where}, field 'models.{name}.rubric' has no {min(missing)!r}, which another "
                "model has: run the stage again, or restore the file"
            )


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "is not a number"
    return "" if math.isfinite(value) and abs(value) <= LARGEST else f"is {value}: out of range"


def _count(value: Any) -> str:
    return _number(value) or ("" if value >= 0 else f"is {value}: it cannot be below 0")


def _text(value: Any) -> str:
    return "" if isinstance(value, str) else "is not a text"


def _interval(value: Any) -> str:
    return _between(value, ("estimate", "low", "high"))


def _ends(value: Any) -> str:
    return _between(value, ("low", "high"))


def _between(value: Any, names: tuple[str, ...]) -> str:
    if not isinstance(value, list) or len(value) != len(names):
        return f"is not a list of {len(names)} numbers: {', '.join(names)}"
    if value == [None] * len(names):  # it could not be computed
        return ""
    if wrong := next(filter(None, map(_number, value)), ""):
        return f"has a value that {wrong}"
    *inside, low, high = value
    right = low <= high and all(low - 1e-9 <= x <= high + 1e-9 for x in inside)
    return "" if right else f"is {value}: the order must be low, estimate, high"


def _or_none(shape: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "" if value is None else shape(value)


EACH = "*"  # stands for every name in an object
MODEL = {
    "mark": _interval,
    "rubric": {EACH: _interval},
    "mark_by_set": {EACH: _interval},
    "win_rate_against_sft": _or_none(_interval),
    "score": _or_none(_interval),
    "kl": _or_none(_interval),
    "length": _count,
    "ended": _count,
    "distinct": _or_none(_count),
    "flaws": {EACH: _interval},
    "flaws_against_sft": {EACH: _or_none(_interval)},
}
SUMMARY: dict = {
    "task": _text,
    "prompts": {EACH: _count},
    "samples": _count,
    "models": {EACH: MODEL},
    "reward_model": {EACH: {EACH: _or_none(_number), "interval": _or_none(_ends)}},
    "seconds": {EACH: _count},
    "peak_memory_mb": {EACH: _or_none(_count)},
}
NEEDED = {id(MODEL): ("length", "ended")}  # the others go with a judge or a reward model


def _check(value: Any, shape: Shape, where: str, field: tuple[str, ...]) -> None:
    named = f"{where}, field {'.'.join(field)!r}" if field else where
    if not isinstance(shape, dict):
        if why := shape(value):
            raise UserError(f"{named} {why}: run the stage again, or restore the file")
        return
    if not isinstance(value, dict):
        raise UserError(f"{named} is no object {{...}}: run the stage again, or restore the file")
    for name in NEEDED.get(id(shape), ()):
        if name not in value:
            raise UserError(f"{named} has no {name!r}: run the stage again, or restore the file")
    for name, part in value.items():
        if inner := shape.get(name) or shape.get(EACH):
            optional = field == () and part is None  # a run of one stage has null for the others
            if not optional:
                _check(part, inner, where, (*field, name))
