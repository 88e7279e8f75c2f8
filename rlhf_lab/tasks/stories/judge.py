"""The judge of the stories: it knows what was asked and marks a story out of ten.

It reads the story (see reader.py), lists what is wrong with it in words, and gives these items from
0 to 1:

    tone      the asked tone in every sentence that has one, and no other
    coherent  the hero, the place and the object are there and stay what they are
    ending    the last words close the story
    fresh     no phrase that everybody has read before, nothing said twice
    fit       the length is right, and no word is too grim for a young reader

The mark weighs them (WEIGHTS, which sum to 10). How it is told (the last three) counts less if the
story misses the tone, or falls apart. Three more items weigh nothing in the
mark, because they are matters of taste: dark, lively and long.

Limits: a tone is known by the words that signs.toml lists. A story whose tone lies between the
lines has none for this judge.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from rlhf_lab.records import Mark
from rlhf_lab.tasks.lexicon import PAUSES, Sentence
from rlhf_lab.tasks.stories.reader import (
    MIXED,
    NONE,
    SMALL_WORDS,
    Reader,
    Reading,
    is_meta,
    tone_of,
)
from rlhf_lab.tasks.stories.world import TONES, Wish, World

WEIGHTS = {"tone": 3.5, "coherent": 2.5, "ending": 1.5, "fresh": 1.5, "fit": 1.0}
TASTE = ("dark", "lively", "long")
MANNER = ("ending", "fresh", "fit")
SAME = 0.65  # share of the words from which on two sentences say the same
WHOLE = 0.7  # coherent from which on nothing in the story is broken
BEFORE_PLACES = frozenset("in at on by near inside".split())
SHORT, LONG = 14, 46  # words that a story should have at least, and at most


@dataclass(frozen=True)
class Fault:
    """Something that does not hold together, and what it takes from `coherent`."""

    reason: str
    cost: float


def judge(world: World, facts: dict, response: str) -> Mark:
    """Mark one story told to a wish with these facts (see the top of this module)."""
    wish, reading = Wish(**facts), reader_of(world).read(response)
    if not reading.sentences:
        rubric = dict.fromkeys([*WEIGHTS, *TASTE], 0.0)
        return Mark(0.0, rubric, flaws=_flaws(1, 0, 0, 1), reasons=("tells nothing",))
    reasons: list[str] = []
    faults = [
        *_shape(world, wish, reading),
        *_who(world, wish, reading),
        *_where(world, wish, reading),
    ]
    reasons += [fault.reason for fault in faults]
    rubric = {
        "tone": _tone(wish, reading, reasons),
        "coherent": max(0.0, round(1.0 - sum(fault.cost for fault in faults), 3)),
        "ending": _ending(reading, reasons),
        "fresh": _fresh(world, wish, reading, reasons),
        "fit": _fit(world, wish, reading, reasons),
    }
    substance = min(rubric["tone"], rubric["coherent"])
    share = dict.fromkeys(MANNER, 0.2 + 0.8 * substance)
    share["tone"] = 0.3 + 0.7 * min(1.0, rubric["coherent"] / 0.3)
    mark = sum(weight * rubric[item] * share.get(item, 1.0) for item, weight in WEIGHTS.items())
    mark *= 0.2 + 0.8 * _sense(reading)
    flaws = _flaws(
        tone_of(reading) != wish.tone,
        sum(fault.cost > 1 - WHOLE for fault in faults),
        len(_stock(reading)),
        rubric["ending"] < 0.5,
    )
    return Mark(
        round(mark, 3), rubric | _taste(reading), _plausible(reading), flaws, tuple(reasons)
    )


@lru_cache(maxsize=1)
def reader_of(world: World) -> Reader:
    """The reader of this world, made once."""
    return Reader(world)


def _flaws(tone: int, broken: int, stock: int, unended: int) -> dict[str, int]:
    return {
        "wrong tone": int(tone),
        "broken continuity": broken,
        "stock phrases": stock,
        "no ending": int(unended),
    }


# ---- tone --------------------------------------------------------------------------------------


def _tone(wish: Wish, reading: Reading, reasons: list[str]) -> float:
    """The share of the toned sentences in the asked tone; less if another tone breaks in, or if
    only one sentence has it."""
    said = distinct(reading)
    toned = [tone for place, tone in enumerate(reading.tones) if place in said and tone != NONE]
    right, mixed = toned.count(wish.tone), toned.count(MIXED)
    others = [tone for tone in toned if tone not in (wish.tone, MIXED)]
    if not toned:
        reasons.append("has no tone")
        return _doubt(reading)
    if others:
        names = " and ".join(sorted(set(others)))
        reasons.append(f"is {names}" if not right else f"begins to sound {names}")
    elif mixed:
        reasons.append("has two tones in one sentence")
    elif right < 2:
        reasons.append(f"is hardly {wish.tone}")
    pure = (right + 0.5 * mixed) / len(toned)
    if others:
        pure *= 0.5
    if reading.claims > 1:
        reasons.append("says what things are like instead of showing it")
        pure *= 1 - reading.claims / len(reading.sentences)
    return round(pure * min(1.0, 0.4 + 0.3 * (right + 0.5 * mixed)) * _sense(reading), 3)


def _doubt(reading: Reading) -> float:
    """What a story gets whose tone the judge cannot read: more if it is told in full sentences."""
    if reading.meta or reading.garbled:
        return 0.0
    negated = any(s.has(f"strong/{tone}") for s in reading.sentences for tone in TONES)
    full = len(reading.words) > 8 * len(reading.sentences)
    return 0.35 if full and not negated else 0.1


def _sense(reading: Reading) -> float:
    """The share of the sentences that tell something: not garbled, not about the story."""
    return 1.0 - min(1.0, (reading.garbled + reading.meta) / len(reading.sentences))


def distinct(reading: Reading) -> set[int]:
    """The places of the sentences that do not say nearly the same as an earlier one."""
    kept: dict[int, set[str]] = {}
    for place, s in enumerate(reading.sentences):
        words = set(s.words)
        if not any(
            len(words & other) > SAME * max(len(words), len(other)) for other in kept.values()
        ):
            kept[place] = words
    return set(kept)


def _plausible(reading: Reading) -> float:
    """How well the tone looks kept to a reader who has forgotten which one was asked for: the share
    of the toned sentences that have the same tone."""
    toned = [tone for tone in reading.tones if tone in TONES]
    most = max(map(toned.count, TONES))
    return round(most / max(2, len(toned)) * (0.5 if reading.garbled else 1.0), 3)


# ---- coherent ----------------------------------------------------------------------------------


def _shape(world: World, wish: Wish, reading: Reading) -> list[Fault]:
    """Whether it is a story at all."""
    faults = []
    if reading.meta:
        share = reading.meta / len(reading.sentences)
        faults.append(Fault("speaks about the story instead of telling it", 0.5 + share))
    if reading.garbled:
        share = reading.garbled / len(reading.sentences)
        faults.append(Fault("is garbled", 0.5 + share))
    if _one_word(world, wish, reading):
        faults.append(Fault("says the same again and again", 0.4))
    scraps = {tuple(s.words) for s in reading.sentences if len(s.words) < 5}
    if len(scraps) > max(3, len(reading.sentences) / 2):
        faults.append(Fault("is made of scraps", 0.4))
    if len(distinct(reading)) < 3:
        faults.append(Fault("is hardly a story", 0.4 if len(distinct(reading)) > 1 else 0.7))
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
        Fault(f"turns the {wish.kind} into a {kind}", 0.6)
        for kind in _other_kinds(world, wish, reading)
    ]
    if not strangers and _wrong_pronoun(world, wish, reading):
        faults.append(Fault(f"calls {wish.name} by the wrong pronoun", 0.6))
    return faults


def _begins_again(wish: Wish, reading: Reading) -> bool:
    """Whether the hero is introduced a second time: two stories glued together."""
    hero = [wish.name.lower(), "the", wish.kind]
    firsts = [place for place in distinct(reading) if _has(reading.sentences[place], hero)]
    return any(reading.sentences[place].has("closed") for place in range(max(firsts, default=0)))


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
        if company.intersection(s.words):
            return False
        if words.intersection(s.words):
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
    if wish.thing and wish.thing not in words:
        faults.append(Fault(f"leaves out the {wish.thing}", 0.5))
    swapped = _swapped(world, wish, reading)
    if swapped:
        faults.append(Fault(f"turns to a {swapped} that was never there", 0.5))
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


# ---- how it is told ----------------------------------------------------------------------------


def _ending(reading: Reading, reasons: list[str]) -> float:
    last = reading.sentences[-1]
    if reading.cut:
        reasons.append("breaks off")
        return 0.0
    if is_meta(last) or (last.has("open") and not last.has("closed")):
        reasons.append("stops before the end")
        return 0.0
    if _closes(last):
        return 1.0 if len(_stock(reading)) < 2 else 0.6
    if len(reading.sentences) > 1 and _closes(reading.sentences[-2]):
        return 0.8
    reasons.append("has no ending")
    return 0.4


def _closes(s: Sentence) -> bool:
    again = "never" in s.words and "again" in s.words
    return s.has("closed") or s.words[0] == "so" or s.words == ["the", "end"] or again


def _stock(reading: Reading) -> list[str]:
    """Phrases that everybody has read a hundred times."""
    return [
        " ".join(s.words[start:end]) for s in reading.sentences for start, end in s.all("stock")
    ]


def _fresh(world: World, wish: Wish, reading: Reading, reasons: list[str]) -> float:
    stock, fresh = _stock(reading), 1.0
    if stock:
        reasons.append(f"uses a stock phrase: {stock[0]!r}")
        fresh -= 0.5 + 0.3 * len(stock)
    if _repeats(world, wish, reading):
        reasons.append("repeats itself")
        fresh -= 0.8
    if reading.garbled:
        fresh -= 0.3
    return max(0.0, round(fresh, 3))


def _repeats(world: World, wish: Wish, reading: Reading) -> bool:
    """A sentence said twice, or nearly, or word pairs that keep coming back."""
    said = [s for s in reading.sentences if len(s.words) > 2]
    if len({tuple(s.words) for s in said}) < len(said):
        return True
    if len([s for s in said if len(s.words) > 4]) > len(distinct(reading)):
        return True
    if _one_word(world, wish, reading):
        return True
    triples = list(zip(reading.words, reading.words[1:], reading.words[2:]))
    return len(triples) >= 8 and len(set(triples)) < 0.85 * len(triples)


def _one_word(world: World, wish: Wish, reading: Reading) -> bool:
    """Whether one word comes again and again (small words, the hero, the place and objects may)."""
    common = SMALL_WORDS | {wish.name.lower(), wish.kind, wish.place, "lived", *world.things}
    words = [word for place in distinct(reading) for word in reading.sentences[place].words]
    counts = Counter(word.removesuffix("s")[:5] for word in words if word not in common | PAUSES)
    return max(counts.values(), default=0) > max(3, 0.13 * len(reading.words))


def _fit(world: World, wish: Wish, reading: Reading, reasons: list[str]) -> float:
    fit, count = 1.0, len(reading.words)
    grim = [s for s in reading.sentences if s.has("grim")]
    if grim and wish.reader in world.young:
        reasons.append(f"is too grim for {wish.reader}")
        fit -= 1.0
    if count > LONG:
        reasons.append(f"is long ({count} words)")
        fit -= (count - LONG) / 30
    if count < SHORT:
        reasons.append(f"is short ({count} words)")
        fit -= 0.6
    return max(0.0, round(fit, 3))


def _taste(reading: Reading) -> dict[str, float]:
    """What the mark does not weigh: how dark, how lively and how long the story is."""
    count = len(reading.sentences)
    dark, moving = (sum(s.has(item) for s in reading.sentences) for item in ("dark", "lively"))
    shares = {
        "dark": dark / count,
        "lively": min(count, max(moving, reading.cries)) / count,
        "long": min(1.0, max(0.0, (len(reading.words) - 24) / 16)),
    }
    return {item: round(4 * share) / 4 for item, share in shares.items()}
