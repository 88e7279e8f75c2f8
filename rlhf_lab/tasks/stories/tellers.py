"""Who tells the stories: one who tells them well, and others with one fault or two.

A teller fills the fragments of `tales.toml` with the hero, the place and the object of a wish, and
knows what the story is worth: its tone, and whether it holds together, ends, is fresh and fits.
"""

from dataclasses import dataclass, replace
from random import Random

from rlhf_lab.tasks.stories.voice import Voice
from rlhf_lab.tasks.stories.world import STYLES, TONES, Wish, World
from rlhf_lab.tasks.writing import pick

LENGTHS = {"quiet": {4: 55, 5: 45}, "lively": {3: 45, 4: 55}}  # sentences
ORDERS = {  # the parts of a story of so many sentences
    3: (("opening", "event", "ending"),),
    4: (
        ("opening", "event", "turn", "ending"),
        ("opening", "event", "turn", "ending"),
        ("opening", "event", "image", "ending"),
    ),
    5: (
        ("opening", "image", "event", "turn", "ending"),
        ("opening", "event", "turn", "image", "ending"),
        ("opening", "event", "image", "turn", "ending"),
    ),
}
LONGEST = 42  # words
SLIPS = {"name": 30, "kind": 15, "place": 25, "thing": 15, "pronoun": 15}  # what is forgotten


@dataclass(frozen=True)
class Teller:
    """What somebody does wrong when telling a story."""

    tone: str = "asked"  # or "wrong", or "drifting": it begins as asked and ends in another tone
    slips: bool = False  # forgets halfway who the hero is, where we are, or what was found
    stock: bool = False  # leans on phrases that everybody has read a hundred times
    repeats: bool = False  # says a sentence twice
    ends: bool = True
    grim: bool = False  # puts in a grim sentence, whoever reads it


WRITERS = {
    "good": Teller(),
    "wrong tone": Teller(tone="wrong"),
    "drifting": Teller(tone="drifting"),
    "forgetful": Teller(slips=True),
    "stock": Teller(stock=True),
    "repetitive": Teller(repeats=True),
    "unended": Teller(ends=False),
    "hasty": Teller(stock=True, ends=False),
    "muddled": Teller(slips=True, ends=False),
    "worn": Teller(tone="wrong", stock=True),
    "unsuited": Teller(grim=True),
}
NO_TELLERS = ("summary", "off topic")  # they tell no story at all


@dataclass(frozen=True)
class Story:
    """A story and what its teller knows about it."""

    text: str
    tone: str  # of the four, "mixed", or "none"
    whole: bool = True
    ended: bool = True
    fresh: bool = True
    fit: bool = True


def tell(world: World, rng: Random, wish: Wish, writer: str) -> Story:
    """A story of at most LONGEST words by one kind of writer."""
    while True:
        if writer in NO_TELLERS:
            return no_story(Voice(world, rng, wish), writer)
        story = told_by(WRITERS[writer], Voice(world, rng, wish))
        if story and len(story.text.split()) <= LONGEST:
            return story


def told_by(teller: Teller, voice: Voice) -> Story | None:
    """A story by this teller; None if a slip of memory did not show, or if a sentence came twice by
    chance."""
    rng, wish, style = voice.rng, voice.wish, voice.rng.choice(STYLES)
    parts = list(rng.choice(ORDERS[pick(rng, LENGTHS[style])]))
    tones = tones_of(teller, wish, rng, len(parts))
    if not teller.ends:
        parts, tones = parts[:-1], tones[:-1]
    said = [voice.say(part, tone, drawn(rng, style)) for part, tone in zip(parts, tones)]
    if teller.slips:
        kept = rng.choice([1, 2]) if len(parts) > 2 else 1
        slip = pick(rng, SLIPS)
        said[kept:] = voice.slipped(slip, parts[kept:], tones[kept:], style)
        if len(said) == kept or (slip == "pronoun" and not voice.alone(said)):
            return None
    elif teller.tone != "drifting" and len(parts) > 3 and rng.random() < 0.25:
        plain = rng.choice(["opening", *(part for part in parts if part == "image")])
        said[parts.index(plain)] = voice.fill(rng.choice(voice.world.tales["plain"][plain]))
    grim = (teller.grim or rng.random() < 0.1) and grim_line(teller, voice, tones[0], style)
    if grim:
        said.insert(min(2, len(said) - 1), grim)
    if len(set(said)) < len(said):
        return None
    finished = finish(teller, voice, said)
    tone = "mixed" if teller.tone == "drifting" else tones[0]
    young = bool(grim) and wish.reader in voice.world.young
    fresh = not (teller.stock or teller.repeats)
    return Story(" ".join(finished), tone, not teller.slips, teller.ends, fresh, not young)


def drawn(rng: Random, style: str) -> str:
    """The style of one sentence: mostly that of the story."""
    return style if rng.random() < 0.9 else rng.choice(STYLES)


def tones_of(teller: Teller, wish: Wish, rng: Random, count: int) -> list[str]:
    """The tone of each sentence."""
    other = rng.choice([tone for tone in TONES if tone != wish.tone])
    if teller.tone == "drifting":
        kept = rng.choice([count // 2, (count + 1) // 2])
        return [wish.tone] * kept + [other] * (count - kept)
    return [wish.tone if teller.tone == "asked" else other] * count


def grim_line(teller: Teller, voice: Voice, tone: str, style: str) -> str:
    """A grim sentence, if this tone has any: for grown-ups, or by one who does not care."""
    lines = voice.world.tales[tone][style].get("grim", ())
    fits = voice.wish.reader in voice.world.old
    plain = teller == Teller() and fits
    return voice.fill(voice.rng.choice(lines)) if lines and (teller.grim or plain) else ""


def finish(teller: Teller, voice: Voice, said: list[str]) -> list[str]:
    """The sentences with what this teller does to the whole of a story."""
    rng = voice.rng
    if teller.repeats:
        again = rng.choice(range(len(said) - 1))
        said.insert(rng.choice([again + 1, len(said) - 1]), said[again])
    if not teller.ends and (len(said) < 4 or rng.random() < 0.5):
        said.append(voice.fault("open"))
    if teller.stock:
        spots = ["opening", "middle", *(["ending"] if teller.ends else [])]
        for spot in rng.sample(spots, rng.choice([1, 1, 2])):
            if spot == "middle":
                said.insert(min(2, len(said) - 1), voice.fault("stock_middle"))
            else:
                said[0 if spot == "opening" else -1] = voice.fault(f"stock_{spot}")
    return said


def no_story(voice: Voice, writer: str) -> Story:
    """A summary of a story, or something else altogether."""
    lines = voice.world.tales["faults"][writer.replace(" ", "_")]
    if writer == "summary":
        chosen = [lines[0], *voice.rng.sample(lines[1:], voice.rng.choice([2, 3]))]
    else:
        chosen = voice.rng.sample(lines, 3)
    return Story(" ".join(map(voice.fill, chosen)), "none", whole=False, ended=False)


def in_two_tones(world: World, rng: Random, wish: Wish) -> list[tuple[str, str]]:
    """The same wish told well in two tones: (tone, story) of each."""
    return [
        (tone, tell(world, rng, replace(wish, tone=tone), "good").text)
        for tone in rng.sample(TONES, 2)
    ]
