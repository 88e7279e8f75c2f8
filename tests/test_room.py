"""What `benchmarks/room.py` counts: the kernel and its children, alone and several at once."""

import importlib.util
import sys
from pathlib import Path

import nbformat
import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "benchmarks" / "room.py"
MB = 1_000_000
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)"


@pytest.fixture(scope="module")
def room():
    spec = importlib.util.spec_from_file_location("room", PROGRAM)
    room = importlib.util.module_from_spec(spec)
    sys.modules["room"] = room  # dataclasses look it up
    spec.loader.exec_module(room)
    yield room
    del sys.modules["room"]


def notebook(folder: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "a.ipynb")
    return folder / "a.ipynb"


def test_it_counts_the_kernel_and_its_children(room, tmp_path):
    own = "held = bytes(range(250)) * 1_000_000"
    child = "import time; held = bytes(range(250)) * 1_000_000; time.sleep(1.5)"
    [alone], _ = room.measure(notebook(tmp_path, "1"))
    [both], together = room.measure(notebook(tmp_path, own, CHILD.format(code=child)))
    assert together == 0
    # a child brings an interpreter of its own, some 10 MB
    assert 490 * MB < both.memory - alone.memory < 560 * MB
    assert sum(both.cpu.values()) > 0


def test_pages_of_two_kernels_that_are_shared_count_once(room, tmp_path):
    kernels, together = room.measure(notebook(tmp_path, "import time; time.sleep(3)"), count=2)
    assert len(kernels) == 2
    assert 0 < together < sum(kernel.memory for kernel in kernels)


def test_a_notebook_that_fails_is_no_measurement(room, tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)a\.ipynb failed.*ZeroDivisionError"):
        room.measure(notebook(tmp_path, "1 / 0"))
