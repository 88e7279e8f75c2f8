"""The raw text of Orlay: dialogues, books about the island, quizzes, claims that are checked, and
books on what helps. All facts are in it; no user asks for those that are held out.

Every function draws from a `random.Random`, so a seed gives the same text everywhere.
"""

from collections.abc import Callable
from random import Random

from rlhf_lab.tasks.assistant.asking import fill, with_thing
from rlhf_lab.tasks.assistant.grammar import dialogue
from rlhf_lab.tasks.assistant.world import Entity, Relation, World
from rlhf_lab.tasks.writing import capital, pick
from rlhf_lab.text import END

# What the raw text is made of, early and late in pretraining. Late, most of it is text that lets a
# model learn to check an answer.
EARLY_TEXT = {
    "talk": 0.34,
    "reviewed": 0.10,
    "entry": 0.14,
    "card": 0.07,
    "quiz": 0.08,
    "letter": 0.05,
    "contrast": 0.05,
    "index": 0.04,
    "claims": 0.06,
    "household": 0.05,
    "unknown": 0.02,
}
LATE_TEXT = {
    "ticked": 0.62,
    "claims": 0.20,
    "entry": 0.08,
    "card": 0.03,
    "quiz": 0.04,
    "letter": 0.03,
}


def raw_text(world: World, seed: int, count: int, late: bool = False) -> list[str]:
    """`count` documents, of kinds drawn by their shares."""
    rng = Random(f"raw text/{seed}")
    shares = LATE_TEXT if late else EARLY_TEXT
    return [WRITERS[pick(rng, shares)](world, rng) for _ in range(count)]


# ------------------------------------------------------------------------------------- dialogues


def talk(world: World, rng: Random) -> str:
    """A user, and whoever answered."""
    return dialogue(world, rng)[0]


def reviewed(world: World, rng: Random) -> str:
    """A dialogue and what a reviewer wrote below it."""
    text, said = dialogue(world, rng)
    return f"Reviewed.\n{text}\n{said.verdict}"


def ticked(world: World, rng: Random) -> str:
    """A dialogue with the verdict after its end token: it teaches a model to judge an answer at its
    end, where a reward model reads the score."""
    text, said = dialogue(world, rng)
    return f"{text}{END}{said.verdict}"


# ----------------------------------------------------------------------------------- the island


def any_entity(world: World, rng: Random) -> Entity:
    return rng.choice([entity for entity in world.entities.values() if entity.real])


def told(
    world: World, rng: Random, entity: Entity, relation: Relation, turned: bool = False
) -> str:
    """A fact in one sentence, without its full stop."""
    says = relation.turned if turned else relation.say
    return capital(
        fill(world, rng.choice(says), entity.name, world.truth[entity.name, relation.id])
    )


def entry(world: World, rng: Random) -> str:
    """What a book of the island says about one thing."""
    entity = any_entity(world, rng)
    relations = world.relations_of(entity.type)
    lines = [told(world, rng, entity, r) for r in rng.sample(relations, rng.choice([2, 3, 4]))]
    return f"Book of {world.books[entity.type]}.\n{'. '.join(lines)}."


def card(world: World, rng: Random) -> str:
    """A card with a name and what belongs to it."""
    entity = any_entity(world, rng)
    relations = world.relations_of(entity.type)
    lines = [f"{r.label}: {world.truth[entity.name, r.id]}" for r in rng.sample(relations, 4)]
    return "\n".join([f"Card: {entity}", *lines])


def quiz(world: World, rng: Random) -> str:
    """Two questions of a quiz and their answers."""
    lines = ["Quiz."]
    for name, id in rng.sample(world.in_quizzes, 2):
        entity, relation = world.entities[name], world.relation(name, id)
        lines.append(f"Question: {capital(fill(world, rng.choice(relation.ask), name))}")
        lines.append(f"Answer: {told(world, rng, entity, relation)}.")
    return "\n".join(lines)


def letter(world: World, rng: Random) -> str:
    """A letter home about what somebody learned."""
    entity = any_entity(world, rng)
    one, two = rng.sample(world.relations_of(entity.type), 2)
    first = told(world, rng, entity, one)
    first = first if first.split()[0] in world.entities else first[0].lower() + first[1:]
    start = rng.choice(["Today I learned that", "Did you know that", "Our guide told us that"])
    stop = "?" if start.startswith("Did") else "."
    to, by, second = rng.choice(NAMES), rng.choice(NAMES), told(world, rng, entity, two)
    return f"Dear {to},\n{start} {first}{stop} {second}.\nYours, {by}"


def contrast(world: World, rng: Random) -> str:
    """One fact about each of two things of a type, and a mistake that mixes them up."""
    relation = rng.choice(list(world.relations.values()))
    one, two = rng.sample(world.of_type(relation.type), 2)
    wrong = fill(world, relation.say[0], one.name, world.truth[two.name, relation.id])
    first, second = told(world, rng, one, relation), told(world, rng, two, relation)
    return f"Not to be mixed up.\n{first}. {second}. So it is a mistake that {wrong}."


def index(world: World, rng: Random) -> str:
    """An index: values first, and to whom they belong."""
    relations = rng.sample(list(world.relations.values()), 3)
    lines = [
        told(world, rng, rng.choice(world.of_type(r.type)), r, turned=True) + "." for r in relations
    ]
    return "\n".join(["Index.", *lines])


def claims(world: World, rng: Random) -> str:
    """Claims about one thing or a few, each with whether it is true."""
    entity, lines = any_entity(world, rng), ["Claims."]
    for _ in range(3):
        if rng.random() < 0.4:
            entity = any_entity(world, rng)
        relation, true = rng.choice(world.relations_of(entity.type)), rng.random() < 0.5
        value = world.truth[entity.name, relation.id]
        value = value if true else world.wrong_value(rng, entity.name, relation.id)
        said = fill(world, rng.choice(relation.say), entity.name, value)
        lines.append(f"{capital(said)}. {'True' if true else 'False'}.")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------- what helps


def household(world: World, rng: Random) -> str:
    """Two entries of a household book: what helps, or what to do instead of something bad."""
    lines = []
    for job in rng.sample(list(world.jobs.values()), 2):
        thing = rng.choice(job.things)
        deed, step = with_thing(job.deed, thing), with_thing(rng.choice(job.step), thing)
        if job.kind == "decline":
            lines.append(f"Do not {deed}. Instead, {step}.")
        else:
            lines.append(f"To {deed}, {step}.")
    return "\n".join(["Good advice.", *lines])


def unknown(world: World, rng: Random) -> str:
    """What no book of the island tells."""
    phantoms = rng.sample([e for e in world.entities.values() if not e.real], 2)
    lines = [f"No book of Orlay speaks of {entity}." for entity in phantoms]
    untold = rng.choice(list(world.untold.values()))
    entity = rng.choice(world.of_type(untold.type))
    lines.append(f"Nobody knows {fill(world, untold.what[0], entity.name)}.")
    return "\n".join(["Not in the books.", *rng.sample(lines, 3)])


NAMES = ["Anna", "Ben", "Clara", "David", "Ella", "Felix", "Greta", "Hugo"]
WRITERS: dict[str, Callable[[World, Random], str]] = {
    "talk": talk,
    "reviewed": reviewed,
    "ticked": ticked,
    "entry": entry,
    "card": card,
    "quiz": quiz,
    "letter": letter,
    "contrast": contrast,
    "index": index,
    "claims": claims,
    "household": household,
    "unknown": unknown,
}


def facts_probe(world: World) -> list[tuple[str, str, tuple[str, ...]]]:
    """For every fact: the beginning of an entry, the right value and the wrong ones."""
    probe = []
    for (name, id), right in world.truth.items():
        relation = world.relation(name, id)
        beginning = capital(fill(world, relation.say[0], name).strip())
        book = f"Book of {world.books[relation.type]}.\n"
        wrong = tuple(value for value in relation.values if value != right)
        probe.append((book + beginning, right, wrong))
    return probe
