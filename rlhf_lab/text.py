"""Text to tokens and back, and rows of tokens to padded tensors with masks.

Prompts are padded on the left, so that every response starts in the same column; responses and
training rows are padded on the right. The pad token is never the end token: if it were, the end
of a response could not be told from the padding after it.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import torch
from jinja2 import TemplateSyntaxError
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_lab.errors import UserError

END = "<|endoftext|>"  # ends a document of raw text, and the shipped model's responses


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Tokens of a prompt, with the start token of tokenizers that have one, without an end token.

    Special tokens written in the prompt are read as such, as chat templates need; a start token
    that the prompt begins with is not doubled.
    """
    ids = tokenizer.encode(prompt)
    if ids and ids[-1] == tokenizer.eos_token_id and not prompt.endswith(tokenizer.eos_token):
        ids = ids[:-1]  # some tokenizers end every text; the response is still to come
    if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id is not None:
        ids = ids[1:]
    return ids


def longest_end(text: str, fits: Callable[[str], bool]) -> str:
    """The longest suffix of a text that `fits`. It starts at a word or, if not even the last word
    fits, at a character; "" if nothing fits. Every shorter suffix of one that fits must fit too."""
    for start_of in (r"\S+", r"."):
        starts = [match.start() for match in re.finditer(start_of, text, re.DOTALL)]
        first = bisect_left(starts, True, key=lambda start: fits(text[start:]))
        if first < len(starts):
            return text[starts[first] :]
    return ""


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, prompt: str, response: str, ended: bool = True
) -> tuple[list[int], list[int]]:
    """Tokens of a prompt, as the policy reads it, and of the response that follows
    (`encode_behind`)."""
    before = encode_prompt(tokenizer, prompt)
    return before, encode_behind(tokenizer, prompt, before, response, ended)


def encode_response(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> list[int]:
    """Tokens of a response that follows a prompt and ended. Raises UserError if it is blank."""
    if not response.strip():
        raise UserError(f"empty response to the prompt {_shorten(prompt)}: write at least one word")
    return encode_pair(tokenizer, prompt, response)[1]


def encode_behind(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    before: list[int],
    response: str,
    ended: bool = True,
) -> list[int]:
    """Tokens of a response that follows a prompt, whose own tokens are `before`.

    The two are joined by one space, unless the prompt ends or the response begins with white space.
    The response is encoded as part of the whole text, because SentencePiece puts a space before a
    text on its own. `ended` adds the token that ends a response; a blank response has no other
    token. Special tokens spelt out in the response stay ordinary text.

    Raises UserError if the tokenizer has no end token.
    """
    end = [response_end(tokenizer)] if ended else []
    if not response.strip():
        return end
    joined = prompt[-1:].isspace() or response[0].isspace()
    text = response if joined else " " + response
    whole = encode_prompt(tokenizer, prompt + text)
    spelt_out = any(token in response for token in tokenizer.all_special_tokens)
    if whole[: len(before)] == before and len(whole) > len(before) and not spelt_out:
        return whole[len(before) :] + end
    ids = _encode_inside(tokenizer, text)
    if spelt_out and set(ids) & set(tokenizer.all_special_ids):  # its spelling is a word too
        names = "|".join(map(re.escape, tokenizer.all_special_tokens))
        parts = re.sub(names, lambda found: f"{found[0][0]}\0{found[0][1:]}", text).split("\0")
        ids = [token for part in parts for token in _encode_inside(tokenizer, part)]
    return ids + end


def _encode_inside(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a text that follows another one. It is encoded after a character that does not
    merge with its beginning, if there is one."""
    plain = {"add_special_tokens": False, "split_special_tokens": True}
    for anchor in ("\n", ".", "x", "0"):
        start, whole = (tokenizer.encode(t, **plain) for t in (anchor, anchor + text))
        if whole[: len(start)] == start and len(whole) > len(start):
            return whole[len(start) :]
    return tokenizer.encode(text, **plain)


def decode_response(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> str:
    """The text of a response: up to a token that ends it, special tokens dropped, white space
    stripped."""
    ids, ends = [int(token) for token in ids], set(end_ids(tokenizer))
    ids = ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)  # one row of tokens is one text
    return text.strip()


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the end token; UserError if the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end token: set tokenizer.eos_token, then save it")
    return tokenizer.eos_token_id


def end_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end a response: that of the end token, then others of the model's generation
    config, such as the end of a turn (`models.load_tokenizer` has read them)."""
    return list(dict.fromkeys([end_token(tokenizer), *getattr(tokenizer, "more_ends", ())]))


def response_end(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends a response to learn from: the one with which the chat template ends a turn,
    if it has one, otherwise the end token's."""
    turn_end = getattr(tokenizer, "turn_end", None)
    return end_token(tokenizer) if turn_end is None else turn_end


def read_ends(tokenizer: PreTrainedTokenizerBase, others: Sequence[int]) -> None:
    """Store on a tokenizer the other ids that end a response, and the one that its chat template
    puts after an answer. Raises UserError if the template has a syntax error."""
    tokenizer.more_ends = tuple(others)
    tokenizer.turn_end = None
    if not isinstance(tokenizer.chat_template, str):
        return
    said = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}]
    try:
        text = tokenizer.apply_chat_template(said, tokenize=False)
    except TemplateSyntaxError as error:
        raise UserError(
            f"the tokenizer's chat template is broken at line {error.lineno} ({error.message}): "
            "correct it, or delete it to write messages as plain text"
        ) from error
    except Exception:  # it needs other messages: use the end token
        return
    if not others or not isinstance(text, str) or "Answer" not in text:
        return
    behind = tokenizer.encode(text[text.rindex("Answer") + 6 :], add_special_tokens=False)
    ends = end_ids(tokenizer)
    turn_end = next((token for token in behind if token in ends), None)
    tokenizer.turn_end = turn_end


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as tokens and attention, both (B, P) long, padding on the left."""
    return _pad(rows, pad_id, left=True)


def pad_right(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as tokens and attention, both (B, T) long, padding on the right."""
    return _pad(rows, pad_id, left=False)


def position_ids(attention: Tensor) -> Tensor:
    """Position of each token among its row's real tokens: the exclusive sum of attention, (B, T).

    `[0, 0, 1, 1, 1]` gives `[0, 0, 0, 1, 2]`. Models with learned positions (GPT-2) give wrong
    log-probabilities for left-padded rows without it.
    """
    return attention.cumsum(dim=1) - attention


def _pad(rows: Sequence[Sequence[int]], pad_id: int, left: bool) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows), default=0)
    tokens = torch.full((len(rows), width), pad_id, dtype=torch.long)
    attention = torch.zeros_like(tokens)
    for index, row in enumerate(rows):
        columns = slice(width - len(row), width) if left else slice(0, len(row))
        tokens[index, columns] = torch.as_tensor(row, dtype=torch.long)
        attention[index, columns] = 1
    return tokens, attention


def _shorten(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[: length - 3] + "...")


def counted(count: int, one: str, several: str = "") -> str:
    """A number with its noun: 1 entry, 2,000 entries. several: its plural, if irregular."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
