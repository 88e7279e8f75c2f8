"""The pretrained model, and a page of figures at the end of the run."""

import resource
import sys
import time
from pathlib import Path

import pytest
import torch

from rlhf_lab import load_policy, load_tokenizer
from rlhf_lab.disk import pretrained

START = time.monotonic()
FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config):
    config.stash[FIGURES] = []


@pytest.fixture(scope="session")
def note(pytestconfig):
    """note(text): a line for the page of figures, with the time that passed, that of the processor
    and the peak memory so far."""

    def add(text: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on a Mac
        peak /= 2**30 if sys.platform == "darwin" else 2**20
        passed = time.monotonic() - START
        pytestconfig.stash[FIGURES].append(
            f"{passed:5.0f} s  cpu {time.process_time():5.0f} s  {peak:5.2f} GB  {text}"
        )

    return add


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[FIGURES]:
        terminalreporter.section(f"figures, with {torch.get_num_threads()} threads")
        for line in config.stash[FIGURES]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def folder(note) -> Path:
    """The model's folder; fetched, if it is not in the cache."""
    found = pretrained.fetch()
    note("the model's folder")
    return found


@pytest.fixture(scope="session")
def tokenizer(folder):
    return load_tokenizer(folder)


@pytest.fixture
def policy(folder):
    """The model as it was fetched."""
    return load_policy(folder)
