"""What a model needs to read tokens: bytes kept for the backward pass, bytes of the KV cache, and
FLOPs (multiplications and additions); and this machine's speed in FLOPs."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_lab.engine.packed import headless, hidden_states
from rlhf_lab.engine.recompute import recomputed
from rlhf_lab.errors import UserError
from rlhf_lab.models import ScalarModel, SharedValue
from rlhf_lab.sequences import Sequences, positions_before

TOO_MUCH = 1.5  # an estimate may be half as much again as what is needed
PROBED = 4  # rows read to measure what autograd keeps


# ---- bytes ---------------------------------------------------------------------------------------


def saved(
    model: nn.Module, some: Sequences, accelerator: Accelerator | None = None, at_last: bool = False
) -> tuple[float, float]:
    """Bytes that the trunk of `model` keeps per token, padding included, measured on the first
    rows; and bytes per token of the gradients inside one layer, taken as half of what a layer
    keeps.

    at_last: whether outputs are read at the last token of a row, not before every response token.
    """
    trunk = trunk_of(model)
    few = some.rows(list(range(min(PROBED, len(some.tokens))))).to(trunk.device)
    columns = torch.arange(few.tokens.shape[1], device=trunk.device)
    wanted = columns == few.lengths[:, None] - 1 if at_last else positions_before(few.labels)
    layers = [m for m in trunk.modules() if recomputed(m)]
    for layer in layers:
        layer.gradient_checkpointing = False  # type: ignore[assignment]  # not declared
    try:
        with accelerator.autocast() if accelerator else nullcontext():
            kept = saved_bytes(trunk, few, wanted) / few.tokens.numel()
    finally:  # also after a failure, such as lack of memory
        for layer in layers:
            layer.gradient_checkpointing = True  # type: ignore[assignment]  # not declared
    c = trunk.config.get_text_config()
    one = kept / c.num_hidden_layers
    if layers:  # each layer's input, and all of the layer being recomputed
        kept = len(layers) * c.hidden_size * trunk.dtype.itemsize + one
    return kept, one / 2


def saved_bytes(trunk: PreTrainedModel, rows: Sequences, wanted: Tensor) -> int:
    """Bytes that autograd keeps of one forward pass, weights excluded."""
    weights = {p.untyped_storage().data_ptr() for p in trunk.parameters()}
    found: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda x: x):
        read = hidden_states(trunk, rows.tokens, rows.attention, wanted)
    del read  # alive until here, so that no storage was reused and missed
    return sum(found.values())


def cache_bytes(policy: PreTrainedModel, rows: int, length: int) -> int:
    """Bytes of the keys and values of `rows` rows of `length` tokens."""
    c = policy.config.get_text_config()
    heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    width = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    return 2 * c.num_hidden_layers * heads * width * rows * length * policy.dtype.itemsize


def last_gradient(policy: PreTrainedModel) -> int:
    """Bytes of the output layer's gradient. It is made first and, if the layer is tied to the
    embedding, kept until the backward pass reaches that."""
    weight = policy.get_output_embeddings().weight
    return bytes_of([weight]) if weight.requires_grad else 0


def bytes_of(parameters: Iterable[Tensor]) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)


# ---- multiplications and additions, of one row on average ----------------------------------------


def forward(model: nn.Module, some: Sequences) -> float:
    """FLOPs of a forward pass of the trunk: 2 for each matrix weight and token, 4 for each unit of
    width and pair of tokens in attention (Kaplan et al. 2020)."""
    c, lengths = trunk_of(model).config.get_text_config(), some.lengths.double()
    pairs = (lengths * (lengths + 1) / 2).mean()
    weights = sum(w.numel() for w in matrices(model))
    return float(2 * weights * lengths.mean() + 4 * c.hidden_size * c.num_hidden_layers * pairs)


def training(model: nn.Module, some: Sequences) -> float:
    """FLOPs of a forward and backward pass of the trunk: the forward pass's once more for the
    gradients of the inputs, once more for those of the trained share of the weights, and once more
    if layers are recomputed."""
    trained = sum(w.numel() for w in matrices(model) if w.requires_grad)
    share = trained / sum(w.numel() for w in matrices(model))
    return forward(model, some) * (2 + share + any(map(recomputed, trunk_of(model).modules())))


def projection(policy: PreTrainedModel, some: Sequences, backward: bool = True) -> float:
    """FLOPs of the logits, which are computed only for the response tokens."""
    weight = policy.get_output_embeddings().weight
    times = 1 + backward * (1 + weight.requires_grad)
    return times * 2 * weight.numel() * float(some.mask.sum()) / len(some.tokens)


def matmul_speed(
    accelerator: Accelerator | None = None, size: int = 1024, rounds: int = 5
) -> float:
    """FLOPs a second of a product of square matrices, the best of a few, on the accelerator's
    device and in its precision (None: float32 on the CPU)."""
    device = accelerator.device if accelerator else torch.device("cpu")
    half = accelerator is not None and accelerator.mixed_precision == "bf16"
    a = torch.ones(size, size, device=device, dtype=torch.bfloat16 if half else torch.float32)
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        (a @ a)[0, 0].item()  # reading a number waits for the result
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


# ---- parts of a model ----------------------------------------------------------------------------


def trunk_of(model: nn.Module) -> PreTrainedModel:
    """The trunk of a policy, a scalar model, or a value head on a policy's trunk."""
    if isinstance(model, SharedValue):
        return model.trunk[0]
    if isinstance(model, ScalarModel):
        return model.backbone
    assert isinstance(model, PreTrainedModel)
    return headless(model)


def matrices(model: nn.Module) -> list[Tensor]:
    """The weight matrices of the layers of a trunk."""
    return [m.weight for m in trunk_of(model).modules() if isinstance(m, (nn.Linear, Conv1D))]


def vocabulary(policy: PreTrainedModel) -> int:
    """The number of logits per position."""
    return policy.get_output_embeddings().weight.shape[0]


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def spending() -> Iterator[dict[str, float]]:
    """A dict that holds "seconds" and, if the system reports it, "peak_memory_mb" after the block.

    On a GPU it is torch's memory there, else the process's resident memory. Only Linux can reset
    the peak; elsewhere it is the highest since the process began.
    """
    cost: dict[str, float] = {}
    _forget_peak()
    started = time.perf_counter()
    try:
        yield cost
    finally:
        cost["seconds"] = time.perf_counter() - started
        peak = peak_memory_mb()
        if peak is not None:
            cost["peak_memory_mb"] = peak


def peak_memory_mb() -> float | None:
    """The most memory held since `spending` began (see there), in MB of a million bytes."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):  # the high-water mark of resident memory, in KiB
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _forget_peak() -> None:
    """Reset the peak, where that is possible."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        CLEAR.write_text("5")


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that a device has in all; None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def check_memory(what: str, needed: float, device: torch.device, advice: str) -> None:
    """Raise UserError if something needs more than TOO_MUCH times the memory that there is: it
    would end in the middle, and on a CPU take other programs with it."""
    there = memory_of(device)
    if there and needed > TOO_MUCH * there:
        raise UserError(
            f"{what} needs about {size(needed)} of memory, and this machine has {size(there)}: "
            f"{advice}"
        )


def count(n: int) -> str:
    return f"{n / 1e6:,.1f}M" if n >= 1e6 else f"{n:,}"


def size(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"
