"""Gradient checkpointing: keep the input of each layer alone, and work the layer out again when the
backward pass gets there (Chen et al. 2016). About a third more arithmetic, and of all that a layer
makes of its tokens only one layer's share is held at a time.

transformers does so in training mode only, and the stages here run in eval mode, without dropout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from rlhf_lab.errors import UserError

M = TypeVar("M", bound=nn.Module)

again = partial(checkpoint, use_reentrant=False)


def recompute_layers(model: M) -> M:
    """Have every layer of `model` worked out again in the backward pass; returns the model.

    The gradients stay what they were. Raises UserError if transformers does not know its layers.
    """
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(
            f"{type(model).__name__} has no layers that can be checkpointed: leave "
            "--gradient-checkpointing out"
        )
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = again  # type: ignore[assignment]  # not declared
    return model


def recomputed(layer: nn.Module) -> bool:
    """Whether a layer is to be worked out again."""
    return getattr(layer, "gradient_checkpointing", False)


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Inside the block, layers that are to be worked out again count as in training mode, which is
    what transformers asks of them; what is in them (dropout) stays in the mode it is in."""
    layers = [m for m in model.modules() if recomputed(m) and not m.training]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
