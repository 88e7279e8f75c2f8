"""Answers that learners write, tried on the checks: right ones in many styles are accepted, usual
mistakes are named, and two mistakes at once are told as two.

The answers stand in answers_*.py. RIGHT: exercise -> functions, each in another style. WRONG:
exercise -> (function, words of the sentence that names its mistake). TWO: the same, with two
mistakes, and words of either sentence, with a | between them.
"""

import answers_00_to_03
import answers_04
import answers_05_to_10
import answers_14
import pytest

from rlhf_lab.course.exercises import check

FILES = (answers_00_to_03, answers_04, answers_05_to_10, answers_14)


def answers(kind):
    """A parameter of a test for every answer of a kind: the exercise and what is written there."""
    return [
        pytest.param(name, answer, id=f"{name}-{i}")
        for file in FILES
        for name, some in getattr(file, kind).items()
        for i, answer in enumerate(some)
    ]


def refused(name, function) -> str:
    """What the check says of an answer that it does not accept."""
    result = getattr(check, name)(function)
    assert not result.right and result.attempted, result.text
    return result.text


@pytest.mark.parametrize("name, function", answers("RIGHT"))
def test_right_answers_in_other_styles(name, function):
    result = getattr(check, name)(function)
    assert result.right, result.text


def test_every_exercise_is_answered_in_six_styles():
    styles = {name: len(some) for file in FILES for name, some in file.RIGHT.items()}
    checks = {
        name for name, x in vars(check).items() if getattr(x, "__module__", "") == check.__name__
    }
    assert checks == set(styles) and min(styles.values()) >= 6


@pytest.mark.parametrize("name, answer", answers("WRONG"))
def test_a_mistake_is_named(name, answer):
    function, words = answer
    text = refused(name, function)
    assert words in text and "There are two mistakes" not in text, text


@pytest.mark.parametrize("name, answer", answers("TWO"))
def test_two_mistakes_are_told_as_two(name, answer):
    function, words = answer
    text = refused(name, function)
    assert "There are two mistakes. The first: " in text, text
    assert any(some in text for some in words.split("|")), text
