"""Hidden states where they are wanted, and no work where they are not.

A padded batch spends much of its multiplications on padding, and on what the last layer makes of
positions that nobody reads: of a prompt only its keys and values matter, and a reward model reads
one position a row. For GPT-2 the real tokens of all rows are laid end to end, so that padding meets
no weight, and the last feed-forward layer is computed at the wanted positions alone. Any other
model reads its batch as transformers does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Model, PreTrainedModel

from rlhf_lab.text import position_ids


def hidden_states(
    trunk: PreTrainedModel, tokens: Tensor, attention: Tensor, wanted: Tensor
) -> Tensor:
    """The last hidden state at each wanted position, row after row: bool (B, T) -> (W, D).

    trunk: a headless transformers model. Padding, on either side, changes nothing; a wanted
    position must be a real one.
    """
    positions, real = position_ids(attention), attention.bool()
    if not packs(trunk):
        read = trunk(
            input_ids=tokens, attention_mask=attention, position_ids=positions, use_cache=False
        )
        return read.last_hidden_state[wanted]
    B, T = tokens.shape
    real &= wanted.flip(1).cumsum(1).flip(1).bool()  # behind the last wanted one nothing matters
    slots = (positions + T * torch.arange(B, device=tokens.device)[:, None])[real]  # (M,)
    keep = wanted[real].nonzero().squeeze(1)  # (W,), places among the M real tokens
    x = trunk.wte(tokens[real]) + trunk.wpe(positions[real])  # (M, D)
    for block in trunk.h:
        mixed = attend(block.attn, block.ln_1(x), slots, (B, T))
        if block is trunk.h[-1]:
            x, mixed = x.index_select(0, keep), mixed.index_select(0, keep)
        x = x + block.attn.c_proj(mixed)
        x = x + block.mlp(block.ln_2(x))
    return trunk.ln_f(x)


def attend(layer: nn.Module, x: Tensor, slots: Tensor, shape: tuple[int, int]) -> Tensor:
    """What each token takes from itself and the earlier ones of its row: (M, D) -> (M, D).

    Here alone the rows stand apart, in a grid of B rows and T columns in which token m has place
    slots[m]. They begin in its first column: causal attention never sees the gaps behind them.
    """
    B, T = shape
    qkv = layer.c_attn(x)  # (M, 3 D)
    grid = qkv.new_zeros(B * T, qkv.shape[1]).index_copy(0, slots, qkv)
    query, keys, values = grid.view(B, T, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(
        query, keys, values, is_causal=True, scale=layer.scaling
    )
    return mixed.transpose(1, 2).reshape(B * T, -1).index_select(0, slots)


def packs(trunk: nn.Module) -> bool:
    """Whether `trunk` is a GPT-2 that does nothing but what is written above."""
    if type(trunk) is not GPT2Model or trunk.config.add_cross_attention:
        return False
    dropout = any(isinstance(m, nn.Dropout) and m.p and m.training for m in trunk.modules())
    return not (dropout or trunk.config.reorder_and_upcast_attn)
