"""The fields of one row, by name and type, from any kind of file."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from rlhf_lab.disk.jsonl import Row, strict_json
from rlhf_lab.errors import BadRow
from rlhf_lab.formats.chat import Messages, messages_in

# The beginning of messages as pandas writes them to CSV.
PYTHON = re.compile(r"\s*\[\{\s*'(role|from|content|value)'\s*:")
EXAMPLES = {list: '["a", "b"]', dict: '{"a": 1}', int: "2"}


@dataclass(frozen=True)
class Fields(Row):
    """A row, and whether its fields are cells of text, as in CSV. In a cell, lists and objects are
    JSON, and an empty cell counts as missing if the field has a default."""

    cells: bool = False

    def reject(self, why: str, kind: str) -> NoReturn:
        """Raise the BadRow that says what is wrong with the row as a whole."""
        raise BadRow(f"{self.where}: {why}", kind, self.where)

    def get(self, field: str, kind: type, default: Any = None) -> Any:
        """A field of that type, as `Row.get` returns it; 2.0 also counts as 2, and NaN as null."""
        value = self.fields.get(field)
        if self.cells and isinstance(value, str):
            value = self._read_cell(field, kind, value, default)
        if isinstance(value, list):
            value = [_whole(entry) for entry in value]
        changed = self.fields if field not in self.fields else self.fields | {field: _whole(value)}
        return super(Fields, replace(self, fields=changed)).get(field, kind, default)

    def said(self, field: str) -> str | Messages:
        """A text that is not blank, or chat messages."""
        value = self.fields.get(field)
        if self.cells and isinstance(value, str) and value.lstrip().startswith("[{"):
            try:
                value = strict_json(self.where, value.encode())
            except BadRow:  # an answer may begin with [{ too
                if PYTHON.match(value):
                    self.refuse(
                        field,
                        "is a list in Python's notation: write it as JSON (json.dumps), or "
                        "save the table as Parquet",
                        "not JSON",
                    )
        return messages_in(self, field, value) if isinstance(value, list) else self.text(field)

    def _read_cell(self, field: str, kind: type, cell: str, default: Any) -> Any:
        if not cell.strip() and default is not None:
            return default
        if kind is str:
            return cell
        try:
            return strict_json(self.where, cell.encode())
        except BadRow:
            self.refuse(field, f"is not JSON: write for example {EXAMPLES[kind]}", "not JSON")


def _whole(value: Any) -> Any:
    """A number as it was before a table converted its whole column, or list, to floats."""
    if type(value) is not float:
        return value
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value
