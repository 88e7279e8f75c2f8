"""The packed reading of a batch is the library's, with less to multiply."""

import copy

import pytest
import torch

from rlhf_lab.engine.packed import hidden_states, packs
from rlhf_lab.text import pad_left, pad_right, position_ids

ROWS = [[7], [1, 2, 3, 4, 5], [9, 8, 7], [60, 61, 62, 63, 64, 65, 66, 67, 68]]
WANTED = [[1], [0, 1, 0, 1, 0], [0, 0, 1], [1, 0, 0, 0, 0, 1, 1, 0, 0]]


def by_the_library(trunk, tokens, attention, wanted):
    states = trunk(tokens, attention_mask=attention, position_ids=position_ids(attention))
    return states.last_hidden_state[wanted]


@pytest.mark.parametrize("pad", [pad_left, pad_right])
def test_states_and_gradients_are_the_librarys(policy, pad):
    tokens, attention = pad(ROWS, 257)
    wanted = pad(WANTED, 0)[0].bool()
    results = []
    for read in (hidden_states, by_the_library):
        trunk = copy.deepcopy(policy.base_model)
        states = read(trunk, tokens, attention, wanted)
        (states * torch.arange(states.numel()).view_as(states).sin()).sum().backward()
        results.append((states, {name: p.grad for name, p in trunk.named_parameters()}))
    (ours, our_gradients), (theirs, their_gradients) = results
    assert ours.shape == (7, 32)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for name, gradient in their_gradients.items():
        scale = gradient.abs().max()
        torch.testing.assert_close(our_gradients[name] / scale, gradient / scale, atol=1e-4, rtol=0)


def test_padding_meets_no_weight(gpt2):
    tokens, attention = pad_right(ROWS, 257)
    read = []
    for block in gpt2.transformer.h:
        block.mlp.c_fc.register_forward_hook(lambda layer, inputs, _: read.append(len(inputs[0])))
    hidden_states(gpt2.transformer, tokens, attention, attention.bool())
    last = torch.nn.functional.pad(attention, (0, 1)).diff() < 0
    hidden_states(gpt2.transformer, tokens, attention, last)
    assert read == [18, 18, 18, 4]  # all 18 real tokens; of the last layer what is wanted of it


def test_only_a_plain_gpt2_is_packed(make_gpt2, tokenizer, llama):
    with_dropout = make_gpt2(tokenizer, resid_pdrop=0.1).transformer
    assert packs(with_dropout.eval()) and not packs(with_dropout.train())
    assert packs(
        make_gpt2(tokenizer, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0).transformer.train()
    )
    assert not packs(llama.base_model)
