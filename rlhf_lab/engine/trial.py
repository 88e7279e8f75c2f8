"""Find out how a model behaves by reading a few tokens, once: no list of families is complete.

Each trial leaves the model unchanged: no gradients, no dropout, no autocast, and the random state
is restored. Results are kept for as long as the model object lives.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_lab.engine.packed import headless, hidden_states
from rlhf_lab.errors import UserError
from rlhf_lab.text import position_ids

# How much two ways to compute the same numbers may differ, relative to their root mean square.
CLOSE, CLOSE_HALF = 1e-3, 0.3
LOUD = 100.0  # logits so large that any cap or scaling shows

_projects: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off inside the block; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def trying(model: nn.Module) -> Iterator[None]:
    """For a test without side effects: no gradients, dropout or autocast inside the block, and the
    random state is restored afterwards."""
    device = next(model.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    plain = torch.autocast(device.type, enabled=False)
    with torch.random.fork_rng(cuda), torch.no_grad(), evaluating(model), plain:
        yield


def few_tokens(model: PreTrainedModel, count: int, first: int = 0) -> list[int]:
    """`count` ordinary tokens, or fewer if the model's context is shorter; another `first` gives
    others."""
    configs = model.config, model.config.get_text_config()
    named = [x for c in configs for name, x in vars(c).items() if name.endswith("_token_id")]
    special = {x for ids in named for x in (ids if isinstance(ids, list) else [ids])}
    plain = [x for x in range(min(vocabulary_of(model), 97)) if x not in special] or [0]
    count = min(count, context_of(model) or count)
    return [plain[(first + 5 * i) % len(plain)] for i in range(count)]


def vocabulary_of(model: PreTrainedModel) -> int:
    """How many tokens the model knows: the rows of its embedding."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return len(weight)


def context_of(model: PreTrainedModel) -> int | None:
    """How many tokens the model reads at most, if its configuration says so."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def close(found: Tensor, wanted: Tensor) -> bool:
    """Whether two results are equal and finite, up to the rounding of their type."""
    half = torch.finfo(wanted.dtype).eps > 1e-6
    found, wanted = found.detach().double(), wanted.detach().double()
    allowed = (CLOSE_HALF if half else CLOSE) * wanted.square().mean().sqrt()
    return bool((found - wanted).abs().max() <= allowed)  # false if one is not a number


def projects(policy: PreTrainedModel) -> bool:
    """Whether the policy's logits are just its output layer applied to the trunk's last hidden
    state, neither scaled nor capped."""
    if policy not in _projects:
        _projects[policy] = _projects_alone(policy)
    return _projects[policy]


def _projects_alone(policy: PreTrainedModel) -> bool:
    layer = policy.get_output_embeddings()
    if layer is None:
        return False
    tokens = torch.tensor([few_tokens(policy, 6)], device=policy.device)
    attention = torch.ones_like(tokens)
    with trying(policy):
        hidden = hidden_states(headless(policy), tokens, attention, attention.bool())
        if hidden.shape[-1] != getattr(layer, "in_features", hidden.shape[-1]):
            return False
        gain = LOUD / layer(hidden).abs().max().clamp(min=1e-6)
        louder = layer.register_forward_hook(lambda layer, inputs, output: output * gain)
        try:
            whole = policy(
                input_ids=tokens,
                attention_mask=attention,
                position_ids=position_ids(attention),
                use_cache=False,
            ).logits
            return close(layer(hidden), whole[0])
        finally:
            louder.remove()


def width_of(trunk: PreTrainedModel) -> int:
    """The width of the trunk's last hidden state: the configuration may give another. Raises
    UserError if the trunk cannot be read."""
    try:
        with trying(trunk):
            tokens = torch.tensor([few_tokens(trunk, 1)], device=trunk.device)
            real = torch.ones_like(tokens)
            return hidden_states(trunk, tokens, real, real.bool()).shape[-1]
    except Exception as error:  # unusual families fail in many ways
        raise UserError(
            f"{type(trunk).__name__} cannot be used here: reading a token fails with "
            f"{first(error)}; use another model"
        ) from error


def first(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])
