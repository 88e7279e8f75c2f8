"""A folder in memory for each test of the feedback, and a store to begin with."""

import os
import tempfile
from pathlib import Path

import pytest
from stored import made

from rlhf_lab.feedback.store import FeedbackStore


@pytest.fixture
def tmp_path():
    """A folder of a test's own, in memory where that can be had: nobody waits for a disk."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as folder:
        yield Path(folder).resolve()


@pytest.fixture
def store(tmp_path) -> FeedbackStore:
    return made(tmp_path / "a.sqlite", "ann", "bob")
