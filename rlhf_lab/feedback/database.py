"""Opening a feedback store's file: on a local disk, durable, with errors a person can act on."""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.schema import migrate, outdated

PATIENCE = 30.0  # seconds to wait while somebody else writes
ELSEWHERE = "keep the file on a local disk, one for each person, and merge the files"

# File systems that another machine serves, by their type in /proc/mounts. SQLite's log (WAL) needs
# memory that all writers share, which machines don't.
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

# What a person can do, by the beginning of SQLite's name for the error.
ADVICE = (
    ("SQLITE_BUSY", f"another program has been writing for {PATIENCE:.0f} s: close it, try again"),
    ("SQLITE_FULL", "the disk is full: free some space and try again; what was there is kept"),
    ("SQLITE_READONLY", "it cannot be written: check who may write to the file and its folder"),
    ("SQLITE_CANTOPEN", "it cannot be opened: check that its folder is there and may be written"),
    ("SQLITE_PERM", "it cannot be opened: check who may read it"),
    ("SQLITE_IOERR", "the disk failed, or is full: check it and try again; what was there is kept"),
    ("SQLITE_CORRUPT", "it is damaged: go back to a copy of it, or `sqlite3 FILE .recover`"),
    ("SQLITE_NOTADB", "it is not a feedback store, and stays as it is: name another file"),
)


def check_store(path: Path) -> None:
    """Raise UserError unless a store is in this file, or may be made there: not where something
    else is, one that newer code wrote, or a network file system. Nothing is written."""
    if kind := network(path):
        raise UserError(
            f"{path} is on a network file system ({kind}), where writers at the same "
            f"time would harm it: {ELSEWHERE}"
        )
    check_place(path, _other_than_store, link=True)
    if path.exists():
        with _connection(path, "rw") as connection:
            outdated(connection, path)


def prepare(path: Path) -> None:
    """Make a store file, or bring the one that is there to the newest schema. Raises UserError, and
    leaves the file as it is, where `check_store` does, and if it cannot be written."""
    check_store(path)
    with _connection(path, "rwc") as connection:
        old = outdated(connection, path)
        mode = _write_ahead(connection)
        if mode != "wal":
            raise UserError(
                f"the file system of {path} cannot hold a write-ahead log (it answers "
                f"{mode!r}): {ELSEWHERE}"
            )
        if old:
            with _transaction(connection):
                migrate(connection, path)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees one state of the file throughout."""
    with _connection(path, "rw") as connection:
        connection.execute("BEGIN")
        yield connection


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in a transaction of its own: what was done is on the disk afterwards, all of it
    or, if an error leaves the block, none."""
    with _connection(path, "rw") as connection, _transaction(connection):
        yield connection


@contextmanager
def reading_other(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy in memory, at the newest schema, of a store that stays as it is: it may be old, on a
    network, or where nothing may be written.

    Raises UserError if it is not a store, was written by newer code, or cannot be read.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: check its name and folder")
    log = Path(f"{path}-wal")
    sealed = not os.access(path.parent, os.W_OK) and not log.exists()
    with _connection(path, "ro&immutable=1" if sealed else "rw") as other:
        outdated(other, path)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
            other.backup(copy)
            migrate(copy, path)
            yield copy


def _other_than_store(path: Path) -> str:
    with path.open("rb") as file:
        return "" if file.read(16) == b"SQLite format 3\0" else "is not a feedback store"


def wipe(path: Path) -> None:
    """Rewrite the file without what was deleted, and empty its log.

    Raises UserError if another program keeps the log from being emptied.
    """
    with _connection(path, "rw") as connection:
        connection.execute("VACUUM")
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise UserError(
                f"the rows are deleted, but traces of them stay in {path}-wal while "
                "another program reads: close it and do the same again"
            )


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


@contextmanager
def _connection(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """One connection for one operation, which threads and processes need not share."""
    address = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(address, PATIENCE, isolation_level=None, uri=True)) as it:
            it.execute("PRAGMA synchronous = FULL")  # a commit waits for the disk
            it.execute("PRAGMA foreign_keys = ON")
            it.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros
            yield it
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        advice = [text for start, text in ADVICE if name.startswith(start)] or ["try again"]
        raise UserError(f"cannot use {path} ({error}): {advice[0]}") from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise UserError(
            f"{path} cannot hold half a character (a lone surrogate) or a number "
            f"beyond 64 bits: write it anew ({error})"
        ) from error


def _write_ahead(connection: sqlite3.Connection) -> str:
    """Keep a write-ahead log; returns the mode that the file is in then. SQLite does not wait here
    for others who make the same file, as it does elsewhere: ask again."""
    begun = time.monotonic()
    while True:
        try:
            return connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
            if not busy or time.monotonic() - begun > PATIENCE:
                raise
        time.sleep(0.01)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
