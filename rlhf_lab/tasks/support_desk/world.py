"""The facts of the support desk: the products, the problems, what fixes each, and which
product-problem combinations are kept for the held-out prompts alone.

`world.toml` and `phrases.toml` hold the facts and the phrases; other modules get them from here.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from rlhf_lab.tasks.writing import is_held_out, read_toml


@dataclass(frozen=True)
class Product:
    name: str  # "Nimbus"
    kind: str  # "headset"

    def __str__(self) -> str:
        return f"{self.name} {self.kind}"


@dataclass(frozen=True)
class Problem:
    """One thing that goes wrong: how customers say it, and the one step that fixes it."""

    id: str
    kinds: tuple[str, ...]  # the kinds of product that can have it
    symptom: tuple[str, ...]
    asks: tuple[str, ...]  # phrasings that training text may use
    apart: tuple[str, ...]  # phrasings written separately, for held-out prompts only
    step: tuple[str, ...]
    signs: tuple[tuple[str, ...], ...]  # word groups that together state the step


@dataclass(frozen=True, eq=False)
class World:
    products: tuple[Product, ...]
    problems: dict[str, Problem]
    phrases: dict

    @cached_property
    def _combinations(self) -> dict[bool, list[tuple[Product, Problem]]]:
        pairs = [
            (product, problem)
            for problem in self.problems.values()
            for product in self.products
            if product.kind in problem.kinds
        ]
        return {
            side: [p for p in pairs if is_held_out(p[0].name, p[1].id) == side]
            for side in (False, True)
        }

    def combinations(self, held_out: bool) -> list[tuple[Product, Problem]]:
        """All product-problem pairs that can occur, held out or not."""
        return self._combinations[held_out]


@lru_cache(maxsize=1)
def load_world() -> World:
    """Read the two TOML files beside this module."""
    here = Path(__file__).parent
    facts, phrases = read_toml(here / "world.toml"), read_toml(here / "phrases.toml")
    products = tuple(
        Product(name, kind) for kind, names in facts["products"].items() for name in names
    )
    problems = {entry["id"]: Problem(**entry) for entry in facts["problem"]}
    return World(products, problems, phrases)
