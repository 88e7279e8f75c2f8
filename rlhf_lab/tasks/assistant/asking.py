"""What users ask, and the facts of it that the judge needs.

Every function draws from a `random.Random`, so a seed gives the same text everywhere.
"""

from collections.abc import Iterator
from random import Random

from rlhf_lab.records import Prompt
from rlhf_lab.tasks.assistant.world import KINDS, Relation, Untold, World
from rlhf_lab.tasks.writing import capital, contracted, rounds

PROMPT = "User: {message}\nAssistant:"
BELIEF_IS_RIGHT = 0.35  # of the beliefs that users state


def prompts(
    world: World,
    seed: int,
    count: int,
    held_out: bool = False,
    apart: bool = False,
    name: str = "prompt",
) -> list[Prompt]:
    """`count` prompts: kinds by their shares, and for each kind all its combinations in shuffled
    order, again and again."""
    rng = Random(f"{name}/{seed}")
    kinds = [kind for kind, share in KINDS.items() for _ in range(round(share * count) + 1)]
    kinds = rng.sample(kinds, len(kinds))[:count]
    order: dict[str, Iterator] = {
        kind: iter(rounds(rng, world.combinations(kind, held_out), kinds.count(kind)))
        for kind in KINDS
    }
    drawn: list[Prompt] = []
    seen: set[str] = set()
    for i, kind in enumerate(kinds):
        about = facts(world, rng, kind, *next(order[kind]))
        asked = prompt(world, rng, about, apart, f"{name}-{i:05d}")
        while held_out and asked.text in seen:  # what is evaluated is asked once
            asked = prompt(world, rng, about, apart, asked.id)
        seen.add(asked.text)
        drawn.append(asked)
    return drawn


def facts(world: World, rng: Random, kind: str, first: str, second: str) -> dict:
    """What the judge must know of a request: its kind and what it is about."""
    if kind not in ("fact", "belief", "unknowable"):
        return {"kind": kind, "job": first, "thing": second}
    about = {"kind": kind, "entity": first}
    if second in world.untold:
        return about | {"untold": second}
    about["relation"] = second
    if kind == "belief":
        right = rng.random() < BELIEF_IS_RIGHT
        value = world.truth[first, second] if right else world.wrong_value(rng, first, second)
        about["believed"] = value
    return about


def prompt(world: World, rng: Random, about: dict, apart: bool = False, id: str = "") -> Prompt:
    """One user's message with the facts that the judge needs.

    apart=True takes a phrasing that no training text ever uses.
    """
    says = world.phrases["user"]
    ask = question(world, rng, about, apart)
    opener, closer = rng.choice(says["openers"]), rng.choice(says["closers"])
    message = " ".join(part for part in (opener, ask if opener else capital(ask), closer) if part)
    return Prompt(id, PROMPT.format(message=message), about)


def question(world: World, rng: Random, about: dict, apart: bool = False) -> str:
    """What the user asks, without a greeting."""
    says = world.phrases["user"]
    if "job" in about:
        job = world.jobs[about["job"]]
        ask = with_thing(rng.choice(job.apart if apart else job.asks), about["thing"])
    elif "believed" in about:
        relation = world.relation(about["entity"], about["relation"])
        said = rng.choice(relation.apart_say if apart else relation.say)
        frame = rng.choice(says["belief_apart" if apart else "belief"])
        ask = frame.format(say=fill(world, said, about["entity"], about["believed"]))
    else:
        asked = subject(world, about)
        if not apart and rng.random() < 0.4:
            ask = rng.choice(says["indirect"]).format(what=rng.choice(asked.what))
        else:
            ask = rng.choice(asked.apart if apart else asked.ask)
        ask = fill(world, ask, about["entity"])
    if not apart and rng.random() < 0.3:
        ask = contracted(ask, says["contractions"])
    return ask


def subject(world: World, about: dict) -> Relation | Untold:
    """The relation, or the untold thing, that a question is about."""
    if "untold" in about:
        return world.untold[about["untold"]]
    return world.relation(about["entity"], about["relation"])


def fill(world: World, template: str, entity: str, value: str = "") -> str:
    """A phrase with an entity and a value in it."""
    return template.format(e=world.entities[entity], n=entity, v=value)


def with_thing(template: str, thing: str) -> str:
    """A phrase with a thing in it: "a pear", but "an egg"."""
    if thing[0] in "aeiou":
        template = template.replace(" a {x}", " an {x}")
    return template.format(x=thing)
