"""Checkpoints: a damaged one is named and never loaded, a full disk or a kill takes none away."""

import copy
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers import refusal
from safetensors.torch import load_file, save_file

from rlhf_lab.cli import main, sft
from rlhf_lab.disk import provenance, storage
from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.disk.places import replacing
from rlhf_lab.models import load_policy, save_policy
from rlhf_lab.records import Demonstration, Prompt
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.training import Optimiser, make_accelerator

resource = pytest.importorskip("resource")  # none on Windows
FILES = ("policy.safetensors", "optimiser.safetensors", "state.json")
SHOWN = [Demonstration(Prompt(f"{i}", f"ask {i}:"), " an answer") for i in range(4)]
ANEW = "delete that folder to restart the stage"


def stepped(model) -> Optimiser:
    """An optimiser that has made one step."""
    optimiser = Optimiser(make_accelerator("cpu"), [model], 1e-3, 10)
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.square().mean().backward()
    optimiser.step()
    return optimiser


@pytest.fixture
def kept(gpt2, tmp_path) -> Checkpoint:
    """A checkpoint of update 3."""
    saved, trained = Checkpoint(tmp_path / "kept"), copy.deepcopy(gpt2)
    saved.save(3, {"policy": trained}, stepped(trained), {"beta": 0.1})
    return saved


def as_format_1(folder: Path) -> None:
    """What 0.3.0 wrote: no checksums, no versions."""
    state = json.loads((folder / "state.json").read_text())
    for name in ("files", "sha256", "versions"):
        del state[name]
    (folder / "state.json").write_text(json.dumps(state | {"format": 1}))


def edit_state(folder: Path, change) -> None:
    state = json.loads((folder / "state.json").read_text())
    change(state)
    (folder / "state.json").write_text(json.dumps(state))


def edit_tensors(file: Path, change) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def drop_two(tensors: dict) -> None:
    for name in sorted(tensors)[:2]:
        del tensors[name]


def add_one(tensors: dict) -> None:
    tensors["7/more"] = torch.zeros(2)


def reshape_one(tensors: dict) -> None:
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name] = tensors[name].flatten()[:-1].clone()


def change_one(tensors: dict) -> None:
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name] += 0.01


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


TO_FILES = {  # what a cut or overwritten file looks like, whatever was in it
    "empty": lambda file: file.write_bytes(b""),
    "cut": cut,
    "garbage": lambda file: file.write_bytes(bytes(range(256)) * 40),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "missing": Path.unlink,
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "another file": lambda file: shutil.copy(file.with_name("state.json"), file),
}
TO_TENSORS = {"two missing": drop_two, "one more": add_one, "another shape": reshape_one}
TO_STATE = {  # of what only a checksum tells
    "later update": lambda state: state.update(update=4),
    "other number": lambda state: state.update(beta=0.2),
    "a setting more": lambda state: state.update(gamma=1),
}
NO_STATE = {  # what is no state at all, in any format
    "no update": lambda state: state.pop("update"),
    "update 0": lambda state: state.update(update=0),
    "update of text": lambda state: state.update(update="3"),
    "format of text": lambda state: state.update(format="new"),
}
DAMAGE = (
    {f"{file}, {how}": (file, do) for file in FILES for how, do in TO_FILES.items()}
    | {
        f"{file}, {how}": (file, lambda path, change=change: edit_tensors(path, change))
        for file in FILES[:2]
        for how, change in TO_TENSORS.items()
    }
    | {
        f"state.json, {how}": (FILES[2], lambda path, do=do: edit_state(path.parent, do))
        for how, do in NO_STATE.items()
    }
)
del DAMAGE["state.json, another file"]
# In format 1 the optimiser's moments of whole weights may be there or not: nothing tells.
SILENT = {f"{file}, a byte": (file, flip_a_byte) for file in FILES[:2]} | {
    f"state.json, {how}": (FILES[2], lambda path, do=do: edit_state(path.parent, do))
    for how, do in TO_STATE.items()
}
SILENT |= {
    f"{file}, other numbers": (file, lambda path: edit_tensors(path, change_one))
    for file in FILES[:2]
}


def assert_refused(kept: Checkpoint, model, says: str = "") -> str:
    """It is named in one line, with what to delete, and nothing of it is loaded."""
    optimiser = stepped(copy.deepcopy(model))
    weights, moments = copy.deepcopy(model.state_dict()), copy.deepcopy(optimiser.tensors())
    message = refusal(kept.restore, {"policy": model}, optimiser)
    assert message.startswith(f"the checkpoint in {kept.folder} ") and ANEW in message
    assert says in message
    assert all(torch.equal(x, weights[name]) for name, x in model.state_dict().items())
    assert all(torch.equal(x, moments[name]) for name, x in optimiser.tensors().items())
    shutil.rmtree(kept.folder) if kept.folder.is_dir() else kept.folder.unlink()
    assert kept.restore({"policy": model}, optimiser) == {"update": 0}
    return message


@pytest.mark.parametrize("name", DAMAGE | SILENT)
def test_a_damaged_checkpoint_is_named(kept, gpt2, name):
    file, damage = (DAMAGE | SILENT)[name]
    damage(kept.folder / file)
    assert_refused(kept, gpt2, f"is damaged ({file}")


@pytest.mark.parametrize("name", [n for n in DAMAGE if n != "policy.safetensors, one more"])
def test_so_is_one_of_a_time_without_checksums_where_it_can_be_told(kept, gpt2, name):
    as_format_1(kept.folder)
    file, damage = DAMAGE[name]
    damage(kept.folder / file)
    assert_refused(kept, gpt2)


def test_a_whole_one_is_loaded_in_either_format(kept, gpt2):
    saved = load_file(kept.folder / "policy.safetensors")
    for older in (False, True):
        if older:
            as_format_1(kept.folder)
        model = copy.deepcopy(gpt2)
        optimiser = Optimiser(make_accelerator("cpu"), [model], 1e-3, 10)
        assert kept.restore({"policy": model}, optimiser) == {"update": 3, "beta": 0.1}
        for named, x in model.named_parameters():
            assert torch.equal(x, saved[named])
        assert optimiser.done == 1


def test_a_place_that_holds_something_else_is_no_checkpoint(kept, gpt2):
    (kept.folder / "state.json").unlink()
    assert_refused(kept, gpt2, "is damaged (state.json: No such file")
    kept.folder.mkdir()  # nothing at all is as good as no folder
    assert kept.restore({"policy": gpt2}, stepped(gpt2)) == {"update": 0}
    kept.folder.rmdir()
    kept.folder.write_text("mine")
    assert_refused(kept, gpt2, "is damaged (state.json: Not a directory")


def test_one_of_another_model_is_named(kept, make_gpt2, tokenizer):
    assert_refused(kept, make_gpt2(tokenizer, n_layer=3), "lacks 'transformer.h.2")


def test_the_command_names_it_and_begins_anew_without_it(tmp_path, monkeypatch, capsys):
    old = Path(__file__).parents[1] / "data/v0_1_0"
    for name in ("sft", "model", "shown.jsonl"):
        source = old / name
        copy_ = shutil.copytree if source.is_dir() else shutil.copy
        copy_(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    command = json.loads((old / "expected.json").read_text())["commands"]["sft"].split() + ["sft"]
    cut(Path("sft/checkpoints/stage/policy.safetensors"))
    assert main(command) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("rlhf-lab: the checkpoint in sft/checkpoints/stage is damaged (policy")
    shutil.rmtree("sft/checkpoints/stage")
    assert main(command) == 0 and load_policy("sft/sft")


# ---- versions -----------------------------------------------------------------------------------


def test_it_says_with_which_versions_it_was_saved(kept, monkeypatch):
    assert kept.other_versions() == ""
    monkeypatch.setattr(provenance, "__version__", "9.0.0")
    assert 'now "9.0.0")' in kept.other_versions()
    monkeypatch.undo()
    as_format_1(kept.folder)
    assert "(checkpoint format was 1, now 2)" in kept.other_versions()
    assert Checkpoint(kept.folder.with_name("none")).other_versions() == ""


# ---- full disks and kills -----------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int):
    """No file can grow beyond this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 500, 60_000, 200_000])
def test_on_a_full_disk_the_previous_one_is_kept(kept, gpt2, size):
    before = {file.name: file.read_bytes() for file in kept.folder.iterdir()}
    optimiser = stepped(copy.deepcopy(gpt2))
    with files_of_at_most(size):
        message = refusal(kept.save, 4, {"policy": gpt2}, optimiser)
    assert message.startswith(f"cannot write {kept.folder}: ") and "File too large" in message
    assert message.endswith("nothing was changed; free some space, and run the same command again")
    assert {file.name: file.read_bytes() for file in kept.folder.iterdir()} == before
    assert os.listdir(kept.folder.parent) == ["kept"]


@pytest.mark.parametrize(
    "size", [0, 500, 2_000, 4_500]
)  # up to nothing, config, weights, tokenizer
def test_on_a_full_disk_a_model_is_written_whole_or_not_at_all(
    make_gpt2, tokenizer, tmp_path, size
):
    tiny = make_gpt2(tokenizer, n_embd=2, n_layer=1, n_head=1, n_positions=8)
    for there in (False, True):
        with files_of_at_most(size):
            message = refusal(save_policy, tiny, tokenizer, tmp_path / "model")
        assert message.startswith(f"cannot write {tmp_path / 'model'}: ")
        assert "free some space, and run the same command again" in message
        assert os.listdir(tmp_path) == ["model"] * there
        if there:
            load_policy(tmp_path / "model")
        save_policy(tiny, tokenizer, tmp_path / "model")


def test_a_command_goes_on_where_the_disk_was_full(gpt2, tokenizer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_policy(gpt2, tokenizer, "model")
    rows = [{"prompt": f"ask {i}:", "response": "an answer"} for i in range(6)]
    Path("shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = "sft --model model --data shown.jsonl --batch-size 2 --epochs 1 --device cpu --out"
    assert main([*command.split(), "whole"]) == 0
    save = sft.save_policy

    def on_a_full_disk(*arguments):
        with files_of_at_most(60_000):
            save(*arguments)

    for size in (0, 100, 2_000, 60_000, 200_000, "the model's"):
        capsys.readouterr()
        with files_of_at_most(size if type(size) is int else 2**30):
            monkeypatch.setattr(sft, "save_policy", save if type(size) is int else on_a_full_disk)
            assert main([*command.split(), "stopped"]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("rlhf-lab: cannot write ") and "free some space" in last
    monkeypatch.setattr(sft, "save_policy", save)
    assert main([*command.split(), "stopped"]) == 0
    assert "nothing to train: the run in" in capsys.readouterr().out
    whole, stopped = (load_file(f"{name}/sft/model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(x, stopped[name]) for name, x in whole.items())


def test_all_of_it_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    done, fsync, rename = [], os.fsync, Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda f: (done.append(Path(f"/proc/self/fd/{f}").readlink().name), fsync(f))
    )
    monkeypatch.setattr(Path, "rename", lambda a, b: (done.append(f"to {b.name}"), rename(a, b)))
    if not Path("/proc/self/fd").exists():
        pytest.skip("tells names of open files on Linux alone")
    with replacing(tmp_path / "kept") as fresh:
        (fresh / "a").write_text("1")
        (fresh / "b").mkdir()
        (fresh / "b" / "c").write_text("2")
    assert set(done[:-2]) == {"a", "b", "c", fresh.name}
    assert done[-2:] == ["to kept", tmp_path.name]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_kill_while_it_is_saved_leaves_one_that_is_whole(kept, gpt2, tmp_path, moment):
    older = kept.folder.with_name(".kept.old-0123abcd")
    fresh = kept.folder.with_name(".kept.new-0123abcd")
    shutil.copytree(kept.folder, fresh if moment == "before" else older)
    if moment == "before":
        cut(fresh / "policy.safetensors")
    if moment == "between":
        kept.folder.rename(fresh)
    (tmp_path / ".others.new-0123abcd").mkdir()
    optimiser = Optimiser(make_accelerator("cpu"), [gpt2], 1e-3, 10)
    assert kept.restore({"policy": gpt2}, optimiser)["update"] == 3
    assert sorted(os.listdir(tmp_path)) == [".others.new-0123abcd", "kept"]


def test_a_stage_goes_on_from_the_older_format(gpt2, tokenizer, tmp_path):
    def records(folder, model):
        return train_sft(
            model, tokenizer, SHOWN, SFTConfig(3, 2), checkpoint=Checkpoint(folder, every=1)
        )

    whole = list(records(tmp_path / "whole", copy.deepcopy(gpt2)))
    stopped = records(tmp_path / "stopped", copy.deepcopy(gpt2))
    first = [next(stopped) for _ in range(4)]  # a checkpoint after 3
    stopped.close()
    as_format_1(tmp_path / "stopped")
    assert first[:3] + list(records(tmp_path / "stopped", copy.deepcopy(gpt2))) == whole


# ---- the model that a run begins with -----------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_a_model_notes_more_than_its_weights(gpt2, tokenizer, tmp_path, name):
    save_policy(gpt2, tokenizer, tmp_path)
    before = storage.noted(tmp_path)
    assert before["model"] == storage.fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("a note changes nothing")
    assert storage.noted(tmp_path) == before
    (tmp_path / name).write_text((tmp_path / name).read_text() + " ")
    after = storage.noted(tmp_path)
    assert [key for key in after if after[key] != before[key]] == ["model config and tokenizer"]
    assert set(storage.noted("owner/hub-id").values()) == {""}
