"""Checks, before any computing, that a command may write to a place; folders that are replaced
atomically; clean-up after a killed command."""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from rlhf_lab.errors import UserError

# Files of a model folder: those of transformers and the tokenizer, a reward model's head, adapters.
MODEL_FILES = re.compile(
    r"(generation_)?config\.json|model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"
    r"|reward_head\.safetensors|(tokenizer|added_tokens|special_tokens|vocab|merges|chat_template).*|adapter"
)
SCRAP = re.compile(
    r"\.(.+)\.[0-9a-f]{8}\.tmp|\.(.+)\.new-[0-9a-f]{8}|\.(?P<old>.+)\.old-[0-9a-f]{8}"
)
AGAIN = "free some space, and run the same command again"
LONGEST = ".{}.checkpoint.new-01234567"  # the longest name of a temporary folder beside a place


def check_place(
    place: str | Path,
    foreign: Callable[[Path], str] | None = None,
    folder: bool = False,
    link: bool = False,
    read: Mapping[str, str | None] | None = None,
) -> None:
    """Raise UserError unless a command may write a file, or with `folder` a folder, to a place.

    It may write where nothing exists, or an empty file or folder; and it may replace what a command
    of its kind made. foreign(place): why the content must not be replaced, such as "holds no
    samples", or "" if it may be; without it nothing is replaced. link: whether the place may be a
    symbolic link, because the command adds to the place and does not replace it. read: what the
    command reads, by option; it must not overwrite any of that.
    """
    place = Path(place)
    try:
        why = _why_not(place, foreign, folder, link, read or {})
    except OSError as error:
        raise UserError(f"cannot write to {place}: {error.strerror}: name another place") from error
    if why:
        raise UserError(f"{place} {why}: name another place, so that nothing is lost")


def other_than_model(folder: Path) -> str:
    """Why a model must not replace this folder: it holds another file; "" if it may."""
    if Path.cwd().is_relative_to(folder.resolve()):
        return "is the current folder, or contains it"
    others = sorted(e.name for e in folder.iterdir() if not MODEL_FILES.fullmatch(e.name))
    return f"holds '{others[0]}', which is not part of a model" if others else ""


@contextmanager
def replacing(folder: str | Path, advice: str = AGAIN) -> Iterator[Path]:
    """An empty folder to write to. If the block succeeds, it is flushed to disk and replaces
    `folder`.

    If the block fails, `folder` is unchanged and the new folder is deleted. Raises UserError, with
    this advice, if something cannot be written, as on a full disk.
    """
    named, folder = folder, Path(folder).absolute()
    tag = uuid.uuid4().hex[:8]
    fresh, old = (folder.with_name(f".{folder.name}.{word}-{tag}") for word in ("new", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        yield fresh
        _keep_through_power_cuts(*fresh.rglob("*"), fresh)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        _keep_through_power_cuts(folder.parent)
    except Exception as error:
        if not isinstance(error, (OSError, SafetensorError)) and type(error) is not Exception:
            raise  # tokenizers raise a bare Exception if they cannot write
        why = getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0]
        raise UserError(f"cannot write {named}: {why}: nothing was changed; {advice}") from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _keep_through_power_cuts(*places: Path) -> None:
    """Flush files, and the entries of folders, to the disk. Windows cannot do that for folders."""
    for place in places:
        if place.is_dir() and os.name == "nt":
            continue
        descriptor = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def tidy(folder: Path, name: str = "") -> None:
    """Clean up in a folder after a killed process: delete temporary files and folders, and put back
    what it had moved away. name: clean up only for the file or folder of this name; "": for all.

    Temporary names are those that `jsonl.write_whole` and `replacing` give.
    """
    for scrap in list(folder.glob(".*")):
        match = SCRAP.fullmatch(scrap.name)
        if not match or (name and name not in match.groups()):
            continue
        if match["old"] and not (folder / match["old"]).exists():
            scrap.rename(folder / match["old"])
        elif scrap.is_dir():
            shutil.rmtree(scrap, ignore_errors=True)
        else:
            scrap.unlink()


def _why_not(
    place: Path,
    foreign: Callable[[Path], str] | None,
    folder: bool,
    link: bool,
    read: Mapping[str, str | None],
) -> str:
    with suppress(FileNotFoundError):  # any other error: nothing can be created there
        (place.parent / LONGEST.format(place.name)).lstat()
    around = next(p for p in (place.parent, *place.parent.absolute().parents) if os.path.lexists(p))
    if not around.is_dir():
        return f"cannot be created: {around} is not a folder"
    if folder and link and place.is_dir():
        around = place  # the command only adds files inside it
    if not os.access(around, os.W_OK | os.X_OK):
        return f"cannot be created (check the permissions of {around})"
    for option, path in read.items():
        if path and _same(place, Path(path)):
            return f"is what {option} reads"
    if place.is_symlink() and not (link and place.exists()):
        return "is a symbolic link"
    if not place.exists():
        return ""
    if place.is_dir() != folder:
        return "is a folder, not a file" if place.is_dir() else "is a file, not a folder"
    if not folder and not place.is_file():
        return "is not a regular file"
    if not os.access(place, os.W_OK):
        return "cannot be written (check its permissions)"
    empty = not any(place.iterdir()) if folder else place.stat().st_size == 0
    if foreign and (folder or not empty):
        return foreign(place)
    return "" if empty else "is not empty" if folder else "already exists"


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)
