"""Checkpoints from which a stopped stage goes on as if it had not stopped.

All chance in a stage comes from its seed and the number of the update, so a checkpoint needs no
random state: weights, optimiser and a step number are enough.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlhf_lab.disk.places import replacing, tidy
from rlhf_lab.disk.provenance import check_format, differences, surroundings, version_note
from rlhf_lab.engine import parallel
from rlhf_lab.errors import UserError

FORMAT = 2  # of state.json, which has no number where 0.1.0 wrote it; since 2 it has checksums
STATE, OPTIMISER = "state.json", "optimiser"
BEGIN_ANEW = "delete that folder to begin the stage anew"


class HasTensors(Protocol):
    """What is saved beside the models: an optimiser whose state is named tensors."""

    def tensors(self) -> dict[str, Tensor]: ...

    def load_tensors(self, tensors: dict[str, Tensor]) -> None: ...


@dataclass
class Checkpoint:
    """Where a stage keeps its state while it trains: one folder, replaced as a whole.

    every: updates between two saves. settings: where no RunFolder holds them, what a run that goes
    on must have in common with the one that saved; defaults: as in `RunFolder.open`. A full disk or
    a kill leaves the previous one intact, and checksums tell whether every file is still as it was
    saved. Stages save after they have yielded an update's record: a record logged twice can be
    dropped on resuming (`RunFolder.logged`), one never logged would be lost. Of several processes
    the main one saves and all restore, in any number.

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
        with replacing(self.folder) as fresh:
            still = _still(modules)
            for name, module in modules.items():
                save_file(_unshared(module, still), fresh / f"{name}.safetensors")
            save_file(optimiser.tensors(), fresh / f"{OPTIMISER}.safetensors")
            state = {"format": FORMAT, "update": update} | (extra or {})
            state |= {"still": parallel.checksum(still.values())}
            state |= {"settings": self.settings} if self.settings is not None else {}
            state |= {"versions": surroundings()["versions"]}
            state |= {"files": {file.name: _sha256(file) for file in sorted(fresh.iterdir())}}
            state |= {"sha256": _digest(state)}
            (fresh / STATE).write_text(json.dumps(state), encoding="utf-8")

    def remove(self) -> None:
        """Delete the saved state: the stage is finished and its model stored elsewhere."""
        parallel.once(shutil.rmtree, self.folder, True)

    def restore(self, modules: Mapping[str, nn.Module], optimiser: HasTensors) -> dict:
        """Load the saved state and return it; {"update": 0} if there is none.

        Raises UserError, and loads nothing, if some process does not see what the others do, if the
        checkpoint is damaged, if a newer version saved it, if the settings are not those it was
        saved with, if the weights beneath adapters are not those the run began with, or if the
        weights are not exactly the model's by name and shape.
        """
        parallel.once(tidy, self.folder.parent, self.folder.name)
        state = self._state()
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
        saved = {name: self._tensors(name) for name in (*modules, OPTIMISER)}
        for name, module in modules.items():
            if misfit := _misfit(module, still, saved[name], state["format"]):
                raise UserError(
                    f"the checkpoint in {self.folder} {misfit} of the {name}: {BEGIN_ANEW}, or go "
                    "on with the versions that the run began with"
                )
        try:
            optimiser.load_tensors(saved[OPTIMISER])
        except (KeyError, ValueError) as error:
            raise self._damaged(f"{OPTIMISER}.safetensors: {error}") from error
        for name, module in modules.items():
            module.load_state_dict(saved[name], strict=False)
        return {k: v for k, v in state.items() if k not in ("format", "versions", "files")}

    def other_versions(self) -> str:
        """One line that names the versions that are not those it was saved with; "" if there are
        none, or no checkpoint."""
        state = self._state()
        if state["update"] == 0:
            return ""
        was = {"checkpoint format": state["format"]} | state.get("versions", {})
        return version_note(self.folder, was, {"checkpoint format": FORMAT})

    def _state(self) -> dict:
        """What state.json holds, and "update" 0 where there is no checkpoint. Raises UserError if
        any file is not as it was saved."""
        empty = self.folder.is_dir() and not any(self.folder.iterdir())
        if empty or not os.path.lexists(self.folder):
            return {"update": 0}
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            update, number = state["update"], state.setdefault("format", 1)
        except OSError as error:
            raise self._damaged(f"{STATE}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._damaged(f"{STATE} does not hold what was saved") from error
        if type(number) is int:
            check_format(f"the checkpoint in {self.folder}", number, FORMAT)
        if type(number) is not int or type(update) is not int or update < 1:
            raise self._damaged(f"{STATE} does not hold what was saved")
        if number > 1:  # those before have no checksums
            if state.pop("sha256", "") != _digest(state):
                raise self._damaged(f"{STATE} has changed since it was saved")
            for name, sum_ in state["files"].items():
                if not (self.folder / name).is_file():
                    raise self._damaged(f"{name} is missing")
                if _sha256(self.folder / name) != sum_:
                    raise self._damaged(f"{name} has changed since it was saved")
        return state

    def _tensors(self, name: str) -> dict[str, Tensor]:
        file = self.folder / f"{name}.safetensors"
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            why = "is missing" if not file.exists() else "cannot be read"
            raise self._damaged(f"{file.name} {why}") from error

    def _damaged(self, why: str) -> UserError:
        return UserError(f"the checkpoint in {self.folder} is damaged ({why}): {BEGIN_ANEW}")


def other_than_checkpoint(folder: Path) -> str:
    """Why no checkpoint may take the place of a folder: what else it holds; "" if nothing."""
    others = sorted(
        e.name for e in folder.iterdir() if e.name != STATE and e.suffix != ".safetensors"
    )
    return f"holds '{others[0]}', which is no part of a checkpoint" if others else ""


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
    """By id, the frozen weights in a module of which others are trained: those under adapters. (A
    module without any trained weight, such as a reference, has none of them.)"""
    adapted = [m for m in modules.values() if any(p.requires_grad for p in m.parameters())]
    return {id(p): p for m in adapted for p in m.parameters() if not p.requires_grad}


def _unshared(module: nn.Module, still: dict[int, nn.Parameter]) -> dict[str, Tensor]:
    """What a module must get back, by name, each tensor once: tied weights are stored under one
    name, frozen ones under none."""
    named: dict[int, tuple[str, Tensor]] = {}
    for name, x in module.state_dict(keep_vars=True).items():
        if id(x) not in still:
            named.setdefault(id(x), (name, x))
    return {name: x.detach().contiguous() for name, x in named.values()}


def _misfit(
    module: nn.Module, still: dict[int, nn.Parameter], saved: dict[str, Tensor], number: int
) -> str:
    """What keeps saved tensors from being exactly those of a module, in words; "" if nothing does.
    Format 1 held buffers, too, that a module makes by itself."""
    all_ = module.state_dict(keep_vars=True)
    there = {id(all_[name]) for name in saved if name in all_} | still.keys()
    lacking = [name for name, x in all_.items() if id(x) not in there]
    extra = [name for name in saved if name not in all_] if number > 1 else []
    misshapen = [n for n, x in saved.items() if n in all_ and x.shape != all_[n].shape]
    if lacking or extra:
        return f"lacks '{min(lacking)}'" if lacking else f"holds '{min(extra)}', which is no part"
    return f"holds another shape of '{min(misshapen)}'" if misshapen else ""


def _digest(state: dict) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
