"""The feedback store: what was written is there, in the person's order, and nothing else is."""

import sqlite3
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from helpers import refusal
from stored import ASK, RANKS, SAMPLES, SHOWN, TEXTS, ranking, skip, sql

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.entry import later
from rlhf_lab.feedback.store import Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt, Ranking

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
    ahead = (datetime.now(UTC) + timedelta(hours=20)).isoformat(timespec="microseconds")
    first = store.write(ranking(made=ahead))
    second, third = store.write(skip()), store.write(ranking())
    assert second.made == later(ahead) > ahead
    assert store.entries() == [first, second, third]
    assert store.write(ranking("bob")).made < ahead  # another labeller has times of their own


def test_a_time_that_is_still_to_come_is_refused(store):
    for made in ("9999-12-31T23:59:59.999999+00:00", "2999-01-01T00:00:00.000000+00:00"):
        message = refusal(store.write, ranking(made=made))
        assert made in message and "in the future" in message
    assert store.entries() == []


def test_a_store_that_holds_such_a_time_still_works(store):
    """As an older version could import one: its labeller ranks, takes back and is forgotten."""
    entry = store.write(ranking())
    sql(store.path, "DROP TRIGGER entries_never_change")
    sql(store.path, "UPDATE entries SET made = '9999-12-31T23:59:59.999999+00:00'")
    again = store.write(skip())
    assert again.made < "9999" and store.undo("ann").id == entry.id
    assert store.entries() == [again] and store.forget("ann") == 3


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
    name = unicodedata.normalize("NFC", (text.strip().splitlines() or ["x"])[0][:60].strip())
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
        (dict(ranks=(None,) * 3), "all responses are unranked"),
        (dict(ranks=(0, 1, 2)), "0 is not a rank"),
        (dict(ranks=(1.0, 2, 3)), "1.0 is not a rank"),
        (dict(ranks=(True, 2, 3)), "True is not a rank"),
        (dict(ranks=(10**30, 2, 3)), "is not a rank"),
        (dict(ranks=(2**63, 1, 2)), "is not a rank"),
        (dict(shown=(0, 1)), "shown is [0, 1]"),
        (dict(shown=(0, 1, 1)), "shown is [0, 1, 1]"),
        (dict(shown=(1, 2, 3)), "shown is [1, 2, 3]"),
        (dict(shown=()), "shown is empty"),
        (dict(responses=TEXTS[:1], ranks=(1,), shown=(0,)), "a ranking needs at least two"),
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
        (dict(kind="undo", ranks=()), "field 'undoes' must name an entry if the kind is undo"),
        (dict(undoes="0" * 32), "field 'undoes' must name an entry if the kind is undo"),
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
    columns = [
        name for (name,) in sql(store.path, f"SELECT name FROM pragma_table_info('{table}')")
    ]
    column = [name for name in columns if name != "simulated"][-1]
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


@pytest.mark.parametrize("name", ["ada ", " ada", "e\u0301mile"])
def test_two_names_that_look_the_same_are_not_two_people(name, tmp_path):
    store = FeedbackStore(tmp_path / "s.sqlite3")
    with pytest.raises(UserError, match="would look the same as"):
        store.add_labeller(name)
    store.add_labeller("\u00e9mile")
    assert store.labellers() == ["\u00e9mile"]
