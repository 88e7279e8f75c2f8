"""What hardware a room needs: memory and CPU time of each notebook's kernel.

    python benchmarks/room.py
    python benchmarks/room.py notebooks/03*.ipynb --together 4

Each notebook is run from top to bottom in an empty folder, one after the other; with --together N,
N kernels of the same notebook run at once, as in a room that works on one server. Every quarter of
a second the kernel and all its children are looked at:

memory   the highest sum of their resident memory (RSS). Pages that several processes share, such as
         PyTorch's libraries, count in each of them.
shared   with --together: the highest sum over all kernels in which a shared page counts once (PSS,
         Linux only). It says how much less than N times one kernel N kernels need.
CPU      user and system seconds, added up over the processes.

Seconds depend on what else the machine does; memory does not.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
EVERY = 0.25  # seconds between two looks
ROOM = 30  # kernels of a class
GB = 1e9


@dataclass
class Kernel:
    """One running notebook: its process, and the most that it and its children used. memory in
    bytes; cpu: seconds of each process, by number."""

    process: subprocess.Popen
    memory: int = 0
    cpu: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0

    def look(self, shared: bool) -> int:
        """Note what is used now; returns the memory with shared pages counted once, in bytes."""
        memory = once = 0
        for process in _below(self.process.pid):
            try:
                memory += process.memory_info().rss
                times = process.cpu_times()
                self.cpu[process.pid] = times.user + times.system
                once += process.memory_full_info().pss if shared else 0
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended meanwhile
        self.memory = max(self.memory, memory)
        return once


def measure(notebook: Path, count: int = 1) -> tuple[list[Kernel], int]:
    """Run a notebook `count` times at once; returns the kernels, and the most memory that all of
    them had together, shared pages counted once (0 for a single one).

    Raises RuntimeError, with the end of what it said, if one of them fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        kernels = [_start(notebook, Path(folder, str(number))) for number in range(count)]
        start, together = time.monotonic(), 0
        while running := [k for k in kernels if k.process.poll() is None]:
            together = max(together, sum(kernel.look(count > 1) for kernel in running))
            for kernel in running:
                kernel.seconds = time.monotonic() - start
            time.sleep(EVERY)
        for number, kernel in enumerate(kernels):
            if kernel.process.returncode:
                said = Path(folder, str(number), "said.txt").read_text(errors="replace")
                raise RuntimeError(f"{notebook.name} failed:\n{said[-1500:]}")
    return kernels, together


def _start(notebook: Path, folder: Path) -> Kernel:
    """Begin to run a notebook in a new folder, in a process that has no other children."""
    folder.mkdir()
    run = "import nbformat, sys; from nbclient import NotebookClient as C; "
    run += "C(nbformat.read(sys.argv[1], 4), timeout=1800, kernel_name='python3').execute()"
    with (folder / "said.txt").open("w") as said:
        command = [sys.executable, "-c", run, str(notebook.resolve())]
        return Kernel(subprocess.Popen(command, cwd=folder, stdout=said, stderr=said))


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def row(notebook: Path, count: int) -> str:
    """One line of the table."""
    kernels, together = measure(notebook, count)
    memory = max(kernel.memory for kernel in kernels) / GB
    cpu = sum(sum(kernel.cpu.values()) for kernel in kernels) / count
    seconds = max(kernel.seconds for kernel in kernels)
    cells = [notebook.stem, f"{memory:.1f}", f"{cpu:.0f}", f"{seconds:.0f}"]
    cells.append(f"{ROOM * memory:.0f}" if count == 1 else f"{together / GB:.1f}")
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="by default all of them")
    parser.add_argument("--together", type=int, default=1, metavar="N", help="kernels at once")
    options = parser.parse_args(arguments)
    notebooks = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    count = options.together
    last = f"{ROOM} kernels, GB (times {ROOM})" if count == 1 else f"all {count}, shared once, GB"
    print(f"| notebook | memory of a kernel, GB | CPU, s | took, s | {last} |")
    print("|---|---|---|---|---|")
    for notebook in notebooks:
        print(row(notebook, count), flush=True)


if __name__ == "__main__":
    main()
