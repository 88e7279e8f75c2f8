"""The facts of the assistant's world: the island of Orlay, the jobs that people want done, and
which combinations are kept for the held-out prompts alone.

`facts.toml`, `jobs.toml` and `phrases.toml` hold the facts and the phrases; other modules get them
from here.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random

from rlhf_lab.tasks.writing import is_held_out, read_toml

# The kinds of request, and the share of the prompts that each has.
KINDS = {
    "fact": 0.30,
    "belief": 0.20,
    "unknowable": 0.12,
    "everyday": 0.14,
    "decline": 0.14,
    "look-alike": 0.10,
}
IN_QUIZZES = 0.5  # of the facts that are not held out


@dataclass(frozen=True)
class Entity:
    """Something on Orlay, or a phantom that only a user speaks of."""

    name: str  # "brindle"
    type: str  # "animal"
    article: str  # "the " or ""
    real: bool = True

    def __str__(self) -> str:
        return self.article + self.name


@dataclass(frozen=True)
class Relation:
    """What can be told of every entity of a type, and how it is said and asked."""

    type: str
    id: str
    label: str
    values: tuple[str, ...]  # in the order of the type's names
    say: tuple[str, ...]
    turned: tuple[str, ...]
    what: tuple[str, ...]
    ask: tuple[str, ...]
    apart: tuple[str, ...]  # phrasings written separately, for held-out prompts only
    apart_say: tuple[str, ...]


@dataclass(frozen=True)
class Untold:
    """What nobody can know of an entity, with values that a liar would take."""

    id: str
    type: str
    values: tuple[str, ...]
    say: tuple[str, ...]
    what: tuple[str, ...]
    ask: tuple[str, ...]
    apart: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Something that people want done, and the one step that helps; for what should be declined
    that is an alternative."""

    kind: str  # "everyday", "look-alike" or "decline"
    id: str
    things: tuple[str, ...]
    asks: tuple[str, ...]
    apart: tuple[str, ...]
    deed: str
    step: tuple[str, ...]
    signs: tuple[tuple[str, ...], ...]  # word groups that together state the step
    harm: tuple[tuple[str, ...], ...] = ()  # word groups that together do what should not be done


Pair = tuple[str, str]  # an entity and a relation or untold thing, or a job and a thing


@dataclass(frozen=True, eq=False)
class World:
    entities: dict[str, Entity]
    relations: dict[Pair, Relation]  # by type and id
    untold: dict[str, Untold]
    jobs: dict[str, Job]
    books: dict[str, str]  # the name of the book on each type
    phrases: dict

    def of_type(self, type: str, real: bool = True) -> list[Entity]:
        return [e for e in self.entities.values() if e.type == type and e.real == real]

    def relation(self, entity: str, id: str) -> Relation:
        return self.relations[self.entities[entity].type, id]

    def relations_of(self, type: str) -> list[Relation]:
        return [r for r in self.relations.values() if r.type == type]

    @cached_property
    def truth(self) -> dict[Pair, str]:
        """The value of every entity and relation."""
        return {
            (entity.name, relation.id): value
            for relation in self.relations.values()
            for entity, value in zip(self.of_type(relation.type), relation.values, strict=True)
        }

    def wrong_value(self, rng: Random, entity: str, relation: str) -> str:
        """A value that is right for another entity of the type."""
        right = self.truth.get((entity, relation))
        return rng.choice([v for v in self.relation(entity, relation).values if v != right])

    @cached_property
    def _combinations(self) -> dict[str, list[Pair]]:
        """All pairs that a request of each kind can be about."""
        phantom = [
            (entity.name, relation.id)
            for relation in self.relations.values()
            for entity in self.of_type(relation.type, real=False)
        ]
        untold = [
            (entity.name, untold.id)
            for untold in self.untold.values()
            for entity in self.of_type(untold.type)
        ]
        jobs = {
            kind: [
                (job.id, x) for job in self.jobs.values() if job.kind == kind for x in job.things
            ]
            for kind in ("everyday", "decline", "look-alike")
        }
        facts = list(self.truth)
        return {"fact": facts, "belief": facts, "unknowable": phantom + untold, **jobs}

    def combinations(self, kind: str, held_out: bool) -> list[Pair]:
        """The pairs that requests of this kind are about, held out or not."""
        return [pair for pair in self._combinations[kind] if is_held_out(*pair) == held_out]

    @cached_property
    def in_quizzes(self) -> list[Pair]:
        """The facts that raw text asks for in quizzes: half of those that are not held out."""
        pairs = self.combinations("fact", held_out=False)
        return [pair for pair in pairs if is_held_out("quiz", *pair, share=IN_QUIZZES)]


@lru_cache(maxsize=1)
def load_world() -> World:
    """Read the three TOML files beside this module."""
    here = Path(__file__).parent
    facts, jobs, phrases = (
        read_toml(here / f"{name}.toml") for name in ("facts", "jobs", "phrases")
    )
    entities = {
        name: Entity(name, type, entry["article"], real)
        for type, entry in facts["type"].items()
        for real, names in ((True, entry["names"]), (False, entry["phantoms"]))
        for name in names
    }
    return World(
        entities,
        {(entry["type"], entry["id"]): Relation(**entry) for entry in facts["relation"]},
        {entry["id"]: Untold(**entry) for entry in facts["untold"]},
        {entry["id"]: Job(**entry) for entry in jobs["job"]},
        {type: entry["book"] for type, entry in facts["type"].items()},
        phrases,
    )
