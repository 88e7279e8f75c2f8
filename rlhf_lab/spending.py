"""What a piece of work costs: seconds, and the most memory that the process held meanwhile."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def spending() -> Iterator[dict[str, float]]:
    """A dict that holds "seconds" and, where the system tells, "peak_memory_mb" after the block.

    On a GPU the memory is torch's there. Else it is the process's resident memory; only Linux lets
    the peak be set back, so elsewhere it is the highest since the process began.
    """
    cost: dict[str, float] = {}
    _forget_peak()
    started = time.perf_counter()
    try:
        yield cost
    finally:
        cost["seconds"] = time.perf_counter() - started
        peak = peak_memory_mb()
        if peak is not None:
            cost["peak_memory_mb"] = peak


def peak_memory_mb() -> float | None:
    """The most memory held since `spending` began (see there), in MB of a million bytes."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):  # the high-water mark of resident memory, in KiB
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _forget_peak() -> None:
    """Start measuring the peak afresh, where that can be done."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    try:
        CLEAR.write_text("5")
    except OSError:
        pass
