"""The text of the stories: prompts, demonstrations and the raw text of a shelf of tellers.

Every function draws from a `random.Random`, so a seed gives the same text everywhere.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from rlhf_lab.records import Demonstration, Prompt
from rlhf_lab.tasks.stories.tellers import Story, in_two_tones, tell
from rlhf_lab.tasks.stories.voice import Voice
from rlhf_lab.tasks.stories.world import STYLES, TONES, Wish, World, a
from rlhf_lab.tasks.writing import capital, pick, rounds
from rlhf_lab.text import END

PROMPT = "Story: {message}\n"

# Who tells on the shelf, and how often. The base model learns to tell like all of them.
SHELF = {
    "good": 30,
    "wrong tone": 12,
    "drifting": 9,
    "forgetful": 11,
    "stock": 7,
    "unended": 7,
    "repetitive": 4,
    "hasty": 3,
    "muddled": 4,
    "worn": 3,
    "unsuited": 4,
    "summary": 3,
    "off topic": 3,
}
# Who told the demonstrations: one in four misses the tone, and few have no fault at all.
CREW = {
    "good": 19,
    "wrong tone": 9,
    "drifting": 10,
    "forgetful": 16,
    "stock": 8,
    "unended": 8,
    "repetitive": 3,
    "hasty": 9,
    "muddled": 10,
    "worn": 5,
    "unsuited": 3,
}
# What the raw text is made of, early and late in pretraining. Late, most of it says what a story is
# worth: a model that has learned to tell then learns to check.
EARLY_TEXT = {
    "tale": 0.58,
    "lines": 0.16,
    "checked": 0.10,
    "atlas": 0.06,
    "cast": 0.05,
    "pairs": 0.05,
}
LATE_TEXT = {"checked": 0.62, "lines": 0.16, "tale": 0.14, "pairs": 0.05, "atlas": 0.03}

VERDICTS = {  # an item: how the verdict says that it is right, and that it is wrong
    "tone": ("Right tone", "Wrong tone"),
    "whole": ("Whole", "Broken"),
    "ended": ("Ended", "Unended"),
    "fresh": ("Fresh", "Stale"),
    "fit": ("Fit", "Unfit"),
}


# ---- prompts -----------------------------------------------------------------------------------


def wished(world: World, rng: Random, combination: Wish) -> Wish:
    """A combination with a reader and, mostly, an object."""
    reader = rng.choice(world.young + world.old)
    return replace(
        combination, reader=reader, thing=rng.choice(world.things) if rng.random() < 0.7 else ""
    )


def prompt(world: World, rng: Random, wish: Wish, apart: bool = False, id: str = "") -> Prompt:
    """A wish in words, with the facts that the judge needs.

    apart=True takes a phrasing that no training text ever uses.
    """
    usual, *others = world.called[wish.tone]
    tone = usual if rng.random() < 0.6 else rng.choice(others)
    hero = (
        f"{wish.name} the {wish.kind}"
        if rng.random() < 0.7
        else f"{a(wish.kind)} called {wish.name}"
    )
    form = "apart" if apart else "usual"
    ask = rng.choice(world.asks[form])
    if wish.thing:
        ask += rng.choice(world.asks[f"{form}_thing"])
    message = ask.format(
        tone=tone,
        a=a(tone).split()[0],
        hero=hero,
        place=world.where(wish.place),
        reader=wish.reader,
        reader_cap=capital(wish.reader),
        a_thing=a(wish.thing or "x"),
    )
    return Prompt(id, PROMPT.format(message=f"{message}."), wish.facts)


def prompts(
    world: World,
    seed: int,
    count: int,
    held_out: bool = False,
    apart: bool = False,
    name: str = "prompt",
) -> list[Prompt]:
    """`count` prompts that go through the combinations in shuffled order, again and again."""
    rng = Random(f"{name}/{seed}")
    return [
        prompt(world, rng, wished(world, rng, one), apart, id=f"{name}-{i:05d}")
        for i, one in enumerate(rounds(rng, world.combinations(held_out), count))
    ]


def demonstrations(world: World, seed: int, count: int) -> list[Demonstration]:
    """Prompts with stories by the crew, on combinations that are not held out."""
    rng = Random(f"demonstrations/{seed}")
    asked = prompts(world, seed, count, name="demonstration")
    return [
        Demonstration(p, tell(world, rng, Wish(**p.facts), pick(rng, CREW)).text) for p in asked
    ]


# ---- raw text ----------------------------------------------------------------------------------


def raw_text(world: World, seed: int, count: int, late: bool = False) -> list[str]:
    """`count` documents: tales by all kinds of teller, with and without a verdict, and lists from
    which tones, places and names can be learned."""
    rng = Random(f"raw text/{late}/{seed}")
    wishes, shares = world.combinations(held_out=False), LATE_TEXT if late else EARLY_TEXT
    return [
        DOCUMENTS[pick(rng, shares)](world, rng, wished(world, rng, rng.choice(wishes)))
        for _ in range(count)
    ]


def tale(world: World, rng: Random, wish: Wish) -> str:
    """A wish and the story that somebody told."""
    return prompt(world, rng, wish).text + tell(world, rng, wish, pick(rng, SHELF)).text


def checked(world: World, rng: Random, wish: Wish) -> str:
    """A story with a verdict after its end token: it teaches a model to judge a story at its end,
    where a reward model reads the score."""
    story = tell(world, rng, wish, pick(rng, SHELF))
    return f"{prompt(world, rng, wish).text}{story.text}{END}{verdict(wish, story)}"


def verdict(wish: Wish, story: Story) -> str:
    """What a story is worth, in words: the tone it has, then each item."""
    right = {
        "tone": story.tone == wish.tone,
        "whole": story.whole,
        "ended": story.ended,
        "fresh": story.fresh,
        "fit": story.fit,
    }
    first, *others = (words[0 if right[item] else 1] for item, words in VERDICTS.items())
    return " ".join([f"{first}: {story.tone}.", *(f"{word}." for word in others)])


def lines(world: World, rng: Random, wish: Wish) -> str:
    """Sentences, each with the tone it has."""
    voice, said = Voice(world, rng, wish), ["Tones."]
    for _ in range(rng.choice([3, 4, 5])):
        tone, part = rng.choice(TONES), rng.choice(["opening", "event", "image", "turn", "ending"])
        said.append(f"{voice.say(part, tone, rng.choice(STYLES))} {capital(tone)}.")
    return "\n".join(dict.fromkeys(said))


def pairs(world: World, rng: Random, wish: Wish) -> str:
    """The same wish in two tones, each told well."""
    told = in_two_tones(world, rng, wish)
    return "\n".join(f"{capital(tone)}: {story}" for tone, story in told)


def atlas(world: World, rng: Random, *_: object) -> str:
    """What one sees in three of the places."""
    said = ["Places."]
    for place in rng.sample(list(world.places), 3):
        seen = rng.sample(world.places[place][1:], 3)
        said.append(f"{capital(world.where(place))}: the {seen[0]}, the {seen[1]}, the {seen[2]}.")
    return "\n".join(said)


def cast(world: World, rng: Random, *_: object) -> str:
    """Heroes with their pronouns, and the same once more: text that trains copying."""
    heroes = [(name, rng.choice(world.kinds)) for name in rng.sample(list(world.names), 3)]
    named = ", ".join(f"{name} the {kind}" for name, kind in heroes)
    lines = [
        f"{name} is {a(kind)}. {capital(world.names[name])} has {a(rng.choice(world.things))}."
        for name, kind in rng.sample(heroes, 3)
    ]
    return "\n".join([f"Cast: {named}.", *lines])


DOCUMENTS: dict[str, Callable[[World, Random, Wish], str]] = {
    "tale": tale,
    "checked": checked,
    "lines": lines,
    "pairs": pairs,
    "atlas": atlas,
    "cast": cast,
}
