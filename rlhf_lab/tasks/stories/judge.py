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
lines has none for this judge, which then gives it some of the points for tone if it is told in full
sentences. It does not know which things belong to a place.
"""

from functools import lru_cache

from rlhf_lab.records import Mark
from rlhf_lab.tasks.lexicon import Sentence
from rlhf_lab.tasks.stories.continuity import faults_of, same_again
from rlhf_lab.tasks.stories.reader import MIXED, NONE, Reader, Reading, tone_of
from rlhf_lab.tasks.stories.sentences import is_meta
from rlhf_lab.tasks.stories.world import TONES, Wish, World

WEIGHTS = {"tone": 3.5, "coherent": 2.5, "ending": 1.5, "fresh": 1.5, "fit": 1.0}
TASTE = ("dark", "lively", "long")
MANNER = ("ending", "fresh", "fit")
WHOLE = 0.7  # coherent from which on nothing in the story is broken
SHORT, LONG = 14, 46  # words that a story should have at least, and at most


def judge(world: World, facts: dict, response: str) -> Mark:
    """Mark one story told to a wish with these facts (see the top of this module)."""
    wish, reading = Wish(**facts), reader_of(world).read(response)
    if not reading.sentences:
        rubric = dict.fromkeys([*WEIGHTS, *TASTE], 0.0)
        return Mark(0.0, rubric, flaws=_flaws(1, 0, 0, 1), reasons=("tells nothing",))
    reasons: list[str] = []
    faults = faults_of(world, wish, reading)
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
    said = {id(s) for s in reading.distinct}
    toned = [
        tone for s, tone in zip(reading.sentences, reading.tones) if id(s) in said and tone != NONE
    ]
    right, mixed = toned.count(wish.tone), toned.count(MIXED)
    others = [tone for tone in toned if tone not in (wish.tone, MIXED)]
    if not toned:
        reasons.append("has no tone")
        return _doubt(wish, reading)
    if len(toned) == 1 and not right and len(said) > 2:
        reasons.append(f"is hardly {wish.tone}")
        return 0.5 * _doubt(wish, reading)
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
    worn = sum(s.has("stock") for s in reading.sentences)
    pure *= 1 - 0.25 * max(0, worn - 1)
    if reading.claims > 1:
        reasons.append("says what things are like instead of showing it")
        pure *= 1 - reading.claims / len(reading.sentences)
    return round(pure * min(1.0, 0.5 + 0.25 * (right + 0.5 * mixed)) * _sense(reading), 3)


def _doubt(wish: Wish, reading: Reading) -> float:
    """What a story gets whose tone the judge cannot read: more if it is told in full sentences."""
    if reading.meta or reading.garbled or wish.name not in reading.names:
        return 0.0
    signs = [s for s in reading.sentences if any(s.has(f"strong/{tone}") for tone in TONES)]
    full = len(reading.words) > 8 * len(reading.sentences)
    return 0.4 if full and len(signs) < 2 else 0.1


def _sense(reading: Reading) -> float:
    """The share of the sentences that tell something: not garbled, not about the story."""
    return 1.0 - min(1.0, (reading.garbled + reading.meta) / len(reading.sentences))


def _plausible(reading: Reading) -> float:
    """How well the tone looks kept to a reader who has forgotten which one was asked for: the share
    of the toned sentences that have the same tone."""
    toned = [tone for tone in reading.tones if tone in TONES]
    most = max(map(toned.count, TONES))
    return round(most / max(2, len(toned)) * (0.5 if reading.garbled else 1.0), 3)


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
        return 0.5 if last.has("stock") else 1.0
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
    if len([s for s in said if len(s.words) > 4]) > len(reading.distinct):
        return True
    if same_again(world, wish, reading):
        return True
    triples = list(zip(reading.words, reading.words[1:], reading.words[2:]))
    return len(triples) >= 8 and len(set(triples)) < 0.85 * len(triples)


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
