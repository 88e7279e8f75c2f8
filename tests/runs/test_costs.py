"""What a block of work cost."""

import sys

import pytest

from rlhf_lab.runs.costs.counting import STATUS, peak_memory_mb, spending


def test_seconds_are_there_even_if_the_block_fails():
    with pytest.raises(KeyError), spending() as cost:
        raise KeyError
    assert cost["seconds"] >= 0


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux lets the peak be set back")
def test_the_peak_is_that_of_the_block_alone():
    with spending() as large:
        block = bytearray(300_000_000)
        block[::4096] = b"x" * len(block[::4096])  # touch every page: untouched memory is not held
    del block
    with spending() as small:
        pass
    held = large["peak_memory_mb"] - small["peak_memory_mb"]
    assert 290 < held < 400


def test_memory_is_in_megabytes():
    if sys.platform == "win32":
        assert peak_memory_mb() is None
    else:
        assert 20 < peak_memory_mb() < 1e6
