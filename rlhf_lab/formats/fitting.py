"""Shorten prompts that are too long for the model: their end, the question to answer, is kept.

A dialogue loses whole turns from its beginning, so that it still begins with a question (after the
system's message, if it has one). If even the last question is too long, only its end is kept.
"""

from bisect import bisect_left
from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from rlhf_lab.formats.chat import Message, Messages, render
from rlhf_lab.formats.dialogues import questions
from rlhf_lab.text import encode_prompt, longest_end


def fit_prompt(
    whole: str, tokenizer: PreTrainedTokenizerBase, limit: int, messages: Messages = ()
) -> tuple[str, bool]:
    """A prompt as text of at most `limit` tokens, and whether it was shortened; the text is "" if
    none of it fits. whole: the prompt's whole text. messages: those that it was rendered from, if
    any."""

    def fits(text: str) -> bool:
        return len(encode_prompt(tokenizer, text)) <= limit

    if fits(whole):
        return whole, False
    if messages:
        return _shorter_chat(whole, messages, tokenizer, fits), True
    return _shorter_text(whole, fits), True


def _shorter_text(prompt: str, fits: Callable[[str], bool]) -> str:
    asked = questions(prompt)
    if not asked:
        return longest_end(prompt, fits)
    ends = [prompt[begin:] for begin, _, _ in asked]
    if (kept := _longest(ends, fits)) is not None:
        return kept
    begin, said, end = asked[-1]
    marker, rest = prompt[begin:said] + " ", prompt[end:]
    cut = longest_end(prompt[said:end], lambda text: fits(marker + text + rest))
    return marker + cut + rest if cut else ""


def _shorter_chat(
    whole: str, messages: Messages, tokenizer: PreTrainedTokenizerBase, fits: Callable[[str], bool]
) -> str:
    system = messages[:1] if messages[0].role == "system" else ()
    asked = [i for i, message in enumerate(messages) if message.role == "user"]
    if not asked:
        return longest_end(whole, fits)
    later = [i for i in asked if i > len(system)]  # from the first message it is the whole prompt
    ends = [render(system + messages[i:], tokenizer) for i in later]
    if (kept := _longest(ends, fits)) is not None:
        return kept

    def with_last(content: str) -> str:
        return render(system + (Message("user", content), *messages[asked[-1] + 1 :]), tokenizer)

    cut = longest_end(messages[asked[-1]].content, lambda content: fits(with_last(content)))
    return with_last(cut) if cut else ""


def _longest(ends: list[str], fits: Callable[[str], bool]) -> str | None:
    """The first text that fits, of texts ordered from long to short; None if none does."""
    index = bisect_left(ends, True, key=fits)
    return ends[index] if index < len(ends) else None
