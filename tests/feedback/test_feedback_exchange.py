"""A store to files and back: nothing is lost, nothing comes twice, and a bad line is named."""

import argparse
import gzip
import json
import sqlite3
from contextlib import closing

import pytest
from helpers import refusal

from rlhf_lab.cli import feedback
from rlhf_lab.disk.files import read_rankings, write_rankings
from rlhf_lab.feedback.exchange import contents_of, export_jsonl, export_pairs, take_in
from rlhf_lab.feedback.store import Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt, Ranking

ASK = Prompt("p1", "My kettle leaks.", {"product": "kettle", "parts": [1, 2.5, None, True]})
ODD = Prompt("", "<b>\0\u202e Grüße\u2028", {})
TEXTS = ("Go away.", "Try the seal.", "Send it back.", "")
COUNTS = dict.fromkeys(("prompts", "samples", "labellers", "ranking", "skip", "flag", "undo"), 0)
ALL = {"prompts": 3, "samples": 6, "labellers": 3, "ranking": 3, "skip": 1, "flag": 1, "undo": 1}


@pytest.fixture
def store(tmp_path) -> FeedbackStore:
    """Something of everything."""
    store = FeedbackStore(tmp_path / "a.sqlite")
    store.add(ASK, [Sample(text, "sft", {"temperature": 1.0, "seed": 3}) for text in TEXTS])
    store.add(ODD, [Sample("\x1b[31m", "sft"), Sample("\x1b[31m", "ppo")])
    store.add(Prompt("p3", "Nobody answered."), [])
    for name in ("ann", "bob", "nobody yet"):
        store.add_labeller(name)
    store.write(
        Entry("", "ranking", "ann", ASK, TEXTS, (3, 1, 1, None), (2, 0, 3, 1), 8.5, "common", "v1")
    )
    store.write(Entry("", "ranking", "bob", ASK, TEXTS[:3], (2, None, 1), (0, 1, 2), pick="repeat"))
    store.write(Entry("", "skip", "bob", ODD))
    store.write(Entry("", "flag", "ann", ODD, ("\x1b[31m",), (), (0,), 1.25, flag="nonsense"))
    store.write(Entry("", "ranking", "ann", ASK, TEXTS[:2], (1, 2), (1, 0), pick="active"))
    store.undo("ann")
    return store


@pytest.fixture
def fresh(tmp_path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "fresh.sqlite")


def rows_file(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bring_in(store, path, labeller=None):
    return take_in(store, path, contents_of(path, labeller))


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


# ---- the project's own format -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_a_round_trip_loses_nothing_and_a_second_one_adds_nothing(store, fresh, tmp_path, name):
    assert export_jsonl(store, tmp_path / name) == 3 + 6 + 3 + 6
    assert bring_in(fresh, tmp_path / name).new == ALL
    assert fresh.contents() == store.contents()
    assert bring_in(fresh, tmp_path / name).new == bring_in(store, tmp_path / name).new == COUNTS
    assert fresh.contents() == store.contents()
    export_jsonl(fresh, tmp_path / f"again-{name}")
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_the_lines_are_as_the_module_says(store, tmp_path):
    export_jsonl(store, tmp_path / "all.jsonl")
    lines, entry = read(tmp_path / "all.jsonl"), store.entries(undone=True)[0]
    assert lines[:2] == [
        {"kind": "prompt", "prompt": ASK.text, "id": "p1", "facts": ASK.facts},
        {
            "kind": "sample",
            "prompt": ASK.text,
            "text": "Go away.",
            "model": "sft",
            "settings": {"temperature": 1.0, "seed": 3},
        },
    ]
    assert {"kind": "labeller", "labeller": "nobody yet"} in lines
    assert lines[12] == {
        "kind": "ranking",
        "id": entry.id,
        "labeller": "ann",
        "prompt": ASK.text,
        "responses": list(TEXTS),
        "ranks": [3, 1, 1, None],
        "shown": [2, 0, 3, 1],
        "seconds": 8.5,
        "pick": "common",
        "guidelines": "v1",
        "made": entry.made,
    }
    assert lines[-1]["kind"] == "undo" and lines[-1]["undoes"] == lines[-2]["id"]


def test_lines_may_stand_in_any_order_and_twice(store, fresh, tmp_path):
    export_jsonl(store, tmp_path / "all.jsonl")
    lines = read(tmp_path / "all.jsonl")
    assert bring_in(fresh, rows_file(tmp_path, *lines[::-1], *lines)).new == ALL
    assert fresh.entries(undone=True) == store.entries(undone=True)


def test_importing_does_not_bring_a_forgotten_labeller_back(store, tmp_path):
    export_jsonl(store, tmp_path / "all.jsonl")
    gone = store.forget("ann")
    before = store.contents()
    taken = bring_in(store, tmp_path / "all.jsonl")
    assert taken.new == COUNTS and taken.kept_out == {"ann": gone}
    assert store.contents() == before and store.labellers() == ["bob", "nobody yet"]
    (tmp_path / "rankings.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    taken = bring_in(store, tmp_path / "rankings.jsonl", "ann")  # nobody knows when that was made
    assert taken.kept_out == {"ann": 1} and "ann" not in store.labellers()


def test_forgetting_travels_in_a_file_too(store, fresh, tmp_path):
    export_jsonl(store, tmp_path / "old.jsonl")
    bring_in(fresh, tmp_path / "old.jsonl")
    fresh.note_use("runs/rm", ["ann", "bob"])
    gone = store.forget("ann")
    export_jsonl(store, tmp_path / "all.jsonl")
    assert "ann" not in (tmp_path / "all.jsonl").read_text().split('"')
    taken = bring_in(fresh, tmp_path / "all.jsonl")
    assert taken.deleted == {"ann": gone} and taken.uses == ("runs/rm",)
    assert fresh.contents() == store.contents()
    assert bring_in(fresh, tmp_path / "old.jsonl").kept_out == {"ann": gone}


@pytest.mark.parametrize(
    "field, value, why",
    [
        ("hash", "ann", "64 hex digits"),
        ("salt", "0" * 31, "32 hex digits"),
        ("salt", "A" * 32, "32 hex digits"),
        ("until", "yesterday", "is not a time"),
        ("until", "9999-01-01T00:00:00.000000+00:00", "in the future"),
    ],
)
def test_a_forgotten_line_that_is_not_right_is_refused(store, tmp_path, field, value, why):
    until = "2026-01-31T12:00:00.000000+00:00"
    line = {"kind": "forgotten", "hash": "0" * 64, "salt": "0" * 32, "until": until}
    before = store.contents()
    assert why in refusal(bring_in, store, rows_file(tmp_path, line | {field: value}))
    assert store.contents() == before


GOOD = {
    "kind": "ranking",
    "id": "0" * 32,
    "labeller": "ann",
    "prompt": "Why?",
    "responses": ["a", "b"],
    "ranks": [1, 2],
}
KNOWN = (
    {"kind": "prompt", "prompt": "Why?", "id": "p"},
    {"kind": "labeller", "labeller": "ann"},
    {"kind": "sample", "prompt": "Why?", "text": "a"},
    {"kind": "sample", "prompt": "Why?", "text": "b", "model": "sft"},
)


def test_the_least_a_line_must_say(fresh, tmp_path):
    bring_in(fresh, rows_file(tmp_path, *KNOWN, GOOD))
    (entry,) = fresh.entries()
    assert entry == Entry(
        "0" * 32, "ranking", "ann", Prompt("p", "Why?"), ("a", "b"), (1, 2), made=entry.made
    )
    assert fresh.samples(entry.prompt) == [Sample("a"), Sample("b", "sft")]


@pytest.mark.parametrize(
    "change, why",
    [
        (
            {"kind": "rank"},
            "line 5, field 'kind': is 'rank': the kinds are prompt, sample, labeller",
        ),
        ({"kind": None}, "line 5, field 'kind'"),
        ({"labeler": "ann"}, "field 'labeler': is not known: did you mean 'labeller'?"),
        ({"id": ""}, "field 'id': is empty"),
        ({"prompt": "Where?"}, "field 'prompt': has no line of kind 'prompt' in this file"),
        ({"responses": ["a", 2]}, "field 'responses': number 2 is a number: give a text"),
        ({"ranks": [1, "2"]}, "field 'ranks': number 2 is a text: give a number"),
        ({"ranks": [True, 2]}, "field 'ranks': number 1 is true or false"),
        ({"shown": [0, None]}, "field 'shown': number 2 is null"),
        ({"seconds": "8"}, "field 'seconds': is a text: give a number"),
        ({"labeller": "bob"}, "entry 0000000"),
        ({"ranks": [1]}, "it has 1 rank for 2 responses"),
        ({"responses": ["a"], "ranks": [1]}, "it has only 1 response: a ranking needs"),
        ({"shown": [0, 0]}, "shown is [0, 0]"),
        ({"responses": ["a", "c"]}, "the response 'c'"),
        ({"seconds": 1e999}, "unusable JSON"),
        ({"made": "now"}, "made is 'now'"),
    ],
)
def test_a_bad_line_is_named_and_takes_nothing_in(fresh, tmp_path, change, why):
    path = rows_file(tmp_path, *KNOWN, GOOD | change)
    message = refusal(bring_in, fresh, path)
    assert why in message and str(path) in message
    assert fresh.prompts() == fresh.labellers() == fresh.entries() == []


def test_an_empty_store_is_not_written(fresh, tmp_path):
    assert "nothing to write" in refusal(export_jsonl, fresh, tmp_path / "all.jsonl")
    assert "nothing to write" in refusal(export_pairs, fresh, tmp_path / "pairs.jsonl")
    assert not (tmp_path / "all.jsonl").exists() and not (tmp_path / "pairs.jsonl").exists()


# ---- comparisons and rankings from another tool -------------------------------------------------


def pairs(path) -> set[tuple[str, str, str]]:
    return {(row["prompt"], row["chosen"], row["rejected"]) for row in read(path)}


def test_pairs_say_who_was_preferred_and_nothing_else(store, tmp_path):
    """Ann: seal and send tie before go away; the blank response has no pair. Bob: send, then go
    away, and the seal unranked. What Ann took back says nothing."""
    go, seal, send, _ = TEXTS
    path = tmp_path / "pairs.jsonl"
    assert export_pairs(store, path) == 5
    assert sorted(tuple(row.values()) for row in read(path)) == sorted(
        (ASK.text, *pair) for pair in [(seal, go), (send, go), (send, go), (go, seal), (send, seal)]
    )
    assert all(list(row) == ["prompt", "chosen", "rejected"] for row in read(path))
    assert export_pairs(store, path, ["ann"]) == 2
    assert pairs(path) == {(ASK.text, seal, go), (ASK.text, send, go)}
    assert read_rankings(path)[0].ranks == (1, 2)  # the project's own reader takes them
    assert "no labeller 'cat'" in refusal(export_pairs, store, path, ["cat"])


def test_unranked_ones_are_not_compared_with_one_another(fresh, tmp_path):
    fresh.add(ASK, [Sample(text) for text in "abcd"])
    fresh.add_labeller("ann")
    fresh.write(Entry("", "ranking", "ann", ASK, tuple("abcd"), (None, 1, None, 2), (0, 1, 2, 3)))
    export_pairs(fresh, tmp_path / "pairs.jsonl")
    assert pairs(tmp_path / "pairs.jsonl") == {
        (ASK.text, *pair) for pair in ("ba", "bc", "bd", "da", "dc")
    }


def test_rankings_of_another_make_come_in_once(fresh, tmp_path):
    rankings = [
        Ranking(ASK, TEXTS, (3, 1, 1, None), "bob"),
        Ranking(ASK, ("yes", "no"), (1, 2)),
        Ranking(ASK, ("yes", "no"), (1, 2)),  # said twice
        Ranking(ASK, ("no", "yes"), (2, 9)),
    ]
    path = tmp_path / "rankings.jsonl"
    write_rankings(path, rankings)
    new = COUNTS | {"prompts": 1, "samples": 6, "labellers": 2, "ranking": 4}
    assert bring_in(fresh, path, "ann").new == new
    assert bring_in(fresh, path, "ann").new == COUNTS
    named = [Ranking(r.prompt, r.responses, r.ranks, r.labeller or "ann") for r in rankings]
    found = fresh.rankings()
    assert len(found) == 4 and all(ranking in found for ranking in named)
    assert found.count(named[1]) == 2
    assert {(entry.shown, entry.seconds) for entry in fresh.entries()} == {((), 0.0)}  # not known


def test_pairs_survive_a_store(store, fresh, tmp_path):
    export_pairs(store, tmp_path / "pairs.jsonl")
    bring_in(fresh, tmp_path / "pairs.jsonl", "everybody")
    assert export_pairs(fresh, tmp_path / "again.jsonl") == 5
    assert sorted(read(tmp_path / "again.jsonl"), key=str) == sorted(
        read(tmp_path / "pairs.jsonl"), key=str
    )
    assert fresh.labellers() == ["everybody"]


def test_the_same_text_ranked_apart_is_refused_and_ranked_alike_is_not(fresh, tmp_path):
    alike = {"prompt": "Why?", "responses": ["a", "b", "a"], "ranking": [1, 2, 1]}
    apart = alike | {"ranking": [1, 2, 3]}
    message = refusal(bring_in, fresh, rows_file(tmp_path, alike, apart), "ann")
    assert "line 2, field 'ranking': gives the same text two different ranks" in message
    assert fresh.prompts() == []
    bring_in(fresh, rows_file(tmp_path, alike), "ann")
    assert [ranking.ranks for ranking in fresh.rankings()] == [(1, 2, 1)]


def test_a_bad_line_of_another_make_takes_nothing_in(fresh, tmp_path):
    good = {"prompt": "Why?", "chosen": "a", "rejected": "b"}
    path = rows_file(tmp_path, good, good | {"rejected": 1})
    assert "line 2, field 'rejected'" in refusal(bring_in, fresh, path, "ann")
    assert "cannot be a labeller's name" in refusal(bring_in, fresh, rows_file(tmp_path, good), " ")
    assert fresh.prompts() == []


# ---- the command line ---------------------------------------------------------------------------


def run(*arguments) -> None:
    parser = argparse.ArgumentParser()
    feedback.add_options(parser)
    feedback.run(parser.parse_args([str(argument) for argument in arguments]))


def test_merge_says_what_was_new(store, tmp_path, capsys):
    run("merge", tmp_path / "class.sqlite", store.path, store.path)
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        f"{store.path}: new: 3 prompts, 6 samples, 3 labellers, 3 rankings, 1 skip, 1 flag, 1 undo"
    )
    assert second == first.replace("new:", "nothing new; there already:")
    assert FeedbackStore(tmp_path / "class.sqlite").contents() == store.contents()


def test_merge_writes_to_none_of_the_others(store, tmp_path):
    """Not even how SQLite keeps its log, which is what opening a store to write would change."""
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    empty = FeedbackStore(tmp_path / "empty.sqlite").path
    others = {path: path.read_bytes() for path in (store.path, empty)}
    run("merge", tmp_path / "class.sqlite", *others)
    assert FeedbackStore(tmp_path / "class.sqlite").contents().entries
    assert {path: path.read_bytes() for path in others} == others


def test_merge_takes_in_nothing_if_one_of_the_others_is_refused(store, fresh, tmp_path):
    (tmp_path / "notes.txt").write_text("what I wrote")
    assert "notes.txt" in refusal(run, "merge", fresh.path, store.path, tmp_path / "notes.txt")
    assert fresh.prompts() == [] and (tmp_path / "notes.txt").read_text() == "what I wrote"
    (tmp_path / "cut.sqlite").touch()  # as a download that broke off
    assert "is empty (0 bytes)" in refusal(
        run, "merge", fresh.path, store.path, tmp_path / "cut.sqlite"
    )
    assert fresh.prompts() == []


def test_export_and_import_both_formats(store, tmp_path, capsys):
    run("export", store.path, tmp_path / "all.jsonl.gz")
    run("import", tmp_path / "b.sqlite", tmp_path / "all.jsonl.gz")
    assert FeedbackStore(tmp_path / "b.sqlite").contents() == store.contents()
    run("export", store.path, tmp_path / "pairs.jsonl", "--pairs", "--labellers", "ann")
    run("import", tmp_path / "c.sqlite", tmp_path / "pairs.jsonl", "--labeller", "zoe")
    assert len(FeedbackStore(tmp_path / "c.sqlite").rankings(["zoe"])) == 2
    assert gzip.decompress((tmp_path / "all.jsonl.gz").read_bytes()).count(b"\n") == 18
    assert f"wrote 2 lines to {tmp_path / 'pairs.jsonl'}" in capsys.readouterr().out
    assert "add --pairs" in refusal(
        run, "export", store.path, tmp_path / "x.jsonl", "--labellers", "ann"
    )


def test_an_export_takes_the_place_of_nothing(store, tmp_path):
    before = store.path.read_bytes()
    (tmp_path / "mine.jsonl").write_text("what I wrote")
    for file in (tmp_path / "mine.jsonl", store.path):
        for how in ([], ["--pairs"]):
            assert f"{file} already exists" in refusal(run, "export", store.path, file, *how)
    assert (tmp_path / "mine.jsonl").read_text() == "what I wrote"
    assert store.path.read_bytes() == before


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "responses": ["a", "b"], "ranking": [1, 2]},
    ],
)
def test_rankings_of_another_make_ask_whose_they_are(tmp_path, row):
    (tmp_path / "r.jsonl").write_text(json.dumps(row) + "\n")
    assert "--labeller NAME" in refusal(run, "import", tmp_path / "s.sqlite", tmp_path / "r.jsonl")
    run("import", tmp_path / "s.sqlite", tmp_path / "r.jsonl", "--labeller", "zoe")
    assert len(FeedbackStore(tmp_path / "s.sqlite").rankings(["zoe"])) == 1


@pytest.mark.parametrize(
    "action",
    [
        ["import", "bad.jsonl"],
        ["import", "bad.jsonl", "--labeller", "a"],
        ["import", "sheet.xlsx"],
        ["merge", "none.sqlite"],
        ["merge", "bad.jsonl"],
    ],
)
def test_what_cannot_be_taken_in_makes_no_store(tmp_path, action):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "p"}\n')
    (tmp_path / "sheet.xlsx").write_bytes(b"PK\x03\x04rest")
    name, file, *rest = action
    assert file in refusal(run, name, tmp_path / "new.sqlite", tmp_path / file, *rest)
    assert not (tmp_path / "new.sqlite").exists()


def test_of_a_tasks_folder_the_store_in_it_is_meant(store, tmp_path, capsys):
    task = tmp_path / "mine"
    task.mkdir()
    assert f"there is no task in {task}" in refusal(run, "show", task)
    (task / "task.toml").write_text('name = "mine"\nprompts = "p.jsonl"\n')
    (task / "p.jsonl").write_text('{"prompt": "p"}\n')
    assert "rankings.sqlite3" in refusal(run, "show", task) and len(list(task.iterdir())) == 2
    run("merge", task, store.path)
    assert FeedbackStore(task / "rankings.sqlite3").contents() == store.contents()
    run("merge", tmp_path / "all.sqlite", task)
    assert FeedbackStore(tmp_path / "all.sqlite").contents() == store.contents()
    run("export", task, tmp_path / "all.jsonl")
    run("forget", task, "ann")
    assert FeedbackStore(task / "rankings.sqlite3").labellers() == ["bob", "nobody yet"]
    (task / "rankings.sqlite3").unlink()
    run("import", task, tmp_path / "all.jsonl")
    assert FeedbackStore(task / "rankings.sqlite3").contents() == store.contents()


@pytest.mark.parametrize(
    "action",
    [
        ["show"],
        ["merge", "a.sqlite"],
        ["export", "x.jsonl"],
        ["import", "all.jsonl"],
        ["forget", "ann"],
    ],
)
def test_a_folder_that_is_no_task_is_named_and_left_as_it_is(store, tmp_path, action):
    export_jsonl(store, tmp_path / "all.jsonl")
    (tmp_path / "plain").mkdir()
    name, *rest = action
    files = [tmp_path / file if "." in file else file for file in rest]
    assert f"there is no task in {tmp_path / 'plain'}" in refusal(
        run, name, tmp_path / "plain", *files
    )
    assert list((tmp_path / "plain").iterdir()) == []


def test_one_of_a_thing_is_no_several(tmp_path, capsys):
    one = FeedbackStore(tmp_path / "one.sqlite")
    one.add(Prompt("a", "ask"), [Sample("x")])
    run("show", one.path)
    assert "1 prompt, 1 sample, 0 entries" in capsys.readouterr().out


def test_show_counts_for_each_labeller(store, capsys):
    store.add_labeller("\x1b[31mred")
    run("show", store.path)
    total, head, *table = capsys.readouterr().out.splitlines()
    assert total == "3 prompts, 6 samples, 6 entries"
    assert head.split() == ["rankings", "skips", "flags", "undone", "seconds", "labeller"]
    assert [line.split(maxsplit=5) for line in table] == [
        ["1", "0", "1", "1", "8.5", "ann"],
        ["1", "1", "0", "0", "-", "bob"],
        ["0", "0", "0", "0", "-", "nobody yet"],
        ["0", "0", "0", "0", "-", "⟨U+001B⟩[31mred"],
    ]


def test_forget_says_how_much_went_and_minds_a_slip_of_the_pen(store, capsys):
    assert "no labeller 'an' in" in refusal(run, "forget", store.path, "an")
    assert len(store.entries(undone=True)) == 6
    run("forget", store.path, "ann")
    told, uses = capsys.readouterr().out.splitlines()
    assert told == "forgot ann: 4 entries deleted" and uses.startswith("no run and no export")
    assert {entry.labeller for entry in store.entries(undone=True)} == {"bob"}


@pytest.mark.parametrize("action", [["show"], ["export", "x.jsonl"], ["forget", "ann"]])
def test_a_store_that_is_not_there_is_not_made(tmp_path, action):
    name, *rest = action
    assert "there is no file" in refusal(run, name, tmp_path / "none.sqlite", *rest)
    assert not (tmp_path / "none.sqlite").exists()


# ---- a class -------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    """A store as notebook 02 leaves it: one person called "me", and a simulated labeller."""
    store = FeedbackStore(tmp_path / "mixed.sqlite")
    store.add(ASK, [Sample(text) for text in TEXTS])
    store.add_labeller("me")
    store.add_labeller("robot", simulated=True)
    for name in ("me", "robot"):
        store.write(Entry("", "ranking", name, ASK, TEXTS, (1, 2, 3, 4), (0, 1, 2, 3)))
    return store


def test_simulated_labellers_are_left_out_and_said_to_be(mixed, tmp_path, capsys):
    run("show", mixed.path)
    told = capsys.readouterr().out
    assert "1 entry\n" in told and told.splitlines()[2].endswith("me")
    assert told.splitlines()[-1].startswith("and 1 simulated labeller with 1 entry: --simulated")
    run("show", mixed.path, "--simulated")
    assert capsys.readouterr().out.splitlines()[-1].endswith("robot (simulated)")
    for how, lines in ((["--pairs"], 3), (["--pairs", "--simulated"], 6)):
        run("export", mixed.path, tmp_path / f"{lines}.jsonl", *how)
        assert f"wrote {lines} lines" in capsys.readouterr().out
    run("export", mixed.path, tmp_path / "all.jsonl")
    assert "left out 1 simulated labeller" in capsys.readouterr().out
    assert "robot" not in (tmp_path / "all.jsonl").read_text()
    run("export", mixed.path, tmp_path / "whole.jsonl", "--simulated")
    again = FeedbackStore(tmp_path / "again.sqlite")
    run("import", again.path, tmp_path / "whole.jsonl")
    assert again.contents() == mixed.contents() and again.labellers() == ["me"]
    assert mixed.uses("robot") == [str(tmp_path / "6.jsonl"), str(tmp_path / "whole.jsonl")]


def test_the_mark_of_a_program_is_set_and_taken_away(mixed, capsys):
    run("simulated", mixed.path, "me")
    assert mixed.labellers() == [] and "me is simulated" in capsys.readouterr().out
    run("simulated", mixed.path, "me", "robot", "--people")
    assert mixed.labellers() == ["me", "robot"] and "robot is a person" in capsys.readouterr().out
    assert "no labeller 'ann'" in refusal(run, "simulated", mixed.path, "ann")


def test_merge_asks_whose_rankings_these_are_and_takes_a_name(mixed, fresh, tmp_path, capsys):
    run("merge", fresh.path, mixed.path)
    other = FeedbackStore(tmp_path / "other.sqlite")
    other.add(ASK, [Sample(text) for text in TEXTS])
    other.add_labeller("me")
    other.write(Entry("", "ranking", "me", ASK, TEXTS, (4, 3, 2, 1), (0, 1, 2, 3)))
    message = refusal(run, "merge", fresh.path, other.path)
    assert "other.sqlite" in message and "merge --as NAME" in message
    run("merge", fresh.path, other.path, "--as", "ada")
    assert fresh.labellers() == ["me", "ada"] and len(fresh.entries("ada")) == 1
    assert "--as goes with one other store" in refusal(
        run, "merge", fresh.path, other.path, mixed.path, "--as", "ada"
    )
    other.add_labeller("bo"), other.forget("me"), other.add_labeller("cy")
    message = refusal(run, "merge", fresh.path, other.path, "--as", "ada")
    assert "does not have exactly one person" in message and "bo, cy" in message
