"""Fast GPT-2 for sampling only: it uses transformers' weights without its `generate`.

At the sizes a laptop can train, much of `generate`'s time goes into growing the cache by
concatenation, building masks, a GELU made of many operations, and positions whose result is not
used. Here the cache is allocated once, padding is never multiplied by a weight, and the last layer
computes only what the next token needs.
"""

import math
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2LMHeadModel, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.pytorch_utils import Conv1D

from rlhf_lab.engine.packed import blocks_of, in_float32
from rlhf_lab.text import position_ids

FEW_ROWS = 256


def supports(policy: PreTrainedModel) -> TypeGuard[GPT2LMHeadModel]:
    """Whether `policy` is a GPT-2 as the library builds it, with or without adapters beside its
    matrices (`adapters`), but without quantised layers."""
    if type(policy) is not GPT2LMHeadModel:
        return False
    config = policy.config
    plain = all(
        type(getattr(layer, "base_layer", layer)) is Conv1D
        for block in blocks_of(policy.transformer)
        for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
    )
    return plain and not (config.add_cross_attention or config.reorder_and_upcast_attn)


class GPT2Decoder:
    """Next-token logits of a GPT-2, for B rows that grow by one token at a time.

    tokens, attention: the prompts, padded on the left, (U, P). copies: the prompt of each row,
    (B,), so that a prompt with several responses is read once. n: how many tokens may follow.
    """

    def __init__(
        self, policy: GPT2LMHeadModel, tokens: Tensor, attention: Tensor, copies: Tensor, n: int
    ):
        self.policy, self.net = policy, policy.transformer
        self.heads, self.length = policy.config.n_head, tokens.shape[1]
        self.tokens, self.attention, self.copies = tokens, attention, copies
        B, T = len(copies), self.length + n
        weight = self.net.wte.weight
        shape = (policy.config.n_layer, 2, B, self.heads, T, weight.shape[1] // self.heads)
        device = weight.device.type  # the type of keys and values, so that nothing is cast
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        # by layer, keys and values, row, head, column
        self.cache = weight.new_empty(shape, dtype=dtype or weight.dtype)
        bias = weight.new_zeros(B, 1, 1, T)  # added to attention scores: -inf on padding
        bias[..., : self.length].masked_fill_(~attention.bool()[copies, None, None], -torch.inf)
        self.bias = bias.repeat(1, self.heads, 1, 1)  # (B, H, 1, T)
        self.positions = attention.sum(dim=1)[copies]  # of each row's next token, (B,)

    def read(self) -> Tensor:
        """Read the prompts; logits of each row's first response token, (B, V)."""
        U, P = self.tokens.shape
        real = self.attention.bool()  # the last column is real in every row
        seen = torch.ones(P, P, dtype=torch.bool, device=real.device).tril() & real[:, None, None]
        x = self.net.wte(self.tokens[real]) + self.net.wpe(position_ids(self.attention)[real])
        for block, cache in zip(blocks_of(self.net), self.cache):
            projected = _linear(block.attn.c_attn, block.ln_1(x))
            qkv = projected.new_zeros(U, P, projected.shape[-1])
            qkv[real] = projected
            query, keys, values = qkv.view(U, P, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            cache[0, ..., :P, :], cache[1, ..., :P, :] = keys[self.copies], values[self.copies]
            if block is self.net.h[-1]:  # from here on only the last column matters
                query, seen = query[:, :, -1:], seen[:, :, -1:]
                x, real = x[real.sum(dim=1).cumsum(dim=0) - 1], real[:, -1:]
            mixed = F.scaled_dot_product_attention(
                query, keys, values, attn_mask=seen, scale=block.attn.scaling
            )
            x = _finish(block, x, mixed.transpose(1, 2).flatten(2)[real])  # padding drops out
        return in_float32(self.policy.lm_head, self.net.ln_f(x))[self.copies]

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token (B,) to each row; logits of the next, (B, V)."""
        B, t = len(tokens), self.length
        self.length += 1
        bias = self.bias[:B].flatten(0, 1)[..., : self.length]  # (B H, 1, t + 1)
        x = self.net.wte(tokens) + self.net.wpe(self.positions)  # (B, D)
        for block, cache in zip(blocks_of(self.net), self.cache[:, :, :B]):
            qkv = _linear(block.attn.c_attn, block.ln_1(x)).view(B, 3, self.heads, -1)
            cache[:, :, :, t] = qkv[:, 1:].transpose(0, 1)
            keys, values = cache.flatten(1, 2)[:, :, : self.length]  # (B H, t + 1, D / H) each
            query = qkv[:, 0].flatten(0, 1)[:, None]
            scores = torch.baddbmm(bias, query, keys.transpose(1, 2), alpha=block.attn.scaling)
            x = _finish(block, x, (scores.softmax(dim=-1) @ values).view_as(x))
        self.positions = self.positions + 1
        return in_float32(self.policy.lm_head, self.net.ln_f(x))

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows, in this order; only rows that change place are moved."""
        to = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
        self.cache[:, :, to, :, : self.length] = self.cache[:, :, rows[to], :, : self.length]
        self.positions, self.bias = self.positions[rows], self.bias[rows]


def _finish(block: GPT2Block, x: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a block, once attention has mixed the positions; all (rows, D)."""
    x = x + _linear(block.attn.c_proj, mixed)
    inner = _activate(block.mlp.act, _linear(block.mlp.c_fc, block.ln_2(x)))
    return x + _linear(block.mlp.c_proj, inner)


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    if type(layer) is not Conv1D:  # it has an adapter
        return layer(x)
    return torch.addmm(layer.bias, x, layer.weight)


def _activate(act: nn.Module, x: Tensor) -> Tensor:
    """The block's activation. GPT-2's own GELU, which contains tanh, is computed in a faster way:

    (1 + tanh(z/2)) / 2 is the logistic function of z, which a CPU computes in a third of the time.
    This is faster only while x stays in the CPU's cache, so only for few rows.
    """
    if not isinstance(act, NewGELUActivation) and getattr(act, "approximate", None) != "tanh":
        return act(x)
    if x.device.type != "cpu" or len(x) > FEW_ROWS:
        return F.gelu(x, approximate="tanh")
    z = torch.addcmul(x, x * x, x, value=0.044715).mul_(math.sqrt(8 / math.pi))
    return z.sigmoid_().mul_(x)
