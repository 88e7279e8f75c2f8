"""The feedback store: what was written is there, in the person's order, and nothing else is."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from helpers import refusal

from rlhf_lab.feedback import database, rows, schema
from rlhf_lab.feedback.store import Contents, Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt, Ranking

ASK = Prompt("p1", "My kettle leaks.", {"product": "kettle", "parts": [1, 2.5, None, True]})
TEXTS = ("Go away.", "Try the seal.", "Sorry! Send it back, please.")
SAMPLES = [Sample(text, "runs/sft", {"temperature": 1.0, "seed": len(text)}) for text in TEXTS]
RANKS, SHOWN = (3, 2, 1), (2, 0, 1)
COUNTS = dict.fromkeys(("prompts", "samples", "labellers", "ranking", "skip", "flag", "undo"), 0)
ROOT = Path(__file__).resolve().parents[2]
WORKERS, EACH = 30, 5

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
needs_root = pytest.mark.skipif(
    not hasattr(os, "setresuid") or os.getuid() != 0, reason="only root can put on another user"
)


@pytest.fixture
def tmp_path():
    """A folder of a test's own, in memory where that can be had: nobody waits for a disk."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as folder:
        yield Path(folder).resolve()


def made(path, *names) -> FeedbackStore:
    """A store with one prompt, three samples and these labellers."""
    store = FeedbackStore(path)
    store.add(ASK, SAMPLES)
    for name in names:
        store.add_labeller(name)
    return store


@pytest.fixture
def store(tmp_path) -> FeedbackStore:
    return made(tmp_path / "a.sqlite", "ann", "bob")


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


# ---- what is kept -------------------------------------------------------------------------------


def test_prompts_and_samples_come_back_once_and_in_order(store):
    other = Prompt("p0", "Another one?")
    same = [Sample("Try.", "sft"), Sample("Try.", "ppo"), Sample("Try.", "sft", {"seed": 1})]
    store.add(other, same)
    store.add(other, same[::-1])
    store.add(ASK, SAMPLES[:1])
    assert store.prompts() == [ASK, other]
    assert store.samples(ASK) == SAMPLES
    assert store.samples(other) == same  # equal texts of different making are samples of their own
    assert store.samples(Prompt("p1", "Not in there.")) == []


def test_a_prompt_keeps_the_id_and_facts_it_first_came_with(store):
    store.add(Prompt("other", ASK.text, {"product": "toaster"}), [Sample("New.")])
    assert store.prompts() == [ASK]
    assert store.samples(ASK) == [*SAMPLES, Sample("New.")]


def test_labellers_come_back_once_and_in_order(store):
    for name in ("zoe", "ann", "x" * 60):
        store.add_labeller(name)
    assert store.labellers() == ["ann", "bob", "zoe", "x" * 60]


@pytest.mark.parametrize("name", ["", " \t ", "x" * 61, "two\nlines", "\ud800"])
def test_a_name_that_is_none_is_refused(store, name):
    assert "labeller" in refusal(store.add_labeller, name) or name == "\ud800"
    assert store.labellers() == ["ann", "bob"]


def test_every_field_of_an_entry_comes_back(store):
    entries = [
        ranking(),
        ranking("bob", ranks=(1, None, 1), shown=(0, 1, 2), pick="repeat"),
        skip(shown=(1, 0), responses=TEXTS[:2], seconds=3, pick="active"),
        skip("bob"),
        Entry("", "flag", "bob", ASK, TEXTS, shown=SHOWN, flag="unsafe", guidelines="v2"),
    ]
    written = [store.write(entry) for entry in entries]
    assert store.entries() == written
    assert [replace(entry, id="", made="") for entry in written] == entries
    assert len({entry.id for entry in written}) == 5 and all(len(e.id) == 32 for e in written)
    assert store.entries("bob") == [written[i] for i in (1, 3, 4)]
    assert store.entries("nobody") == []


def test_an_entry_keeps_the_id_and_time_it_brings(store):
    entry = ranking(id="0" * 32, made="2026-01-31T12:00:00.000001+00:00")
    assert store.write(entry) == entry
    assert "its id is taken" in refusal(store.write, replace(entry, ranks=(1, 2, 3)))
    assert store.entries() == [entry]


def test_times_go_forward_even_where_the_clock_does_not(store):
    first = store.write(ranking(made="2999-01-01T00:00:00.000000+00:00"))
    second, third = store.write(skip()), store.write(ranking())
    assert second.made == "2999-01-01T00:00:00.000001+00:00"
    assert store.entries() == [first, second, third]
    assert store.write(ranking("bob")).made < "2999"  # another labeller has times of their own


def test_what_is_stored_is_the_persons_order_and_not_the_screens(store):
    """One taste, three orders on the screen: the same ranks each time, also by plain SQL."""
    best_first = {"Sorry! Send it back, please.": 1, "Try the seal.": 2, "Go away.": 3}
    for shown in ((2, 0, 1), (0, 1, 2), (1, 2, 0)):
        on_screen = [TEXTS[i] for i in shown]
        ranks_on_screen = [best_first[text] for text in on_screen]
        ranks = tuple(ranks_on_screen[shown.index(i)] for i in range(3))
        store.write(ranking(ranks=ranks, shown=shown))
    assert store.rankings() == [Ranking(ASK, TEXTS, (3, 2, 1), "ann")] * 3
    assert [entry.shown for entry in store.entries()] == [(2, 0, 1), (0, 1, 2), (1, 2, 0)]
    for entry in store.entries():
        found = sql(
            store.path,
            "SELECT text, rank, screen FROM entry_responses JOIN responses "
            "ON key = response WHERE entry = ?",
            entry.id,
        )
        assert {text: rank for text, rank, _ in found} == best_first
        assert [text for text, _, screen in sorted(found, key=lambda row: row[2])] == [
            TEXTS[i] for i in entry.shown
        ]


def test_ties_and_unranked_ones_are_told_apart(store):
    store.write(ranking(ranks=(None, 1, 1)))
    store.write(ranking(ranks=(2, 1, None)))
    assert [made.ranks for made in store.rankings()] == [(None, 1, 1), (2, 1, None)]


def test_rankings_are_chosen_by_labeller_and_pick(store):
    store.add_labeller("cat")
    store.write(ranking("ann", pick="random"))
    store.write(ranking("bob", pick="common"))
    store.write(ranking("ann", pick="active"))
    store.write(skip("ann"))
    chosen = lambda **by: [made.labeller for made in store.rankings(**by)]  # noqa: E731
    assert chosen() == ["ann", "bob", "ann"]
    assert chosen(labellers=["ann"]) == ["ann", "ann"]
    assert chosen(labellers=["cat"]) == chosen(labellers=[]) == []
    assert chosen(picks=["random", "common"]) == ["ann", "bob"]
    assert chosen(labellers=["ann"], picks=["common"]) == []
    assert "no labeller 'an' in" in refusal(store.rankings, ["an"])
    assert "no pick 'often' in" in refusal(store.rankings, picks=["often"])


HOSTILE = {
    "markup": "<script>alert('x')</script><img src=x onerror=y>&amp;",
    "sql": "'); DROP TABLE entries; --",
    "nul": "before\0after",
    "escapes": "\x1b[31mred\x1b[0m\x07\r\n\t\x7f",
    "direction": "\u202eright to left\u202c \u2067x\u2069 \u200f",
    "separators": "a\u2028b\u2029c\x85d",
    "long": "word " * 4000,
    "emoji": "👩‍👩‍👧 e\u0301 \U0010ffff \ufeff",
    "blank": " \n ",
    "empty": "",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_come_back_as_they_were(store, text):
    prompt = Prompt(text, text + "?", {"note": text, text: 1})
    name = (text.strip().splitlines() or ["x"])[0][:60]
    store.add(prompt, [Sample(text, text, {text: text}), Sample("b")])
    store.add_labeller(name)
    entry = store.write(
        Entry("", "ranking", name, prompt, (text, "b"), (1, None), (1, 0), 0.0, guidelines=text)
    )
    assert store.prompts()[-1] == entry.prompt == prompt
    assert store.samples(prompt) == [Sample(text, text, {text: text}), Sample("b")]
    assert store.entries(name) == [entry] and entry.responses == (text, "b")
    assert entry.guidelines == text and store.labellers()[-1] == name


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.add(Prompt("p", "half \ud83d"), []),
        lambda store: store.add(Prompt("p", "whole", {"note": "half \udc00"}), []),
        lambda store: store.add(ASK, [Sample("half \ud83d")]),
        lambda store: store.add(ASK, [Sample("whole", "half \ud83d")]),
        lambda store: store.write(ranking(guidelines="half \ud83d")),
        lambda store: store.write(ranking("half \ud83d")),
    ],
)
def test_half_characters_are_refused(store, call):
    before = store.contents()
    assert "half a character" in refusal(call, store)
    assert store.contents() == before


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, why",
    [
        (dict(kind="rank"), "kind is 'rank': use one of ranking, skip, flag, undo"),
        (dict(pick="often"), "pick is 'often': use one of random"),
        (dict(ranks=(1, 2)), "it has 2 ranks for 3 responses"),
        (dict(ranks=()), "it has 0 ranks for 3 responses"),
        (dict(ranks=(None,) * 3), "it ranks nothing"),
        (dict(ranks=(0, 1, 2)), "0 is no rank"),
        (dict(ranks=(1.0, 2, 3)), "1.0 is no rank"),
        (dict(ranks=(True, 2, 3)), "True is no rank"),
        (dict(ranks=(2**63, 1, 2)), "beyond 64 bits"),
        (dict(shown=(0, 1)), "shown is [0, 1]"),
        (dict(shown=(0, 1, 1)), "shown is [0, 1, 1]"),
        (dict(shown=(1, 2, 3)), "shown is [1, 2, 3]"),
        (dict(shown=()), "shown is empty"),
        (dict(responses=TEXTS[:1], ranks=(1,), shown=(0,)), "it takes two to compare"),
        (
            dict(responses=(*TEXTS[:2], "Not there.")),
            "the response 'Not there.' to prompt 'p1' is not",
        ),
        (dict(prompt=Prompt("p9", "Not there.")), "prompt 'p9'"),
        (dict(labeller="cat"), "no such labeller is in the store"),
        (dict(seconds=-1.0), "seconds is -1.0"),
        (dict(seconds=float("nan")), "seconds is nan"),
        (dict(kind="skip"), "only a ranking has ranks"),
        (dict(kind="flag", ranks=()), "flag is '': use one of unsafe, nonsense"),
        (dict(kind="undo", ranks=()), "field 'undoes' names an entry if the kind is undo"),
        (dict(undoes="0" * 32), "field 'undoes' names an entry if the kind is undo"),
        (dict(kind="undo", ranks=(), undoes="0" * 32), "which is not an entry of this labeller"),
        (dict(made="yesterday"), "made is 'yesterday'"),
        (dict(made="2026-01-31T12:00:00.000000+01:00"), "in UTC"),
        (dict(made="2026-01-31T12:00:00+00:00"), "in UTC"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(store, changes, why):
    assert why in refusal(store.write, ranking(**changes))
    assert store.entries(undone=True) == []


@pytest.mark.parametrize(
    "prompt, samples, why",
    [
        (Prompt("p9", " \n"), [], "prompt 'p9' is empty"),
        (Prompt("p9", "x", {"when": {1, 2}}), [], "facts of prompt 'p9': Object of type set"),
        (Prompt("p9", "x", {"size": float("nan")}), [], "facts of prompt 'p9'"),
        (Prompt("p9", "x", {"pair": (1, 2)}), [], "use lists, not tuples"),
        (Prompt("p9", "x", {1: "a"}), [], "texts as keys"),
        (
            Prompt("p9", "x"),
            [Sample("a", "m", {"seed": {1}})],
            "settings of a sample of prompt 'p9'",
        ),
    ],
)
def test_what_json_would_change_is_refused(store, prompt, samples, why):
    assert why in refusal(store.add, prompt, samples)
    assert store.prompts() == [ASK]  # the prompt of a refused sample is not left behind


def test_many_prompts_go_in_all_or_none(store):
    many = [(Prompt(f"m{i}", f"Question {i}?"), [Sample(f"Answer {i}.")]) for i in range(50)]
    assert "is empty" in refusal(store.add_all, [*many, (Prompt("bad", ""), [])])
    assert store.prompts() == [ASK]
    store.add_all(many)
    assert store.prompts() == [ASK, *(prompt for prompt, _ in many)]
    assert store.samples(many[7][0]) == [Sample("Answer 7.")]


# ---- history ------------------------------------------------------------------------------------


def test_undo_is_a_new_row(store):
    first, other, second = (store.write(e) for e in (ranking(), ranking("bob"), skip()))
    assert store.undo("ann") == second
    assert store.entries() == [first, other]
    assert store.undo("ann") == first
    assert store.undo("ann") is None
    assert store.entries() == [other] and store.rankings() == [Ranking(ASK, TEXTS, RANKS, "bob")]
    history = store.entries(undone=True)
    assert history[:3] == [first, other, second]  # as they were written
    assert [replace(undo, id="", made="") for undo in history[3:]] == [
        Entry("", "undo", "ann", ASK, undoes=taken_back.id) for taken_back in (second, first)
    ]


def test_after_an_undo_comes_the_next_entry(store):
    store.write(ranking(ranks=(1, 2, 3)))
    store.undo("ann")
    again = store.write(ranking(ranks=(3, 2, 1)))
    assert store.entries() == [again]
    assert store.undo("ann") == again and store.undo("nobody") is None


def test_nobody_takes_back_what_another_wrote_or_an_undo(store):
    first = store.write(ranking())
    undo = Entry("", "undo", "bob", ASK, undoes=first.id)
    assert "not an entry of this labeller" in refusal(store.write, undo)
    store.undo("ann")
    undone = store.entries(undone=True)[-1]
    again = Entry("", "undo", "ann", ASK, undoes=undone.id)
    assert "not an entry of this labeller" in refusal(store.write, again)


@pytest.mark.parametrize(
    "table", ["prompts", "responses", "samples", "labellers", "entries", "entry_responses"]
)
def test_the_file_itself_refuses_to_rewrite_history(store, table):
    store.write(ranking())
    before = sql(store.path, f"SELECT * FROM {table}")
    first, *others = before[0]
    column = sql(store.path, f"SELECT name FROM pragma_table_info('{table}')")[-1][0]
    for query in (
        f"UPDATE {table} SET {column} = {column}",
        f"UPDATE {table} SET {column} = 'x'",
        f"DELETE FROM {table}",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="history is not"):
            sql(store.path, query)
    marks = ", ".join("?" * len(others))
    for values in ([first, *others[:-1], "9"], [999, *others]):
        sql(store.path, f"INSERT OR REPLACE INTO {table} VALUES (?, {marks})", *values)
    assert set(before) <= set(sql(store.path, f"SELECT * FROM {table}"))


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


# ---- forgetting ---------------------------------------------------------------------------------


def traces(store, *words) -> list[str]:
    """Those of the words that stand anywhere in the files of the store, in any encoding."""
    folder, name = store.path.parent, store.path.name
    content = b"".join(file.read_bytes() for file in folder.iterdir() if file.name.startswith(name))
    assert b"My kettle leaks." in content  # the search itself works
    return [
        word
        for word in words
        for coding in ("utf-8", "utf-16-le", "utf-16-be")
        if word.encode(coding) in content
    ]


def test_forget_leaves_no_trace_in_the_bytes(tmp_path):
    """Enough rows, of enough lengths, that SQLite moves some between pages and leaves copies."""
    chance, entries = Random(0), []
    store = made(tmp_path / "a.sqlite", "Zerlina Quux", "bob")
    for _ in range(500):
        id, name = f"{chance.getrandbits(128):032x}", chance.choice(store.labellers())
        text = f"as {name} reads them" + "." * chance.randrange(700)
        entries.append(ranking(name, id=id, guidelines=text))
    store.take_in(Contents(entries=entries))
    store.undo("Zerlina Quux")
    kept = store.entries("bob")
    gone = [entry.id for entry in store.entries("Zerlina Quux", undone=True)]
    words = ["Zerlina Quux", "as Zerlina Quux reads them", *gone]
    assert traces(store, *words) == words and len(gone) > 200
    assert store.forget("Zerlina Quux") == len(gone)
    assert traces(store, *words) == []
    assert store.entries(undone=True) == kept and store.labellers() == ["bob"]
    assert store.prompts() == [ASK] and store.samples(ASK) == SAMPLES
    assert sql(store.path, "SELECT * FROM leaving") == []
    assert "no such labeller" in refusal(store.write, ranking("Zerlina Quux"))


def test_forgetting_a_name_that_is_not_there_deletes_nothing(store):
    entry = store.write(ranking())
    before = store.contents()
    assert store.forget("an") == store.forget("Ann") == 0
    assert store.contents() == before and store.entries() == [entry]
    other = made(store.path.with_name("b.sqlite"), "an")
    assert store.merge(other.path)["labellers"] == 1  # a slip of the pen bars nobody


def test_a_reader_keeps_traces_and_is_named_and_forgetting_again_wipes_them(store, monkeypatch):
    store.add_labeller("Zerlina Quux")
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    with database.reading(store.path) as connection:
        connection.execute("SELECT * FROM labellers").fetchall()
        message = refusal(store.forget, "Zerlina Quux")
    assert "traces" in message and "do the same again" in message
    assert store.labellers() == ["ann", "bob"]
    assert store.forget("Zerlina Quux") == 0
    assert traces(store, "Zerlina Quux") == []


def test_a_forgotten_labeller_may_come_back_with_new_rankings_only(tmp_path):
    store, old = made(tmp_path / "a.sqlite", "ann"), tmp_path / "old.sqlite"
    early = store.write(ranking())
    FeedbackStore(old).merge(store.path)
    assert store.forget("ann") == 1
    store.add_labeller("ann")
    assert store.entries() == []
    late = store.write(ranking(ranks=(1, 2, 3)))
    assert FeedbackStore(old).undo("ann") == early  # later than the forgetting, but of what is gone
    other = FeedbackStore(old).write(skip())
    assert store.merge(old) == COUNTS | {"skip": 1}
    assert store.entries(undone=True) == [late, other]


# ---- merging ------------------------------------------------------------------------------------


def test_thirty_files_become_one_as_often_as_one_likes(tmp_path):
    files, written = [], []
    for i in range(WORKERS):
        student = made(tmp_path / f"{i}.sqlite", f"student {i}")
        student.add(Prompt(f"own {i}", f"Question {i}?"), [Sample(f"Answer {i}.", "sft")])
        written += [student.write(ranking(f"student {i}")), student.write(skip(f"student {i}"))]
        files.append(student.path)
    store = FeedbackStore(tmp_path / "class.sqlite")
    assert store.merge(files[0]) == COUNTS | {
        "prompts": 2,
        "samples": 4,
        "labellers": 1,
        "ranking": 1,
        "skip": 1,
    }
    for file in files[1:]:
        assert store.merge(file) == COUNTS | {
            "prompts": 1,
            "samples": 1,
            "labellers": 1,
            "ranking": 1,
            "skip": 1,
        }
    assert store.entries() == sorted(written, key=lambda entry: entry.made)
    assert len(store.prompts()) == 31 and store.samples(ASK) == SAMPLES
    everything = store.contents()
    assert all(store.merge(file) == COUNTS for file in [*files, store.path])
    assert store.contents() == everything


def test_merging_both_ways_makes_both_the_same(tmp_path):
    a, b = made(tmp_path / "a.sqlite", "ann", "bob"), made(tmp_path / "b.sqlite", "bob")
    shared = a.write(ranking("bob"))
    b.merge(a.path)
    a.undo("bob"), b.undo("bob")  # each takes the same entry back
    a.write(ranking("ann")), b.write(skip("bob"))
    b.add(Prompt("p2", "More?", {"x": 1}), [Sample("Yes.")])
    before = b.path.read_bytes()
    assert a.merge(b.path) == COUNTS | {"prompts": 1, "samples": 1, "skip": 1, "undo": 1}
    assert b.path.read_bytes() == before  # the other file stays as it is
    assert b.merge(a.path) == COUNTS | {"ranking": 1, "undo": 1}
    assert a.entries(undone=True) == b.entries(undone=True)
    assert a.contents().prompts == b.contents().prompts
    assert sorted(a.labellers()) == sorted(b.labellers()) == ["ann", "bob"]
    assert [entry.kind for entry in a.entries()] == ["ranking", "skip"]
    assert shared not in a.entries()
    assert a.merge(b.path) == b.merge(a.path) == COUNTS


def test_an_undo_from_a_slow_clock_comes_in_with_what_it_takes_back(store, tmp_path):
    first = store.write(ranking())
    early = "2000-01-01T00:00:00.000000+00:00"
    store.write(Entry("", "undo", "ann", ASK, undoes=first.id, made=early))
    assert [entry.kind for entry in store.entries(undone=True)] == ["undo", "ranking"]
    other = FeedbackStore(tmp_path / "b.sqlite")
    other.merge(store.path)
    assert other.contents() == store.contents() and other.entries() == []


def test_merging_an_old_copy_does_not_bring_a_forgotten_labeller_back(tmp_path):
    store = made(tmp_path / "a.sqlite", "Zerlina Quux", "bob")
    store.write(ranking("Zerlina Quux"))
    store.undo("Zerlina Quux")
    store.write(ranking("bob"))
    copy = FeedbackStore(tmp_path / "copy.sqlite")
    copy.merge(store.path)
    store.forget("Zerlina Quux")
    everything = store.contents()
    copy.write(ranking("Zerlina Quux"))  # nor what was ranked elsewhere since
    assert store.merge(copy.path) == COUNTS
    assert store.contents() == everything and traces(store, "Zerlina Quux") == []
    assert copy.merge(store.path) == COUNTS  # another file keeps what it has
    assert copy.labellers() == ["Zerlina Quux", "bob"] and len(copy.entries()) == 2


def test_what_was_written_but_not_yet_moved_from_the_log_is_merged(tmp_path):
    """A reader keeps the log from being emptied, as a killed process leaves it."""
    store, other = FeedbackStore(tmp_path / "a.sqlite"), made(tmp_path / "b.sqlite", "ann")
    with database.reading(other.path) as connection:
        connection.execute("SELECT * FROM entries").fetchall()
        other.write(ranking())
        assert other.path.with_name("b.sqlite-wal").stat().st_size
        assert store.merge(other.path)["ranking"] == 1


@contextmanager
def another_user():
    """As somebody who may not write in folders of ours."""
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@needs_root
def test_a_folder_where_nothing_may_be_written(store, tmp_path):
    entry, mine = store.write(ranking()), tmp_path / "mine"
    tmp_path.chmod(0o755)
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    before = store.path.read_bytes()
    with another_user():
        assert "check who may write" in refusal(FeedbackStore, store.path)
        assert "check who may write" in refusal(store.write, ranking())
        assert "may be written" in refusal(FeedbackStore, tmp_path / "new.sqlite")
        own = FeedbackStore(mine / "b.sqlite")
        assert own.merge(store.path)["ranking"] == 1  # whereas taking it in is no harm
        assert own.entries() == [entry]
    assert store.path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.sqlite", "mine"]


# ---- files that are something else --------------------------------------------------------------


def foreign(path):
    sql(path, "CREATE TABLE diary (day)")
    sql(path, "INSERT INTO diary VALUES ('Monday')")


def foreign_with_log(path):
    sql(path, "PRAGMA journal_mode = WAL")
    foreign(path)


def newer(path):
    made(path, "ann")
    sql(path, f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")


STRANGERS = {
    "text": (lambda path: path.write_text("dear diary"), "is not a feedback store"),
    "long text": (lambda path: path.write_text("dear diary\n" * 1000), "is not a feedback store"),
    "foreign": (foreign, "is not a feedback store"),
    "foreign with log": (foreign_with_log, "is not a feedback store"),
    "version alone": (lambda path: sql(path, "PRAGMA user_version = 1"), "is not a feedback store"),
    "newer": (newer, "newer rlhf-lab (schema 2, this one knows 1): update rlhf-lab"),
    "folder": (lambda path: path.mkdir(), ""),
    "cut off": (lambda path: path.write_bytes(made(path).path.read_bytes()[:5000]), "damaged"),
}


@pytest.mark.parametrize("make, why", STRANGERS.values(), ids=STRANGERS)
def test_a_file_that_is_no_store_of_ours_is_refused_and_stays(store, tmp_path, make, why):
    path = tmp_path / "stranger"
    make(path)
    before = path.is_file() and path.read_bytes()
    contents, listing = store.contents(), sorted(os.listdir(tmp_path))
    for call in (FeedbackStore, store.merge):
        message = refusal(call, path)
        assert why in message and str(path) in message
    assert (path.is_file() and path.read_bytes()) == before
    assert store.contents() == contents and sorted(os.listdir(tmp_path)) == listing


def test_a_file_that_is_not_there_is_not_made_by_merging(store, tmp_path):
    assert "there is no file" in refusal(store.merge, tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    assert "its folder is there" in refusal(FeedbackStore, tmp_path / "none" / "a.sqlite")


def test_a_store_that_vanished_is_not_made_anew(store):
    store.path.unlink()
    assert "cannot use" in refusal(store.write, ranking())
    assert not store.path.exists()


def test_an_empty_file_and_an_odd_name_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("what? #1 100%20&mode=ro;é.sqlite")
    path.touch()
    store = made(path, "ann")
    entry = store.write(ranking())
    assert FeedbackStore(str(path)).entries() == [entry]
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "query",
    [
        "UPDATE prompts SET facts = '{'",
        "UPDATE entry_responses SET rank = 'first'",
        "UPDATE entry_responses SET screen = 'left'",
        "UPDATE entries SET kind = 'rank'",
        "UPDATE entries SET seconds = 'long'",
        "UPDATE entries SET prompt = 'none'",
        "UPDATE prompts SET text = x'ff'",
        "DROP TABLE samples",
    ],
)
def test_a_store_that_somebody_tampered_with_is_refused_whole(store, tmp_path, query):
    other = made(tmp_path / "b.sqlite", "cat")
    other.add(Prompt("p2", "More?"), [])
    other.write(ranking("cat"))
    for (name,) in sql(other.path, "SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        sql(other.path, f"DROP TRIGGER {name}")
    sql(other.path, query)
    before = store.contents()
    assert refusal(store.merge, other.path)
    assert store.contents() == before


# ---- older and newer schemas --------------------------------------------------------------------

MOOD = (
    "ALTER TABLE entries ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'; -- a later idea\n"
    "CREATE INDEX moods ON entries (mood);\n"
)


def test_an_older_file_is_brought_up_with_all_it_holds(store, monkeypatch):
    entry = store.write(ranking())
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, MOOD))
    FeedbackStore(store.path)
    assert sql(store.path, "PRAGMA user_version") == [(2,)]
    assert sql(store.path, "SELECT id, mood FROM entries") == [(entry.id, "calm")]
    FeedbackStore(store.path)  # and a second time there is nothing to do
    monkeypatch.undo()
    assert "newer rlhf-lab" in refusal(FeedbackStore, store.path)


def test_a_migration_that_fails_leaves_the_older_file(store, monkeypatch):
    store.write(ranking())
    before = store.contents()
    steps = (*schema.MIGRATIONS, MOOD, "CREATE TABLE entries (x);\n")
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    assert "already exists" in refusal(FeedbackStore, store.path)
    assert sql(store.path, "PRAGMA user_version") == [(1,)]
    assert store.contents() == before


def test_an_older_file_is_merged_and_stays_old(store, tmp_path, monkeypatch):
    other = made(tmp_path / "old.sqlite", "cat")
    before = other.path.read_bytes()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "DELETE FROM salt;\n"))
    assert FeedbackStore(tmp_path / "new.sqlite").merge(other.path)["labellers"] == 1
    assert other.path.read_bytes() == before


# ---- disks --------------------------------------------------------------------------------------

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
//pc/my\\040files /mnt/my\\040files cifs rw 0 0
C: /mnt/c 9p rw 0 0
me@pc: /mnt/ssh fuse.sshfs rw 0 0
/dev/sda1 /media/stick fuseblk rw 0 0
systemd-1 /auto autofs rw 0 0
server:/auto /auto nfs rw 0 0
/dev/vdc /srv/data ext4 rw 0 0
server:/srv /srv nfs rw 0 0
"""


@pytest.mark.parametrize(
    "path, kind",
    [
        ("/tmp/a.sqlite", ""),
        ("/home/ann/a.sqlite", "nfs4"),
        ("/home/ann/not/yet/there/a.sqlite", "nfs4"),
        ("/homework/a.sqlite", ""),
        ("/home/local/a.sqlite", ""),
        ("/mnt/my files/a.sqlite", "cifs"),
        ("/mnt/c/a.sqlite", "9p"),
        ("/mnt/ssh/a.sqlite", "fuse.sshfs"),
        ("/media/stick/a.sqlite", ""),
        ("/auto/a.sqlite", "nfs"),
        ("/srv/data/a.sqlite", "nfs"),
        ("/tmp/../home/a.sqlite", "nfs4"),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(tmp_path, path, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert database.network(Path(path), mounts) == kind


def test_where_no_table_of_mounts_is_everything_is_local(tmp_path):
    assert database.network(tmp_path / "a.sqlite", tmp_path / "none") == ""


def test_a_link_into_a_network_is_seen_through(tmp_path):
    mounts, link = tmp_path / "mounts", tmp_path / "link"
    (tmp_path / "far").mkdir()
    link.symlink_to("far")
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/ {tmp_path}/far nfs rw 0 0\n")
    assert database.network(link / "a.sqlite", mounts) == "nfs"


def test_a_network_file_system_is_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "network", lambda path: "nfs4")
    message = refusal(FeedbackStore, tmp_path / "a.sqlite")
    assert "network file system (nfs4)" in message and "local disk" in message
    assert "merge the files" in message
    assert os.listdir(tmp_path) == []


FULL = """
import resource, sys
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.store import FeedbackStore, Sample
from rlhf_lab.records import Prompt
store = FeedbackStore(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    store.add(Prompt("big", "Big?"), [Sample("word " * 100_000)])
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="there are no limits on files here")
def test_a_disk_that_takes_no_more_keeps_what_was_there(store):
    store.write(ranking())
    before = store.contents()
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(store.path)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "or is full" in ran.stdout and ran.stdout.count("\n") == 1
    assert store.contents() == before
    store.write(ranking())


def test_a_file_system_without_a_log_is_refused(tmp_path, monkeypatch):
    """In memory SQLite keeps no log, and says so as it does where a disk cannot hold one."""
    real = database._connection
    monkeypatch.setattr(database, "_connection", lambda path, mode: real(path, "memory"))
    message = refusal(FeedbackStore, tmp_path / "a.sqlite")
    assert "'memory'" in message and "local disk" in message
