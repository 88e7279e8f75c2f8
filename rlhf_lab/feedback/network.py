"""A store on a network file system: it works in a file of this machine, and is copied back.

SQLite's log needs memory that all writers share, which machines do not. So the store works in a
scratch folder on a local disk, and after every change a whole copy of it takes the place of the
file that was named. That copy is a store like any other: another machine can go on from it, and so
can a new scratch folder if the old one is gone. Where two machines work at the same time, each
takes in what the other has copied back before it copies its own.
"""

import getpass
import hashlib
import os
import re
import sqlite3
import stat
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.database import in_turn

SCRATCH = "RLHF_LAB_SCRATCH"  # the environment variable that names the scratch folder

# File systems that another machine serves, by their type in /proc/mounts.
NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ncp",
    "ceph",
    "lustre",
    "beegfs",
    "gluster",
    "gpfs",
    "davfs",
    "vboxsf",
    "fuse.sshfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.gcsfuse",
    "fuse.ceph",
    "fuse.gluster",
    "fuse.davfs",
    "fuse.drive",
)

_told: set[Path] = set()  # stores whose place was said in this process


def network(path: Path, mounts: str | Path = "/proc/mounts") -> str:
    """The type of the network file system that holds a path, "" if it is local.

    mounts: the table of mounts, as Linux has it; where there is none, everything counts as local.
    """
    path = path.absolute().resolve()
    try:
        lines = Path(mounts).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    found = ""
    for _, point, kind, *_ in map(str.split, lines):
        place = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), point))  # \040: blank
        if path.is_relative_to(place):
            found = kind  # the last one hides those before
    return found if found.startswith(NETWORK) else ""


def working_file(path: Path) -> Path:
    """The file that SQLite works in for a store: itself, or one in the scratch folder if it is on a
    network file system. Raises UserError if the scratch folder will not do."""
    kind = network(path)
    if not kind:
        return path
    absolute = path.absolute()
    tag = hashlib.sha256(str(absolute.parent.resolve() / absolute.name).encode()).hexdigest()[:12]
    file = _scratch() / tag / path.name
    if file.exists() and _last(file) and path.parent.is_dir() and not path.exists():
        _set_aside(file, path)
    if path.absolute() not in _told:
        _told.add(path.absolute())
        print(
            f"{path} is on a network file system ({kind}): the store works in {file} and is copied "
            f"back to {path} after every change; {SCRATCH} names another folder",
            file=sys.stderr,
        )
    return file


def _set_aside(file: Path, path: Path) -> None:
    """Move a working file away if its copy was deleted, so that a new store begins empty."""
    tag = datetime.now().strftime("%Y%m%d-%H%M%S")
    for end in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{file}{end}").rename(f"{file}.removed-{tag}{end}")
    _stamp_file(file).unlink()
    print(
        f"{path} was deleted since it was last used, so a new store begins; the old one is kept "
        f"as {file}.removed-{tag}: delete it as well if nobody needs it",
        file=sys.stderr,
    )


def take_up(file: Path, path: Path, take_in: Callable[[], None]) -> None:
    """Take in the copy at `path`, unless it is the one that was copied back last."""
    if _changed(file, path):
        stamp = _stamp(path)  # before reading: what another machine puts there meanwhile is new
        take_in()
        _stamp_file(file).write_text(stamp)
        copy_back(file, path, take_in)


def copy_back(file: Path, path: Path, take_in: Callable[[], None]) -> None:
    """Put a copy of the working file in the place of `path`, after taking in what another machine
    put there in between.

    The change is safe in the working file already; so where the copy cannot be made, this is said
    and not raised: the next change makes it.
    """
    fresh = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}.copy")
    try:
        if _changed(file, path):
            take_in()
        with in_turn(file):
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("VACUUM INTO ?", [str(fresh)])
            for end in ("-wal", "-shm"):  # what they held was taken in; SQLite would play it back
                Path(f"{path}{end}").unlink(missing_ok=True)
            write_whole(path, fresh.read_bytes())
            _stamp_file(file).write_text(_stamp(path))
    except (OSError, sqlite3.Error, UserError) as error:
        print(
            f"{path}: it could not be copied back ({error}); what was done is safe in {file} on "
            "this machine, and the next change copies it back",
            file=sys.stderr,
        )
    finally:
        fresh.unlink(missing_ok=True)


def _scratch() -> Path:
    """The scratch folder, made if there is none; nobody else may have write access to it."""
    named = os.environ.get(SCRATCH)
    folder = Path(named or f"{tempfile.gettempdir()}/rlhf-lab-{getpass.getuser()}").absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise UserError(
            f"the scratch folder {folder} cannot be made ({error.strerror}): name another one in "
            f"{SCRATCH}"
        ) from error
    others = hasattr(os, "getuid") and (
        facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o022
    )
    if not stat.S_ISDIR(facts.st_mode) or others:
        raise UserError(
            f"the scratch folder {folder} is not a folder of your own that only you can write to: "
            f"name another one in {SCRATCH}"
        )
    if kind := network(folder):
        raise UserError(
            f"the scratch folder {folder} is on a network file system too ({kind}): name one on a "
            f"local disk in {SCRATCH}"
        )
    return folder


def _changed(file: Path, path: Path) -> bool:
    """Whether the copy at `path` is another one than was copied back last."""
    return path.exists() and path.stat().st_size > 0 and _stamp(path) != _last(file)


def _stamp_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.copied")


def _last(file: Path) -> str:
    with suppress(OSError):
        return _stamp_file(file).read_text()
    return ""


def _stamp(path: Path) -> str:
    """What tells one copy from the next without reading it."""
    facts = path.stat()
    return f"{facts.st_mtime_ns} {facts.st_size} {facts.st_ino}"
