"""The little English that judges need: what a negation applies to, what is no sentence, and what no
plain answer does."""

import itertools
from collections.abc import Sequence

from rlhf_lab.tasks.lexicon import PAUSES, Sentence, Span

SMALL = frozenset(
    """
    a an the this that these it its is are was be am has have had do does did not no i you
    he she we they me us my your our their of to in on at by for with from as if or and but
    so than then until there when where which who what will would can could should may once
    up out off down again all any some too very just let n u
    """.split()
)  # a sentence needs some of these
CLAUSE_ENDS = PAUSES | frozenset("but please unless until so then instead".split())
IFS = frozenset("if when because since although as".split())

ARTICLES = frozenset("the a an your our my".split())
PREPOSITIONS = frozenset("of from with by for at into".split())
_NO_START = PREPOSITIONS - {"at"} | frozenset("in and or but is are please".split())
NEVER_AFTER = dict.fromkeys(PREPOSITIONS, _NO_START) | {
    word: _NO_START | ARTICLES | PAUSES | frozenset(". to at it we you they once again".split())
    for word in ARTICLES
}  # pairs of words that no sentence has
SYMBOLS = frozenset("<>{}[]|\\^~")


def is_turned(s: Sentence, at: int, reach: int = 5) -> bool:
    """Whether a negation applies to the word at this place: it stands at most `reach` words before,
    in the same clause, and not after an "if"."""
    harmless = {i for start, end in s.all("no_negation") for i in range(start, end)}
    negations = {start for start, _ in s.all("negation")} - harmless
    for i in range(at - 1, max(-1, at - 1 - reach), -1):
        if i in negations:
            return IFS.isdisjoint(s.words[max(0, i - 5) : i])
        if s.words[i] in CLAUSE_ENDS:
            return False
    return False


def is_reported(s: Sentence, at: int) -> bool:
    """Whether an action is only what somebody did or wanted to do, and not advice."""
    return any(start <= at <= end + 2 for start, end in s.all("reported"))


def is_near(span: Span, others: list[Span], words: int = 14) -> bool:
    """Whether a phrase stands within this many words of one of the others."""
    return any(start - words <= span[1] and span[0] <= end + words for start, end in others)


def is_garbled(s: Sentence) -> bool:
    """Whether this is not a real sentence: words without grammar, words that cannot follow one
    another, an endless word, letters of other alphabets, or symbols that no plain answer has."""
    words = [w for w in s.words if w not in PAUSES]
    heap = len(words) > 5 and sum(w in SMALL for w in words) < 0.1 * len(words)
    torn = any(b in NEVER_AFTER.get(a, ()) for a, b in zip(s.words, [*s.words[1:], "."]))
    endless = any(len(w) > 25 for w in words)
    foreign = not s.text.isascii() and any(c > "\u024f" and c.isalpha() for c in s.text)
    return heap or torn or endless or foreign or not SYMBOLS.isdisjoint(s.text)


def shouts(sentences: Sequence[Sentence]) -> bool:
    """Whether most of the letters are capitals."""
    letters = [c for s in sentences for c in s.text if c.isalpha()]
    return len(letters) > 12 and sum(map(str.isupper, letters)) > 0.6 * len(letters)


def speaks_for(sentences: Sequence[Sentence], *speakers: str) -> bool:
    """Whether an answer goes on writing the conversation: a speaker's name and a colon."""
    return any(":" in s.words and not set(speakers).isdisjoint(s.words) for s in sentences)


def repeats_pairs(words: Sequence[str], different: float) -> bool:
    """Whether so many pairs of neighbouring words come back that fewer than this share of them
    differ; of short texts, never."""
    pairs = list(itertools.pairwise(words))
    return len(pairs) >= 8 and len(set(pairs)) < different * len(pairs)
