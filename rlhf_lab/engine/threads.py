"""How long PyTorch's threads on a CPU wait for one another at full speed before they sleep.

By default that is some milliseconds. Beside another busy program it stops training: the thread that
the others wait for is the one that the system has put aside, because they are busy waiting. A short
wait costs next to nothing on a quiet machine (benchmarks/README.md, "A busy machine").

OpenMP reads the setting once, when torch is loaded. So `import rlhf_lab` makes it, and the
first import of torch must come later.
"""

import os
import sys

SETTING, SPINS = "GOMP_SPINCOUNT", "1000"  # about 20 microseconds
OTHERS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # somebody has decided already

_advice: list[str] = []  # what to say once, before the first training


def wait_briefly() -> None:
    """Have the threads of this process sleep after a short wait, unless the environment says how
    they wait. Call it before torch is imported."""
    if any(name in os.environ for name in OTHERS):
        return
    late = "torch" in sys.modules
    os.environ[SETTING] = SPINS
    if sys.platform != "linux":  # another OpenMP library, to which this setting says nothing
        _advice.append("OMP_WAIT_POLICY=PASSIVE in the environment, before Python starts")
    elif late:
        _advice.append(f"import rlhf_lab before torch, or {SETTING}={SPINS} in the environment")


def advice() -> str:
    """One line on what to do about slow training on a busy machine, the first time it is asked for;
    "" where nothing needs to be done."""
    if not _advice:
        return ""
    return f"If other programs keep this machine busy, training is far faster with {_advice.pop()}."
