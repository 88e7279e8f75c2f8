"""Rows of a Parquet file, one row group after the other: only what is being read is in memory."""

from collections.abc import Iterator
from pathlib import Path

from rlhf_lab.errors import UserError
from rlhf_lab.formats.fields import Fields
from rlhf_lab.jsonl import opened

BATCH = 256  # rows turned into Python's types at once


def parquet_rows(path: Path) -> Iterator[Fields]:
    """The rows of a file. Raises UserError if it cannot be read, or pyarrow is not installed."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(f"reading {path} takes the package pyarrow: "
                        "pip install 'rlhf-lab[parquet]'") from error  # fmt: skip
    number = 0
    with opened(path) as file:
        try:
            table = ParquetFile(file)
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(BATCH, row_groups=[group]):
                    for fields in batch.to_pylist():
                        number += 1
                        yield Fields(f"{path}, row {number}", fields)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, after row {number}: not UTF-8: write its texts as "
                            "UTF-8") from error  # fmt: skip
        except ArrowException as error:
            why = f"{path}, after row {number}: {str(error).splitlines()[0]}"
            raise UserError(f"cannot read {why}: check the file") from error
