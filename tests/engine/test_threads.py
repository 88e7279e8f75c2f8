"""How threads wait while other programs are busy: decided by what the machine does, or said."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from rlhf_lab.engine import threads

linux = pytest.mark.skipif(sys.platform != "linux", reason="another OpenMP library")


def ran(code: str, **environment: str) -> tuple[str, str]:
    """What a fresh process prints on both channels."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "GOMP", "KMP"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=plain | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


TRAIN = (
    "import threading, torch; torch.set_num_threads(2)\n"
    "from rlhf_lab.training import make_accelerator\n"
    "make_accelerator('cpu'), make_accelerator('cpu')\n"
    "print(sum('busy?' in thread.name for thread in threading.enumerate()))"
)


@linux
def test_training_begins_to_watch_once_whatever_is_imported_first():
    out, err = ran(TRAIN)
    assert out == "1" and "busy" not in err


@pytest.mark.parametrize("name", threads.DECIDED)
def test_what_somebody_has_decided_stays(name):
    out, err = ran(TRAIN, **{name: "7"})
    assert out == "0" and "busy" not in err


def test_another_openmp_library_is_told_what_to_set_once():
    code = "from rlhf_lab.engine import threads; threads.gnu_openmp = lambda: False\n" + TRAIN
    out, err = ran(code)
    assert out == "0" and err.count("OMP_WAIT_POLICY=PASSIVE in the environment") == 1


@linux
def test_a_crowd_is_more_threads_than_cores_and_leaves_without_a_trace():
    code = (
        "import os, time, torch; torch.set_num_threads({team})\n"
        "from rlhf_lab.engine.threads import Crowd\n"
        "x = torch.rand(300, 300); sums = [(x @ x).sum().item()]\n"
        "tasks = lambda: len(os.listdir('/proc/self/task'))\n"
        "torch.ones(2**20).sum(); before, crowd = tasks(), Crowd()\n"
        "crowd.gather(); sums.append((x @ x).sum().item()); more = tasks() - before\n"
        "crowd.disperse(); sums.append((x @ x).sum().item()); end = time.monotonic() + 30\n"
        # The system lists a thread that was joined for a moment longer.
        "while tasks() > before and time.monotonic() < end: time.sleep(0.01)\n"
        "print(more, tasks() - before, len(set(sums)), len(os.sched_getaffinity(0)))\n"
    )
    for team in (2, 3):
        more, left, sums, cores = map(int, ran(code.format(team=team))[0].split())
        assert sums == 1 and left == 0  # the same numbers, and nobody left behind
        idlers = more / team  # each with its team
        assert idlers == int(idlers) and team + idlers * (team - 1) > cores
        assert (idlers > 0) == (team <= cores)  # a larger team is a crowd by itself


def test_the_crowd_gathers_while_others_are_busy(monkeypatch):
    """Half a second after half a second, with the cores that others use."""
    seen, use = [], iter([0.0, 0.2, 0.5, 0.2, 0.1, 0.1, 1.0, 0.0])

    class Seen:
        idlers = False

        def gather(self):
            self.idlers = True
            seen.append("gather")

        def disperse(self):
            self.idlers = False
            seen.append("disperse")

    class Over(Exception):
        pass

    clock = [0.0, 0.0, 0.0]

    def seconds(process):
        try:
            others = next(use)
        except StopIteration:
            raise Over from None
        clock[0] += 0.5
        clock[1] += 0.5 * (others + 1.5)  # this process uses one core and a half
        clock[2] += 0.5 * 1.5
        seen.append(others)
        return tuple(clock)

    monkeypatch.setattr(threads, "Crowd", Seen)
    monkeypatch.setattr(threads, "EVERY", 0)
    monkeypatch.setattr(threads, "_seconds", seconds)
    with pytest.raises(Over):
        threads._watch()
    assert seen[:6] == [0.0, 0.2, 0.5, "gather", 0.2, 0.1]
    assert seen[6:] == ["disperse", 0.1, 1.0, "gather", 0.0, "disperse"]


@linux
def test_a_busy_neighbour_is_seen():
    import psutil

    process = psutil.Process()
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = threads._seconds(process)
        threading.Event().wait(2)
        clock, total, own = (b - a for a, b in zip(before, threads._seconds(process)))
    finally:
        neighbour.kill()
    assert (total - own) / clock > threads.BUSY and own / clock < 0.5


def test_one_thread_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(threads, "gnu_openmp", lambda: pytest.fail("it looked further"))
    for name in threads.DECIDED:
        monkeypatch.delenv(name, raising=False)
    threads.watch.__wrapped__()
    crowd = threads.Crowd()
    crowd.gather()
    assert crowd.idlers == []
