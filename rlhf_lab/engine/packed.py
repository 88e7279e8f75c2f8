"""Compute hidden states at the wanted positions, with little work elsewhere.

In a padded batch, many multiplications are spent on padding, and on the last layer's output at
positions that are never read: only the keys and values of a prompt matter, and a reward model reads
one position a row. For GPT-2, the real tokens of all rows are concatenated, so that padding is
never multiplied by a weight, and the last feed-forward layer is computed only at the wanted
positions. Only attention needs separate rows; it takes a few rows of similar length at a time, so
that there is little padding. Any other model reads its batch as transformers does.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Model, PreTrainedModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Block

from rlhf_lab.engine.recompute import again, recomputed, recomputing
from rlhf_lab.text import position_ids

GRID_ROWS = 16  # on a CPU, attention's results for this many rows fit in the cache


class Grid(NamedTuple):
    """A group of rows as attention reads them. places (m,): the place of each of the group's tokens
    among the rows * columns."""

    rows: int
    columns: int
    places: Tensor


def headless(model: PreTrainedModel) -> PreTrainedModel:
    """The headless transformers model within one that has a head."""
    trunk = model.base_model
    if trunk is model and model.get_output_embeddings() is not None:  # Llama 4 misnames its own
        trunk = next(m for m in model.children() if isinstance(m, PreTrainedModel))
    assert isinstance(trunk, PreTrainedModel)
    return trunk


def in_float32(layer: nn.Linear, x: Tensor) -> Tensor:
    """The output of a linear layer for x, in float32 if either has half precision, also under
    autocast: logits of -100, and small differences between values, have few digits in bf16."""
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    with torch.autocast(x.device.type, enabled=False):
        if layer.weight.dtype == x.dtype:
            return layer(x)
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return F.linear(x, layer.weight.to(x.dtype), bias)


def blocks_of(trunk: GPT2Model) -> Iterator[GPT2Block]:
    """The layers, in order."""
    for block in trunk.h:
        assert isinstance(block, GPT2Block)
        yield block


def hidden_states(
    trunk: PreTrainedModel, tokens: Tensor, attention: Tensor, wanted: Tensor
) -> Tensor:
    """The last hidden state at each wanted position, row after row: bool (B, T) -> (W, D).

    trunk: a headless transformers model. Padding, on either side, changes nothing; a wanted
    position must be a real one.
    """
    positions, real = position_ids(attention), attention.bool()
    if not packs(trunk):
        with recomputing(trunk):
            read = trunk(
                input_ids=tokens, attention_mask=attention, position_ids=positions, use_cache=False
            )
        return read.last_hidden_state[wanted]
    real &= wanted.flip(1).cumsum(1).flip(1).bool()  # what follows the last wanted one is unused
    lengths = real.sum(1)
    order = lengths.argsort(stable=True)
    real = real[order]
    grids = list(
        grids_of(lengths[order], GRID_ROWS if tokens.device.type == "cpu" else len(tokens))
    )
    keep = wanted[order][real].nonzero().squeeze(1)  # (W,), places among the M real tokens
    x = trunk.wte(tokens[order][real]) + trunk.wpe(positions[order][real])  # (M, D)
    for block in blocks_of(trunk):
        work = block, x, grids, keep if block is trunk.h[-1] else None
        x = again(advance, *work) if recomputed(block) else advance(*work)
    number = wanted.flatten().cumsum(0).view_as(wanted) - 1  # of each, row after row
    return trunk.ln_f(x).index_select(0, number[order][wanted[order]].argsort())


def advance(block: GPT2Block, x: Tensor, grids: list[Grid], keep: Tensor | None) -> Tensor:
    """One layer: (M, D) -> (M, D), or (W, D) if only the places `keep` (W,) matter from here
    on."""
    mixed = attend(block.attn, block.ln_1(x), grids)
    if keep is not None:
        x, mixed = x.index_select(0, keep), mixed.index_select(0, keep)
    x = x + block.attn.c_proj(mixed)
    return x + block.mlp(block.ln_2(x))


def grids_of(lengths: Tensor, size: int) -> Iterator[Grid]:
    """Rows of these lengths (B,), in this order, `size` at a time; empty ones are left out."""
    for group in lengths[lengths > 0].split(size):
        columns = int(group.max())
        real = torch.arange(columns, device=group.device) < group[:, None]
        yield Grid(len(group), columns, real.flatten().nonzero().squeeze(1))


def attend(layer: GPT2Attention, x: Tensor, grids: list[Grid]) -> Tensor:
    """Each token's attention to itself and the earlier tokens of its row: (M, D) -> (M, D)."""
    qkv = layer.c_attn(x)  # (M, 3 D)
    parts = qkv.split([len(grid.places) for grid in grids])
    return torch.cat([mix(layer, part, grid) for part, grid in zip(parts, grids)])


def mix(layer: GPT2Attention, qkv: Tensor, grid: Grid) -> Tensor:
    """Causal attention in one group of rows: (m, 3 D) -> (m, D).

    Every row begins in the grid's first column, so that no token sees the padding after it.
    """
    rows, columns, places = grid
    padded = qkv.new_zeros(rows * columns, qkv.shape[1]).index_copy(0, places, qkv)
    query, keys, values = padded.view(rows, columns, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, keys, values, is_causal=True, scale=layer.scaling)
    return mixed.transpose(1, 2).reshape(rows * columns, -1).index_select(0, places)


def packs(trunk: nn.Module) -> TypeGuard[GPT2Model]:
    """Whether `trunk` is a GPT-2 that this module can read: no dropout and no other extras."""
    if type(trunk) is not GPT2Model or trunk.config.add_cross_attention:
        return False
    dropout = any(isinstance(m, nn.Dropout) and m.p and m.training for m in trunk.modules())
    return not (dropout or trunk.config.reorder_and_upcast_attn)
