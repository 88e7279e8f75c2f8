"""Many write to one store at once, and some are killed: every submitted ranking is there."""

import multiprocessing
import os
import signal
import sqlite3
import time

import pytest
from helpers import refusal
from stored import ASK, RANKS, SAMPLES, SHOWN, TEXTS, made, ranking, sql

from rlhf_lab.feedback import database, rows
from rlhf_lab.feedback.store import FeedbackStore

WORKERS, EACH = 30, 5
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")


# ---- many at once, and a kill -------------------------------------------------------------------


def rank_on(path, worker, start, log, count):
    """Rank `count` times; log an entry's id once `write` has returned it."""
    start.wait()
    store = made(path, f"labeller {worker}")
    for seconds in range(count):
        entry = store.write(ranking(f"labeller {worker}", seconds=seconds))
        os.write(log, f"{entry.id}\n".encode())


@needs_fork
def test_thirty_write_at_once_one_is_killed_and_every_submitted_ranking_is_there(tmp_path):
    """They also race to make the file; the one that is killed would never end by itself."""
    path, fork = tmp_path / "class.sqlite", multiprocessing.get_context("fork")
    start, pipes = fork.Barrier(WORKERS), [os.pipe() for _ in range(WORKERS)]
    workers = [
        fork.Process(target=rank_on, args=(path, i, start, log, EACH if i else 10**9))
        for i, (_, log) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    for _, log in pipes:
        os.close(log)
    with os.fdopen(pipes[0][0]) as log:
        told = [log.readline().strip() for _ in range(3)]
        os.kill(workers[0].pid, signal.SIGKILL)
        told += log.read().split()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] + [0] * (WORKERS - 1)

    store = FeedbackStore(path)
    ids = {entry.id for entry in store.entries("labeller 0")}
    assert len(told) >= 3 and set(told) <= ids and len(ids) - len(told) <= 1
    for i, (reader, _) in list(enumerate(pipes))[1:]:
        with os.fdopen(reader) as log:
            told = log.read().split()
        written = store.entries(f"labeller {i}")
        assert len(told) == EACH and [entry.id for entry in written] == told
        assert [entry.seconds for entry in written] == list(range(EACH))
    assert all(
        (entry.responses, entry.ranks, entry.shown) == (TEXTS, RANKS, SHOWN)
        for entry in store.entries()
    )
    assert len(store.labellers()) == WORKERS and store.samples(ASK) == SAMPLES
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]


def make_at_once(path, start):
    start.wait()
    FeedbackStore(path)


@needs_fork
def test_thirty_make_the_same_file_at_once(tmp_path):
    fork = multiprocessing.get_context("fork")
    for turn in range(5):
        start = fork.Barrier(WORKERS)
        workers = [
            fork.Process(target=make_at_once, args=(tmp_path / f"{turn}.sqlite", start))
            for _ in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * WORKERS


class Locked:
    """A connection to a file that others lock: as often as said, the question for a log fails."""

    def __init__(self, times, name):
        self.times, self.name = times, name

    def execute(self, _):
        if self.times:
            self.times -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorname = self.name
            raise error
        return sqlite3.connect(":memory:").execute("SELECT 'wal'")


def test_the_log_is_asked_for_again_while_others_make_the_file(monkeypatch):
    """SQLite does not wait here (it answers at once that the file is locked)."""
    assert database._write_ahead(Locked(3, "SQLITE_BUSY")) == "wal"
    with pytest.raises(sqlite3.OperationalError):
        database._write_ahead(Locked(1, "SQLITE_IOERR"))
    monkeypatch.setattr(database, "PATIENCE", 0.03)
    with pytest.raises(sqlite3.OperationalError):
        database._write_ahead(Locked(10**6, "SQLITE_BUSY"))


def stop_within(path, ready):
    with database.writing(path) as connection:
        rows.add_entry(connection, ranking())
        os.write(ready, b"!")
        time.sleep(600)


@needs_fork
def test_a_kill_before_the_end_of_a_submit_leaves_nothing_of_it(store):
    first = store.write(ranking("bob"))
    reader, ready = os.pipe()
    fork = multiprocessing.get_context("fork")
    worker = fork.Process(target=stop_within, args=(store.path, ready))
    worker.start()
    assert os.read(reader, 1) == b"!"  # the entry and its responses are written, not committed
    assert store.entries() == [first]
    worker.kill()
    worker.join()
    second = store.write(ranking("bob"))
    assert store.entries(undone=True) == [first, second]


def test_a_commit_waits_for_the_disk(store):
    with database.writing(store.path) as connection:
        asked = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert asked == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


def test_somebody_who_writes_for_too_long_is_named(store, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    with database.writing(store.path):
        message = refusal(store.write, ranking())
        assert "another program has been writing" in message
        assert store.entries() == []  # whereas reading goes on
    store.write(ranking())
