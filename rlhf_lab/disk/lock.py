"""One process at a time in a folder."""

import os
from collections.abc import Callable
from pathlib import Path

from rlhf_lab.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # mypy takes the name for a module


def lock(folder: str | Path) -> Callable[[], None]:
    """Take a folder, made if need be, for this process; call what is returned to give it back.

    The system frees the lock when the process dies, however it dies. Where there are no such locks
    (Windows) the file `.lock` is one, and a process that is killed leaves it behind.

    Raises UserError if another process has the folder, or if it cannot be written to.
    """
    folder = Path(folder)
    file, descriptor = folder / ".lock", None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | (0 if fcntl else os.O_EXCL), 0o644)
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, (BlockingIOError, FileExistsError)):
            raise UserError(_in_use(file)) from error
        raise UserError(
            f"cannot write to {folder}: {error.strerror}: choose another --out, or free some space"
        ) from error

    def release() -> None:
        # A file that stands for the lock goes; one that carries it stays, as another process may
        # have opened it by now and would lock a file that nobody else can see.
        if fcntl:
            os.ftruncate(descriptor, 0)
        os.close(descriptor)
        if not fcntl:
            file.unlink(missing_ok=True)

    return release


def _in_use(file: Path) -> str:
    try:
        owner = file.read_text().strip() or "unknown"
    except OSError:
        owner = "unknown"
    last = "wait for it, or choose another --out" if fcntl else f"if it has ended, delete {file}"
    return f"{file.parent} is in use by another run (pid {owner}): {last}"
