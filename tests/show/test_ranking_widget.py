"""The ranking widget's Python side: what the page is told, and what a message from it may do."""

import json
import math

import pytest

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.selection import Selection
from rlhf_lab.feedback.store import FeedbackStore, Sample
from rlhf_lab.records import Prompt
from rlhf_lab.show.widgets.ranking_widget import LABELLER, RankingWidget, order_on_screen

HOSTILE = (
    "<script>alert(1)</script>",
    "\x1b[31mred",
    "\u202egnp.exe",
    "half \x00 null",
    "x" * 20_000,
)


@pytest.fixture
def store(tmp_path) -> FeedbackStore:
    """Six prompts with three responses each."""
    store = FeedbackStore(tmp_path / "ours.sqlite")
    for number in range(6):
        texts = (f"good {number}", f"fair {number}", f"poor {number}")
        store.add(Prompt(str(number), f"prompt {number}"), [Sample(text) for text in texts])
    return store


def say(widget: RankingWidget, action, **more) -> dict:
    """Send what a page would, about the item it shows; returns the state that comes back."""
    send(widget, {"action": action, "serial": widget.state["serial"]} | more)
    return widget.state


def send(widget: RankingWidget, message) -> None:
    widget._handle_custom_msg(message, [])


def places(widget: RankingWidget) -> dict[str, int]:
    """The place on screen of each response, by its first word."""
    return {text.split()[0]: place for place, text in enumerate(widget.state["item"]["texts"])}


def by_quality(widget: RankingWidget) -> list[list[int]]:
    """The order that ranks good above fair above poor."""
    return [[places(widget)[word]] for word in ("good", "fair", "poor")]


def test_what_is_stored_is_the_order_of_the_responses_not_of_the_screen(store):
    widget = RankingWidget(store, "me")
    screens = set()
    while widget.state["item"]:
        screens.add(tuple(places(widget)))
        say(widget, "submit", order=by_quality(widget))
    assert len(screens) > 1  # it does shuffle
    for entry in store.entries("me"):
        assert [entry.responses[entry.ranks.index(rank)].split()[0] for rank in (1, 2, 3)] == [
            "good",
            "fair",
            "poor",
        ]


def test_ties_and_what_is_left_unranked(store):
    widget = RankingWidget(store, "me")
    place = places(widget)
    say(widget, "submit", order=[[place["fair"], place["poor"]]])
    (entry,) = store.entries("me")
    ranks = dict(zip((text.split()[0] for text in entry.responses), entry.ranks, strict=True))
    assert ranks == {"good": None, "fair": 1, "poor": 1}


def test_an_answer_moves_on_and_counts(store):
    widget = RankingWidget(store, "me", goal=2)
    first = widget.state
    second = say(widget, "submit", order=by_quality(widget))
    assert (second["done"], second["goal"], second["problem"]) == (1, 2, "")
    assert second["item"] != first["item"] and second["serial"] > first["serial"]
    last = say(widget, "skip")
    assert (last["done"], last["item"]) == (2, None)
    assert say(widget, "submit", order=[[0]])["done"] == 2


@pytest.mark.parametrize("reason", ["unsafe", "nonsense"])
def test_flags(store, reason):
    say(RankingWidget(store, "me"), "flag", reason=reason)
    assert [(entry.kind, entry.flag) for entry in store.entries()] == [("flag", reason)]


def test_undo_brings_the_same_screen_back_with_the_order_given(store):
    widget = RankingWidget(store, "me")
    before = widget.state["item"]
    order = by_quality(widget)[:2]
    say(widget, "submit", order=order)
    after = say(widget, "undo")
    assert store.entries() == []
    assert after["item"] == before | {"order": order}
    assert say(widget, "undo")["item"] == after["item"]  # there was nothing more to take back


def test_pausing_keeps_the_item(store):
    widget = RankingWidget(store, "me")
    before = widget.state
    paused = say(widget, "pause")
    assert paused["paused"] is True
    assert (paused["serial"], paused["item"]) == (before["serial"], before["item"])
    assert say(widget, "resume")["paused"] is False


def test_a_new_widget_goes_on_where_the_last_one_stopped(store):
    widget = RankingWidget(store, "ann")
    say(widget, "submit", order=by_quality(widget))
    again = RankingWidget(FeedbackStore(store.path), "ann")
    assert again.state["item"] == widget.state["item"]
    assert again.state["done"] == 1


def test_a_message_about_an_item_no_longer_shown_changes_nothing(store):
    widget = RankingWidget(store, "me")
    first = {"action": "submit", "serial": widget.state["serial"], "order": by_quality(widget)}
    send(widget, first)
    shown = widget.state
    for message in (first, first | {"action": "skip"}, first | {"action": "undo"}):
        send(widget, message)
        assert widget.state["item"] == shown["item"]
        assert widget.state["heard"] > shown["heard"]  # the page does not wait for ever
    assert len(store.entries(undone=True)) == 1


BAD_ORDERS = [
    None,
    [],
    [[]],
    [[0], []],
    [[0, 0]],
    [[0], [0]],
    [[3]],
    [[-1]],
    [[0.0]],
    [[True]],
    [["0"]],
    [[math.nan]],
    [[None]],
    [0, 1, 2],
    ["012"],
    "0",
    {"0": [1]},
    [[[0]]],
    [{}],
    5,
]


@pytest.mark.parametrize("order", BAD_ORDERS, ids=repr)
def test_an_order_that_makes_no_sense_is_refused(store, order):
    widget = RankingWidget(store, "me")
    before = widget.state
    after = say(widget, "submit", order=order)
    assert "nothing was saved" in after["problem"]
    assert after["item"] == before["item"]
    assert store.entries(undone=True) == []


@pytest.mark.parametrize(
    "message",
    [
        None,
        5,
        [],
        "submit",
        {},
        {"action": "submit"},
        {"serial": 0},
        {"serial": 0, "action": []},
        {"serial": 0, "action": "forget"},
        {"serial": 0, "action": "__init__"},
        {"serial": 0, "action": "flag"},
        {"serial": 0, "action": "flag", "reason": ["unsafe"]},
        {"serial": 0, "action": "flag", "reason": "<b>"},
        {"serial": "0", "action": "skip"},
    ],
    ids=repr,
)
def test_a_message_that_makes_no_sense_changes_nothing(store, message):
    widget = RankingWidget(store, "me")
    before = widget.state
    send(widget, message)
    assert widget.state["item"] == before["item"]
    assert store.entries(undone=True) == []


def test_a_state_that_the_page_made_up_is_not_believed(store):
    widget = RankingWidget(store, "me")
    item = widget.state["item"]
    widget.set_state({"state": widget.state | {"item": item | {"texts": list("abcde")}}})
    assert "nothing was saved" in say(widget, "submit", order=[[4]])["problem"]
    assert widget.state["item"] == item


def test_what_cannot_be_written_is_said_and_the_item_stays(store):
    widget = RankingWidget(store, "me")
    before = widget.state["item"]
    store.forget("me")
    after = say(widget, "skip")
    assert after["problem"]
    assert after["item"] == before
    assert store.entries(undone=True) == []


def test_hostile_text_reaches_the_page_as_data_with_all_of_it_visible(tmp_path):
    store = FeedbackStore(tmp_path / "hostile.sqlite")
    store.add(Prompt("1", HOSTILE[0] + HOSTILE[2]), [Sample(text) for text in HOSTILE])
    widget = RankingWidget(store, "me", responses=5)
    texts = widget.state["item"]["texts"]
    assert "<script>alert(1)</script>" in texts and "x" * 20_000 in texts
    assert {"⟨U+001B⟩[31mred", "⟨U+202E⟩gnp.exe", "half ⟨U+0000⟩ null"} < set(texts)
    assert json.loads(json.dumps(widget.state)) == widget.state
    fallback = widget._repr_mimebundle_()[0]["text/html"]
    assert "<script" not in fallback and "&lt;script&gt;" in fallback
    assert not set("\x1b\u202e\x00") & set(fallback)
    assert len(fallback) < 5_000


def test_the_fallback_says_how_to_rank_on_the_terminal(store):
    data, _ = RankingWidget(store, "o'neil & <b>")._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert f"rlhf-lab rank {store.path} --labeller" in data["text/html"]
    assert "&amp; &lt;b&gt;" in data["text/html"] and "<b>&" not in data["text/html"]
    assert "0 of 6 done" in data["text/plain"]


def test_guidelines_name_and_version_are_there(store):
    widget = RankingWidget(store, "ann")
    say(widget, "skip")
    (entry,) = store.entries()
    assert widget.state["labeller"] == "ann"
    assert widget.state["guidelines"]["text"]
    assert entry.guidelines == widget.state["guidelines"]["version"]


def test_how_many_responses_are_shown(store):
    assert len(RankingWidget(store, "me", responses=2).state["item"]["texts"]) == 2
    chosen = Selection(responses=2)
    assert len(RankingWidget(store, "me", selection=chosen).state["item"]["texts"]) == 2
    for responses in (1, 10):
        with pytest.raises(UserError):
            RankingWidget(store, "me", responses=responses)


def test_a_store_without_anything_to_rank(tmp_path):
    widget = RankingWidget(FeedbackStore(tmp_path / "empty.sqlite"), "me")
    assert (widget.state["item"], widget.state["done"]) == (None, 0)
    assert widget._repr_mimebundle_()[0]["text/html"]


def test_a_nameless_labeller_is_refused(store):
    with pytest.raises(UserError):
        RankingWidget(store, " ")


@pytest.fixture(autouse=True)
def nobody_is_named(monkeypatch):
    monkeypatch.delenv(LABELLER, raising=False)


def test_without_a_name_the_widget_asks_for_one_and_goes_on_under_it(store):
    widget = RankingWidget(store, goal=2)
    assert (widget.state["asks"], widget.state["item"], widget.labeller) == (True, None, "")
    assert store.labellers() == [] and widget.session is None
    assert "0 of 0 done" in repr(widget) and widget._repr_mimebundle_()[0]["text/html"]
    for message in ({"action": "submit", "order": [[0]]}, {"action": "undo"}, {"action": "name"}):
        assert "nothing was saved" in say(widget, **message)["problem"]
    for name in (" ", "x" * 61, "two\nlines", 7):
        assert say(widget, "name", name=name)["problem"] and widget.state["asks"]
    assert say(widget, "name", name=" ann ")["said"] == "Welcome, ann. 0 of 2 done."
    assert widget.labeller == "ann" and widget.state["labeller"] == "ann"
    say(widget, "submit", order=by_quality(widget))
    assert [entry.labeller for entry in store.entries()] == ["ann"]
    again = RankingWidget(store, goal=2)
    assert say(again, "name", name="ann")["said"] == "Welcome, ann. 1 of 2 done."


def test_the_environment_names_who_ranks(store, monkeypatch):
    monkeypatch.setenv(LABELLER, "bo")
    assert RankingWidget(store).labeller == "bo" and RankingWidget(store, "ann").labeller == "ann"


def test_what_is_known_about_a_prompt_is_there_as_text(store):
    facts = {"product": "lamp <b>", "fix": "x" * 9_000, "n": 3, "\x1b": [1, "a"]}
    store.add(Prompt("new", "A new prompt", facts), [Sample("one"), Sample("two")])
    widget = RankingWidget(store, "me")
    while "new" not in widget.state["item"]["prompt"]:
        assert widget.state["item"]["facts"] == []
        say(widget, "skip")
    facts = dict(widget.state["item"]["facts"])
    assert len(facts.pop("fix")) < 500
    assert facts == {"product": "lamp <b>", "n": "3", "⟨U+001B⟩": "[1, 'a']"}


def test_order_on_screen_groups_equal_ranks():
    assert order_on_screen([3, 1, None, 1]) == [[1, 3], [0]]
    assert order_on_screen([None, None]) == []
