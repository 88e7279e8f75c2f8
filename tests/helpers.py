"""What several test files need."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from rlhf_lab.errors import UserError
from rlhf_lab.text import position_ids

END, PAD = "<|end|>", "<|pad|>"


def refusal(call, *arguments, **named) -> str:
    """The message of the UserError that a call raises: one line."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    return message


def byte_level(*special: str) -> Tokenizer:
    """A token for each byte, then the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({symbol: index for index, symbol in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(special))
    return backend


def response_logits(policy, tokens, attention, n: int):
    """Logits that predict the last `n` tokens of each row, (B, n, V), by transformers' own forward
    pass over padded rows: what the lab's packed reading is held against."""
    attention = attention[:, :-1]  # the last token predicts nothing we need
    return policy(
        input_ids=tokens[:, :-1],
        attention_mask=attention,
        use_cache=False,
        position_ids=position_ids(attention),
        logits_to_keep=n,
    ).logits


@contextmanager
def must_end(seconds: int = 60) -> Iterator[None]:
    """Fail instead of hanging for ever. It measures nothing: what it guards takes far less than a
    second, and what it is there to catch would take hours."""
    if not hasattr(signal, "SIGALRM"):  # Windows
        yield
        return

    def stop(*_: object) -> None:
        raise AssertionError(f"not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
