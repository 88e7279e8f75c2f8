"""The little English that checkers need: words, sentences, phrases and negation."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

Span = tuple[int, int]  # where a piece of a text begins and ends, in characters

WORD = re.compile(r"[\w']+|[,;:]")  # commas and the like are words that end a clause
SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s|$)|$)", re.DOTALL)  # "2.4 GHz" does not end one
CLAUSE_ENDS = frozenset([",", ";", ":", "but"])
REACH = 4  # how many words before a phrase a negation may stand


def sentences(text: str) -> list[Span]:
    """The sentences of a text, without the white space between them."""
    return [(m.start(), m.start() + len(m[0].rstrip())) for m in SENTENCE.finditer(text)]


def words_of(text: str) -> list[tuple[str, Span]]:
    """The words of a text in lower case, and where they stand; pauses count as words."""
    text = text.replace("\u2019", "'")
    return [(m[0].lower(), m.span()) for m in WORD.finditer(text)]


def places(words: Sequence[str], phrases: Iterable[str]) -> list[Span]:
    """Where a phrase occurs among the words, whole words only: the index of its first word, and the
    index after its last one; in the order of the text."""
    found = []
    for phrase in map(_phrase, phrases):
        found += [
            (i, i + len(phrase))
            for i, word in enumerate(words)
            if word == phrase[0] and tuple(words[i : i + len(phrase)]) == phrase
        ]
    return sorted(found)


@lru_cache(maxsize=4096)
def _phrase(text: str) -> tuple[str, ...]:
    """The words of a listed phrase, cached because they are needed again and again."""
    return tuple(word for word, _ in words_of(text))


def is_denied(words: Sequence[str], at: int, negations: Iterable[str]) -> bool:
    """Whether a negation stands at most REACH words before this one, in the same clause."""
    for word in reversed(words[max(0, at - REACH) : at]):
        if word in CLAUSE_ENDS:
            return False
        if word in negations:
            return True
    return False


def find(text: str, phrases: Iterable[str], negations: Iterable[str] = ()) -> list[Span]:
    """Where a phrase occurs in a text, in characters, unless it is negated. No phrase crosses the
    end of a sentence."""
    phrases, found = list(phrases), []
    for start, end in sentences(text):
        listed = words_of(text[start:end])
        words = [word for word, _ in listed]
        found += [
            (start + listed[first][1][0], start + listed[last - 1][1][1])
            for first, last in places(words, phrases)
            if not is_denied(words, first, negations)
        ]
    return found
