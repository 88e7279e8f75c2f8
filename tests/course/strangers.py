"""How answers that strangers write are tried: each test file holds some for a few exercises.

RIGHT: exercise -> functions, each in another style. WRONG: exercise -> (function, words of the
sentence that names its mistake). TWO: the same, with two mistakes, and words of either sentence.
"""

from collections.abc import Callable

import pytest

from rlhf_lab.course.exercises import check

Answer = tuple[Callable, str]


def right(answers: dict[str, list[Callable]]):
    """Parameters of a test for every right answer."""
    return pytest.mark.parametrize(
        "name, function",
        [
            pytest.param(name, function, id=f"{name}-{i}")
            for name, functions in answers.items()
            for i, function in enumerate(functions)
        ],
    )


def wrong(answers: dict[str, list[Answer]]):
    """Parameters of a test for every wrong one."""
    return pytest.mark.parametrize(
        "name, function, words",
        [
            pytest.param(name, function, words, id=f"{name}-{i}")
            for name, some in answers.items()
            for i, (function, words) in enumerate(some)
        ],
    )


def accept(name: str, function: Callable) -> None:
    """The check takes the answer for right."""
    result = getattr(check, name)(function)
    assert result.right, result.text


def name_one(name: str, function: Callable, words: str) -> None:
    """The check names the one mistake."""
    text = _refused(name, function)
    assert words in text and "There are two mistakes" not in text, text


def name_two(name: str, function: Callable, words: str) -> None:
    """The check says that there are two mistakes, and names one of them: words are of either
    sentence, with a | between them."""
    text = _refused(name, function)
    assert "There are two mistakes. The first: " in text, text
    assert any(some in text for some in words.split("|")), text


def _refused(name: str, function: Callable) -> str:
    result = getattr(check, name)(function)
    assert not result.right and result.attempted, result.text
    return result.text
