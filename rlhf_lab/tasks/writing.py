"""What the grammars of all worlds share: facts and phrases from TOML, combinations kept for the
held-out prompts, writers drawn by their shares.

Whatever is drawn comes from a `random.Random` that is passed in: a seed gives the same text
everywhere.
"""

import hashlib
import re
import tomllib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

Thing = TypeVar("Thing")
Key = TypeVar("Key", bound=Hashable)

HELD_OUT_SHARE = 0.15  # of all combinations


def read_toml(file: str | Path) -> dict[str, Any]:
    """The tables of a TOML file, their lists as tuples."""
    return _frozen(tomllib.loads(Path(file).read_text(encoding="utf-8")))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def is_held_out(*names: str, share: float = HELD_OUT_SHARE) -> bool:
    """Whether a combination of these names is kept for evaluation, as a `share` of all are. A fixed
    hash of the names decides, so it never changes."""
    digest = hashlib.sha256("/".join(names).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < share


def rounds(rng: Random, things: Sequence[Thing], count: int) -> list[Thing]:
    """`count` things: all of them in shuffled order, again and again."""
    every = [x for _ in range(count // len(things) + 1) for x in rng.sample(things, len(things))]
    return every[:count]


def pick(rng: Random, shares: Mapping[Key, float]) -> Key:
    """One of the keys, drawn with probabilities in proportion to the values."""
    return rng.choices(list(shares), list(shares.values()))[0]


def capital(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def contracted(text: str, contractions: Iterable[tuple[str, str]]) -> str:
    """The text with whole words contracted: "does not" as "doesn't", as the pairs say."""
    for long, short in contractions:
        text = re.sub(rf"\b{long}\b", short, text)
    return text
