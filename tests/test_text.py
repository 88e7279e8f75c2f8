import pytest
import torch
from helpers import END

from rlhf_lab.errors import UserError
from rlhf_lab.formats.fitting import fit_prompt
from rlhf_lab.text import (
    decode_response,
    encode_prompt,
    encode_response,
    longest_end,
    pad_left,
    pad_right,
    position_ids,
)


def plain(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def test_a_prompt_is_its_text_and_has_no_end_token(tokenizer):
    ids = encode_prompt(tokenizer, "Where is it?")
    assert tokenizer.decode(ids) == "Where is it?"
    assert tokenizer.eos_token_id not in ids


def test_a_prompt_may_spell_out_special_tokens(tokenizer):
    assert encode_prompt(tokenizer, f"a{END}b")[1] == tokenizer.eos_token_id


def test_an_end_token_that_the_tokenizer_adds_is_taken_off(tokenizer):
    class Ending:
        eos_token, eos_token_id = tokenizer.eos_token, tokenizer.eos_token_id

        def encode(self, text):
            return tokenizer.encode(text) + [self.eos_token_id]

    assert encode_prompt(Ending(), "Hi") == encode_prompt(tokenizer, "Hi")


@pytest.mark.parametrize(
    "limit, kept",
    [
        (19, "one two three four"),  # a byte a token: all 18 of them
        (18, "one two three four"),
        (17, "two three four"),
        (14, "two three four"),
        (13, "three four"),
        (4, "four"),
        (3, "our"),  # not even the last word: its last characters
        (1, "r"),
        (0, ""),
    ],
)
def test_of_a_prompt_that_is_too_long_the_end_is_kept(tokenizer, limit, kept):
    cut = kept != "one two three four"
    assert fit_prompt("one two three four", tokenizer, limit) == (kept, cut)
    assert len(encode_prompt(tokenizer, kept)) <= limit


def test_a_text_without_spaces_keeps_whole_characters(tokenizer):
    assert fit_prompt("日本語", tokenizer, 7) == ("本語", True)  # three bytes each


def test_the_start_token_is_counted(tokenizer):
    class Starting:
        eos_token, eos_token_id = tokenizer.eos_token, tokenizer.eos_token_id

        def encode(self, text):
            return [1, *tokenizer.encode(text)]

    assert fit_prompt("ab cd", Starting(), 5) == ("cd", True)


def test_the_longest_end_that_fits_is_found_without_trying_all(tokenizer):
    tried = []

    def fits(text):
        tried.append(text)
        return len(text) <= 9

    assert longest_end("word " * 1000 + "end.", fits) == "word end."
    assert len(tried) < 20


@pytest.mark.parametrize(
    "prompt, response, joined",
    [
        ("Q:", "yes", " yes"),
        ("Q: ", "yes", "yes"),
        ("Q:\n", "yes", "yes"),
        ("Q:", "\nyes", "\nyes"),
    ],
)
def test_prompt_and_response_are_joined_by_one_space(tokenizer, prompt, response, joined):
    ids = encode_response(tokenizer, prompt, response)
    assert ids == plain(tokenizer, joined) + [tokenizer.eos_token_id]


def test_an_end_token_written_in_a_response_does_not_end_it(tokenizer):
    ids = encode_response(tokenizer, "Q:", f"one {END} two")
    assert ids.index(tokenizer.eos_token_id) == len(ids) - 1
    assert decode_response(tokenizer, ids) == f"one {END} two"


@pytest.mark.parametrize("response", ["", "  \n"])
def test_an_empty_response_is_refused(tokenizer, response):
    with pytest.raises(UserError, match="empty response to the prompt 'Why\\?'"):
        encode_response(tokenizer, "Why?", response)


def test_a_tokenizer_without_an_end_token_is_refused():
    class Endless:
        eos_token_id = None

        def encode(self, text, **options):
            return [1]

    with pytest.raises(UserError, match="no end token"):
        encode_response(Endless(), "Why?", "So.")


@pytest.mark.parametrize("text", ["Sorry!", "naïve café, 3 €", "a , b .", "line\nbreak", "日本 🙂"])
def test_decoding_undoes_encoding(tokenizer, text):
    assert decode_response(tokenizer, encode_response(tokenizer, "Q:", text)) == text


def test_decoding_stops_at_the_end_and_drops_special_tokens(tokenizer):
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    a, b, c = plain(tokenizer, "abc")
    assert decode_response(tokenizer, [a, pad, b, end, c]) == "ab"
    assert decode_response(tokenizer, torch.tensor([a, b, c])) == "abc"
    assert decode_response(tokenizer, [end]) == ""


def test_padding_left_and_right():
    tokens, attention = pad_left([[5], [6, 7, 8]], 9)
    assert tokens.tolist() == [[9, 9, 5], [6, 7, 8]]
    assert attention.tolist() == [[0, 0, 1], [1, 1, 1]]
    tokens, attention = pad_right([[5], [6, 7, 8]], 9)
    assert tokens.tolist() == [[5, 9, 9], [6, 7, 8]]
    assert attention.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert tokens.dtype == attention.dtype == torch.long


def test_a_pad_token_inside_a_row_is_a_real_token():
    assert pad_right([[9, 9], [9]], 9)[1].tolist() == [[1, 1], [1, 0]]


def test_positions_count_real_tokens_only():
    attention = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 0, 0]])
    expected = [[0, 0, 0, 1, 2], [0, 1, 2, 3, 3], [0, 0, 1, 2, 2]]
    assert position_ids(attention).tolist() == expected
