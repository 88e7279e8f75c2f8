"""Stores that forget a person, and stores that take in others."""

from random import Random

from helpers import refusal
from stored import ASK, COUNTS, SAMPLES, made, ranking, skip, sql

from rlhf_lab.feedback import database
from rlhf_lab.feedback.store import Contents, Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt

WORKERS, EACH = 30, 5


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
