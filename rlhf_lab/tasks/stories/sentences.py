"""The little English that a story needs: what a negation applies to, and which sentences tell
nothing, because they are garbled, speak about the story, or only claim something."""

from rlhf_lab.tasks.english import NEVER_AFTER, SMALL, SYMBOLS
from rlhf_lab.tasks.lexicon import PAUSES, Sentence

BEFORE_THE = frozenset(
    "in at on by near of from to under over behind into with for after all".split()
)
NEGATIONS = frozenset(
    "not no never nobody none without nothing neither nor cannot don't didn't".split()
)
SUBJECTS = frozenset("no nobody nothing none".split())  # they reach further: "no hug was soft"
CLAUSES = PAUSES | {"but", "and"}
SMALL_WORDS = SMALL | frozenset(
    """
    his her hers him she's into out like behind near under over ever since each every after before
    nobody something though only more most had been across them everybody everyone
    """.split()
)


def is_negated(s: Sentence, at: int, end: int) -> bool:
    """Whether a word such as "not" stands one or two words before, in the same clause ("nobody
    laughed"), or "no more" behind. Who "never laughed again" did laugh. A phrase that begins with
    the negation itself counts as it stands."""
    if s.words[end : end + 2] == ["no", "more"]:
        return True
    for far, word in enumerate(reversed(s.words[max(0, at - 4) : at])):
        if word in CLAUSES:
            return False
        if word in NEGATIONS and (far < 2 or word in SUBJECTS):
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
    heap = len(words) > 5 and sum(word in SMALL_WORDS for word in words) < 0.15 * len(words)
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
