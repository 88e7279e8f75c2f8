"""Opening a feedback store's file: on a local disk, durable, with errors a person can act on."""

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.schema import migrate, outdated

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PATIENCE = 30.0  # seconds to wait while somebody else writes
SEALED = "ro&immutable=1"  # how to read a file that nobody changes, without locks
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


def check_file(path: Path, local: bool = True) -> None:
    """Raise UserError unless a store is in this file, or may be made there: not where something
    else is, or one that newer code wrote. Nothing is written. local: whether SQLite may lock it."""
    check_place(path, _other_than_store, link=True)
    if path.exists() and path.stat().st_size:
        with _connection(path, "rw" if local else SEALED) as connection:
            outdated(connection, path)


def prepare(path: Path, file: Path) -> None:
    """Make a store's file, or bring the one that is there to the newest schema. Raises UserError,
    and leaves the file as it is, where `check_file` does, and if it cannot be written.

    path: the file that was named. file: the one to work in, the same unless that is elsewhere.
    """
    check_file(path, local=file == path)
    if file != path:
        file.parent.mkdir(mode=0o700, exist_ok=True)
    if not file.exists():
        _make(file)
    with _connection(file, "rw") as connection:
        old = outdated(connection, file)
        mode = _write_ahead(connection)
        if mode != "wal":
            raise UserError(
                f"the file system of {file} cannot hold a write-ahead log (it answers "
                f"{mode!r}): keep the file on a local disk, one for each person, and merge the "
                "files"
            )
        if old:
            with in_turn(file), _transaction(connection):
                migrate(connection, file)


def _make(path: Path) -> None:
    """An empty file, or the one that somebody made at the same time: for its owner, and to read for
    the group; SQLite gives its log the same rights."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o640))
    except OSError as error:
        raise UserError(
            f"cannot make {path} ({error.strerror}): check that its folder is there and who may "
            "write in it"
        ) from error


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
    with in_turn(path), _connection(path, "rw") as connection, _transaction(connection):
        yield connection


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock that writers of a store take one after the other.

    SQLite alone lets a writer try again after pauses that grow, so that with many of them one waits
    for long while others come first. The lock is on the folder, since closing a handle of the file
    itself would end SQLite's own locks. It is there for fairness alone: where it cannot be had,
    SQLite still lets one write at a time.
    """
    folder = _opened(path.absolute().parent)
    if folder is not None:
        folder = _locked_within(folder, PATIENCE)
    try:
        yield
    finally:
        if folder is not None:
            os.close(folder)


def _opened(folder: Path) -> int | None:
    """A folder's handle to lock; None where there is no such thing."""
    if fcntl is None:
        return None
    try:
        return os.open(folder, os.O_RDONLY)
    except OSError:
        return None


def _locked_within(folder: int, seconds: float) -> int | None:
    """Wait for the lock, in a thread, as waiting cannot be ended otherwise; None, and the handle is
    closed once the wait is over, if it took longer. (A writer that first tried
    without waiting could overtake those that wait already.)"""
    answer: list[bool] = []  # who comes first: the lock, or the end of our patience
    first = threading.Lock()

    def wait() -> None:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        with first:
            answer.append(True)
            late = len(answer) > 1
        if late:
            os.close(folder)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    waiter.join(seconds)
    with first:
        answer.append(False)
        return folder if answer[0] else None


@contextmanager
def reading_other(path: Path, local: bool = True) -> Iterator[sqlite3.Connection]:
    """A copy in memory, at the newest schema, of a store that stays as it is: it may be old, or
    where nothing may be written. local: whether it is on this machine, where SQLite may lock it.

    Raises UserError if it is not a store, was written by newer code, or cannot be read.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: check its name and folder")
    if not path.stat().st_size:
        raise UserError(
            f"{path} is empty (0 bytes), so it is not a store: look for another copy of it"
        )
    log = Path(f"{path}-wal")
    if not local and log.exists():
        with tempfile.TemporaryDirectory() as folder:
            here = Path(shutil.copy(path, folder))
            shutil.copy(log, f"{here}-wal")
            with reading_other(here) as copy:
                yield copy
        return
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) and local
    with _connection(path, "rw" if writable or log.exists() else SEALED) as other:
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
