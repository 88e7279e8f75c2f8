"""JSON lines on disk: strict rows, files that are replaced whole, logs that survive a kill."""

import codecs
import difflib
import gzip
import json
import math
import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Self

from rlhf_lab.errors import BadRow, UserError

KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}
UTF16 = 'in UTF-16: save it as UTF-8 (Excel: "CSV UTF-8"), or run iconv -f UTF-16 -t UTF-8'
# The first bytes of files that are not UTF-8 text: what such a file is, and what to do.
STRANGE = {
    b"PK\x03\x04": "a workbook or another zip file: save the sheet as CSV (UTF-8), or unpack it",
    b"\xd0\xcf\x11\xe0": "a workbook: save the sheet as CSV (UTF-8)",
    b"PAR1": "a Parquet file: rename it to end in .parquet",
    codecs.BOM_UTF16_LE: UTF16,
    codecs.BOM_UTF16_BE: UTF16,
}
ONE_A_LINE = "write one object a line, with double quotes"
# The largest row allowed, in bytes: parsed JSON may need a hundred times as much memory. The
# longest dialogues in public data sets have about 100,000 bytes.
MOST = 4 * 2**20
MOST_BLANK = 10**6  # consecutive blank lines allowed


@dataclass(frozen=True)
class Row:
    """The fields of one line, and its place, such as "FILE, line 3"."""

    where: str
    fields: dict

    @classmethod
    def parse(cls, where: str, line: bytes) -> Self:
        """Parse one line of strict JSON: an object, no field twice, no NaN, no lone surrogates."""
        return cls.of(where, strict_json(where, line))

    @classmethod
    def of(cls, where: str, fields: object) -> Self:
        """A row from parsed JSON. Raises BadRow if it is no object, or has a lone surrogate in
        it."""
        if type(fields) is not dict:
            raise BadRow(
                f"{where}: a row must be an object {{...}}, not {kind_of(fields)}",
                "not an object",
                where,
            )
        row = cls(where, fields)
        for field, value in fields.items():
            try:
                json.dumps([field, value], ensure_ascii=False).encode()
            except UnicodeEncodeError:
                row.refuse(
                    field,
                    "holds a broken character (a lone surrogate): type the text again",
                    "broken character",
                )
        return row

    def refuse(self, field: str, why: str, kind: str = "invalid field") -> NoReturn:
        """Raise the BadRow that says what is wrong with a field."""
        raise BadRow(f"{self.where}, field {field!r}: {why}", kind, self.where)

    def only(self, known: tuple[str, ...]) -> None:
        """Refuse any field that is not in `known`: a misspelt field would be silently ignored."""
        for field in self.fields:
            if field not in known:
                close = difflib.get_close_matches(field, known, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                self.refuse(field, f"is not known: {hint}the fields are {', '.join(known)}")

    def get(self, field: str, kind: type, default: Any = None) -> Any:
        """The value of a field, of type `kind`; a default, if given, replaces a missing field or
        null."""
        value = self.fields.get(field)
        if value is None and default is not None:
            return default
        if field not in self.fields:
            self.refuse(field, f"is missing: give {KINDS[kind]}", "missing field")
        if not isinstance(value, kind):
            self.refuse(field, f"is {kind_of(value)}: give {KINDS[kind]}", "wrong type")
        return value

    def text(self, field: str, default: str | None = None) -> str:
        """A text that is not blank."""
        value = self.get(field, str, default)
        if not value.strip():
            self.refuse(
                field, "is empty: write at least one word, or leave the row out", "empty text"
            )
        return value


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file. Blank lines, Windows line ends and byte-order marks are ignored.

    Raises UserError at the first invalid line, if there is no row, or if the file cannot be read.
    """
    found = False
    for where, line in read_numbered(path):
        found = True
        yield Row.parse(where, line)
    if not found:
        raise UserError(f"{path} is empty: write one JSON object a line")


def read_numbered(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """The place of each line of a file, such as "FILE, line 3", and the line; without blank ones.

    Raises UserError for a line of more than MOST bytes, without reading all of it, and for more
    than MOST_BLANK consecutive blank lines.
    """
    check_text(path)
    blank = 0
    with opened(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST + 1), b""), 1):
            where = f"{path}, line {number}"  # only \n ends a line: a text may hold U+2028
            check_length(where, len(line))
            if line := line.removeprefix(codecs.BOM_UTF8).strip():
                yield where, line
            blank = 0 if line else blank + 1
            check_blank(where, blank)


def check_length(where: str, length: int) -> None:
    """Raise UserError for a row of more than MOST bytes or characters."""
    if length > MOST:
        raise UserError(
            f"{where}: longer than {MOST:,} bytes, the most that one row may have: add a missing "
            "line break, or shorten the row"
        )


def check_blank(where: str, blank: int) -> None:
    """Raise UserError for more than MOST_BLANK consecutive blank lines."""
    if blank > MOST_BLANK:
        raise UserError(
            f"{where}: more than {MOST_BLANK:,} consecutive blank lines: check the file"
        )


def check_text(path: str | Path) -> None:
    """Raise UserError for a file that is not UTF-8 text by its first bytes; it says what the file
    is."""
    with opened(path) as file:
        first = file.read(4)
    for beginning, what in STRANGE.items():
        if first.startswith(beginning):
            raise UserError(f"{path} is {what}")


@contextmanager
def opened(path: str | Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """A file opened to read bytes, decompressed if its name ends in .gz.

    Raises UserError if it cannot be opened, or if reading from it in the block fails.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check its name and folder") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder: name a file in it") from error
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {why}: check the file") from error


def write_whole(path: str | Path, text: str | bytes) -> None:
    """Replace a file with this text in UTF-8, atomically: after a kill or on a full disk, the old
    file is still there. Missing folders are created. Raises UserError if the file cannot be
    written.
    """
    path, content = Path(path), text if isinstance(text, bytes) else text.encode()
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(fresh, "wb") as file:
            file.write(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}: nothing was changed; free some space, or "
            "choose another place"
        ) from error
    finally:
        if os.path.lexists(fresh):
            os.unlink(fresh)


def append_line(path: str | Path, record: dict) -> None:
    """Append one record to a log. Once this returns, the record survives a killed process.

    `plain` converts the record. An incomplete last line, left by a kill or a full disk, is dropped.
    Raises UserError if the log cannot be written.
    """
    line = json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with open(path, "a+b") as log:
            whole = _end_of_lines(log)
            if whole < log.seek(0, os.SEEK_END):
                log.truncate(whole)
            log.write(line.encode())
    except FileNotFoundError as error:
        raise UserError(
            f"cannot write {path}: its folder was moved or deleted: run the same command again"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}: earlier records are kept; free some space, "
            "then run the same command again"
        ) from error


def read_lines(path: str | Path) -> list[dict]:
    """The records of a log, [] if there is no log. An incomplete last line is ignored.

    Raises UserError if any other line is invalid, or the file cannot be read.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}: check the file") from error
    return [
        Row.parse(f"{path}, line {number}", line).fields
        for number, line in enumerate(lines[:-1], 1)
    ]


def strict_json(where: str, text: bytes, advice: str = ONE_A_LINE) -> Any:
    """The value of a JSON text. Raises BadRow, with this advice, if it is not JSON; also if an
    object has a field twice, or a number is NaN or infinite."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no)
    except UnicodeDecodeError as error:
        raise BadRow(
            f"{where}: byte {error.start + 1} is not UTF-8: save the file as UTF-8",
            "not UTF-8",
            where,
        ) from error
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if b"\n" in text else ""
        raise BadRow(
            f"{where}{line}, column {error.colno}: not JSON ({error.msg}): {advice}",
            "not JSON",
            where,
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{where}: unusable JSON: {error}", "not JSON", where) from error


def kind_of(value: object) -> str:
    """The type of a value in words, such as "a list"."""
    return KINDS.get(type(value), f"a {type(value).__name__}")


def plain(value: Any) -> Any:
    """The value as strict JSON can store it: infinities and NaN become None, dataclasses become
    dicts, tuples become lists, one-element tensors become numbers, paths and other objects become
    text."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif hasattr(value, "item"):
        value = value.item()
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _end_of_lines(log: BinaryIO) -> int:
    """How many bytes there are up to the end of the last whole line."""
    size = log.seek(0, os.SEEK_END)
    if size == 0:
        return 0
    log.seek(size - 1)
    if log.read(1) == b"\n":
        return size
    log.seek(0)
    return log.read().rfind(b"\n") + 1


def _once(pairs: list[tuple[str, object]]) -> dict:
    names = [name for name, _ in pairs]
    for name in names if len(set(names)) < len(names) else ():
        if names.count(name) > 1:
            raise ValueError(f"field {name!r} appears twice; keep one")
    return dict(pairs)


def _no(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number; use null")
