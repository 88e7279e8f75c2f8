"""What the tests of the feedback store put into one, and how they look into its file."""

import sqlite3
from contextlib import closing
from dataclasses import replace

from rlhf_lab.feedback.store import Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt

ASK = Prompt("p1", "My kettle leaks.", {"product": "kettle", "parts": [1, 2.5, None, True]})
TEXTS = ("Go away.", "Try the seal.", "Sorry! Send it back, please.")
SAMPLES = [Sample(text, "runs/sft", {"temperature": 1.0, "seed": len(text)}) for text in TEXTS]
RANKS, SHOWN = (3, 2, 1), (2, 0, 1)
COUNTS = dict.fromkeys(("prompts", "samples", "labellers", "ranking", "skip", "flag", "undo"), 0)


def made(path, *names) -> FeedbackStore:
    """A store with one prompt, three samples and these labellers."""
    store = FeedbackStore(path)
    store.add(ASK, SAMPLES)
    for name in names:
        store.add_labeller(name)
    return store


def ranking(labeller="ann", **changes) -> Entry:
    return replace(
        Entry("", "ranking", labeller, ASK, TEXTS, RANKS, SHOWN, 8.5, "common", "v1"), **changes
    )


def skip(labeller="ann", **changes) -> Entry:
    return Entry("", "skip", labeller, ASK, **changes)


def sql(path, query, *given) -> list:
    """What any other program would find in the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(query, given).fetchall()
