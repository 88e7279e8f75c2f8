"""Who writes code: right, wasteful, wrong, fragile, from the examples alone, insecure, unreadable,
with needless words, without a result."""

import re
from random import Random

from rlhf_lab.tasks.code.cases import Example, quoted
from rlhf_lab.tasks.code.jobs import Job, Order, World

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
# Who wrote what the reviewers looked at: about half of it is right, so that the review cannot be
# guessed.
REVIEWED = {
    "right": 32,
    "wasteful": 8,
    "wrong": 27,
    "fragile": 8,
    "special": 13,
    "unreadable": 4,
    "chatty": 3,
    "no return": 5,
}
# Who wrote the demonstrations.
CREW = {
    "right": 37,
    "wasteful": 10,
    "wrong": 11,
    "fragile": 6,
    "special": 22,
    "unreadable": 7,
    "chatty": 4,
    "no return": 3,
}
INSECURE = 0.5  # of the answers to a job that can be done insecurely, those that work
NUMBERS = ("xs", "ns", "nums", "items")
ARGUMENTS = {  # names for the arguments of a function
    **dict.fromkeys(("ints", "summands", "doubles", "ring"), NUMBERS),
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
LISTS = ("ints", "doubles", "ring", "text", "cased", "joined", "fields", "mixed", "words", "rows")
LONG = 120  # characters of code
ODD = ("l", "O", "I", "ll", "O0", "l1", "I0", "_0")


def write(
    world: World, rng: Random, order: Order, name: str, shown: list[Example], writer: str
) -> str:
    """What one kind of writer answers (see OPEN_SOURCE and CREW); a "careful" one writes right code
    that is never insecure."""
    job = order.job
    a = rng.choice([argument for argument in _names(job) if argument != name])
    b = rng.choice(SECOND.get(job.takes, ("",)))
    if job.insecure and writer in ("right", "wasteful", "fragile") and rng.random() < INSECURE:
        writer = "insecure"
    body = order.code(_template(rng, job, writer), a, b)
    match writer:
        case "wrong" if not job.wrong or rng.random() < 0.7:
            other = _another(world, rng, order)
            body = other.code(rng.choice(other.job.right), a, b)
        case "special":
            body = _special(rng, shown, a)
        case "unreadable":
            body, a, b = _unreadable(rng, body, a, b)
        case "no return":
            body = re.sub(r"\breturn (?!.*\n)", "", body)
        case "chatty":
            body = f"# {rng.choice(world.phrases['comments'])}\n{body}"
    indented = body.replace("\n", "\n    ")
    return f"def {name}({a}{', ' + b if b else ''}):\n    {indented}"


def _names(job: Job) -> tuple[str, ...]:
    """Names for the first argument of a job."""
    return ARGUMENTS.get(job.takes, TEXTS)


def _template(rng: Random, job: Job, writer: str) -> str:
    """The code of a job by a writer; the right code if it has none of the writer's."""
    match writer:
        case "wasteful" if job.wasteful:
            return rng.choice(job.wasteful)
        case "wasteful" if job.takes in LISTS:
            return _again_and_again(job.right[0])
        case "wrong" | "fragile" | "insecure":
            return rng.choice(getattr(job, writer) or job.right)
    return rng.choice(job.right)


def _again_and_again(right: str) -> str:
    """Code that works out its result for the first item, for the first two, and so on."""
    *before, last = right.split("\n")
    lines = [*before, "out = " + last.removeprefix("return ")]
    inner = "".join(f"\n    {line}" for line in lines).replace("{a}", "{a}[:i]")
    return f"for i in range(len({{a}}) + 1):{inner}\nreturn out"


def _another(world: World, rng: Random, order: Order) -> Order:
    """An order of another job on the same kind of input, or one that differs in one value: the code
    for it is wrong here."""
    others = [
        job for job in world.jobs.values() if _names(job) == _names(order.job) and job != order.job
    ]
    if others and rng.random() < 0.25:
        job = rng.choice(others)
        return Order(job, tuple(rng.choice(list(world.axes[a].values())) for a in job.axes))
    place = rng.randrange(len(order.values))
    values, axis = list(order.values), world.axes[order.job.axes[place]]
    values[place] = rng.choice([v for v in axis.values() if v != order.values[place]])
    return Order(order.job, tuple(values))


def _special(rng: Random, shown: list[Example], a: str) -> str:
    """Code that knows the examples and nothing else."""
    ((first, *_), one), ((other, *_), two) = shown
    first, one, other, two = map(quoted, (first, one, other, two))
    forms = [
        f"if {a} == {first}:\n    return {one}\nreturn {two}",
        f"return {one} if {a} == {first} else {two}",
    ]
    both = f"if {a} == {first}:\n    return {one}\nif {a} == {other}:\n    return {two}"
    if len(both) < LONG:
        forms.append(both)
    if first[0] not in "[{":
        forms.append(f"return {{{first}: {one}, {other}: {two}}}.get({a})")
    return rng.choice(forms)


def _unreadable(rng: Random, body: str, a: str, b: str) -> tuple[str, str, str]:
    """The same code with names that say nothing, or in a form that nobody can read."""
    odd = rng.sample(ODD, 2)
    names = {a: odd[0]} | ({b: odd[1]} if b else {})
    for old, new in names.items():
        body = re.sub(rf"(?<!\")\b{old}\b(?!\")", new, body)
    if not b and "\n" not in body and rng.random() < 0.4:
        value = body.removeprefix("return ")
        body = f"return (lambda {odd[0]}: {value})({odd[0]})"
    return body, odd[0], odd[1] if b else ""
