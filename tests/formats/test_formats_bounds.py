"""Files that would fill the memory are refused before they are read, in a process that may take
little more of it than it has."""

import gzip
import subprocess
import sys

import pytest

from rlhf_lab.disk import jsonl
from rlhf_lab.errors import UserError
from rlhf_lab.formats import sources
from rlhf_lab.formats.sources import rows_of

# Reads a file with 320 MB of address space beyond what the imports took.
READ = """
import resource, sys
from rlhf_lab.errors import UserError
from rlhf_lab.formats.sources import rows_of
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 320 * 2**20,) * 2)
try:
    print(sum(1 for _ in rows_of(sys.argv[1])), "rows")
except UserError as error:
    print(error)
"""


def repeated(path, begin, piece, times, end=b""):
    """A compressed file of one piece many times over, a gigabyte and more if need be."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(begin)
        for _ in range(times):
            file.write(piece)
        file.write(end)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
@pytest.mark.parametrize(
    "name, begin, piece, times, said",
    [
        ("one.jsonl.gz", b'{"text": "', b"a" * 2**20, 400, "line 1: longer than"),
        ("late.jsonl.gz", b'{"text": "x"}\n{"text": "', b"a" * 2**20, 400, "line 2: longer than"),
        ("one.csv.gz", b"text,label\n", b"a" * 2**20, 400, "line 2: longer than"),
        ("header.csv.gz", b"", b"a," * 2**19, 400, "line 1: longer than"),
        ("blank.jsonl.gz", b'{"text": "x"}', b"\n" * 2**20, 3, "consecutive blank lines"),
        ("blank.csv.gz", b"text\nx", b"\n" * 2**20, 3, "consecutive blank lines"),
        ("list.json.gz", b"[", b'{"text": "x"},' * 2**16, 300, "a JSON list of more than 256 MB"),
    ],
)
def test_what_would_fill_the_memory_is_refused(name, begin, piece, times, said, tmp_path):
    file = repeated(tmp_path / name, begin, piece, times)
    done = subprocess.run([sys.executable, "-c", READ, file], capture_output=True, text=True)
    assert said in done.stdout, done.stdout + done.stderr[-500:]
    assert done.stdout.startswith(str(file)) and done.stdout.count("\n") == 1


def test_a_row_as_long_as_allowed_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MOST", 40)
    (tmp_path / "rows.jsonl").write_text('{"text": "%s"}\n' % ("a" * 27))
    assert len(list(rows_of(tmp_path / "rows.jsonl"))) == 1
    (tmp_path / "rows.jsonl").write_text('{"text": "%s"}\n' % ("a" * 29))
    with pytest.raises(UserError, match="line 1: longer than 40 bytes"):
        list(rows_of(tmp_path / "rows.jsonl"))


def test_a_row_of_a_table_or_of_the_hub_is_measured_too(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for module in (jsonl, sources):
        monkeypatch.setattr(module, "MOST", 100)
    table = pyarrow.table({"text": ["short", "a" * 200]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="row 2: longer than 100 bytes"):
        list(rows_of(tmp_path / "rows.parquet"))
    rows = [{"said": [{"content": "short"}]}, {"said": [{"content": "a" * 200}]}]
    monkeypatch.setattr(sources, "_load", lambda *_: rows)
    with pytest.raises(UserError, match="row 2: longer than 100 bytes"):
        list(rows_of("hub:some/data"))
