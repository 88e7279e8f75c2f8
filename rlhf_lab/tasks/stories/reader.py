"""What a story says, before anybody judges it: the tone of each sentence, who is in it and where,
how it ends, and which of its phrases everybody has read before.

A sentence has the tone of its signs (`signs.toml`): words and phrases that belong to a tone, the
grammar's and many others. A negated sign does not count ("nobody laughed"), nor does one in a
sentence that only speaks about the story ("this is a gentle tale").
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from rlhf_lab.tasks.english import NEVER_AFTER, SMALL, SYMBOLS
from rlhf_lab.tasks.lexicon import PAUSES, READS, Lexicon, Sentence
from rlhf_lab.tasks.stories.world import TONES, World

NEGATIONS = frozenset(
    "not no never nobody none without nothing neither nor cannot don't didn't".split()
)
CLAUSES = PAUSES | {"but", "and"}
SMALL_WORDS = SMALL | frozenset(
    "his her hers him she's into out like behind near under over".split()
)
VOWELS = "aeiou"
MIXED, NONE = "mixed", "none"
CLEAR = 0.75  # more than this share of the toned sentences have the tone of the story


def forms(word: str) -> set[str]:
    """A word and what English makes of it: hug, hugs, hugged, hugging, kindly, softer, cosiest."""
    if " " in word or "'" in word or len(word) < 3:
        return {word}
    stem = word.removesuffix("e") if word.endswith("e") else word
    if word.endswith("y") and word[-2] not in VOWELS:
        stem = word[:-1] + "i"
        return {
            word,
            f"{stem}es",
            f"{stem}ed",
            f"{word}ing",
            f"{stem}ly",
            f"{stem}er",
            f"{stem}est",
        }
    if word.endswith("le"):
        return {word, f"{word}s", f"{word}d", f"{stem}ing", f"{stem}y", f"{word}r", f"{word}st"}
    short = (
        len(word) < 5
        and word[-1] not in VOWELS + "wxy"
        and word[-2] in VOWELS
        and word[-3] not in VOWELS
    )
    long = stem + word[-1] if short else stem
    plural = f"{word}es" if word.endswith(("s", "sh", "ch", "x")) else f"{word}s"
    return {word, plural, f"{long}ed", f"{long}ing", f"{word}ly", f"{long}er", f"{long}est"}


def listed(text: str, grown: bool = True) -> set[str]:
    """The words and phrases of a list with commas, with their forms."""
    words = [word.strip() for word in text.replace("\n", " ").split(",") if word.strip()]
    return {form for word in words for form in (forms(word) | {f"{word}'s"} if grown else {word})}


@dataclass
class Reading:
    """What was found in a story."""

    sentences: list[Sentence]
    tones: list[str]  # of each sentence: one of four, "mixed" or "none"
    words: list[str]
    cut: bool  # breaks off, or stops at a question or at three dots
    garbled: int  # sentences that are none
    meta: int  # sentences about the story, not of it
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
        self.names = set(world.names)
        self.lexicon = Lexicon({label: sorted(phrases) for label, phrases in labels.items()})

    def read(self, response: str) -> Reading:
        sentences = self.lexicon.sentences(response)
        tail = response.rstrip().rstrip("\"')”’")
        cut = not tail.endswith((".", "!")) or tail.endswith("..")
        tones = [self.tone(s) for s in sentences]
        words = [word for s in sentences for word in s.words if word[0].isalnum()]
        reading = Reading(
            sentences,
            tones,
            words,
            cut,
            garbled=sum(map(is_broken, sentences)),
            meta=sum(s.has("meta") for s in sentences),
            cries=response[:READS].count("!"),
        )
        for place, s in enumerate(sentences):
            for name in self._names(s):
                reading.names.setdefault(name, []).append(place)
        return reading

    def tone(self, s: Sentence) -> str:
        """The tone of one sentence."""
        if s.has("meta") or is_broken(s):
            return NONE
        scores = {
            tone: (self._count(s, "strong", tone), self._count(s, "weak", tone)) for tone in TONES
        }
        points = {tone: (strong + weak / 2, strong) for tone, (strong, weak) in scores.items()}
        best, second, *_ = sorted(points, key=points.__getitem__, reverse=True)
        if points[best][0] < 1:
            return NONE
        return MIXED if points[best] == points[second] else best

    def _count(self, s: Sentence, label: str, tone: str) -> int:
        """How many signs of this sort the sentence has that are not negated."""
        return sum(not is_negated(s, start) for start, _ in s.all(f"{label}/{tone}"))

    def _names(self, s: Sentence) -> list[str]:
        """The names in a sentence: those of the world, and words with a capital inside it."""
        found = []
        for match in re.finditer(r"(?<![\w\"“'])[A-Z][a-z]+", s.text):
            word = match[0]
            if word in self.names or (match.start() > 0 and word not in self.days):
                found.append(word)
        return found


def is_negated(s: Sentence, at: int) -> bool:
    """Whether a word such as "not" stands one or two words before, in the same clause: "nobody
    laughed". Who "never laughed again" did laugh. A phrase that begins with the negation itself
    counts as it stands."""
    for word in reversed(s.words[max(0, at - 2) : at]):
        if word in CLAUSES:
            return False
        if word in NEGATIONS:
            return word != "never" or "again" not in s.words
    return False


def is_broken(s: Sentence) -> bool:
    """Whether this is no sentence of a story: words without grammar, words that cannot follow one
    another, a word twice in a row, a list of words, an endless word, or odd symbols."""
    words = [word for word in s.words if word not in PAUSES]
    pauses = len(s.words) - len(words)
    heap = len(words) > 5 and SMALL_WORDS.isdisjoint(words)
    torn = any(b in NEVER_AFTER.get(a, ()) for a, b in zip(s.words, [*s.words[1:], "."]))
    twice = any(a == b for a, b in zip(s.words, s.words[1:]))
    listing = pauses > 2 and pauses > 0.25 * len(words)
    endless = any(len(word) > 25 for word in words)
    foreign = any(c > "\u024f" and c.isalpha() for c in s.text)
    return heap or torn or twice or listing or endless or foreign or not SYMBOLS.isdisjoint(s.text)


def tone_of(reading: Reading) -> str:
    """The tone of a story: that of three in four of its toned sentences, or "mixed", or "none"."""
    toned = Counter(tone for tone in reading.tones if tone != NONE)
    if not toned:
        return NONE
    tone, count = toned.most_common(1)[0]
    return tone if count > CLEAR * sum(toned.values()) else MIXED
