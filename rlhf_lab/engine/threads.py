"""Keep training fast while other programs use the CPU.

PyTorch's CPU threads wait for one another in a busy loop for some milliseconds, then sleep. That is
fastest on an idle machine. If another program is busy, they spin while the system has paused the
thread that they wait for, and a step takes two to ten times as long.

GNU's OpenMP library spins only briefly, for 100 turns instead of 300,000, while it has more threads
than there are cores (its manual, GOMP_SPINCOUNT). So while other programs keep the machine busy, an
idle thread holds an additional team of OpenMP threads. This changes neither the number of threads
that work on a tensor nor any result. Measurements: benchmarks/README.md, "A busy machine".
"""

import os
import sys
import threading
import time
from functools import cache
from pathlib import Path

import psutil
import torch

DECIDED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # if set, change nothing
EVERY = 0.5  # seconds between two looks at the machine
BUSY, QUIET = 0.3, 0.15  # cores used by other programs: act from BUSY, stop below QUIET


@cache
def watch() -> None:
    """From now on, make threads wait only briefly while other programs are busy. If that is not
    possible, print once what to set; if the environment sets how threads wait, do nothing."""
    if any(name in os.environ for name in DECIDED) or torch.get_num_threads() == 1:
        return
    if not gnu_openmp():
        print(
            "If other programs keep this machine busy, set OMP_WAIT_POLICY=PASSIVE in the "
            "environment before Python starts: training is then far faster.",
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
        """Start the threads, and wait until they run."""
        self.leave.clear()
        cores, team = len(os.sched_getaffinity(0)), torch.get_num_threads()
        if team == 1:  # set after the watch began: a single thread never waits
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
        """Stop the threads."""
        self.leave.set()
        for idler in self.idlers:
            idler.join()
        self.idlers = []

    def _idle(self, ready: threading.Barrier) -> None:
        torch.ones(2**20).sum()  # large enough to start a team, which this thread then keeps
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
    """In seconds: the clock, the CPU time of all programs, and the CPU time of this one."""
    every, own = psutil.cpu_times(), process.cpu_times()
    idle = every.idle + getattr(every, "iowait", 0.0) + getattr(every, "guest", 0.0)
    return time.monotonic(), sum(every) - idle, own.user + own.system
