"""Small things that tests share: a byte-level tokenizer and random models, made in memory."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may need a network

import pytest
import torch
from helpers import END, PAD, byte_level
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

CONTEXT = 64
SPREAD = 0.3  # large weights, so that a mistake shows; real models start at 0.02


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte a token, then END (256) and PAD (257)."""
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level(END, PAD), eos_token=END, pad_token=PAD
    )


@pytest.fixture
def padless_tokenizer() -> PreTrainedTokenizerFast:
    """A byte a token, then END (256), which stands in for the pad token, as many people set it."""
    return PreTrainedTokenizerFast(tokenizer_object=byte_level(END), eos_token=END, pad_token=END)


@pytest.fixture(scope="session")
def make_gpt2():
    """make_gpt2(tokenizer, **changes to the config): a random GPT-2, always the same one."""

    def make(tokenizer, **changes) -> GPT2LMHeadModel:
        sizes = dict(n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4)
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(**_common(tokenizer) | sizes | changes)).eval()

    return make


@pytest.fixture(scope="session")
def make_llama():
    """The same for a Llama: rotary positions, shared keys, embeddings that are not tied."""

    def make(tokenizer, **changes) -> LlamaForCausalLM:
        sizes = dict(max_position_embeddings=CONTEXT, hidden_size=32, intermediate_size=48)
        heads = dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
        torch.manual_seed(1)
        return LlamaForCausalLM(LlamaConfig(**_common(tokenizer) | sizes | heads | changes)).eval()

    return make


@pytest.fixture
def gpt2(make_gpt2, tokenizer) -> GPT2LMHeadModel:
    """A random GPT-2 of two layers for the byte-level tokenizer, in eval mode."""
    return make_gpt2(tokenizer)


@pytest.fixture
def llama(make_llama, tokenizer) -> LlamaForCausalLM:
    """A random Llama of two layers for the byte-level tokenizer, in eval mode."""
    return make_llama(tokenizer)


@pytest.fixture(params=["gpt2", "llama"])
def policy(request):
    """Each of the two in turn."""
    return request.getfixturevalue(request.param)


def _common(tokenizer) -> dict:
    return dict(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=SPREAD,
    )
