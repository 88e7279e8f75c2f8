"""What a check says: tensors as a person reads them, and a sentence for what went wrong."""

import linecache
import math
import traceback
from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_lab.course.exercises.exercise import is_number

DIGITS = 4
PYTHON_NUMBER = (
    "You return a Python or numpy number, and no gradient flows through it: return the tensor, "
    "without .item(), .numpy() or float()."
)


def praise(exercise) -> str:
    """One line for a right answer: what was tried, and what it is good for."""
    tried = "; ".join(case.name for case in exercise.cases)
    return f"Right. Tried on {len(exercise.cases)} inputs ({tried}). {exercise.use}"


def difference(exercise, case, failed: list[int], answer: object, wanted: Tensor | tuple) -> str:
    """The first input on which an answer differs, the answer and the expected one."""
    which = "this one" if len(failed) == 1 else "of which this is the first"
    lines = [f"It differs on {len(failed)} of {len(exercise.cases)} inputs, {which} ({case.name}):"]
    rows = dict(case.inputs)
    if not exercise.outputs:
        rows |= {"your answer": answer, "right answer": wanted}
    elif isinstance(answer, (tuple, list)) and len(answer) == len(wanted):
        for name, mine, right in zip(exercise.outputs, answer, wanted):
            rows |= {f"your {name}": mine, f"right {name}": right}
    else:
        rows |= {"your answer": answer}
        rows |= {f"right {name}": right for name, right in zip(exercise.outputs, wanted)}
    width = max(map(len, rows)) + 2
    lines += [_labelled(name, value, width) for name, value in rows.items()]
    return "\n".join(lines)


def wrong_kind(
    answer: object, wanted: Tensor | tuple, outputs: tuple[str, ...] = (), what: str = "answer"
) -> str | None:
    """Say so if an answer has the wrong type or shape, or holds nan or inf."""
    if answer is None:
        return "Your function returns nothing: does it end with a return?"
    if isinstance(wanted, bool):
        return (
            None
            if isinstance(answer, bool)
            else f"Your {what} is {kind_of(answer)}; it should be True or False."
        )
    if isinstance(wanted, tuple):
        if not isinstance(answer, (tuple, list)) or len(answer) != len(wanted):
            return (
                f"Return {len(wanted)} tensors, {' and '.join(outputs)}, in this order; "
                f"you return {kind_of(answer)}."
            )
        pairs = zip(answer, wanted, outputs)
        return next((text for a, w, name in pairs if (text := wrong_kind(a, w, (), name))), None)
    if is_number(answer):
        if wanted.dim():
            return f"Your {what} is one number; it should be a tensor of shape {_shape(wanted)}."
        answer = torch.tensor(float(answer))
    if not isinstance(answer, Tensor):
        return f"Your {what} is {kind_of(answer)}; it should be a torch tensor."
    if answer.shape != wanted.shape:
        return f"Your {what} has shape {_shape(answer)}; it should be {_shape(wanted)}."
    if (answer.dtype == torch.bool) != (wanted.dtype == torch.bool):
        return (
            f"Your {what} has dtype {_dtype(answer)}; it should be {_dtype(wanted)}: a mask is "
            "True or False, so that ~mask inverts it."
        )
    if answer.isnan().any() and not wanted.isnan().any():
        return (
            f"Your {what} holds nan: look for 0 / 0, the root or log of a number below 0, or "
            "infinity times 0."
        )
    if answer.isinf().any() and not wanted.isinf().any():
        return (
            f"Your {what} holds an infinity: an exp that overflows, the log of 0, or a "
            "division by 0."
        )
    return None


def mistakes(found) -> str | None:
    """The sentence of a mistake. If there are two: that there are two, and the first's sentence."""
    if len(found) < 2:
        return found[0].sentence if found else None
    return (
        f"There are two mistakes. The first: {found[0].sentence}\n"
        "Correct it and run the check again; it will then name the second."
    )


def crash(error: Exception, function: Callable, case) -> str:
    """The error in one line, with the line of the learner's cell."""
    text = " ".join(str(error).split())
    text = f"{text[:200]} ..." if len(text) > 200 else text
    where = _line_of(error, function)
    return (
        f"It stopped with {type(error).__name__}: {text}\n"
        f'{where}The input was the one called "{case.name}":\n'
        + "\n".join(
            _labelled(name, value, max(map(len, case.inputs)) + 2)
            for name, value in case.inputs.items()
        )
    )


def explanation(error: Exception, case, mask: str | None) -> str | None:
    """The most likely cause of an error, in plain words; None if the error is not a usual one."""
    text = str(error)
    full = mask is not None and bool(case.inputs[mask].all(1).any())
    if full and "out of bounds" in text:
        return (
            "A row of this input has no padding. Its last real token is in the last column, number "
            "mask.sum(1) - 1: there is no column mask.sum(1), and no first padding token."
        )
    return next((plain for part, plain in ERRORS.items() if part in text), None)


ERRORS = {
    "out of bounds": "An index is as large as the dimension or larger: the first is 0, the last "
    "one less than the length. Look at the first and the last column.",
    "out of range": "An index, or the number of a dimension, is too large: the first is 0, the "
    "last one less than the length.",
    "must match the size": "Two shapes do not match. x[:, None] turns (B,) into (B, 1), which goes "
    "with (B, N); a tensor shifted by one column loses a column, and its partner must lose one "
    "too.",
    "cannot be broadcast": "Two shapes do not match. x[:, None] turns (B,) into (B, 1), which "
    "goes with (B, N).",
    "Expected reduction dim": "You take the maximum or minimum of an empty tensor: for this input "
    "no entry is left, such as padding in a row that has none.",
    "non-empty": "A list that should hold tensors is empty: for this input nothing was put into "
    "it.",
    "empty sequence": "You take the maximum or minimum of a list that is empty for this input.",
    "iterable argument is empty": "You take the maximum or minimum of a list that is empty for "
    "this input.",
    "division by zero": "Something is divided by a count that is 0 for this input.",
    "not implemented for 'Bool'": "This function does not take True and False: turn them into "
    "numbers first, with .int() or .float().",
    "not support bool input": "This function does not take True and False: turn them into "
    "numbers first, with .int() or .float().",
    "could not infer output dtype": "torch takes no mean of whole numbers or of True and False: "
    "turn them into floats first, with .float().",
    "must be either a floating point": "torch takes no mean of whole numbers or of True and False: "
    "turn them into floats first, with .float().",
    "on integer and Boolean": "~ negates True and False, and does not work on "
    "floats: use mask.bool().",
    "with a bool tensor": "True and False cannot be subtracted: ~mask negates a mask, "
    "mask.float() turns it into 1 and 0.",
    "on a bool tensor": "True and False cannot be subtracted: ~mask negates a mask, "
    "mask.float() turns it into 1 and 0.",
    "used as indices": "Only whole numbers, or True and False, can be an index: use .long().",
    "Expected dtype int64": "Only whole numbers can be an index here: use .long().",
    "converted to Scalar": ".item() and float() take a tensor of one number, and this has several.",
    "converted to Python scalars": "float() and int() take a tensor of one number, and this has "
    "several.",
    "bitwise_not": "~ negates True and False, and does not work on floats: use mask.bool().",
    "Boolean value of Tensor": "`if`, `and`, `or`, max() and min() need a single True or False, "
    "and this is a tensor of several: use torch.where, & and |, torch.maximum and torch.minimum.",
    "positional argument": "The check gives the arguments in the order of the cell above: keep "
    "all of them, in this order.",
    "NoneType": "Something is None: a function without a return, or a name that was not set for "
    "this input.",
}


def changed_input(name: str) -> str:
    """For a function that changes its argument."""
    return (
        f"But your function changes its input {name} in place, and the caller still needs the old "
        "values: work on a copy (x = x.clone()), or use functions that make a new tensor."
    )


def no_gradient(name: str) -> str:
    """For a right value through which no gradient flows."""
    return (
        f"The numbers are right, but no gradient flows through them to {name}: "
        "do not take the tensor apart with .item(), .tolist(), .detach(), torch.tensor() or "
        "torch.no_grad(), and do not write into it."
    )


def nan_gradient(name: str) -> str:
    """For an answer that is right, with nan or inf in the gradient of padding."""
    return (
        f"One more thing: where padding holds nan or inf, so does your gradient with respect to "
        f"{name}, and it would spoil a whole training step. Take padding out before you calculate "
        "with it, with masked_fill(~mask, 0) or x[mask]."
    )


def wrong_gradient(exercise, case, mine: Tensor, right: Tensor) -> str:
    """For right numbers with a wrong derivative."""
    rows = {"your gradient": mine, "right gradient": right}
    shown = "\n".join(_labelled(name, value, 16) for name, value in rows.items())
    return (
        f"The numbers are right, but not their gradient with respect to {exercise.gradient} "
        f"({case.name}):\n{shown}"
    )


def kind_of(value: object) -> str:
    """What a value is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {_shape(value)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    if type(value).__module__ == "numpy":
        return "a numpy array or number"
    return "nothing (None)" if value is None else f"a value of type {type(value).__name__}"


def _labelled(name: str, value: object, width: int) -> str:
    """A name, and the value beside it; further rows are indented below."""
    first, *rest = _numbers(value).splitlines() or [""]
    return "\n".join([f"    {name:{width}}{first}", *(" " * (width + 4) + row for row in rest)])


def _numbers(value: object) -> str:
    """A tensor as nested lists, a row a line."""
    if isinstance(value, Tensor):
        return _rows(value.detach().cpu())
    text = _number(value) if isinstance(value, float) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _rows(x: Tensor) -> str:
    if x.dim() == 0:
        return _number(x.item())
    if x.dim() == 1:
        return "[" + ", ".join(_number(v) for v in x.tolist()) + "]"
    return "[" + ",\n ".join(_rows(row).replace("\n", "\n ") for row in x) + "]"


def _number(value: float | int | bool) -> str:
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    return repr(round(value, DIGITS) + 0.0)  # + 0.0: no -0.0


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _line_of(error: Exception, function: Callable) -> str:
    """The line of the learner's cell where it stopped; "" if the error came from elsewhere."""
    code = getattr(function, "__code__", None)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if code and frame.filename == code.co_filename
    ]
    if not frames:
        return ""
    line = linecache.getline(frames[-1].filename, frames[-1].lineno).strip()
    return f"in line {frames[-1].lineno} of your cell{f': {line}' if line else ''}\n"
