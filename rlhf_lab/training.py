"""What every training loop shares: the device, the optimiser's step and the order of the data."""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import Tensor, nn

from rlhf_lab.engine import parallel, threads
from rlhf_lab.engine.parallel import check_minibatches as check_minibatches
from rlhf_lab.errors import UserError

MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # Adam's state for each weight
Piece = TypeVar("Piece")
Metrics = dict[str, Tensor]
Record = dict[str, float | int | str]
# Settings of `accelerate launch` under which a process would not hold whole models.
SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def make_accelerator(device: str = "auto", precision: str = "auto") -> Accelerator:
    """An Accelerator for this device and precision. Under `accelerate launch`, this call connects
    the processes (`parallel`).

    device: "auto", "cpu" or "cuda". precision: that of the arithmetic (weights stay float32),
    "float32", "bf16", or "auto", which is bf16 on a GPU that has it and float32 elsewhere. Raises
    UserError if the GPU, or its bf16, does not exist, if this process already uses another device
    or precision, or if models would be sharded (FSDP, DeepSpeed).
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device '{device}' is not known: use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was asked for, but torch sees no GPU: use --device cpu")
    gpu = device != "cpu" and torch.cuda.is_available()
    able = "bf16" if gpu and torch.cuda.is_bf16_supported() else "no"
    if precision == "bf16" and gpu and able == "no":
        raise UserError("this GPU has no bf16: use --precision float32")
    half = {"float32": "no", "bf16": "bf16"}.get(precision, able)
    try:
        accelerator = Accelerator(cpu=not gpu, mixed_precision=half)
    except ValueError as error:  # a process cannot change its device or precision
        raise _in_use(device, precision) from error
    if (accelerator.device.type == "cpu") == gpu:  # it silently kept an earlier call's
        raise _in_use(device, precision)
    if accelerator.device.type == "cpu":
        threads.watch()
    if accelerator.distributed_type in SHARDED:
        raise UserError(
            f"{accelerator.distributed_type.value} cuts models in pieces, but every process here "
            "needs whole models: launch with --multi_gpu (see docs/several-processes.md)"
        )
    return accelerator


def _in_use(device: str, precision: str) -> UserError:
    used = AcceleratorState()
    return UserError(
        f"device {device} and precision {precision} were asked for, but this process already uses "
        f"{used.device.type} and {used.mixed_precision.replace('no', 'float32')}: start a new "
        "process, or restart the kernel"
    )


def on_device(accelerator: Accelerator | None, *models: object) -> Accelerator:
    """Move models to the training device and turn dropout off; returns the accelerator, by default
    a new one from `make_accelerator`. Anything that is not a model, such as a scoring function, is
    left alone."""
    accelerator = accelerator or make_accelerator()
    for model in models:
        if isinstance(model, nn.Module):
            model.to(accelerator.device).eval()
    return accelerator


class Optimiser:
    """Adam over some modules, its learning rate rising over `warmup` steps and then falling
    linearly to 0 at the last of `updates` steps; gradients are summed over processes and clipped.

    factors: a multiplier of the learning rate for each module (1 unless given). Raises UserError if
    the processes do not start with the same weights.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        modules: Iterable[nn.Module],
        lr: float,
        updates: int,
        warmup: int = 0,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        betas: tuple[float, float] = (0.9, 0.999),
        max_norm: float = 1.0,
        factors: Sequence[float] = (),
    ):
        self.accelerator, self.lr, self.updates, self.warmup = accelerator, lr, updates, warmup
        self.max_norm = max_norm
        self.parameters: list[nn.Parameter] = []
        groups = []
        for module, factor in zip(modules, itertools.chain(factors, itertools.repeat(1.0))):
            trained = [p for p in module.parameters() if p.requires_grad]
            self.parameters += trained
            for vectors in (False, True):  # biases and norms do not decay
                some = [p for p in trained if (p.dim() <= 1) == vectors]
                decay = 0.0 if vectors else weight_decay
                groups.append({"params": some, "weight_decay": decay, "factor": factor})
        self.adam = torch.optim.AdamW(groups, lr=lr, eps=eps, betas=betas, fused=True)
        self.done = 0
        parallel.check_same_weights(self.parameters)

    def rate(self) -> float:
        """The learning rate of the next step."""
        warm = min(1.0, (self.done + 1) / (self.warmup + 1))
        return self.lr * warm * max(0.0, 1 - self.done / self.updates)

    def step(self) -> float:
        """Apply the gradients and clear them; returns their norm before clipping.

        Raises UserError, leaving the weights as they were, if a gradient is not finite.
        """
        parallel.sum_gradients(self.parameters)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        if not torch.isfinite(norm):
            self.adam.zero_grad()
            raise UserError(
                f"the gradient is not finite at step {self.done + 1}: the last checkpoint "
                "is kept; try a lower learning rate"
            )
        for group in self.adam.param_groups:
            group["lr"] = self.rate() * group["factor"]
        self.adam.step()
        self.adam.zero_grad()
        self.done += 1
        return float(norm)

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's state as named tensors."""
        state = self.adam.state_dict()["state"]
        named = {f"{i}/{name}": x for i, entry in state.items() for name, x in entry.items()}
        return named | {"done": torch.tensor(self.done)}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `tensors` returned. Raises ValueError or KeyError, and changes
        nothing, if it belongs to other weights."""
        tensors = dict(tensors)
        done, whole = int(tensors.pop("done")), self.adam.state_dict()
        weights = dict(enumerate(p for group in self.adam.param_groups for p in group["params"]))
        whole["state"] = {}
        for key, x in tensors.items():
            i, name = key.split("/")
            whole["state"].setdefault(int(i), {})[name] = x
        for i, entry in whole["state"].items():
            if entry.keys() != MOMENTS or any(
                entry[name].shape != weights[i].shape for name in MOMENTS - {"step"}
            ):
                raise ValueError(f"the state of weight {i} is not Adam's")
        self.adam.load_state_dict(whole)
        self.done = done


def accumulate(
    accelerator: Accelerator,
    pieces: Iterable[Piece],
    loss_of: Callable[[Piece], tuple[Tensor, Metrics]],
) -> tuple[float, dict[str, float]]:
    """Add the gradients of a loss that is a sum over pieces of a batch; returns that sum, and the
    sums of the metrics that come with it.

    loss_of(piece): the piece's share of the loss and of each metric, divided by the tokens or the
    prompts of the *whole* batch, so that neither depends on how the batch is split. With several
    processes, each has its own pieces, perhaps none; the sums are over all of them.
    """
    total, metrics = 0.0, dict[str, float]()
    for piece in pieces:
        with accelerator.autocast():
            loss, shares = loss_of(piece)
        accelerator.backward(loss)
        total += loss.item()
        for name, value in shares.items():
            metrics[name] = metrics.get(name, 0.0) + value.item()
    return parallel.total(total), parallel.total(metrics) if metrics else metrics


def mean_of_each(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over the steps that have it."""
    names = dict.fromkeys(name for step in steps for name in step)
    having = {name: [step[name] for step in steps if name in step] for name in names}
    return {name: sum(values, 0.0) / len(values) for name, values in having.items()}


def shuffled(count: int, *key: object) -> list[int]:
    """A permutation of range(count) that depends on the key alone."""
    return torch.randperm(count, generator=generator(*key)).tolist()


def generator(*key: object) -> torch.Generator:
    """A torch generator seeded by the key."""
    return torch.Generator().manual_seed(seed_of(*key))


def seed_of(*key: object) -> int:
    """A 63-bit seed from words and numbers, the same in every process."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def epochs_of(
    count: int, batch_size: int, epochs: int, *key: object
) -> list[tuple[int, list[int], bool]]:
    """(epoch, rows, last) for every update: each epoch goes through all rows in a fresh order; last
    is true in its last update."""
    return [
        (epoch, order[start : start + batch_size], start + batch_size >= count)
        for epoch in range(epochs)
        for order in [shuffled(count, *key, epoch)]
        for start in range(0, count, batch_size)
    ]


def check_finite(name: str, value: float, update: int) -> None:
    """Raise UserError if a loss or KL is no longer finite."""
    if not math.isfinite(value):
        raise UserError(
            f"{name} is {value} at update {update}: the last checkpoint is kept; try a "
            "lower learning rate or a larger beta"
        )
