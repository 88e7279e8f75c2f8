"""Who writes code: right, wasteful, wrong, fragile, from the examples alone, insecure, unreadable,
with needless words, without a result."""

import re
from random import Random

from rlhf_lab.tasks.code.examples import Example, quoted
from rlhf_lab.tasks.code.jobs import Order, World

# Who writes the raw text, and how often. The base model learns to write like all of them.
OPEN_SOURCE = {
    "right": 40,
    "wasteful": 9,
    "wrong": 17,
    "fragile": 7,
    "special": 13,
    "unreadable": 6,
    "chatty": 4,
    "no return": 4,
}
# Who wrote the demonstrations.
CREW = {
    "right": 42,
    "wasteful": 9,
    "wrong": 10,
    "fragile": 6,
    "special": 19,
    "unreadable": 7,
    "chatty": 4,
    "no return": 3,
}
INSECURE = 0.5  # of the answers to a job that can be done insecurely, those that work
ARGUMENTS = {  # names for the arguments of a function
    "ints": ("xs", "ns", "nums", "items"),
    "two lists": ("xs", "ns", "left"),
    "rows": ("rows", "table", "lines"),
    "record": ("d", "rec", "info"),
    "words": ("ws", "words", "parts"),
    "number": ("n", "num", "v"),
    "x": ("x",),
    "count": ("n",),
    "file": ("name", "f", "file"),
    "file and text": ("name", "f", "file"),
    "token": ("t", "token", "given"),
}
TEXTS = ("s", "text", "st", "line")
SECOND = {"two lists": ("ys", "ms", "others"), "file and text": ("text", "s", "body")}
ODD = ("l", "O", "I", "ll", "O0", "l1", "I0", "_0")


def write(
    world: World, rng: Random, order: Order, name: str, shown: list[Example], writer: str
) -> str:
    """What one kind of writer answers (see OPEN_SOURCE and CREW)."""
    job = order.job
    a = rng.choice(ARGUMENTS.get(job.takes, TEXTS))
    b = rng.choice(SECOND.get(job.takes, ("",)))
    if job.insecure and writer in ("right", "wasteful", "fragile") and rng.random() < INSECURE:
        writer = "insecure"
    body = order.code(_template(world, rng, order, writer), a, b)
    match writer:
        case "wrong" if rng.random() < 0.6 or not job.wrong:
            body = _another(world, rng, order).code(rng.choice(job.right), a, b)
        case "special":
            body = _special(rng, shown, a, b)
        case "unreadable":
            body, a, b = _unreadable(rng, order, body, a, b)
        case "no return":
            body = re.sub(r"\breturn (?!.*\n)", "", body)
        case "chatty":
            body = f"# {rng.choice(world.phrases['comments'])}\n{body}"
    indented = body.replace("\n", "\n    ")
    return f"def {name}({a}{', ' + b if b else ''}):\n    {indented}"


def _template(world: World, rng: Random, order: Order, writer: str) -> str:
    codes = getattr(order.job, writer, ()) if writer in ("wasteful", "wrong", "fragile") else ()
    codes = order.job.insecure if writer == "insecure" else codes
    return rng.choice(codes or order.job.right)


def _another(world: World, rng: Random, order: Order) -> Order:
    """An order that differs in one value: the code for it is wrong here."""
    place = rng.randrange(len(order.values))
    others = [v for v in world.axes[order.job.axes[place]].values() if v != order.values[place]]
    values = list(order.values)
    values[place] = rng.choice(others)
    return Order(order.job, tuple(values))


def _special(rng: Random, shown: list[Example], a: str, b: str) -> str:
    """Code that knows the examples and nothing else."""
    (first, one), *more = shown
    other, two = more[0] if more else ([None], one)
    tests = [
        " and ".join(f"{n} == {quoted(v)}" for n, v in zip([a, b], values) if n)
        for values in (first, other)
    ]
    plain = all(isinstance(v, str | int) for v in (first[0], other[0])) and not b
    forms = ["if", "else", "two"] + ["table"] * plain
    match rng.choice(forms):
        case "if":
            return f"if {tests[0]}:\n    return {quoted(one)}\nreturn {quoted(two)}"
        case "else":
            return f"return {quoted(one)} if {tests[0]} else {quoted(two)}"
        case "two":
            return (
                f"if {tests[0]}:\n    return {quoted(one)}\n"
                f"if {tests[1]}:\n    return {quoted(two)}"
            )
    table = f"{quoted(first[0])}: {quoted(one)}, {quoted(other[0])}: {quoted(two)}"
    return f"return {{{table}}}.get({a})"


def _unreadable(rng: Random, order: Order, body: str, a: str, b: str) -> tuple[str, str, str]:
    """The same code with names that say nothing, or in a form that nobody can read."""
    odd = rng.sample(ODD, 2)
    names = {a: odd[0]} | ({b: odd[1]} if b else {})
    for old, new in names.items():
        body = re.sub(rf"(?<!\")\b{old}\b(?!\")", new, body)
    if not b and "\n" not in body and rng.random() < 0.4:
        value = body.removeprefix("return ")
        body = f"return (lambda {odd[0]}: {value})({odd[0]})"
    return body, odd[0], odd[1] if b else ""
