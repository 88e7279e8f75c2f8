"""How the two sides of a comparison take turns: one step each, while the other one waits.

A worker reads a line from its standard input, takes one step, and answers with one line of JSON:
seconds by the clock, seconds of processor time, and the peak of its memory above what it held once
its libraries were imported. Whatever else the machine does meets both sides alike.
"""

import json
import os
import sys
import time


class Turns:
    """The worker's end. Make it after the imports: memory counts from then on."""

    def __init__(self):
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever a library prints goes to standard error
        self.imported = _memory("VmRSS")

    def ready(self, **facts) -> None:
        """Tell the other end what is going to run; its first turn follows."""
        self._answer(facts)
        self.begin()

    def begin(self) -> None:
        """Wait for the turn; the process ends when there are no more."""
        if not sys.stdin.readline():
            os._exit(0)
        self.started, self.processor = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Report the step, and wait for the next turn."""
        self._answer(
            {
                "seconds": time.perf_counter() - self.started,
                "processor_seconds": time.process_time() - self.processor,
                "memory_mb": (_memory("VmHWM") - self.imported) / 1024,
            }
        )
        self.begin()

    def _answer(self, facts: dict) -> None:
        print(json.dumps(facts), file=self.answers, flush=True)


def _memory(name: str) -> int:
    """VmRSS, what the process holds now, or VmHWM, the most it has held; in KiB (Linux only)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))
