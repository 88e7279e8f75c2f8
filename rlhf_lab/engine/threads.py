"""Waiting threads must not stop training on a busy machine.

PyTorch's threads on a CPU wait for one another at full speed for some milliseconds, then sleep.
That is fastest on a quiet machine. Beside another busy program the thread that the others wait for
is the one that the system has put aside, and a step takes two to ten times as long.

GNU's OpenMP library waits briefly, 100 turns in place of 300,000, while it has more threads than
there are cores (its manual, GOMP_SPINCOUNT). So while other programs keep the machine busy, a
thread that does nothing holds a team of its own. How many threads work on a tensor does not change,
nor does any number. What was measured: benchmarks/README.md, "A busy machine".
"""

import os
import sys
import threading
import time
from functools import cache
from pathlib import Path

import psutil
import torch

DECIDED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # somebody says how threads wait
EVERY = 0.5  # seconds between two looks at the machine
BUSY, QUIET = 0.3, 0.15  # cores that other programs use: from here on, and until there


@cache
def watch() -> None:
    """From now on, have threads wait briefly whenever other programs are busy. Where that cannot be
    done, say once what to set; where the environment says how threads wait, leave it at that."""
    if any(name in os.environ for name in DECIDED) or torch.get_num_threads() == 1:
        return
    if not gnu_openmp():
        print(
            "If other programs keep this machine busy, training is far faster with "
            "OMP_WAIT_POLICY=PASSIVE in the environment before Python starts.",
            file=sys.stderr,
        )
        return
    threading.Thread(target=_watch, name="rlhf_lab: is the machine busy?", daemon=True).start()


def gnu_openmp() -> bool:
    """Whether this process has loaded GNU's OpenMP library."""
    maps = Path("/proc/self/maps")
    return maps.exists() and "libgomp" in maps.read_text(errors="replace")


class Crowd:
    """More OpenMP threads than cores, asleep, from `gather` to `disperse`."""

    def __init__(self) -> None:
        self.leave = threading.Event()
        self.idlers: list[threading.Thread] = []

    def gather(self) -> None:
        """Make the threads, and wait until they are there."""
        self.leave.clear()
        cores, team = len(os.sched_getaffinity(0)), torch.get_num_threads()
        if team == 1:  # since the watch began: one thread waits for nobody
            return
        ready = threading.Barrier(2 + (cores - team) // (team - 1))
        self.idlers = [
            threading.Thread(target=self._idle, args=(ready,), daemon=True)
            for _ in range(ready.parties - 1)
        ]
        for idler in self.idlers:
            idler.start()
        ready.wait()

    def disperse(self) -> None:
        """Let them end."""
        self.leave.set()
        for idler in self.idlers:
            idler.join()
        self.idlers = []

    def _idle(self, ready: threading.Barrier) -> None:
        torch.ones(2**20).sum()  # large enough for a team of threads, which stays with this one
        ready.wait()
        self.leave.wait()


def _watch() -> None:
    crowd, process = Crowd(), psutil.Process()
    before = _seconds(process)
    while True:
        threading.Event().wait(EVERY)
        now = _seconds(process)
        clock, total, own = (late - early for early, late in zip(before, now))
        others, before = (total - own) / clock, now
        if others >= BUSY and not crowd.idlers:
            crowd.gather()
        elif others < QUIET and crowd.idlers:
            crowd.disperse()


def _seconds(process: psutil.Process) -> tuple[float, float, float]:
    """The clock; the processor time that all programs have used; and what this one has."""
    every, own = psutil.cpu_times(), process.cpu_times()
    idle = every.idle + getattr(every, "iowait", 0.0) + getattr(every, "guest", 0.0)
    return time.monotonic(), sum(every) - idle, own.user + own.system
