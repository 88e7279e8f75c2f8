"""Split a response into sentences, and find every listed phrase in them in one pass.

Phrases are looked up word by word in a dictionary, not by one long regular expression, so that the
time depends only on the length of the text, however odd the text is.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

READS = 2000  # characters of a text that are read
LONGEST = 60  # words after which a sentence is taken to end

# A number, a word (it may hold apostrophes), or a mark that ends a clause or a sentence.
TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:'[^\W\d_]+)*|[.!?;:,\n]")
ENDS = frozenset(".!?\n")
PAUSES = frozenset(",;:")
ASIDE = re.compile(r"\b(not|never),[^,.;!?\n]{1,60},")  # "do not, under any circumstances, hold"

NUMBERS = {
    "half": 0.5,
    "a": 1,
    "an": 1,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "fourteen": 14,
    "fifteen": 15,
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
    "hundred": 100,
    "thousand": 1000,
}
UNITS = {  # unit: what it measures, and its size
    "s": ("seconds", 1),
    "sec": ("seconds", 1),
    "second": ("seconds", 1),
    "minute": ("seconds", 60),
    "hour": ("seconds", 3600),
    "day": ("days", 1),
    "week": ("days", 7),
    "month": ("days", 30),
    "year": ("days", 360),
    "ghz": ("gigahertz", 1),
    "gb": ("gigabytes", 1),
    "gigabyte": ("gigabytes", 1),
    "megabyte": ("gigabytes", 0.001),
    "terabyte": ("gigabytes", 1000),
}
UNITS |= {f"{unit}s": meaning for unit, meaning in UNITS.items()}
FILLERS = frozenset(["full", "whole", "long", "more"])

Span = tuple[int, int]  # where a phrase begins and ends, as indices of words


@dataclass(frozen=True)
class Quantity:
    """An amount that a text states: ten seconds is 10 of "seconds", two years are 720 of "days"."""

    measure: str
    amount: float
    at: int  # index of its number among the words


@dataclass(frozen=True)
class Sentence:
    """One sentence. Its words keep commas, colons and semicolons as words of their own."""

    text: str
    cased: list[str]  # the words as written
    words: list[str]  # the same in lower case
    hits: dict[str, list[Span]]  # label: its phrases
    ended: bool

    def has(self, label: str) -> bool:
        return label in self.hits

    def all(self, label: str) -> list[Span]:
        return self.hits.get(label, [])


class Lexicon:
    """Phrases with labels, to be found in the sentences of a text."""

    def __init__(self, phrases: dict[str, Iterable[str]]):
        """phrases: for each label its phrases."""
        self._by_first: dict[str, list[tuple[list[str], str]]] = {}
        for label, listed in phrases.items():
            for phrase in listed:
                first, *rest = words_of(phrase)
                self._by_first.setdefault(first, []).append((rest, label))

    def sentences(self, text: str) -> list[Sentence]:
        """The sentences of the first `READS` characters that hold at least one word."""
        text, found, tokens = plain(text[:READS]), [], []
        for token in TOKEN.finditer(text):
            if token[0] not in ENDS:
                tokens.append(token)
            if tokens and (token[0] in ENDS or len(tokens) == LONGEST):
                found.append(self._sentence(text, tokens, token[0] in ".!?"))
                tokens = []
        if tokens:
            found.append(self._sentence(text, tokens, False))
        return [s for s in found if not PAUSES.issuperset(s.words)]

    def _sentence(self, text: str, tokens: list[re.Match], ended: bool) -> Sentence:
        cased = [token[0] for token in tokens]
        words = [word.lower() for word in cased]
        whole = text[tokens[0].start() : tokens[-1].end()]
        return Sentence(whole, cased, words, self._find(words), ended)

    def _find(self, words: list[str]) -> dict[str, list[Span]]:
        hits: dict[str, list[Span]] = {}
        for i, word in enumerate(words):
            for rest, label in self._by_first.get(word, ()):
                end = i + 1 + len(rest)
                if words[i + 1 : end] == rest:
                    hits.setdefault(label, []).append((i, end))
        return hits


def plain(text: str) -> str:
    """The text with one spelling for each character, nothing invisible, no aside after a "not"."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return ASIDE.sub(r"\1", text) if "," in text else text


def words_of(phrase: str) -> list[str]:
    """The words of a phrase as a sentence has them."""
    return [token.lower() for token in TOKEN.findall(phrase)]


def quantities(words: list[str]) -> list[Quantity]:
    """Every number that stands before a unit ("ten seconds", "ten full seconds", "10 s")."""
    found = []
    for i, word in enumerate(words):
        unit = UNITS.get(word)
        if not unit:
            continue
        at = i - 2 if i > 1 and words[i - 1] in FILLERS else i - 1
        amount = _number(words[at]) if at >= 0 else None
        if amount is not None and words[at : i + 1] != ["a", "second"]:
            found.append(Quantity(unit[0], amount * unit[1], at))
    return found


def _number(word: str) -> float | None:
    return float(word) if word[0].isdecimal() else NUMBERS.get(word)
