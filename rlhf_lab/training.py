"""What every training loop shares: the device, the optimiser's step, the order of the data, and
checkpoints from which a stopped run goes on as if it had not stopped.

All chance in a stage comes from its seed and the number of the update, so a checkpoint needs no
random state: weights, optimiser and a step number are enough.
"""

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlhf_lab import parallel
from rlhf_lab.errors import UserError
from rlhf_lab.provenance import differences
from rlhf_lab.storage import replacing

Record = dict[str, float | int | str]
# Settings of `accelerate launch` under which a process would not hold whole models.
SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def make_accelerator(device: str = "auto", precision: str = "auto") -> Accelerator:
    """Accelerate's device and precision. Under `accelerate launch` this is where a process meets the
    others (`parallel`).

    device: "auto", "cpu" or "cuda". precision, of the arithmetic (weights stay float32): "float32",
    "bf16", or "auto", which is bf16 on a GPU that has it and float32 elsewhere. Raises UserError if a
    GPU, or bf16 on one, is asked for that is not there, if another precision is in use already, or
    if the models should be cut in pieces (FSDP, DeepSpeed).
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
    except ValueError as error:  # a process has one precision for good
        raise UserError(f"precision {precision} cannot follow another in one process: start "
                        "afresh") from error
    if accelerator.distributed_type in SHARDED:
        raise UserError(f"{accelerator.distributed_type.value} cuts models in pieces, and the "
                        "stages here need them whole in every process: launch with --multi_gpu (see "
                        "docs/several-processes.md)")
    return accelerator


class Optimiser:
    """Adam over some modules, its learning rate rising over `warmup` updates and then falling
    linearly to 0 at `updates`; gradients are summed over processes and clipped.

    factors: for each module, what its learning rate is multiplied by (1 unless given). Raises
    UserError if the processes do not begin with the same weights.
    """

    def __init__(self, accelerator: Accelerator, modules: Iterable[nn.Module], lr: float,
                 updates: int, warmup: int = 0, weight_decay: float = 0.0, eps: float = 1e-8,
                 betas: tuple[float, float] = (0.9, 0.999), max_norm: float = 1.0,
                 factors: Sequence[float] = ()):
        self.accelerator, self.lr, self.updates, self.warmup = accelerator, lr, updates, warmup
        self.max_norm = max_norm
        self.parameters: list[nn.Parameter] = []
        groups = []
        for module, factor in itertools.zip_longest(modules, factors, fillvalue=1.0):
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
            raise UserError(f"the gradient is not finite at step {self.done + 1}: the last checkpoint "
                            "is kept; try a lower learning rate")
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
        """Take back what `tensors` gave."""
        tensors = dict(tensors)
        self.done = int(tensors.pop("done"))
        whole = self.adam.state_dict()
        whole["state"] = {}
        for key, x in tensors.items():
            i, name = key.split("/")
            whole["state"].setdefault(int(i), {})[name] = x
        self.adam.load_state_dict(whole)


@dataclass
class Checkpoint:
    """Where a stage keeps its state while it trains: one folder, replaced as a whole.

    every: updates between two saves. settings: where no RunFolder holds them, what a run that goes on
    must have in common with the one that saved. A full disk or a kill leaves the previous one
    intact. Stages save after they have yielded an update's record: a record logged twice can be
    dropped on resuming (`RunFolder.logged`), one never logged would be lost. Of several processes
    the main one saves and all restore, in any number.

    Where adapters are trained, the weights beneath them are not saved: they are those of the model's
    folder, and a checksum tells whether they still are.
    """

    folder: Path
    every: int = 10
    settings: dict | None = None

    def due(self, update: int, updates: int) -> bool:
        """Whether to save after this update (counted from 1)."""
        return update % self.every == 0 or update == updates

    def save(self, update: int, modules: dict[str, nn.Module], optimiser: Optimiser,
             extra: dict | None = None) -> None:
        """Write the state after `update` updates."""
        parallel.once(self._write, update, modules, optimiser, extra)

    def _write(self, update, modules, optimiser, extra) -> None:
        try:
            with replacing(self.folder) as fresh:
                still = _still(modules)
                for name, module in modules.items():
                    save_file(_unshared(module, still), fresh / f"{name}.safetensors")
                save_file(optimiser.tensors(), fresh / "optimiser.safetensors")
                state = {"update": update, "still": parallel.checksum(still.values())} | (extra or {})
                state |= {"settings": self.settings} if self.settings is not None else {}
                (fresh / "state.json").write_text(json.dumps(state), encoding="utf-8")
        except OSError as error:
            raise UserError(f"could not save a checkpoint to {self.folder}: {error}; the previous "
                            "one is kept; free some space and run the same command again") from error

    def remove(self) -> None:
        """Delete the saved state: the stage is finished and its model stored elsewhere."""
        parallel.once(shutil.rmtree, self.folder, True)

    def restore(self, modules: dict[str, nn.Module], optimiser: Optimiser) -> dict:
        """Load the saved state and return it; {"update": 0} if there is none.

        Raises UserError if some process does not see what the others do, if the settings are not those
        it was saved with, or if the weights beneath adapters are not those the run began with.
        """
        file, state = self.folder / "state.json", {"update": 0}
        if file.exists():
            state = json.loads(file.read_text(encoding="utf-8"))
        parallel.check_same(f"the checkpoint it finds in {self.folder}: use a folder that all "
                            "machines share", state["update"])
        if state["update"] == 0:
            return state
        found = differences(state.pop("settings", {}), self.settings or {})
        if found:
            raise UserError(f"the checkpoint in {self.folder} is of a run with other settings "
                            f"({'; '.join(found)}): give those, choose another --out, or delete it")
        if state.pop("still", 0) != parallel.checksum(_still(modules).values()):
            raise UserError(f"the checkpoint in {self.folder} is of adapters on other weights: name "
                            "the model that the run began with, or choose another --out")
        for name, module in modules.items():
            module.load_state_dict(load_file(self.folder / f"{name}.safetensors"), strict=False)
        optimiser.load_tensors(load_file(self.folder / "optimiser.safetensors"))
        return state


def _still(modules: dict[str, nn.Module]) -> dict[int, nn.Parameter]:
    """By id, the weights that stand still in a module of which others are trained: those beneath
    adapters. (A module without any trained weight, such as a reference, has none of them.)"""
    adapted = [m for m in modules.values() if any(p.requires_grad for p in m.parameters())]
    return {id(p): p for m in adapted for p in m.parameters() if not p.requires_grad}


def _unshared(module: nn.Module, still: dict[int, nn.Parameter]) -> dict[str, Tensor]:
    """Parameters, but for those that stand still, and buffers by name, each once: tied weights are
    stored under one name."""
    named = {name: p for name, p in module.named_parameters() if id(p) not in still}
    return {name: x.detach().contiguous() for name, x in (named | dict(module.named_buffers())).items()}


def shuffled(count: int, *key) -> list[int]:
    """A permutation of range(count) that depends on the key alone."""
    return torch.randperm(count, generator=generator(*key)).tolist()


def generator(*key) -> torch.Generator:
    """A torch generator seeded by the key."""
    return torch.Generator().manual_seed(seed_of(*key))


def seed_of(*key) -> int:
    """A 63-bit seed from words and numbers, the same in every process."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def batches(count: int, batch_size: int, epochs: int, *key) -> Iterator[tuple[int, list[int]]]:
    """(epoch, rows) for every update: each epoch goes through all rows in a fresh order."""
    for epoch in range(epochs):
        order = shuffled(count, *key, epoch)
        for start in range(0, count, batch_size):
            yield epoch, order[start : start + batch_size]


def updates_in(count: int, batch_size: int, epochs: int) -> int:
    """How many updates `batches` makes."""
    return epochs * math.ceil(count / batch_size)


def check_finite(name: str, value: float, update: int) -> None:
    """Raise UserError if a loss or KL is not a number any more."""
    if not math.isfinite(value):
        raise UserError(f"{name} is {value} at update {update}: the last checkpoint is kept; try a "
                        "lower learning rate or a larger beta")
