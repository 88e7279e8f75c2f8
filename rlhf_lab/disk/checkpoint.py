"""Checkpoints: a stopped stage resumes from one and ends with the same result.

Every random choice in a stage depends only on its seed and the update number, so a checkpoint needs
no random state: weights, optimiser and update number are enough.
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

FORMAT = 2  # of state.json; rlhf-lab 0.1.0 wrote no number; format 2 added checksums
STATE, OPTIMISER = "state.json", "optimiser"
BEGIN_ANEW = "delete that folder to restart the stage"


class HasTensors(Protocol):
    """Something saved with the models, such as an optimiser: its state is a dict of named
    tensors."""

    def tensors(self) -> dict[str, Tensor]: ...

    def load_tensors(self, tensors: dict[str, Tensor]) -> None: ...


@dataclass
class Checkpoint:
    """Where a stage keeps its state while it trains: one folder, replaced as a whole.

    every: updates between two saves. settings: the settings that a resumed run must share with the
    run that saved; for stages without a RunFolder, which would check them. defaults: as in
    `RunFolder.open`.

    A full disk or a kill leaves the previous checkpoint intact, and checksums detect any file that
    has changed since it was saved. Stages save after they have yielded an update's record: a record
    logged twice can be dropped on resuming (`RunFolder.logged`), but one never logged would be
    lost. With several processes, the main one saves and all of them restore; their number may
    change in between.

    When adapters are trained, the frozen weights under them are not saved: they are in the model's
    folder, and a checksum detects any change to them.
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

        Raises UserError, and loads nothing, if the processes do not all see the same checkpoint, if
        it is damaged, if a newer version saved it, if it was saved with other settings, if the
        frozen weights under the adapters have changed, or if the names and shapes of its tensors
        are not exactly the model's.
        """
        parallel.once(tidy, self.folder.parent, self.folder.name)
        state = self._state()
        parallel.check_same(
            f"the checkpoint in {self.folder}: use a folder that all machines share",
            state["update"],
        )
        if state["update"] == 0:
            return state
        found = differences(state.pop("settings", {}), self.settings or {}, self.defaults)
        if found:
            raise UserError(
                f"the checkpoint in {self.folder} was saved with other settings "
                f"({'; '.join(found)}): use the same settings, choose another --out, or delete it"
            )
        still = _still(modules)
        if state.pop("still", 0) != parallel.checksum(still.values()):
            raise UserError(
                f"the checkpoint in {self.folder} has adapters for other weights: give the model "
                "that the run began with, or choose another --out"
            )
        saved = {name: self._tensors(name) for name in (*modules, OPTIMISER)}
        for name, module in modules.items():
            if misfit := _misfit(module, still, saved[name], state["format"]):
                raise UserError(
                    f"the checkpoint in {self.folder} does not fit the {name} ({misfit}): "
                    f"{BEGIN_ANEW}, or resume with the versions that the run began with"
                )
        try:
            optimiser.load_tensors(saved[OPTIMISER])
        except (KeyError, ValueError) as error:
            raise self._damaged(f"{OPTIMISER}.safetensors: {error}") from error
        for name, module in modules.items():
            module.load_state_dict(saved[name], strict=False)
        return {k: v for k, v in state.items() if k not in ("format", "versions", "files")}

    def other_versions(self) -> str:
        """One line that names the versions that have changed since the checkpoint was saved; "" if
        none have, or there is no checkpoint."""
        state = self._state()
        if state["update"] == 0:
            return ""
        was = {"checkpoint format": state["format"]} | state.get("versions", {})
        return version_note(self.folder, was, {"checkpoint format": FORMAT})

    def _state(self) -> dict:
        """The content of state.json; {"update": 0} if there is no checkpoint. Raises UserError if
        any file has changed since it was saved."""
        empty = self.folder.is_dir() and not any(self.folder.iterdir())
        if empty or not os.path.lexists(self.folder):
            return {"update": 0}
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            update, number = state["update"], state.setdefault("format", 1)
        except OSError as error:
            raise self._damaged(f"{STATE}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._damaged(f"{STATE} has invalid content") from error
        if type(number) is int:
            check_format(f"the checkpoint in {self.folder}", number, FORMAT)
        if type(number) is not int or type(update) is not int or update < 1:
            raise self._damaged(f"{STATE} has invalid content")
        if number > 1:  # format 1 has no checksums
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
    """Why a checkpoint must not replace this folder: it holds another file; "" if it may."""
    others = sorted(
        e.name for e in folder.iterdir() if e.name != STATE and e.suffix != ".safetensors"
    )
    return f"holds '{others[0]}', which is not part of a checkpoint" if others else ""


def resumable(
    checkpoint: Checkpoint | None,
    modules: Mapping[str, nn.Module],
    optimiser: HasTensors,
    updates: int,
    state: dict | None = None,
) -> Iterator[int]:
    """The numbers of the updates still to be made, out of 1 to `updates`.

    The call itself restores what the checkpoint holds: the modules, the optimiser and `state`, a
    dict of anything else that an update changes. It saves them again after each update that is
    `due`, when the loop asks for the next number. Without a checkpoint the result is range(1,
    updates + 1). Raises what `Checkpoint.restore` and `Checkpoint.save` raise.
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
    """The frozen weights under adapters, by id: those in modules that also have trained weights. (A
    module without any trained weight, such as a reference, adds none.)"""
    adapted = [m for m in modules.values() if any(p.requires_grad for p in m.parameters())]
    return {id(p): p for m in adapted for p in m.parameters() if not p.requires_grad}


def _unshared(module: nn.Module, still: dict[int, nn.Parameter]) -> dict[str, Tensor]:
    """The tensors of a module to save, by name: tied weights once, under one name; the frozen
    weights in `still` not at all."""
    named: dict[int, tuple[str, Tensor]] = {}
    for name, x in module.state_dict(keep_vars=True).items():
        if id(x) not in still:
            named.setdefault(id(x), (name, x))
    return {name: x.detach().contiguous() for name, x in named.values()}


def _misfit(
    module: nn.Module, still: dict[int, nn.Parameter], saved: dict[str, Tensor], number: int
) -> str:
    """How saved tensors differ from a module's in name or shape, in words; "" if they do not.
    Format 1 also saved buffers, which a module makes by itself."""
    all_ = module.state_dict(keep_vars=True)
    there = {id(all_[name]) for name in saved if name in all_} | still.keys()
    lacking = [name for name, x in all_.items() if id(x) not in there]
    extra = [name for name in saved if name not in all_] if number > 1 else []
    misshapen = [n for n, x in saved.items() if n in all_ and x.shape != all_[n].shape]
    if lacking or extra:
        return f"it lacks '{min(lacking)}'" if lacking else f"it has an extra '{min(extra)}'"
    return f"'{min(misshapen)}' has another shape" if misshapen else ""


def _digest(state: dict) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
