"""A session of ranking: what is stored, what is shown again, and that nothing is lost."""

import os
import subprocess
import sys

import pytest
from helpers import refusal
from hypothesis import given
from hypothesis import strategies as st
from tiny_task import ColourTask

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.selection import Item, Selection
from rlhf_lab.feedback.session import RankingSession, rank_headless, ranks_from_order
from rlhf_lab.feedback.store import Contents, Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt
from rlhf_lab.tasks.labellers import GENERAL, Guidelines, Labeller

TEXTS = ("It is red.", "It is blue.", "red", "No idea, sorry.")
TASK = ColourTask()
ANSWERS = [
    lambda session: session.submit([1, 2, 3, 4]),
    lambda session: session.skip(),
    lambda session: session.flag("unsafe"),
]


class Watch:
    """A clock that goes on when told to."""

    def __init__(self):
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def store(tmp_path) -> FeedbackStore:
    """Twelve prompts with four responses each."""
    store = FeedbackStore(tmp_path / "store.sqlite")
    prompts = {prompt.text: prompt for prompt in TASK.prompts(0, 100)}
    store.add_all(
        (prompt, [Sample(text, "sft", {"temperature": 1.0}) for text in TEXTS])
        for prompt in list(prompts.values())[:12]
    )
    return store


def begin(store, labeller="ann", selection=Selection(), **changes) -> RankingSession:
    return RankingSession(store, labeller, selection, **changes)


# ---- what is stored ------------------------------------------------------------------------------


def test_the_order_that_is_stored_is_not_the_order_on_screen(store):
    class Fixed:
        def next_item(self, store, labeller, uncertainty):
            return Item(store.prompts()[0], TEXTS, (2, 0, 3, 1), "random")

    session = begin(store, selection=Fixed())
    on_screen = [TEXTS[i] for i in session.current.shown]
    assert on_screen == ["red", "It is red.", "No idea, sorry.", "It is blue."]
    best_first = ["It is red.", "red", "It is blue."]  # as the person sees it; the last is left out
    session.submit(ranks_from_order([[TEXTS.index(text)] for text in best_first], 4))
    (entry,) = store.entries()
    assert entry.responses == TEXTS and entry.shown == (2, 0, 3, 1)
    assert dict(zip(entry.responses, entry.ranks)) == {
        "It is red.": 1,
        "red": 2,
        "It is blue.": 3,
        "No idea, sorry.": None,
    }


def test_an_answer_is_stored_with_all_that_was_shown(store):
    watch = Watch()
    session = begin(store, now=watch)
    item = session.current
    watch.time += 12.3456
    session.submit([2, 1, 2, None])
    (entry,) = store.entries("ann")
    assert (entry.kind, entry.prompt, entry.responses, entry.shown) == (
        "ranking",
        item.prompt,
        item.responses,
        item.shown,
    )
    assert (entry.ranks, entry.seconds, entry.pick) == ((2, 1, 2, None), 12.346, "common")
    assert entry.guidelines == GENERAL.version


def test_skips_and_flags_go_on_without_ranks(store):
    session = begin(store)
    first = session.current
    session.skip()
    second = session.current
    session.flag("unsafe")
    third = session.current
    session.flag("nonsense")
    assert [(e.kind, e.flag, e.ranks, e.prompt) for e in store.entries()] == [
        ("skip", "", (), first.prompt),
        ("flag", "unsafe", (), second.prompt),
        ("flag", "nonsense", (), third.prompt),
    ]
    assert store.rankings() == [] and session.progress[0] == 3


def test_an_answer_is_in_the_store_before_the_next_item_shows(store, monkeypatch):
    session, shown = begin(store), []
    write = FeedbackStore.write

    def watched(self, entry):
        written = write(self, entry)
        shown.append((session.current.prompt.text, store.entries()[-1].prompt.text))
        return written

    monkeypatch.setattr(FeedbackStore, "write", watched)
    session.submit([1, 2, 3, 4])
    session.skip()
    assert len(shown) == 2 and all(current == stored for current, stored in shown)


def test_the_version_of_the_guidelines_follows_their_text(store):
    longer = Guidelines(GENERAL.name, GENERAL.text + "\nOne rule more.")
    begin(store, guidelines=longer).submit([1, 2, 3, 4])
    assert store.entries()[0].guidelines == longer.version != GENERAL.version


# ---- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [[], [1, 2, 3], [None] * 4, [0, 1, 2, 3], [1.5, 1, 2, 3]])
def test_ranks_that_do_not_fit_change_nothing(store, ranks):
    session = begin(store)
    before = session.current, session.progress
    with pytest.raises(UserError):
        session.submit(ranks)
    assert (session.current, session.progress) == before and store.entries() == []
    session.submit([1, 2, 3, 4])
    assert len(store.entries()) == 1


def test_a_flag_that_is_not_known_changes_nothing(store):
    session = begin(store)
    before = session.current
    with pytest.raises(UserError, match="'boring': use one of unsafe, nonsense"):
        session.flag("boring")
    assert session.current is before and store.entries() == []


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_write_that_fails_leaves_the_session_where_it_was(store, monkeypatch, answer):
    watch = Watch()
    session = begin(store, now=watch)
    before = session.current, session.progress, session.paused

    def full(self, entry):
        raise UserError("the disk is full")

    watch.time += 5
    with monkeypatch.context() as patch:
        patch.setattr(FeedbackStore, "write", full)
        with pytest.raises(UserError, match="the disk is full"):
            answer(session)
    assert (session.current, session.progress, session.paused) == before
    watch.time += 2
    answer(session)
    assert [entry.seconds for entry in store.entries()] == [7.0]
    assert session.current != before[0]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_was_stored_is_not_stored_twice_when_the_next_read_fails(
    store, monkeypatch, answer
):
    session = begin(store)
    first = session.current

    def fail(*_, **__):
        raise UserError("the disk failed")

    monkeypatch.setattr(store, "entries", fail)
    with pytest.raises(UserError, match="the disk failed"):
        answer(session)
    assert session.current is first
    monkeypatch.undo()
    answer(session)  # as a person would who saw the error
    assert len(store.entries()) == 1 and session.current != first
    answer(session)
    assert len(store.entries()) == 2


def test_a_labeller_who_is_forgotten_meanwhile_writes_no_more(store):
    session = begin(store)
    session.submit([1, 2, 3, 4])
    before = session.current
    store.forget("ann")
    with pytest.raises(UserError, match="no such labeller"):
        session.submit([1, 2, 3, 4])
    assert session.current is before and store.entries() == []


def test_a_finished_session_takes_no_answers(store):
    session = begin(store, goal=1)
    session.submit([1, 2, 3, 4])
    for answer in ANSWERS:
        with pytest.raises(UserError, match="nothing left to rank"):
            answer(session)
    assert len(store.entries()) == 1


@pytest.mark.parametrize("labeller, goal", [("", None), ("x" * 61, None), ("ann", 0), ("ann", -3)])
def test_a_bad_name_or_goal_is_refused(store, labeller, goal):
    with pytest.raises(UserError):
        begin(store, labeller, goal=goal)
    assert store.labellers() == []


# ---- going on after a restart --------------------------------------------------------------------


def test_a_new_session_shows_the_same_item_in_the_same_order(store):
    session = begin(store)
    for _ in range(11):  # repeats included
        again = begin(FeedbackStore(store.path))
        assert again.current == session.current and again.progress == session.progress
        session.submit([1, 2, 3, 4])
    assert "repeat" in {entry.pick for entry in store.entries()}


def test_another_process_shows_the_same_item_in_the_same_order(store):
    session = begin(store, "Zoë")
    session.submit([1, 2, 3, 4])
    script = (
        "import sys\n"
        "from rlhf_lab.feedback.session import RankingSession\n"
        "from rlhf_lab.feedback.store import FeedbackStore\n"
        "from rlhf_lab.feedback.selection import Selection\n"
        "print(RankingSession(FeedbackStore(sys.argv[1]), 'Zoë', Selection()).current)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(store.path)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )
    assert told.stdout == f"{session.current}\n"


def test_a_session_goes_on_to_the_end_in_as_many_pieces_as_one_likes(store):
    whole = FeedbackStore(store.path.with_name("whole.sqlite"))
    whole.merge(store.path)
    session = begin(whole)
    while session.current:
        session.submit([1, 2, 3, 4])
    while (piece := begin(store)).current:
        piece.submit([1, 2, 3, 4])
    kept = [[(e.prompt, e.responses, e.shown, e.pick) for e in s.entries()] for s in (whole, store)]
    assert kept[0] == kept[1] and len(kept[0]) == 13


# ---- undo ----------------------------------------------------------------------------------------


def test_undo_shows_the_same_item_with_its_former_ranks(store):
    session = begin(store)
    first = session.current
    session.submit([2, 1, None, 2])
    assert session.restored is None
    assert session.undo() == first == session.current
    assert session.restored == (2, 1, None, 2) and store.rankings() == []
    session.submit([1, 2, 3, 4])
    assert session.restored is None
    assert [entry.ranks for entry in store.entries()] == [(1, 2, 3, 4)]
    assert [entry.kind for entry in store.entries(undone=True)] == ["ranking", "undo", "ranking"]
    assert session.progress[0] == 1


def test_undo_goes_back_as_far_as_one_likes_and_nothing_is_skipped_on_the_way_forward(store):
    session, shown = begin(store), []
    for ranks in ([1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1]):
        shown.append(session.current)
        session.submit(ranks)
    ahead = session.current
    assert [session.undo() for _ in range(3)] == shown[::-1]
    assert session.restored == (1, 2, 3, 4)
    assert session.undo() is None and session.current == shown[0]
    for item in shown:
        assert session.current == item
        session.submit([1, 2, 3, 4])
    assert session.current == ahead


def test_a_skip_taken_back_has_no_ranks(store):
    session = begin(store)
    first = session.current
    session.skip()
    assert session.undo() == first and session.restored is None


def test_what_was_taken_back_is_still_there_after_a_restart(store):
    session = begin(store)
    for ranks in ([1, 2, 3, 4], [4, 3, 2, 1]):
        session.submit(ranks)
    session.undo()
    again = begin(store)
    assert again.current == session.current and again.restored == (4, 3, 2, 1)
    again.submit([1, 2, 3, 4])
    assert begin(store).current == again.current and begin(store).restored is None


def test_undo_shows_what_was_shown_then_whatever_would_be_shown_now(store):
    session = begin(store, selection=Selection(responses=2))
    first = session.current
    session.submit([1, 2])
    wider = begin(store, selection=Selection(responses=4, seed=5))
    assert wider.undo() == first and len(first.responses) == 2


def test_undo_without_an_answer_changes_nothing(store):
    begin(store, "ben").submit([1, 2, 3, 4])
    session = begin(store)
    before = session.current
    assert session.undo() is None and session.current is before
    assert len(store.entries("ben")) == 1


def test_undo_after_the_last_answer(store):
    session = begin(store, goal=2)
    session.submit([1, 2, 3, 4])
    last = session.current
    session.submit([4, 3, 2, 1])
    assert session.current is None and session.progress == (2, 2)
    assert session.undo() == last and session.progress == (1, 2)


def test_an_imported_ranking_can_be_taken_back_and_made_anew(store):
    prompt = store.prompts()[0]
    entry = Entry("0" * 32, "ranking", "ann", prompt, ("red", "It is red."), (2, 1))
    store.take_in(Contents([], ["ann"], [entry]))
    session = begin(store)
    assert session.undo() == Item(prompt, ("red", "It is red."), (0, 1), "random")
    session.submit([1, 2])
    assert [(e.responses, e.ranks) for e in store.entries()] == [(("red", "It is red."), (1, 2))]


# ---- progress and time ---------------------------------------------------------------------------


def test_progress_counts_answers_up_to_the_goal_or_the_number_of_prompts(store):
    assert begin(store).progress == (0, 12)
    assert begin(store, goal=20).progress == (0, 12)
    session = begin(store, goal=3)
    seen = [session.progress]
    for answer in ANSWERS:
        answer(session)
        seen.append(session.progress)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)] and session.current is None
    assert begin(store, goal=2).progress == (3, 3) and begin(store, goal=2).current is None
    assert begin(store).progress == (3, 12) and begin(store).current is not None


def test_progress_ends_at_the_end(store):
    session = begin(store, selection=Selection(repeats=0.5, gap=2))
    totals = []
    while session.current:
        done, total = session.progress
        assert done < total
        totals.append(total)
        session.submit([1, 2, 3, 4])
    assert session.progress == (len(totals), len(totals)) and totals == sorted(totals)
    assert totals[0] == 12 < totals[-1] == len(totals)


def test_the_clock_stands_still_while_paused(store):
    watch = Watch()
    session = begin(store, now=watch)
    watch.time += 3
    session.pause()
    assert session.paused
    watch.time += 1000
    session.pause()
    session.resume()
    assert not session.paused
    watch.time += 4
    session.resume()
    session.submit([1, 2, 3, 4])
    watch.time += 2
    session.skip()
    session.pause()
    watch.time += 50
    session.skip()
    assert [entry.seconds for entry in store.entries()] == [7.0, 2.0, 0.0]


def test_a_second_look_is_added_to_the_time_of_the_first(store):
    watch = Watch()
    session = begin(store, now=watch)
    watch.time += 10
    session.submit([1, 2, 3, 4])
    watch.time += 60
    session.undo()
    watch.time += 5
    session.submit([4, 3, 2, 1])
    assert [entry.seconds for entry in store.entries()] == [15.0]


# ---- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "groups, count, ranks",
    [
        ([[2], [0, 1]], 4, [2, 2, 1, None]),
        ([[0, 1], [2]], 3, [1, 1, 3]),
        ([[3], [1], [0], [2]], 4, [3, 2, 4, 1]),
        ([[1, 0]], 2, [1, 1]),
        ([[1]], 3, [None, 1, None]),
        ([[], [1]], 2, [None, 1]),
        ([], 2, [None, None]),
    ],
)
def test_ranks_from_an_order_by_hand(groups, count, ranks):
    assert ranks_from_order(groups, count) == ranks


@pytest.mark.parametrize("groups", [[[0], [0]], [[1, 1]], [[2]], [[-1]]])
def test_an_order_names_each_response_at_most_once(groups):
    with pytest.raises(UserError, match="unknown or named twice"):
        ranks_from_order(groups, 2)


@given(st.permutations(range(6)), st.tuples(*[st.booleans()] * 6), st.integers(0, 6))
def test_a_rank_is_one_more_than_the_number_of_better_responses(order, tied, ranked):
    groups: list[list[int]] = []
    for response, tie in zip(order[:ranked], tied):
        groups[-1].append(response) if tie and groups else groups.append([response])
    ranks = ranks_from_order(groups, 6)
    place = {response: number for number, group in enumerate(groups) for response in group}
    for response in range(6):
        if response in place:
            assert ranks[response] == 1 + sum(p < place[response] for p in place.values())
        else:
            assert ranks[response] is None


# ---- headless ------------------------------------------------------------------------------------


def test_a_simulated_labeller_answers_until_the_session_is_finished(store):
    strict = TASK.labellers[0]
    session = begin(store, "strict", Selection(repeats=0))
    assert rank_headless(session, strict, TASK.judge, seed=3) == 12
    assert session.current is None and session.progress == (12, 12)
    for ranking in store.rankings():
        assert ranking == strict.rank(TASK.judge, ranking.prompt, ranking.responses, 3)


def test_a_simulated_labeller_stops_at_the_goal(store):
    session = begin(store, goal=5)
    assert rank_headless(session, TASK.labellers[0], TASK.judge) == 5
    assert len(store.entries(simulated=True)) == 5
    assert rank_headless(session, TASK.labellers[0], TASK.judge) == 0


def test_what_a_program_ranked_is_marked_and_no_person_goes_on_with_it(store):
    rank_headless(begin(store, "robot", goal=3), TASK.labellers[0], TASK.judge)
    assert store.labellers() == store.entries() == []
    session = begin(store, "robot")
    message = refusal(session.submit, [1] * len(session.current.responses))
    assert "'robot' is the name of a simulated labeller" in message
    assert len(store.entries("robot")) == 3
    person = begin(store, "ann", goal=2)
    person.submit([1] * len(person.current.responses))
    message = refusal(rank_headless, person, TASK.labellers[0], TASK.judge)
    assert "'ann' is a person with rankings" in message and len(store.entries("ann")) == 1


def test_who_has_no_noise_repeats_himself_and_who_has_much_does_not(store):
    weights, often = {"right": 8.0, "short": 2.0}, Selection(repeats=1, gap=1)
    same = {}
    for name, noise in (("steady", 0.0), ("moody", 9.0)):
        rank_headless(begin(store, name, often), Labeller(name, weights, noise=noise), TASK.judge)
        first = {e.prompt.text: e.ranks for e in store.entries(name) if e.pick != "repeat"}
        again = {e.prompt.text: e.ranks for e in store.entries(name) if e.pick == "repeat"}
        assert len(again) == 12
        same[name] = sum(first[text] == again[text] for text in again)
    assert same["steady"] == 12 and same["moody"] < 6


def test_identical_responses_are_shown_once(tmp_path):
    store = FeedbackStore(tmp_path / "store.sqlite")
    store.add(Prompt("p", "Which?"), [Sample("red", "sft"), Sample("red", "ppo"), Sample("blue")])
    session = begin(store)
    assert session.current.responses == ("red", "blue")
    session.submit([1, 2])
    assert session.current is None
