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

BEFORE_THE = frozenset(
    "in at on by near of from to under over behind into with for after all".split()
)
TITLES = frozenset("Then There Near Once".split())
NEGATIONS = frozenset(
    "not no never nobody none without nothing neither nor cannot don't didn't".split()
)
CLAUSES = PAUSES | {"but", "and"}
SMALL_WORDS = SMALL | frozenset(
    """
    his her hers him she's into out like behind near under over ever since each every after before
    nobody something though only more most had been
    """.split()
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
        sentences = self.lexicon.sentences(response)
        tail = response.rstrip().rstrip("\"')”’")
        cut = not tail.endswith((".", "!")) or tail.endswith("..")
        reading = Reading(
            sentences,
            self._tones(sentences),
            words=[word for s in sentences for word in s.words if word[0].isalnum()],
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
            elif tones[place] == NONE and weak:
                most = max(of[tone][1] for tone in weak)
                best = [tone for tone in weak if of[tone][1] == most]
                tones[place] = best[0] if len(best) == 1 else NONE
        return tones

    def _points(self, s: Sentence) -> dict[str, tuple[int, int]]:
        """For each tone how many strong and weak signs the sentence has that are not negated. A
        joke makes a mock of solemn words beside it."""
        if is_meta(s) or is_broken(s) or s.has("stock") or is_claim(s):
            return dict.fromkeys(TONES, (0, 0))
        strong, weak = (
            {
                tone: sum(not is_negated(s, *span) for span in s.all(f"{label}/{tone}"))
                for tone in TONES
            }
            for label in ("strong", "weak")
        )
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


def _led(points: dict[str, tuple[int, int]], sure: Counter) -> str:
    """The main tone of the story, if the sentence has many weak signs of it and one strong sign of
    another; "" otherwise."""
    main = sure.most_common(1)[0][0]
    strong = sum(count for count, _ in points.values())
    return main if strong == 1 and not points[main][0] and points[main][1] > 2 else ""


def _most(sure: Counter, tones: list[str]) -> str:
    """The one of these tones that most sentences surely have; "" if none has."""
    return max((tone for tone in tones if sure[tone]), key=sure.__getitem__, default="")


def is_negated(s: Sentence, at: int, end: int) -> bool:
    """Whether a word such as "not" stands one or two words before, in the same clause ("nobody
    laughed"), or "no more" behind. Who "never laughed again" did laugh. A phrase that begins with
    the negation itself counts as it stands."""
    if s.words[end : end + 2] == ["no", "more"]:
        return True
    for word in reversed(s.words[max(0, at - 2) : at]):
        if word in CLAUSES:
            return False
        if word in NEGATIONS:
            return word != "never" or "again" not in s.words
    return False


def is_meta(s: Sentence) -> bool:
    """Whether a sentence speaks about the story or to its reader, instead of telling it."""
    label = "story" in s.words or "tale" in s.words
    told = s.has("meta") or (s.words[:2] == ["this", "is"] and label)
    return told and not s.has("stock")


def is_claim(s: Sentence) -> bool:
    """Whether a short sentence only says what somebody or something is: "He was very kind"."""
    return len(s.words) < 6 and not {"was", "were", "is", "are"}.isdisjoint(s.words[:3])


def is_broken(s: Sentence) -> bool:
    """Whether this is no sentence of a story: words without grammar, words that cannot follow one
    another, a word twice in a row, a list of words, an endless word, or odd symbols."""
    words = [word for word in s.words if word not in PAUSES]
    pauses = len(s.words) - len(words)
    heap = len(words) > 5 and sum(word in SMALL_WORDS for word in words) < 0.12 * len(words)
    pairs = zip(s.words, [*s.words[1:], "."])
    torn = any(b in NEVER_AFTER.get(a, ()) and (a, b) != ("by", "and") for a, b in pairs)
    twice = any(a == b for a, b in zip(s.words, s.words[1:]))
    listing = pauses > 2 and pauses > 0.25 * len(words)
    endless = any(len(word) > 25 for word in words)
    foreign = any(c > "\u024f" and c.isalpha() for c in s.text)
    odd = not SYMBOLS.isdisjoint(s.text)
    return heap or torn or _piled(s) or twice or listing or endless or foreign or odd


def _piled(s: Sentence) -> bool:
    """Whether two nouns with articles are piled up: "the fox the lantern". After a preposition they
    may be ("in the end the fox")."""
    for at in range(len(s.words) - 3):
        the, _, again = s.words[at : at + 3]
        before, name = s.words[max(0, at - 1)], s.cased[max(0, at - 1)][0].isupper()
        if the == again == "the" and (at == 0 or not (name or before in BEFORE_THE)):
            return True
    return False


def tone_of(reading: Reading) -> str:
    """The tone of a story: that of three in four of its toned sentences, or "mixed", or "none"."""
    toned = Counter(tone for tone in reading.tones if tone != NONE)
    if not toned:
        return NONE
    tone, count = toned.most_common(1)[0]
    return tone if count > CLEAR * sum(toned.values()) else MIXED
