"""Examples of an order: inputs drawn at random with the edge cases, results from the reference.

Visible examples stand in the prompt. Hidden ones are what the judge runs; they are drawn for the
order, and those that the prompt shows are left out. A large input tells how much work code makes.
"""

import ast
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from rlhf_lab.tasks.code.evaluator import Outcome, call
from rlhf_lab.tasks.code.jobs import Order

HIDDEN = 12  # hidden examples of a prompt, at most
SIZES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 8, 8, 9, 9)  # of the inputs tried
LARGE = 60  # items of the large input
LINEAR = 8 * LARGE  # steps for it that nobody calls wasteful
WORDS = (
    "red tin sea nest orange arena stone salt rain tree ice toast oar iris noon an to is".split()
)
PEOPLE = "ann bo cem dora eli finn gina hal ida jon kim lea".split()
FILES = "b.txt todo.md may2.csv q.html index.md one.txt a.txt plan.txt may.csv".split()
FILES += "notes.md list.txt log1.txt home.html sums.csv x.json".split()
COLUMNS = ("age", "price", "size", "score", "weight", "year")

Arguments = list[Any]  # of one call
Example = tuple[Arguments, Any]  # and its result


def draw(rng: Random, order: Order, size: int) -> Arguments:
    """Arguments for one call, of about this size."""
    return DRAWS[order.job.takes](rng, order, size)


def _numbers(rng: Random, order: Order, size: int) -> list[int]:
    near = [f + d for f in order.numbers for d in (-1, 0, 0, 1)] + [2 * f for f in order.numbers]
    pool = [*near, *near, *range(-2, 13)]
    return [rng.choice(pool) for _ in range(size)]


def _summands(rng: Random, order: Order, size: int) -> list[int]:
    """Numbers, so that all must be looked at if there are many."""
    wanted = order.numbers[0]
    numbers = [rng.choice([n, wanted // 2, wanted - n]) for n in _numbers(rng, order, size)]
    return numbers if size < LARGE else [abs(n) + wanted + 1 for n in numbers]


def _doubles(rng: Random, order: Order, size: int) -> list[int]:
    few = rng.sample(range(-2, 13 + size), max(1, size))
    return [rng.choice(few) for _ in range(size and size + 2)]


def _ring(rng: Random, order: Order, size: int) -> list[int]:
    """Numbers, none or enough of them to be moved on that far."""
    return _numbers(rng, order, size and max(size, order.numbers[0]))


def _words(rng: Random, order: Order, size: int) -> list[str]:
    return [rng.choice(WORDS) for _ in range(size)]


def _parts(rng: Random, order: Order, size: int) -> str:
    """Words joined by the sign that the order is about."""
    signs = {axis: value.code for axis, value in zip(order.job.axes, order.values)}
    return signs["sep" if "sep" in signs else "old"].join(_words(rng, order, size))


def _cased(rng: Random, order: Order, size: int) -> str:
    words = [rng.choice([word, word.title(), word.upper()]) for word in _words(rng, order, size)]
    return " ".join(words)


def _mixed(rng: Random, order: Order, size: int) -> str:
    words = _cased(rng, order, size).split()
    return " ".join(w if rng.random() < 0.6 else w + str(rng.randrange(40)) for w in words)


def _rows(rng: Random, order: Order, size: int) -> list[dict[str, int]]:
    column = next(
        value.name for axis, value in zip(order.job.axes, order.values) if axis == "column"
    )
    return [{column: n} for n in _numbers(rng, order, size)]


def _record(rng: Random, order: Order, size: int) -> dict[str, int]:
    column = order.values[0].name
    others = [c for c in COLUMNS if c != column]
    keys = [column] * (rng.random() < 0.6) + rng.sample(others, min(size, 2) // 2)
    return {key: rng.randrange(1, 60) for key in rng.sample(keys, len(keys))}


def _token(rng: Random, order: Order, size: int) -> str:
    own = f"{order.values[0].name}-key"
    near = [own[:-1], own[1:], own + "s", own.title(), own.replace("-", ""), "key", "my-key"]
    return own if rng.random() < 0.3 else rng.choice([*near, *WORDS[:9]])


DRAWS: dict[str, Callable[[Random, Order, int], Arguments]] = {
    "ints": lambda *draw: [_numbers(*draw)],
    "summands": lambda *draw: [_summands(*draw)],
    "doubles": lambda *draw: [_doubles(*draw)],
    "ring": lambda *draw: [_ring(*draw)],
    "two lists": lambda *draw: [_numbers(*draw), _numbers(*draw)],
    "text": lambda *draw: [" ".join(_words(*draw))],
    "joined": lambda *draw: [_parts(*draw)],
    "fields": lambda *draw: [_parts(*draw)],
    "cased": lambda *draw: [_cased(*draw)],
    "mixed": lambda *draw: [_mixed(*draw)],
    "words": lambda *draw: [_words(*draw)],
    "word": lambda rng, *_: [rng.choice(WORDS)],
    "number": lambda rng, order, size: [_numbers(rng, order, 1)[0]],
    "x": lambda rng, order, size: [_numbers(rng, order, 1)[0]],
    "count": lambda rng, order, size: [size if size > 9 else rng.randrange(1, 30)],
    "rows": lambda *draw: [_rows(*draw)],
    "record": lambda *draw: [_record(*draw)],
    "file": lambda rng, *_: [rng.choice(FILES)],
    "file and text": lambda rng, *_: [rng.choice(FILES), rng.choice(WORDS)],
    "person": lambda rng, *_: [rng.choice(PEOPLE)],
    "token": lambda *draw: [_token(*draw)],
    "digits": lambda rng, *_: [str(rng.randrange(1, 99))],
}


# ------------------------------------------------------------------------------- the reference


@lru_cache(maxsize=8192)
def reference(order: Order, which: int = 0) -> ast.Module:
    """The tree of one of an order's right answers; number 0 gives all results."""
    a = "x" if order.job.takes == "x" else "a_"  # as the conditions call it
    body = order.code(order.job.right[which], a, "b_").replace("\n", "\n    ")
    return ast.parse(f"def answer({a}, b_=None):\n    {body}")


def result(order: Order, arguments: Arguments, which: int = 0) -> Outcome:
    """What the reference gives."""
    return call(reference(order, which), "answer", copied(arguments), 50_000)


def copied(arguments: Arguments) -> Arguments:
    """The arguments once more, so that code that changes them changes only its own."""
    return [_copy(each) for each in arguments]


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


# -------------------------------------------------------------------------------- the examples


def visible(rng: Random, order: Order) -> list[Example]:
    """Two examples for a prompt, the first one with a result that is not empty, and with results
    that differ, if that can be."""
    first = _example(rng, order, (2, 3, 3, 4, 4, 5, 6, 7, 8), lambda other: not other[1])
    unlike = lambda other: other[0] == first[0] or same(other[1], first[1])  # noqa: E731
    return [first, _example(rng, order, (0, 1, 2, 2, 3, 3, 4, 5, 6, 7), unlike)]


def _example(
    rng: Random, order: Order, sizes: Sequence[int], is_poor: Callable[[Example], bool]
) -> Example:
    """An example, drawn again with a larger input while it is poor."""
    for attempt in range(20):
        most = min(len(sizes), 4 + attempt // 3)
        arguments = draw(rng, order, rng.choice(sizes[:most]))
        example = (arguments, result(order, arguments).value)
        if not is_poor(example):
            break
    return example


@lru_cache(maxsize=8192)
def pool(order: Order) -> tuple[Example, ...]:
    """The examples from which an order's hidden ones come: edge cases first, then those whose
    results no other has, as they tell most."""
    rng, found = Random(f"hidden/{order.facts}"), list[Example]()
    for size in SIZES:
        arguments = draw(rng, order, size)
        if all(arguments != other for other, _ in found):
            found.append((arguments, result(order, arguments).value))
    seen: Counter[str] = Counter()
    turns = []
    for place, (_, value) in enumerate(found):
        again = seen[repr(value)]
        turns.append((place > 1, again * (1 if value or value is False else 3), place))
        seen[repr(value)] += 1
    return tuple(found[place] for *_, place in sorted(turns))


def hidden(order: Order, shown: list[Example]) -> list[Example]:
    """The hidden examples of a prompt that shows these."""
    seen = [arguments for arguments, _ in shown]
    return [example for example in pool(order) if example[0] not in seen][:HIDDEN]


@lru_cache(maxsize=8192)
def large(order: Order) -> tuple[Arguments, int]:
    """A large input, and the steps that a right answer takes for it, at most."""
    arguments = draw(Random(f"large/{order.facts}"), order, LARGE)
    steps = [result(order, arguments, which).steps for which in range(len(order.job.right))]
    return arguments, max(LINEAR, *steps)


def same(a: Any, b: Any) -> bool:
    """Whether two results are the same; nearly the same, for numbers with a fraction."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) < 1e-6
    return type(a) is type(b) and a == b


def written(name: str, example: Example) -> str:
    """An example as it stands in a prompt."""
    arguments, value = example
    return f"{name}({', '.join(map(quoted, arguments))}) == {quoted(value)}"


def quoted(value: Any) -> str:
    """A value as code, texts in double quotes."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(map(quoted, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(k)}: {quoted(v)}" for k, v in value.items()) + "}"
    if isinstance(value, float):
        return str(round(value, 3))
    return str(value)
