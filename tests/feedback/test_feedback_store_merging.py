"""Stores that forget a person, and stores that take in others."""

from dataclasses import replace
from random import Random

from helpers import refusal
from stored import ASK, COUNTS, SAMPLES, made, ranking, skip, sql

from rlhf_lab.feedback import database
from rlhf_lab.feedback.agreement import agreement_of_all
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
    assert store.merge(other.path).new["labellers"] == 1  # a slip of the pen bars nobody


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
    assert store.merge(old).new == COUNTS | {"skip": 1}
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
    assert store.merge(files[0]).new == COUNTS | {
        "prompts": 2,
        "samples": 4,
        "labellers": 1,
        "ranking": 1,
        "skip": 1,
    }
    for file in files[1:]:
        assert store.merge(file).new == COUNTS | {
            "prompts": 1,
            "samples": 1,
            "labellers": 1,
            "ranking": 1,
            "skip": 1,
        }
    assert store.entries() == sorted(written, key=lambda entry: entry.made)
    assert len(store.prompts()) == 31 and store.samples(ASK) == SAMPLES
    everything = store.contents()
    assert all(store.merge(file).new == COUNTS for file in [*files, store.path])
    assert store.contents() == everything


def test_merging_both_ways_makes_both_the_same(tmp_path):
    a, b = made(tmp_path / "a.sqlite", "ann", "bob"), made(tmp_path / "b.sqlite", "bob")
    shared = a.write(ranking("bob"))
    b.merge(a.path)
    a.undo("bob"), b.undo("bob")  # each takes the same entry back
    a.write(ranking("ann")), b.write(skip("bob"))
    b.add(Prompt("p2", "More?", {"x": 1}), [Sample("Yes.")])
    before = b.path.read_bytes()
    assert a.merge(b.path).new == COUNTS | {"prompts": 1, "samples": 1, "skip": 1, "undo": 1}
    assert b.path.read_bytes() == before  # the other file stays as it is
    assert b.merge(a.path).new == COUNTS | {"ranking": 1, "undo": 1}
    assert a.entries(undone=True) == b.entries(undone=True)
    assert a.contents().prompts == b.contents().prompts
    assert sorted(a.labellers()) == sorted(b.labellers()) == ["ann", "bob"]
    assert [entry.kind for entry in a.entries()] == ["ranking", "skip"]
    assert shared not in a.entries()
    assert a.merge(b.path).new == b.merge(a.path).new == COUNTS
    assert a.merge(b.path).known == COUNTS | {
        "prompts": 2,
        "samples": 4,
        "labellers": 2,
        "ranking": 2,
        "skip": 1,
        "undo": 2,
    }


def test_what_is_there_with_other_contents_stays_and_is_counted(tmp_path):
    a, b = made(tmp_path / "a.sqlite", "ann"), FeedbackStore(tmp_path / "b.sqlite")
    b.merge(a.path)
    entry = a.write(ranking())
    b.write(replace(entry, ranks=(1, 2, 3)))
    a.add(Prompt("p2", "More?", {"x": 1}), [])
    b.add(Prompt("p2", "More?", {"x": 2}), [])
    before = a.contents()
    taken = a.merge(b.path)
    assert (taken.other_entries, taken.other_facts) == (1, 1) and a.contents() == before
    assert a.merge(a.path).other_entries == a.merge(a.path).other_facts == 0


def test_an_undo_from_a_slow_clock_comes_in_with_what_it_takes_back(store, tmp_path):
    first = store.write(ranking())
    early = "2000-01-01T00:00:00.000000+00:00"
    store.write(Entry("", "undo", "ann", ASK, undoes=first.id, made=early))
    assert [entry.kind for entry in store.entries(undone=True)] == ["undo", "ranking"]
    other = FeedbackStore(tmp_path / "b.sqlite")
    other.merge(store.path)
    assert other.contents() == store.contents() and other.entries() == []


def two_copies(tmp_path):
    """A store, a copy of it, and how many entries Zerlina has in each."""
    store = made(tmp_path / "a.sqlite", "Zerlina Quux", "bob")
    store.write(ranking("Zerlina Quux"))
    store.undo("Zerlina Quux")
    store.write(ranking("bob"))
    copy = FeedbackStore(tmp_path / "copy.sqlite")
    copy.merge(store.path)
    return store, copy, 2


def test_merging_an_old_copy_does_not_bring_a_forgotten_labeller_back(tmp_path):
    store, copy, entries = two_copies(tmp_path)
    store.forget("Zerlina Quux")
    everything = store.contents()
    taken = store.merge(copy.path)
    assert taken.new == COUNTS and taken.kept_out == {"Zerlina Quux": entries}
    assert store.contents() == everything and traces(store, "Zerlina Quux") == []


def test_forgetting_travels_with_a_merge_and_by_no_detour_does_anybody_come_back(tmp_path):
    store, copy, entries = two_copies(tmp_path)
    third = FeedbackStore(tmp_path / "third.sqlite")
    third.merge(copy.path)
    third.forget("Zerlina Quux")
    copy.note_use("runs/rm", ["Zerlina Quux"])
    taken = copy.merge(third.path)
    assert taken.deleted == {"Zerlina Quux": entries} and taken.uses == ("runs/rm",)
    assert copy.labellers() == ["bob"] and traces(copy, "Zerlina Quux") == []
    assert copy.merge(store.path).kept_out == {"Zerlina Quux": entries}  # who had not been there
    fresh = made(tmp_path / "fresh.sqlite")
    fresh.merge(copy.path)  # which knows of it from the third alone
    assert fresh.merge(store.path).kept_out == {"Zerlina Quux": entries}
    assert fresh.contents() == copy.contents() == third.contents()
    assert store.merge(fresh.path).deleted == {"Zerlina Quux": entries}
    assert store.contents() == copy.contents()


def test_who_comes_back_works_on_and_in_whatever_order_stores_are_merged(tmp_path):
    store, copy, entries = two_copies(tmp_path)
    store.forget("Zerlina Quux")
    store.add_labeller("Zerlina Quux")
    here = store.write(ranking("Zerlina Quux", ranks=(1, 2, 3)))
    elsewhere = copy.write(skip("Zerlina Quux"))  # later, in a store that knew of nothing
    for first, second in ((store, copy), (copy, store)):
        both = FeedbackStore(tmp_path / f"{first.path.name} first")
        both.merge(first.path), both.merge(second.path)
        assert both.entries("Zerlina Quux", undone=True) == [here, elsewhere]
        assert both.merge(first.path).new == COUNTS
    assert copy.merge(store.path).deleted == {"Zerlina Quux": entries}
    assert copy.entries("Zerlina Quux", undone=True) == [here, elsewhere]


def test_who_was_renamed_does_not_come_back_under_the_other_name(tmp_path):
    own = made(tmp_path / "own.sqlite", "me")
    own.write(ranking("me"))
    own.undo("me")
    everyone = FeedbackStore(tmp_path / "class.sqlite")
    everyone.merge(own.path, {"me": "Zerlina Quux"})
    everyone.forget("Zerlina Quux")
    later = own.write(skip("me"))
    for rename in ({"me": "Zerlina Quux"}, {}, {"me": "another"}):
        fresh = FeedbackStore(tmp_path / f"fresh {len(rename)} {rename.get('me')}")
        fresh.merge(everyone.path)
        taken = fresh.merge(own.path, rename)
        assert list(taken.kept_out.values()) == [2]
        assert [entry.id for entry in fresh.entries(undone=True)] == [later.id]
    taken = own.merge(everyone.path)  # nor do the deleted ones stay under the old name
    assert taken.deleted == {"me": 2} and own.entries(undone=True) == [later]


def test_everybody_who_gave_no_name_does_not_become_one_person(tmp_path):
    stores = [made(tmp_path / f"{i}.sqlite", "me") for i in range(3)]
    for store in stores:
        store.write(ranking("me"))
    everyone = FeedbackStore(tmp_path / "class.sqlite")
    everyone.merge(stores[0].path)
    everyone.merge(stores[0].path)  # the same one again
    stores[0].write(skip("me"))
    everyone.merge(stores[0].path)  # which went on
    message = refusal(everyone.merge, stores[1].path)
    assert "1.sqlite" in message and "merge --as NAME" in message
    assert len(everyone.entries()) == 2
    for _ in range(2):
        everyone.merge(stores[1].path, {"me": "bo"})
    assert "already" in refusal(
        everyone.merge, made(tmp_path / "x.sqlite", "me", "cy").path, {"me": "cy"}
    )
    assert everyone.labellers() == ["me", "bo"] and len(everyone.entries("bo")) == 1


def test_simulated_labellers_count_only_if_asked_for_and_keep_their_mark(tmp_path):
    store, copy = made(tmp_path / "a.sqlite", "ann"), FeedbackStore(tmp_path / "b.sqlite")
    mine = store.write(ranking())
    store.add_labeller("robot", simulated=True)
    other = store.write(ranking("robot"))
    copy.merge(store.path)
    for one in (store, copy):
        assert one.labellers() == ["ann"] and one.entries() == [mine]
        assert one.labellers(simulated=True) == ["ann", "robot"]
        assert one.entries(simulated=True) == [mine, other] and one.entries("robot") == [other]
        assert [r.labeller for r in one.rankings()] == ["ann"]
        assert [r.labeller for r in one.rankings(simulated=True)] == ["ann", "robot"]
        assert [r.labeller for r in one.rankings(["robot"])] == ["robot"]
        assert agreement_of_all(one)["labellers"][0] == 0
        assert agreement_of_all(one.entries(simulated=True))["labellers"][0] == 2


def test_a_person_and_a_program_of_one_name_are_not_mixed(tmp_path):
    a, b = made(tmp_path / "a.sqlite", "patient"), FeedbackStore(tmp_path / "b.sqlite")
    a.write(ranking("patient"))
    assert "is a person with rankings" in refusal(a.add_labeller, "patient", simulated=True)
    b.add(ASK, SAMPLES)
    b.add_labeller("patient", simulated=True)
    b.write(ranking("patient"))
    for one, other in ((a, b), (b, a)):
        before = one.contents()
        assert "mark both as simulated" in refusal(one.merge, other.path)
        assert one.contents() == before
    a.mark_simulated("patient")
    assert a.merge(b.path).new == COUNTS | {"ranking": 1}
    assert "no labeller" in refusal(a.mark_simulated, "nobody")


def test_what_was_written_but_not_yet_moved_from_the_log_is_merged(tmp_path):
    """A reader keeps the log from being emptied, as a killed process leaves it."""
    store, other = FeedbackStore(tmp_path / "a.sqlite"), made(tmp_path / "b.sqlite", "ann")
    with database.reading(other.path) as connection:
        connection.execute("SELECT * FROM entries").fetchall()
        other.write(ranking())
        assert other.path.with_name("b.sqlite-wal").stat().st_size
        assert store.merge(other.path).new["ranking"] == 1
