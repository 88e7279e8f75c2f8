"""What does not hold together in a story: its shape, its hero, its place and its object."""

from collections import Counter
from dataclasses import dataclass

from rlhf_lab.tasks.lexicon import PAUSES, Sentence
from rlhf_lab.tasks.stories.reader import Reading
from rlhf_lab.tasks.stories.sentences import SMALL_WORDS
from rlhf_lab.tasks.stories.world import Wish, World, a

BEFORE_PLACES = frozenset("in at on by near inside".split())
TRADES = ("er", "or", "man", "ist")  # how words for people end, and words that end so too
NO_TRADES = frozenset(
    """
    another newspaper supper flower number corner dinner winter summer silver whisper thunder
    finger butter feather letter mirror shower border softer warmer colder darker better shoulder
    tender closer nearer longer answer prayer hammer ladder
    """.split()
)


@dataclass(frozen=True)
class Fault:
    """Something that does not hold together, and what it takes from `coherent`."""

    reason: str
    cost: float


def faults_of(world: World, wish: Wish, reading: Reading) -> list[Fault]:
    """Everything that does not hold together."""
    return [
        *_shape(world, wish, reading),
        *_who(world, wish, reading),
        *_where(world, wish, reading),
    ]


def same_again(world: World, wish: Wish, reading: Reading) -> bool:
    """Whether the same words come again and again, or one does. Small words, the hero, the place
    and objects may."""
    if 2 * len(reading.distinct) < len(reading.sentences):
        return True
    common = SMALL_WORDS | {wish.name.lower(), wish.kind, wish.place, "lived", *world.things}
    words = [word for said in {tuple(s.words): s for s in reading.sentences} for word in said]
    triples = list(zip(words, words[1:], words[2:]))
    if len(triples) > 8 and len(set(triples)) < 0.8 * len(triples):
        return True
    counts = Counter(word.removesuffix("s")[:5] for word in words if word not in common | PAUSES)
    return max(counts.values(), default=0) > max(3, 0.13 * len(reading.words))


def _shape(world: World, wish: Wish, reading: Reading) -> list[Fault]:
    """Whether it is a story at all."""
    faults = []
    if reading.meta:
        share = reading.meta / len(reading.sentences)
        faults.append(Fault("speaks about the story instead of telling it", 0.5 + share))
    if reading.garbled:
        share = reading.garbled / len(reading.sentences)
        faults.append(Fault("is garbled", 0.5 + share))
    if same_again(world, wish, reading):
        faults.append(Fault("says the same again and again", 0.4))
    scraps = {tuple(s.words) for s in reading.sentences if len(s.words) < 5}
    if len(scraps) > max(3, len(reading.sentences) / 2):
        faults.append(Fault("is made of scraps", 0.4))
    if len(reading.distinct) < 3:
        faults.append(Fault("is hardly a story", 0.4 if len(reading.distinct) > 1 else 0.7))
    if any(":" in s.words[:3] for s in reading.sentences):
        faults.append(Fault("writes something else than a story", 0.5))
    return faults


def _who(world: World, wish: Wish, reading: Reading) -> list[Fault]:
    """Whether the hero is there and stays who they are."""
    faults = []
    if wish.name not in reading.names:
        cost = 0.5 if wish.kind in reading.words else 1.0
        faults.append(Fault(f"leaves out {wish.name}", cost))
    elif _begins_again(wish, reading):
        faults.append(Fault("begins again", 0.4))
    strangers = [name for name in reading.names if name != wish.name]
    for name in strangers:
        s = reading.sentences[reading.names[name][0]]
        if not _introduced(s, name.lower()):
            faults.append(Fault(f"speaks of {name}, whom nobody has met", 0.7))
    faults += [
        Fault(f"turns the {wish.kind} into {a(kind)}", 0.6)
        for kind in _other_kinds(world, wish, reading)
    ]
    if not strangers and _wrong_pronoun(world, wish, reading):
        faults.append(Fault(f"calls {wish.name} by the wrong pronoun", 0.6))
    return faults


def _begins_again(wish: Wish, reading: Reading) -> bool:
    """Whether the hero is introduced a second time: two stories glued together."""
    hero = [wish.name.lower(), "the", wish.kind]
    again = max((at for at, s in enumerate(reading.distinct) if _has(s, hero)), default=0)
    return any(s.has("closed") for s in reading.distinct[:again])


def _has(s: Sentence, words: list[str]) -> bool:
    return any(s.words[at : at + len(words)] == words for at in range(len(s.words)))


def _introduced(s: Sentence, name: str) -> bool:
    """Whether somebody is met, called or otherwise introduced just before this name."""
    at = s.words.index(name) if name in s.words else 0
    return any(at - 4 <= start and end <= at for start, end in s.all("meeting"))


def _other_kinds(world: World, wish: Wish, reading: Reading) -> list[str]:
    """Kinds that the hero suddenly is: "the bear" where no bear has come in ("a bear")."""
    met: set[str] = set()
    found = []
    for s in reading.sentences:
        for before, word in zip(["", *s.words], s.words):
            if word not in world.kinds or word == wish.kind:
                continue
            if before == "the" and word not in met and not _in_list(s, word):
                found.append(word)
            met.add(word)
    return list(dict.fromkeys(found))


def _in_list(s: Sentence, word: str) -> bool:
    """Whether a word stands between commas, as one of several."""
    at = s.words.index(word)
    return "," in s.words[max(0, at - 2) : at] and "," in s.words[at + 1 : at + 2]


def _wrong_pronoun(world: World, wish: Wish, reading: Reading) -> bool:
    """Whether the hero is "he" in one place and "she" in another, and nobody else can be meant."""
    wrong, others = ("she", "female") if world.names[wish.name] == "he" else ("he", "male")
    words = {"he": {"he", "him", "his", "himself"}, "she": {"she", "her", "hers", "herself"}}[wrong]
    company = world.others[others] - {wish.kind}
    for s in reading.sentences:
        if company.intersection(s.words) or _somebody(s):
            return False
        if words.intersection(s.words):
            return True
    return False


def _somebody(s: Sentence) -> bool:
    """Whether somebody with a trade comes in: "a very small plumber"."""
    for at, word in enumerate(s.words):
        trade = word.endswith(TRADES) and len(word) > 5 and word not in NO_TRADES
        if trade and {"a", "an"}.intersection(s.words[max(0, at - 3) : at]):
            return True
    return False


def _where(world: World, wish: Wish, reading: Reading) -> list[Fault]:
    """Whether the place and the object are there and stay what they are."""
    faults = []
    words = set(reading.words)
    if wish.place not in words:
        faults.append(Fault(f"leaves out the {wish.place}", 0.35))
    for s in reading.sentences:
        faults += [
            Fault(f"is suddenly in another place (the {place})", 0.6)
            for place in _places(world, s)
            if place != wish.place
        ]
    if wish.thing and words.isdisjoint({wish.thing, f"{wish.thing}s", f"{wish.thing}es"}):
        faults.append(Fault(f"leaves out the {wish.thing}", 0.5))
    swapped = _swapped(world, wish, reading)
    if swapped:
        faults.append(Fault(f"turns to {a(swapped)} that was never there", 0.5))
    return faults


def _places(world: World, s: Sentence) -> list[str]:
    """Places that a sentence is set in: "at the mill", but not "he went and sat at the mill"."""
    came = min((start for start, _ in s.all("travel")), default=len(s.words))
    return [
        word
        for at, (before, the, word) in enumerate(zip(s.words, s.words[1:], s.words[2:]))
        if word in world.places and the == "the" and before in BEFORE_PLACES and at < came
    ]


def _swapped(world: World, wish: Wish, reading: Reading) -> str:
    """An object that comes in as if it had been there ("the drum"), although another one was."""
    seen = {wish.thing}
    for s in reading.sentences:
        for before, word in zip(["", *s.words], s.words):
            if word not in world.things:
                continue
            if before == "the" and word not in seen and seen - {""}:
                return word
            seen.add(word)
    return ""
