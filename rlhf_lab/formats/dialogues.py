"""Whole dialogues in one text, with Human: and Assistant: turns (Bai et al. 2022, hh-rlhf).

A turn begins after a blank line; in a text without such turns, at the beginning of a line. So a
line "Assistant:" inside an answer is part of the answer. Only an answer that contains a blank line
and then "Human:" or "Assistant:" is mistaken for a new turn.
"""

import os
import re

AFTER_BLANK = re.compile(r"(?:\A|\n\r?\n)(Human|Assistant):")
ON_A_LINE = re.compile(r"^(Human|Assistant):", re.MULTILINE)


def split_last(text: str) -> tuple[str, str] | None:
    """A dialogue up to and including its last Assistant: marker, and the rest; None if there is no
    such marker."""
    ends = _answers(text)
    return (text[: ends[-1]], text[ends[-1] :]) if ends else None


def split_pair(chosen: str, rejected: str) -> tuple[str, str, str] | None:
    """Two dialogues as the prompt that they share and what follows it in each.

    The prompt ends at the last Assistant: marker before the dialogues differ, so two answers that
    begin with the same words keep those words. None if the dialogues share no such marker.
    """
    shared = len(os.path.commonprefix((chosen, rejected)))  # noqa: RUF071  of characters
    ends = [end for end in _answers(chosen) if end <= shared]
    return (chosen[: ends[-1]], chosen[ends[-1] :], rejected[ends[-1] :]) if ends else None


def goes_on(prompt: str, rest: str) -> bool:
    """Whether `rest`, the text after a prompt that was split off, contains another turn."""
    return _turns(prompt).search(prompt + rest, len(prompt)) is not None


def questions(text: str) -> list[tuple[int, int, int]]:
    """For each Human: turn, the positions where it begins, where its marker ends and where it
    ends."""
    found = list(_turns(text).finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(*match.span(), end) for match, end in zip(found, ends) if match[1] == "Human"]


def _answers(text: str) -> list[int]:
    """The positions where the Assistant: markers end."""
    return [match.end() for match in _turns(text).finditer(text) if match[1] == "Assistant"]


def _turns(text: str) -> re.Pattern:
    """The pattern that marks turns in this text."""
    blank = any(match[1] == "Assistant" for match in AFTER_BLANK.finditer(text))
    return AFTER_BLANK if blank else ON_A_LINE
