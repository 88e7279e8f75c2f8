"""Text to tokens and back, and rows of tokens to padded tensors with masks.

Prompts are padded on the left, so that every response starts in the same column; responses and
training rows are padded on the right. The pad token is never the end token: if it were, the end
of a response could not be told from the padding behind it.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_lab.errors import UserError

END = "<|endoftext|>"  # ends a document of raw text, and what the embedded model writes


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Tokens of a prompt, with the start token of tokenizers that have one, without an end token.

    Special tokens written out in the prompt are understood, as chat templates need.
    """
    ids = tokenizer.encode(prompt)
    if ids and ids[-1] == tokenizer.eos_token_id and not prompt.endswith(tokenizer.eos_token):
        ids = ids[:-1]  # some tokenizers end every text; the response is still to come
    return ids


def longest_end(text: str, fits: Callable[[str], bool]) -> str:
    """The longest end of a text for which `fits` holds, from the start of a word or, where not even
    the last word fits, of a character; "" if nothing does. It must hold for every shorter end of an
    end for which it holds."""
    for start_of in (r"\S+", r"."):
        starts = [match.start() for match in re.finditer(start_of, text, re.DOTALL)]
        first = bisect_left(starts, True, key=lambda start: fits(text[start:]))
        if first < len(starts):
            return text[starts[first] :]
    return ""


def encode_response(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> list[int]:
    """Tokens of a response that follows `prompt`, ended by the end token.

    The two are joined by one space, unless the prompt ends or the response begins with white
    space. The response is encoded apart from the prompt, so that the prompt's tokens are the ones
    the policy reads when it samples. An end token spelt out in the text stays ordinary text.

    Raises UserError if the response is empty or the tokenizer has no end token.
    """
    if not response.strip():
        raise UserError(f"empty response to the prompt {_shorten(prompt)}: write at least one word")
    joined = prompt[-1:].isspace() or response[0].isspace()
    text = response if joined else " " + response
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return ids + [end_token(tokenizer)]


def decode_response(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> str:
    """The text of a response: up to the end token, special tokens dropped, white space stripped."""
    ids = [int(token) for token in ids]
    if tokenizer.eos_token_id in ids:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)  # one row of tokens is one text
    return text.strip()


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the end token; UserError if the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end token: set tokenizer.eos_token, then save it")
    return tokenizer.eos_token_id


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as tokens and attention, both (B, P) long, padding in front."""
    return _pad(rows, pad_id, left=True)


def pad_right(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as tokens and attention, both (B, T) long, padding behind."""
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
    """A number with its noun: 1 entry, 2,000 entries. several: its plural, if not with an s."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
