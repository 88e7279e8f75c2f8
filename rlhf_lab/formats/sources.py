"""Rows, one at a time, from a file or the hub. The name tells the kind of source.

    .jsonl                              JSON lines
    .json and any other name            JSON lines, or one JSON list (which is read whole)
    .csv .tsv                           a header and rows, separated by commas, semicolons or tabs;
                                        a first line such as Excel's sep=; may name the separator
    .parquet                            needs pyarrow (extra "parquet")
    hub:owner/name[/part][:split]       needs datasets (extra "hub")

A file whose name also ends in .gz is decompressed while it is read.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from rlhf_lab.disk.jsonl import (
    MOST,
    check_blank,
    check_length,
    check_text,
    opened,
    read_numbered,
    strict_json,
)
from rlhf_lab.errors import BadRow, UserError
from rlhf_lab.formats.fields import Fields

MOST_LIST = 256 * 2**20  # bytes of a list that is read whole
SEPARATOR = re.compile(r"sep=([^\w\s\"]|\t)\s*", re.IGNORECASE)
LIST = "put one comma between objects, none after the last, and ] at the end; use double quotes"


def rows_of(source: str | Path) -> Iterator[Fields | BadRow]:
    """The rows in order; a row that cannot be read is replaced with its BadRow.

    Raises UserError if reading cannot continue: no such file, a broken file, no network.
    """
    if str(source).startswith("hub:"):
        return hub_rows(str(source))
    path = Path(source)
    ending = Path(path.name.removesuffix(".gz")).suffix.lower()
    if ending == ".parquet":
        return parquet_rows(path)
    if ending in (".csv", ".tsv"):
        return _cells(path, "\t" if ending == ".tsv" else None)
    one_list = ending != ".jsonl" and _first_byte(path) == b"["
    return _list(path) if one_list else _lines(path)


def _lines(path: Path) -> Iterator[Fields | BadRow]:
    for where, line in read_numbered(path):
        try:
            yield Fields.parse(where, line)
        except BadRow as bad:
            yield bad


def _list(path: Path) -> Iterator[Fields | BadRow]:
    with opened(path) as file:
        content = file.read(MOST_LIST + 1).removeprefix(codecs.BOM_UTF8)
    if len(content) > MOST_LIST:
        raise UserError(
            f"{path}: a JSON list of more than {MOST_LIST >> 20} MB is too large to read whole: "
            "write one object a line (JSON lines)"
        )
    for number, entry in enumerate(strict_json(str(path), content, LIST), 1):
        where = f"{path}, row {number}"
        try:
            yield Fields.of(where, entry)
        except BadRow as bad:
            yield bad


def _first_byte(path: Path) -> bytes:
    with opened(path) as file:
        return file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()[:1]


def _cells(path: Path, delimiter: str | None) -> Iterator[Fields | BadRow]:
    number = 0
    check_text(path)  # for JSON lines, `read_numbered` calls it
    with opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            lines = _text_lines(path, text)
            header, above = next(lines, ""), 1  # lines above the first row
            if said := SEPARATOR.fullmatch(header):
                delimiter, header, above = said[1], next(lines, ""), 2
            delimiter = delimiter or max(",;\t", key=header.count)
            rows = csv.reader(chain([header], lines), delimiter=delimiter, strict=True)
            names = _header(path, rows)
            while (cells := _next(path, number, rows)) is not None:
                if cells:  # a blank line has none
                    number += 1
                    line = rows.line_num + above - 1
                    where = f"{path}, row {number}"
                    where += f" (to line {line})" if line != number + above else ""
                    yield _row(where, names, cells)
        except UnicodeDecodeError as error:
            where = f"{path}, line {_first_strange(path)}"
            raise UserError(
                f"{where}: not UTF-8; perhaps Windows-1252, as in "
                'Excel\'s plain "CSV": save it as "CSV UTF-8", or convert it with '
                "iconv -f WINDOWS-1252 -t UTF-8"
            ) from error


def _text_lines(path: Path, text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a text. Raises UserError for one that is too long, and for too many consecutive
    blank ones."""
    blank = 0
    for number, line in enumerate(iter(lambda: text.readline(MOST + 1), ""), 1):
        where = f"{path}, line {number}"
        check_length(where, len(line))
        blank = 0 if line.strip() else blank + 1
        check_blank(where, blank)
        yield line


def _first_strange(path: Path) -> int:
    """The number of the first line that is not UTF-8."""
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError(f"{path}: every line is UTF-8")


def _header(path: Path, rows: Iterator[list[str]]) -> list[str]:
    names = _next(path, 0, rows) or []
    if isinstance(names, BadRow):
        raise names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}: the column {twice[0]!r} appears twice in the header: keep one")
    return names


def _next(path: Path, number: int, rows: Iterator[list[str]]) -> list[str] | BadRow | None:
    """The cells of the next row, or a BadRow if it is invalid, or None at the end."""
    try:
        return next(rows, None)
    except csv.Error as error:
        where, why = f"{path}, row {number + 1}", str(error)
        if "limit" in why:
            raise UserError(
                f"{where}: a cell has more than {csv.field_size_limit():,} characters: close an "
                "open quote, or write texts that long as JSON lines"
            ) from error
        if "unexpected end" in why:  # the rest of the file is inside the quote
            raise UserError(f"{where}: not CSV ({why}): close the open quote") from error
        return BadRow(
            f'{where}: not CSV ({why}): write "" for a quote inside a quoted cell', "not CSV", where
        )


def _row(where: str, names: list[str], cells: list[str] | BadRow) -> Fields | BadRow:
    if isinstance(cells, BadRow):
        return cells
    if len(cells) != len(names):
        return BadRow(
            f"{where}: {len(cells)} cells under a header of {len(names)}: put quotes around a text "
            "with a comma or a new line in it",
            "wrong number of cells",
            where,
        )
    return Fields(where, dict(zip(names, cells)), cells=True)


SOURCE = re.compile(r"hub:(?P<name>\w[\w.-]*/\w[\w.-]*)(/(?P<part>[^:]+))?(:(?P<split>[\w.-]+))?")


def hub_rows(source: str) -> Iterator[Fields]:
    """The rows of a split ("train" if none is named) of a data set or of one part (configuration)
    of it. They are downloaded while they are read, and nothing is stored. Offline (HF_HUB_OFFLINE),
    the rows come from an earlier download by `datasets`.

    Raises UserError if there is no such data set, it cannot be reached, or `datasets` is not
    installed.
    """
    match = SOURCE.fullmatch(source)
    if not match:
        raise UserError(
            f"'{source}' is not a data set's name: write hub:owner/name or hub:owner/name:split"
        )
    split = match["split"] or "train"
    number = 0
    try:
        for number, fields in enumerate(_load(source, match["name"], match["part"], split), 1):
            where = f"{source}, row {number}"
            check_length(where, _size(fields))
            yield Fields(where, dict(fields))
    except UserError:
        raise
    except Exception as error:  # every library below raises its own errors
        raise UserError(_explanation(source, error, number)) from error


def _size(value: object) -> int:
    """The number of characters in all texts of a row."""
    if isinstance(value, str | bytes):
        return len(value)
    parts = value.values() if isinstance(value, Mapping) else value
    return sum(map(_size, parts)) if isinstance(parts, Iterable) else 0


def _load(source: str, name: str, part: str | None, split: str) -> Iterable[Mapping]:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"reading {source} needs the package datasets: pip install 'rlhf-lab[hub]'"
        ) from error
    online = not datasets.config.HF_HUB_OFFLINE
    return datasets.load_dataset(name, part, split=split, streaming=online)


def _explanation(source: str, error: Exception, number: int) -> str:
    why = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    after = f", after row {number}" if number else ""
    return (
        f"cannot read {source}{after}: {why}: check the name, the split and the network, or "
        "download the files on a machine with a network and give their path instead"
    )


BATCH = 256  # rows converted to Python objects at a time


def parquet_rows(path: Path) -> Iterator[Fields]:
    """The rows of a file. Raises UserError if it cannot be read, or pyarrow is not installed."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(
            f"reading {path} needs the package pyarrow: pip install 'rlhf-lab[parquet]'"
        ) from error
    number = 0
    with opened(path) as file:
        try:
            table = ParquetFile(file)
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(BATCH, row_groups=[group]):
                    for row in range(batch.num_rows if batch.nbytes > MOST else 0):
                        where = f"{path}, row {number + row + 1}"
                        check_length(where, batch.slice(row, 1).nbytes)
                    for fields in batch.to_pylist():
                        number += 1
                        yield Fields(f"{path}, row {number}", fields)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}, after row {number}: not UTF-8: save its texts as UTF-8"
            ) from error
        except ArrowException as error:
            why = f"{path}, after row {number}: {str(error).splitlines()[0]}"
            raise UserError(f"cannot read {why}: check the file") from error
