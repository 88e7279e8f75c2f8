"""How threads wait: set before torch is loaded, whatever is imported first, or said what to do."""

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def ran(code: str, **environment: str) -> tuple[str, str]:
    """What a fresh process prints on both channels."""
    plain = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=plain | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


READ = "import os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
TRAIN = "from rlhf_lab.training import make_accelerator; make_accelerator('cpu')"


def test_importing_the_lab_first_sets_it_and_nothing_is_said():
    out, err = ran(f"import rlhf_lab, torch; {TRAIN}; {TRAIN}; {READ}")
    assert out == "1000 None" and "busy" not in err


@pytest.mark.skipif(sys.platform != "linux", reason="another OpenMP library")
def test_torch_first_is_said_once_at_the_first_training():
    _, err = ran(f"import torch, rlhf_lab; {TRAIN}; {TRAIN}")
    assert err.count("import rlhf_lab before torch, or GOMP_SPINCOUNT=1000") == 1


@pytest.mark.parametrize("name", NAMES)
def test_what_somebody_has_decided_stays(name):
    out, err = ran(f"import torch, rlhf_lab; {TRAIN}; {READ}", **{name: "7"})
    wanted = {"GOMP_SPINCOUNT": "7 None", "OMP_WAIT_POLICY": "None 7"}.get(name, "None None")
    assert out == wanted and "busy" not in err


def test_a_command_sets_it_before_it_loads_torch():
    code = "import sys\nfrom rlhf_lab.cli import main\nassert 'torch' not in sys.modules\n" + READ
    assert ran(code)[0] == "1000 None"


@pytest.mark.skipif(sys.platform != "linux", reason="another OpenMP library")
def test_openmp_reads_it_where_it_is_set():
    """GNU's library says at its start what it has read."""
    _, err = ran("import rlhf_lab, torch", OMP_DISPLAY_ENV="VERBOSE")
    if "GOMP_SPINCOUNT" not in err:
        pytest.skip("this torch has another OpenMP library")
    assert "GOMP_SPINCOUNT = '1000'" in err
