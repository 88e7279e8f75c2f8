"""Checkpoints from which a stopped stage goes on as if it had not stopped.

All chance in a stage comes from its seed and the number of the update, so a checkpoint needs no
random state: weights, optimiser and a step number are enough.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlhf_lab.disk.provenance import check_format, differences
from rlhf_lab.disk.storage import replacing
from rlhf_lab.engine import parallel
from rlhf_lab.errors import UserError

FORMAT = 1  # of state.json, which has no number where 0.1.0 wrote it


class HasTensors(Protocol):
    """What is saved beside the models: an optimiser whose state is named tensors."""

    def tensors(self) -> dict[str, Tensor]: ...

    def load_tensors(self, tensors: dict[str, Tensor]) -> None: ...


@dataclass
class Checkpoint:
    """Where a stage keeps its state while it trains: one folder, replaced as a whole.

    every: updates between two saves. settings: where no RunFolder holds them, what a run that goes
    on must have in common with the one that saved; defaults: as in `RunFolder.open`. A full disk or
    a kill leaves the previous one intact. Stages save after they have yielded an update's record: a
    record logged twice can be dropped on resuming (`RunFolder.logged`), one never logged would be
    lost. Of several processes the main one saves and all restore, in any number.

    Where adapters are trained, the weights beneath them are not saved: they are those of the
    model's folder, and a checksum tells whether they still are.
    """

    folder: Path
    every: int = 10
    settings: dict | None = None
    defaults: dict | None = None

    def due(self, update: int, updates: int) -> bool:
        """Whether to save after this update (counted from 1)."""
        return update % self.every == 0 or update == updates

    def save(
        self,
        update: int,
        modules: Mapping[str, nn.Module],
        optimiser: HasTensors,
        extra: dict | None = None,
    ) -> None:
        """Write the state after `update` updates."""
        parallel.once(self._write, update, modules, optimiser, extra)

    def _write(
        self,
        update: int,
        modules: Mapping[str, nn.Module],
        optimiser: HasTensors,
        extra: dict | None,
    ) -> None:
        try:
            with replacing(self.folder) as fresh:
                still = _still(modules)
                for name, module in modules.items():
                    save_file(_unshared(module, still), fresh / f"{name}.safetensors")
                save_file(optimiser.tensors(), fresh / "optimiser.safetensors")
                state = {"format": FORMAT, "update": update} | (extra or {})
                state |= {"still": parallel.checksum(still.values())}
                state |= {"settings": self.settings} if self.settings is not None else {}
                (fresh / "state.json").write_text(json.dumps(state), encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"could not save a checkpoint to {self.folder}: {error}; the previous "
                "one is kept; free some space and run the same command again"
            ) from error

    def remove(self) -> None:
        """Delete the saved state: the stage is finished and its model stored elsewhere."""
        parallel.once(shutil.rmtree, self.folder, True)

    def restore(self, modules: Mapping[str, nn.Module], optimiser: HasTensors) -> dict:
        """Load the saved state and return it; {"update": 0} if there is none.

        Raises UserError if some process does not see what the others do, if a newer version saved
        it, if the settings are not those it was saved with, if the weights beneath adapters are not
        those the run began with, or if the model's weights have other names.
        """
        file = self.folder / "state.json"
        state: dict = {"update": 0}
        if file.exists():
            state = json.loads(file.read_text(encoding="utf-8"))
            check_format(f"the checkpoint in {self.folder}", state.pop("format", 1), FORMAT)
        parallel.check_same(
            f"the checkpoint it finds in {self.folder}: use a folder that all machines share",
            state["update"],
        )
        if state["update"] == 0:
            return state
        found = differences(state.pop("settings", {}), self.settings or {}, self.defaults)
        if found:
            raise UserError(
                f"the checkpoint in {self.folder} is of a run with other settings "
                f"({'; '.join(found)}): give those, choose another --out, or delete it"
            )
        still = _still(modules)
        if state.pop("still", 0) != parallel.checksum(still.values()):
            raise UserError(
                f"the checkpoint in {self.folder} is of adapters on other weights: name "
                "the model that the run began with, or choose another --out"
            )
        for name, module in modules.items():
            saved = load_file(self.folder / f"{name}.safetensors")
            lacking = _parameters(module, still).keys() - saved.keys()
            if lacking:
                raise UserError(
                    f"the checkpoint in {self.folder} lacks '{min(lacking)}' of the {name}: go on "
                    "with the versions that the run began with, or choose another --out"
                )
            module.load_state_dict(saved, strict=False)
        optimiser.load_tensors(load_file(self.folder / "optimiser.safetensors"))
        return state


def resumable(
    checkpoint: Checkpoint | None,
    modules: Mapping[str, nn.Module],
    optimiser: HasTensors,
    updates: int,
    state: dict | None = None,
) -> Iterator[int]:
    """The numbers, from 1 to `updates`, of the updates that are still to be made.

    What the checkpoint has saved is put back at once: the modules, the optimiser and `state`, a
    dict of whatever else an update changes. After each update that is due, once the loop asks for
    the next, they are saved. Without a checkpoint it is range(1, updates + 1). Raises what
    `Checkpoint.restore` and `Checkpoint.save` do.
    """
    state = {} if state is None else state
    saved = checkpoint.restore(modules, optimiser) if checkpoint else {"update": 0}
    done = saved.pop("update")
    state |= saved

    def remaining() -> Iterator[int]:
        for update in range(done + 1, updates + 1):
            yield update
            if checkpoint and checkpoint.due(update, updates):
                checkpoint.save(update, modules, optimiser, state)

    return remaining()


def _still(modules: Mapping[str, nn.Module]) -> dict[int, nn.Parameter]:
    """By id, the weights that stand still in a module of which others are trained: those beneath
    adapters. (A module without any trained weight, such as a reference, has none of them.)"""
    adapted = [m for m in modules.values() if any(p.requires_grad for p in m.parameters())]
    return {id(p): p for m in adapted for p in m.parameters() if not p.requires_grad}


def _unshared(module: nn.Module, still: dict[int, nn.Parameter]) -> dict[str, Tensor]:
    """Parameters, but for those that stand still, and buffers by name, each once: tied weights are
    stored under one name."""
    named = _parameters(module, still) | dict(module.named_buffers())
    return {name: x.detach().contiguous() for name, x in named.items()}


def _parameters(module: nn.Module, still: dict[int, nn.Parameter]) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if id(p) not in still}
