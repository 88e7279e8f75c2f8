"""Look up the shop's manual: which problem a customer describes, and which problem's step a
response gives.

The manual is the task's own world.toml: for each problem, what customers say and the step that
fixes it. Problem and step are found by the words that a text shares with the manual, rare words
counting more; the facts that a prompt has for the judge are not used. So it can fail if a customer
uses other words, just as a person with a manual can.
"""

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from rlhf_lab.tasks.phrases import CLAUSE_ENDS, sentences, words_of
from rlhf_lab.tasks.support_desk.grammar import in_customers_words
from rlhf_lab.tasks.support_desk.world import load_world

PROBLEM, STEP = 0.8, 0.6  # smallest share of a manual's sentence that must occur


class Index:
    """Sentences of the manual, each with its problem, to be found by the words in a text."""

    def __init__(self, listed: Iterable[tuple[str, str]]):
        """listed: problem and sentence."""
        self.sentences = [(problem, frozenset(_words(text))) for problem, text in listed]
        counts = Counter(word for _, words in self.sentences for word in words)
        total = len(self.sentences)
        self.rarity = {word: math.log(1 + total / count) for word, count in counts.items()}
        self.weights = [self._weigh(words) for _, words in self.sentences]

    def nearest(self, text: str, at_least: float) -> str | None:
        """The problem of the sentence that has the largest share of its words in the text, weighted
        by rarity; of equals, the longer one. None if that share is below `at_least`."""
        there = set(_words(text))
        share, _, problem = max(
            (self._weigh(words & there) / weight, weight, problem)
            for (problem, words), weight in zip(self.sentences, self.weights)
        )
        return problem if share >= at_least else None

    def _weigh(self, words: Iterable[str]) -> float:
        return sum(self.rarity[word] for word in words)


def look_up(prompt: str, response: str) -> tuple[str | None, list[str], list[str]]:
    """The customer's problem, by its name in the manual (None if it is not recognised), the
    sentences of the response that give its step, and those that give another problem's step."""
    problem = problem_in(prompt)
    right: list[str] = []
    wrong: list[str] = []
    for start, end in sentences(response):
        said = response[start:end]
        step = _steps().nearest(said, STEP)
        if step is not None:
            (right if step == problem else wrong).append(said)
    return problem, right, wrong


@lru_cache(maxsize=20_000)
def problem_in(prompt: str) -> str | None:
    """The problem that the customer describes, as far as the manual has words for it."""
    return _problems().nearest(prompt, PROBLEM)


@lru_cache(maxsize=1)
def _problems() -> Index:
    """What customers say. Not the phrasings kept for the test (`apart`): no manual has those."""
    return Index(
        (id, in_customers_words(said))
        for id, problem in load_world().problems.items()
        for said in (*problem.asks, *problem.symptom)
    )


@lru_cache(maxsize=1)
def _steps() -> Index:
    return Index(
        (id, step) for id, problem in load_world().problems.items() for step in problem.step
    )


def _words(text: str) -> list[str]:
    """The words of a text, with contractions written out ("won't" as "will not")."""
    text = text.replace("{p}", "").replace("\u2019", "'")
    for long, short in load_world().phrases["customer"]["contractions"]:
        text = text.replace(short, long)
    return [word for word, _ in words_of(text) if word not in CLAUSE_ENDS]
