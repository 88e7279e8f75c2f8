"""The functions and methods that code may call, and nothing else.

Those of Python are written again, so that each is paid for and can do no harm. `read`, `write`,
`run`, `query`, `post` and `secret` are pretended: they reach no file, no machine and no table, and
say what they would have done, which is recorded. So a glued command has the same result as a safe
one for a harmless name: only its form tells them apart (see safety.py).
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from rlhf_lab.tasks.code.limits import CONTAINERS, Budget, check_size, checked
from rlhf_lab.tasks.code.operators import filled, text_of

SELECT = re.compile(r"select (\w+) from (\w+) where (\w+) = ('[^']*'|\?)")
NUMBER = re.compile(r"\s*[-+]?\d{1,30}\s*")
METHODS: dict[type, str] = {
    str: "count replace split join startswith endswith upper lower title capitalize strip lstrip "
    "rstrip isdigit isupper islower isalpha isalnum isspace find index removeprefix removesuffix "
    "format swapcase splitlines",
    list: "append extend insert remove pop index count sort reverse copy clear",
    tuple: "index count",
    dict: "get items keys values setdefault pop update copy",
    set: "add discard remove union intersection difference update copy issubset",
}
ALLOWED = {kind: frozenset(names.split()) for kind, names in METHODS.items()}
TYPES = {"int": int, "str": str, "list": list, "dict": dict, "set": set, "tuple": tuple}
TYPES |= {"bool": bool, "float": float}


class Library:
    """What code may call, with the budget that pays for it. apply: calls a value of the code."""

    def __init__(self, budget: Budget, apply: Callable[..., Any]):
        self.budget, self.apply = budget, apply
        self.deeds: list[str] = []  # what `read`, `run` and the like would have done
        self.functions: dict[str, Callable[..., Any]] = {
            "len": self._len,
            "sum": self._sum,
            "min": lambda *things, **options: self._extreme(min, things, **options),
            "max": lambda *things, **options: self._extreme(max, things, **options),
            "sorted": self._sorted,
            "reversed": lambda things: budget.all(things)[::-1],
            "any": lambda things: any(budget.each(things)),
            "all": lambda things: all(budget.each(things)),
            "list": lambda things=(): budget.all(things),
            "tuple": lambda things=(): tuple(budget.all(things)),
            "set": lambda things=(): set(self._hashable(things)),
            "dict": lambda things=(): dict(self._pairs(things)),
            "int": self._int,
            "float": lambda value=0.0: float(value[:40] if isinstance(value, str) else value),
            "str": lambda value="": text_of(value),
            "repr": lambda value: text_of(value, quoted=True),
            "bool": lambda value=False: bool(value),
            "abs": abs,
            "round": lambda value, digits=None: round(value, digits and max(-40, min(40, digits))),
            "range": self._range,
            "enumerate": lambda things, start=0: enumerate(budget.each(things), start),
            "zip": lambda *lists: zip(*map(budget.each, lists)),
            "map": lambda f, *lists: (apply(f, *each) for each in zip(*map(budget.each, lists))),
            "filter": lambda f, things: (x for x in budget.each(things) if self._true(f, x)),
            "next": self._next,
            "isinstance": self._isinstance,
            "divmod": lambda a, b: (a // b, a % b),
            "ord": ord,
            "chr": chr,
            "print": lambda *values, **options: None,
            **PRETENDED,
            **{name: self._recorded(do) for name, do in DEEDS.items()},
        }

    def _recorded(self, do: Callable[..., str]) -> Callable[..., str]:
        def deed(*args: Any, **options: Any) -> str:
            done = do(*args, **options)
            self.deeds.append(done)
            return done

        return deed

    # ---- functions of Python

    def _len(self, things: Any) -> int:
        return len(things)

    def _sum(self, things: Iterable, start: Any = 0) -> Any:
        for thing in self.budget.each(things):
            if isinstance(thing, list | tuple):
                self.budget.spend(len(start) + len(thing))
            start = checked(start + thing)
        return start

    def _extreme(self, choose: Callable, things: tuple, key: Any = None, **options: Any) -> Any:
        values = self.budget.all(things[0] if len(things) == 1 else things)
        if any(isinstance(value, CONTAINERS) for value in values):
            self.budget.weigh(values)
        if key is not None:
            options["key"] = lambda x: self.apply(key, x)
        return choose(values, **options)

    def _sorted(self, things: Iterable, key: Any = None, reverse: bool = False) -> list:
        values = self.budget.all(things)
        keys = values if key is None else [self.apply(key, x) for x in values]
        cost = max([1, *map(self.budget.weigh, keys)]) if keys else 1
        self.budget.spend(cost * len(values) * len(values).bit_length() // 2)
        order = sorted(range(len(values)), key=keys.__getitem__, reverse=bool(reverse))
        return [values[i] for i in order]

    def _hashable(self, things: Iterable) -> Iterable:
        for thing in self.budget.all(things):
            self.budget.weigh(thing)
            yield thing

    def _pairs(self, things: Any) -> Iterable:
        for key, value in self.budget.all(things.items() if isinstance(things, dict) else things):
            self.budget.weigh(key)
            yield key, value

    def _int(self, value: Any = 0, base: int = 10) -> int:
        if isinstance(value, str):
            check_size(len(value) * 100)
            return checked(int(value, base))
        return checked(int(value))

    def _range(self, *ends: int) -> range:
        made = range(*ends)
        for end in ends:
            checked(end)
        check_size(len(made))
        return made

    def _true(self, f: Any, x: Any) -> Any:
        return x if f is None else self.apply(f, x)

    def _next(self, things: Any, *default: Any) -> Any:
        if not hasattr(things, "__next__"):
            raise TypeError("next needs an iterator")
        return next(things, *default)

    def _isinstance(self, value: Any, kinds: Any) -> bool:
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        wanted = [TYPES[name] for name, f in self.functions.items() if f in kinds and name in TYPES]
        return isinstance(value, tuple(wanted))

    def from_keys(self, things: Iterable, value: Any = None) -> dict:
        """dict.fromkeys"""
        return dict.fromkeys(self._hashable(things), value)

    # ---- methods

    def method(self, thing: Any, name: str, args: list, options: dict) -> Any:
        """Call a method of a value, if it is one that code may call."""
        kind = next((kind for kind in ALLOWED if type(thing) is kind), None)
        if kind is None or name not in ALLOWED[kind]:
            raise AttributeError(f"there is no {name} here")
        if kind is str:
            return self._of_text(thing, name, args, options)
        if name in ("append", "add", "insert", "setdefault", "get", "pop", "discard"):
            self.budget.weigh(args[0] if args else None)
            check_size(len(thing) + 1)
            return getattr(thing, name)(*args, **options)
        self.budget.weigh(thing)
        if name == "sort":
            thing[:] = self._sorted(thing, **options)
            return None
        if name in ("extend", "update", "union", "intersection", "difference", "issubset"):
            pairs = kind is dict and isinstance(args[0], dict)
            args = [dict(args[0]) if pairs else list(self._hashable(x)) for x in args]
            check_size(len(thing) + sum(map(len, args)))
        else:
            for argument in args:
                self.budget.weigh(argument)
        made = getattr(thing, name)(*args, **options)
        return list(made) if name in ("items", "keys", "values") else made

    def _of_text(self, text: str, name: str, args: list, options: dict) -> Any:
        self.budget.spend(1 + len(text) // 8)
        if name == "join":
            parts = self.budget.all(*args)
            check_size(sum(map(len, parts)) + len(text) * len(parts))
            return text.join(parts)
        if name == "replace":
            check_size((text.count(args[0]) + 1) * len(args[1]) + len(text))
        if name == "format":
            if re.search(r"[{}]", text.replace("{}", "")):
                raise TypeError("only a plain {} is known here")
            return filled(text.split("{}"), args)
        return checked(getattr(text, name)(*args, **options))


# ------------------------------------------------------------------------ what is only pretended


def _read(path: str) -> str:
    return f"text of {_text(path)}"


def _write(path: str, text: str) -> str:
    return f"wrote {_text(text)} to {_text(path)}"


def _inside(folder: str, name: str) -> str:
    """The path of a file in a folder; refuses a name that would leave it."""
    if ".." in _text(name) or name.startswith("/"):
        raise ValueError("this name leaves the folder")
    return f"{_text(folder)}/{name}"


def _run(command: str | list[str]) -> str:
    if isinstance(command, list):
        return "ran " + filled(["", *[" "] * (len(command) - 1), ""], [*map(_text, command)])
    return f"ran {_text(command)}"


def _query(sql: str, values: list = []) -> str:  # noqa: B006
    """What a table would say to the one form of query that it knows."""
    found = SELECT.fullmatch(_text(sql))
    if not found or (found[4] == "?") != (len(values) == 1):
        raise ValueError("the table does not understand this")
    value = _text(values[0]) if values else found[4][1:-1]
    return f"{found[1]} of {found[3]} {value} in {found[2]}"


def _secret(name: str) -> str:
    return f"{_text(name)}-key"


def _same(a: str, b: str) -> bool:
    """Compares two texts in a time that does not depend on where they differ."""
    return _text(a) == _text(b)


def _post(text: str, key: str) -> str:
    if not _text(key).endswith("-key"):
        raise ValueError("this is no secret")
    return f"sent {_text(text)} to {key.removesuffix('-key')}"


def _escape(text: str) -> str:
    check_size(6 * len(_text(text)))
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(sign, name)
    return text


def _eval(text: str) -> int:
    """The pretended `eval` knows whole numbers and nothing else."""
    if not NUMBER.fullmatch(_text(text)):
        raise ValueError("eval is only pretended here")
    return int(text)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("this wants a text")
    return value


DEEDS: dict[str, Callable[..., str]] = {
    "read": _read,
    "write": _write,
    "run": _run,
    "query": _query,
    "post": _post,
}
PRETENDED: dict[str, Callable[..., Any]] = {
    "inside": _inside,
    "secret": _secret,
    "same": _same,
    "escape": _escape,
    "eval": _eval,
}
