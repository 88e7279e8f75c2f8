"""What a story says, before anybody judges it: the tone of each sentence, who is in it and where,
how it ends, and which of its phrases everybody has read before.

A sentence has the tone of its signs (`signs.toml`): words and phrases that belong to a tone, the
grammar's and many others. A negated sign does not count ("nobody laughed"), nor does one in a
sentence that only speaks about the story ("this is a gentle tale").
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from rlhf_lab.tasks.lexicon import READS, Lexicon, Sentence
from rlhf_lab.tasks.stories.forms import listed
from rlhf_lab.tasks.stories.sentences import is_broken, is_claim, is_meta, is_negated
from rlhf_lab.tasks.stories.world import TONES, World

TITLES = frozenset("Then There Near Once".split())
MIXED, NONE = "mixed", "none"
MOST = 40  # sentences of a story that are read
SAME = 0.65  # share of their words from which on two sentences say the same
CLEAR = 0.75  # more than this share of the toned sentences have the tone of the story


@dataclass
class Reading:
    """What was found in a story."""

    sentences: list[Sentence]
    tones: list[str]  # of each sentence: one of four, "mixed" or "none"
    words: list[str]
    distinct: list[Sentence]  # without those that say nearly the same as an earlier one
    cut: bool  # breaks off, or stops at a question or at three dots
    garbled: int  # sentences that are none
    meta: int  # sentences about the story, not of it
    claims: int  # short sentences that only say what somebody is
    cries: int  # exclamation marks
    names: dict[str, list[int]] = field(default_factory=dict)  # capitalised names: sentences


class Reader:
    """Reads stories, knowing the words of the world."""

    def __init__(self, world: World):
        signs, other = world.signs, world.signs["other"]
        strong = {tone: listed(signs["tone"][tone]["strong"]) for tone in TONES}
        weak = {tone: listed(signs["tone"][tone]["weak"], grown=False) for tone in TONES}
        labels: dict[str, set[str]] = {f"strong/{tone}": strong[tone] for tone in TONES}
        labels |= {f"weak/{tone}": weak[tone] - strong[tone] for tone in TONES}
        labels |= {label: set(signs["ending"][label]) for label in ("closed", "open")}
        labels["stock"] = set(signs["stale"]["stock"])
        labels |= {label: listed(other[label], grown=False) for label in other if label != "days"}
        self.days = {word.strip() for word in other["days"].split(",")}
        self.names, self.kinds = set(world.names), set(world.kinds)
        self.lexicon = Lexicon({label: sorted(phrases) for label, phrases in labels.items()})

    def read(self, response: str) -> Reading:
        sentences = self.lexicon.sentences(response)[:MOST]
        tail = response.rstrip().rstrip("\"')”’")
        cut = not tail.endswith((".", "!")) or tail.endswith("..")
        reading = Reading(
            sentences,
            self._tones(sentences),
            words=[word for s in sentences for word in s.words if word[0].isalnum()],
            distinct=distinct(sentences),
            cut=cut,
            garbled=sum(map(is_broken, sentences[:-1] if cut else sentences)),
            meta=sum(map(is_meta, sentences)),
            claims=sum(map(is_claim, sentences)),
            cries=response[:READS].count("!"),
        )
        for place, s in enumerate(sentences):
            for name in self._names(s):
                reading.names.setdefault(name, []).append(place)
        return reading

    def _tones(self, sentences: list[Sentence]) -> list[str]:
        """The tone of each sentence: first of those with a strong sign; then the others and those
        in two minds, which follow the rest of the story."""
        points = [self._points(s) for s in sentences]
        tones = [_best(of) for of in points]
        sure = Counter(tone for tone in tones if tone in TONES)
        hint = _hint(points)
        for place, of in enumerate(points):
            weak = [
                tone for tone in TONES if of[tone][1] >= 2 and not any(s for s, _ in of.values())
            ]
            if tones[place] == MIXED:
                tied = [tone for tone in TONES if sum(of[tone]) and of[tone] == max(of.values())]
                tones[place] = _most(sure, tied) or MIXED
            elif sure and (led := _led(of, sure)):
                tones[place] = led
            elif tones[place] == NONE and sure:
                tones[place] = _most(sure, weak) or NONE
            elif not sure and hint in weak:
                tones[place] = hint
        return tones

    def _points(self, s: Sentence) -> dict[str, tuple[int, int]]:
        """For each tone how many strong and weak signs the sentence has that are not negated. A
        joke makes a mock of solemn words beside it."""
        if is_meta(s) or is_broken(s) or is_claim(s):
            return dict.fromkeys(TONES, (0, 0))
        strong, weak = (
            {
                tone: sum(not is_negated(s, *span) for span in s.all(f"{label}/{tone}"))
                for tone in TONES
            }
            for label in ("strong", "weak")
        )
        if len(s.words) > 10 and sum(strong.values()) > 0.4 * len(s.words):
            return dict.fromkeys(TONES, (0, 0))  # a heap of signs is no sentence
        if strong["funny"] and strong["solemn"]:
            strong["solemn"] = 0
        return {tone: (strong[tone], weak[tone]) for tone in TONES}

    def _names(self, s: Sentence) -> list[str]:
        """The names in a sentence: those of the world, "Xavier" in "Xavier the fox", and words with
        a capital inside a sentence that it knows from nowhere else."""
        found = []
        for match in re.finditer(r"(?<![\w\"“'])[A-Z][a-z]+", s.text):
            word, after = match[0], s.text[match.end() :].split()[:2]
            hero = len(after) > 1 and after[0] == "the" and after[1].strip(",.") in self.kinds
            inside = match.start() > 0 and word not in self.days
            if word in self.names or (hero and word not in TITLES) or (inside and hero):
                found.append(word)
        return found


def _best(points: dict[str, tuple[int, int]]) -> str:
    """The tone with most strong signs, weak ones breaking a tie; "mixed" if two have the same."""
    best, second, *_ = sorted(TONES, key=points.__getitem__, reverse=True)
    if not points[best][0]:
        return NONE
    return MIXED if points[best] == points[second] else best


def _hint(points: list[dict[str, tuple[int, int]]]) -> str:
    """The tone that a story without strong signs hints at: four weak ones, and twice as many as of
    any other; "" if there is none."""
    weak = Counter({tone: sum(of[tone][1] for of in points) for tone in TONES})
    (best, most), (_, second) = weak.most_common(2)
    return best if most > 3 and most >= 2 * second else ""


def _led(points: dict[str, tuple[int, int]], sure: Counter) -> str:
    """The main tone of the story, if the sentence has many weak signs of it and one strong sign of
    another; "" otherwise."""
    main = sure.most_common(1)[0][0]
    strong = sum(count for count, _ in points.values())
    return main if strong == 1 and not points[main][0] and points[main][1] > 2 else ""


def _most(sure: Counter, tones: list[str]) -> str:
    """The one of these tones that most sentences surely have; "" if none has."""
    return max((tone for tone in tones if sure[tone]), key=sure.__getitem__, default="")


def tone_of(reading: Reading) -> str:
    """The tone of a story: that of three in four of its toned sentences, or "mixed", or "none"."""
    toned = Counter(tone for tone in reading.tones if tone != NONE)
    if not toned:
        return NONE
    tone, count = toned.most_common(1)[0]
    return tone if count > CLEAR * sum(toned.values()) else MIXED


def distinct(sentences: list[Sentence]) -> list[Sentence]:
    """The sentences that do not say nearly the same as an earlier one."""
    kept: list[tuple[Sentence, set[str]]] = []
    for s in sentences:
        words = set(s.words)
        if all(len(words & other) <= SAME * max(len(words), len(other)) for _, other in kept):
            kept.append((s, words))
    return [s for s, _ in kept]
