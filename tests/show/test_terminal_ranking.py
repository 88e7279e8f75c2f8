"""Ranking on the terminal: what a person types, what is stored, and that no text can do harm."""

import argparse
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_lab.cli import rank
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.selection import Item, Selection
from rlhf_lab.feedback.session import RankingSession
from rlhf_lab.feedback.store import FeedbackStore, Sample
from rlhf_lab.records import Prompt
from rlhf_lab.show import terminal_ranking as terminal
from rlhf_lab.show.terminal_ranking import order_of, rank_in_terminal, read_order
from rlhf_lab.tasks.labellers import GENERAL, Guidelines

TEXTS = ("red", "blue", "green", "grey")


class Fixed:
    """Shows the prompts in their order, and the responses in one fixed order."""

    def __init__(self, shown=(2, 0, 3, 1)):
        self.shown = shown

    def next_item(self, store, labeller, uncertainty):
        left = store.prompts()[len(store.entries(labeller)) :]
        if not left:
            return None
        texts = tuple(sample.text for sample in store.samples(left[0]))
        return Item(left[0], texts, self.shown, "random")


@pytest.fixture
def store(tmp_path) -> FeedbackStore:
    store = FeedbackStore(tmp_path / "store.sqlite")
    store.add_all(
        (Prompt(f"p{i}", f"Which colour, number {i}?"), [Sample(text) for text in TEXTS])
        for i in range(3)
    )
    return store


def say(store, *lines: str, chooser=None, **changes) -> str:
    """Let a person type these lines, then nothing more; all that was on the screen."""
    typed, screen = iter(lines), []

    def read(question: str) -> str:
        screen.append(question)
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    session = RankingSession(store, "ann", chooser or Fixed(), **changes)
    rank_in_terminal(session, read, screen.append)
    assert next(typed, None) is None, "not all was read"
    return "\n".join(screen)


def stored(store) -> list:
    return [(entry.kind, entry.flag, entry.ranks) for entry in store.entries()]


# ---- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, ranks",
    [
        ("b a=c", [1, None, 2, 2]),  # on screen: a green, b red, c grey, d blue
        ("b > a = c", [1, None, 2, 2]),
        ("BA=C", [1, None, 2, 2]),
        ("a=b=c=d", [1, 1, 1, 1]),
        ("a=b c=d", [1, 3, 1, 3]),
        (" d ", [None, 1, None, None]),
        ("a b c d", [2, 4, 1, 3]),
    ],
)
def test_an_order_of_letters_becomes_ranks_in_stored_order(line, ranks):
    assert read_order(line, (2, 0, 3, 1)) == ranks


@pytest.mark.parametrize(
    "line", ["", "=", "a=", "=a", "a==b", "e", "a,b", "a 1", "skip", "f", "ä", "a\x1b[2J"]
)
def test_what_is_no_order_is_refused(line):
    with pytest.raises(UserError, match="is not an order: write letters from a to d") as error:
        read_order(line, (2, 0, 3, 1))
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("line", ["a b a", "a=a", "aa"])
def test_a_letter_stands_once(line):
    with pytest.raises(UserError, match="a appears twice"):
        read_order(line, (0, 1))


@given(
    st.permutations(range(5)),
    st.lists(st.sampled_from([1, 2, 3, 4, 5, None]), min_size=5, max_size=5).filter(any),
)
def test_what_is_shown_as_your_order_reads_back_as_the_same_order(shown, ranks):
    item = Item(Prompt("p", "?"), tuple("vwxyz"), tuple(shown), "random")
    again = read_order(order_of(tuple(ranks), item), item.shown)
    wanted = [
        rank and 1 + sum(other is not None and other < rank for other in ranks) for rank in ranks
    ]
    assert again == wanted


# ---- a session -----------------------------------------------------------------------------------


def test_a_whole_session(store):
    screen = say(store, "b a=c", "f nonsense", "s", "")
    assert stored(store) == [
        ("ranking", "", (1, None, 2, 2)),
        ("flag", "nonsense", ()),
        ("skip", "", ()),
    ]
    first = screen[screen.index("Which colour, number 0?") :]
    assert (
        first.index("[a]\n    green")
        < first.index("[b]\n    red")
        < first.index("[c]\n    grey")
        < first.index("[d]\n    blue")
    )
    assert "1 of 3" in screen and "3 of 3 done" in screen


@pytest.mark.parametrize("lines", [["a", "q"], ["a", " Q "], ["a"]])
def test_quitting_keeps_what_is_stored_and_the_same_item_comes_first_next_time(store, lines):
    screen = say(store, *lines)
    assert "1 of 3 done; everything up to here is stored." in screen
    assert "number 1?" in screen and "number 2?" not in screen
    again = say(store, "a", "a", "")
    assert "number 0?" not in again and "number 1?" in again and len(store.rankings()) == 3


def test_an_interrupt_is_a_wish_to_quit(store):
    def read(question):
        raise KeyboardInterrupt

    screen = []
    rank_in_terminal(RankingSession(store, "ann", Fixed()), read, screen.append)
    assert "0 of 3 done" in screen[-1]


def test_a_mistake_is_said_and_asked_again(store):
    screen = say(store, "b a z", "a a", "f rude", "d", "q")
    assert "'b a z' is not an order" in screen and "a appears twice" in screen
    assert stored(store) == [("ranking", "", (None, 1, None, None))]
    assert screen.count("number 0?") == 1  # the page is not shown again


def test_a_write_that_fails_is_said_and_asked_again(store, monkeypatch):
    write, failures = FeedbackStore.write, ["the disk is full"]

    def sometimes(self, entry):
        if failures:
            raise UserError(failures.pop())
        return write(self, entry)

    monkeypatch.setattr(FeedbackStore, "write", sometimes)
    screen = say(store, "a b", "a b", "q")
    assert "the disk is full" in screen and stored(store) == [("ranking", "", (2, None, 1, None))]


def test_undo_shows_the_item_again_with_the_order_that_was_given(store):
    screen = say(store, "b a=c", "u", "d", "q")
    assert "Your order was: b a=c" in screen and screen.count("number 0?") == 2
    assert stored(store) == [("ranking", "", (None, 1, None, None))]
    assert "There is nothing to undo." in say(FeedbackStore(store.path), "u", "u", "q")


def test_the_last_answer_can_be_undone_too(store):
    screen = say(store, "a", "a", "a", "u", "d", "")
    assert screen.count("That was the last one.") == 2 and screen.count("number 2?") == 2
    assert [ranks for _, _, ranks in stored(store)] == [(None, None, 1, None)] * 2 + [
        (None, 1, None, None)
    ]
    assert "That was the last one." in say(store, "q")  # on a later day
    say(store, "u", "q")
    assert len(store.entries()) == 2


def test_an_empty_store_asks_nothing(tmp_path):
    screen = say(FeedbackStore(tmp_path / "empty.sqlite"))
    assert screen == f"{terminal.help_on(None)}\n0 of 0 done; everything up to here is stored."


def test_guidelines_and_help_are_a_key_away(store):
    screen = say(store, "?", "", "q")
    assert screen.count(GENERAL.text.strip()) == 2 == screen.count(terminal.help_on(None))
    assert stored(store) == []


def test_guidelines_come_before_the_first_item_and_once(store):
    first = say(store, "a", "q")
    assert first.index(GENERAL.text.strip()) < first.index("---- 1 of 3")
    assert GENERAL.text.strip() not in say(store, "b", "q")
    odd = say(store, chooser=Fixed(), guidelines=Guidelines("odd", "Be \x1b[2Jkind."))
    assert "\x1b" not in odd


def test_the_help_names_only_letters_that_are_on_screen(tmp_path):
    screen = say(one_item(tmp_path, "which?", "this", "that"), "q", chooser=Fixed((0, 1)))
    assert '"b a": b is better' in screen and "a=c" not in screen


def test_with_six_responses_f_is_a_letter_and_f_unsafe_is_a_flag(tmp_path):
    store = FeedbackStore(tmp_path / "store.sqlite")
    for number in range(2):
        store.add(Prompt(f"{number}", f"number {number}"), [Sample(text) for text in "uvwxyz"])
    say(store, "f a", "f unsafe", "", chooser=Fixed(tuple(range(6))))
    ranked, flagged = stored(store)
    assert ranked == ("ranking", "", (2, None, None, None, None, 1))
    assert flagged == ("flag", "unsafe", ())


# ---- hostile texts -------------------------------------------------------------------------------


def one_item(tmp_path, prompt: str, *responses: str) -> FeedbackStore:
    store = FeedbackStore(tmp_path / "hostile.sqlite")
    store.add(Prompt("p", prompt), [Sample(text) for text in responses])
    return store


def test_control_characters_are_written_out(tmp_path):
    texts = ("\x1b[2J\x1b[31mred", "a\rb\x08\x9b1m")
    store = one_item(tmp_path, "\x1b]0;owned\x07Hello\u202e", *texts)
    screen = say(store, "a", "", chooser=Fixed((0, 1)))
    assert not set(screen) & set("\x1b\x07\r\x08\x9b\u202e")
    assert "⟨U+001B⟩[2J⟨U+001B⟩[31mred" in screen and "Hello⟨U+202E⟩" in screen
    (entry,) = store.entries()
    assert entry.responses == texts


def test_no_response_passes_for_another(tmp_path):
    texts = "red\n\n[b]\n    the best\n> ", "blue\n---- 2 of 2\n[c]\nx"
    store = one_item(tmp_path, "Which?", *texts)
    screen = say(store, "q", chooser=Fixed((0, 1)))
    page = screen[screen.index("Which?") :].splitlines()
    assert [line for line in page if line.startswith("[")] == ["[a]", "[b]"]
    assert [line for line in page if line.startswith(">")] == ["> "]
    assert not [line for line in page if line.startswith("----")]


def test_a_long_text_is_cut_until_the_person_asks_for_more(tmp_path):
    store = one_item(tmp_path, "Which?", "x" * 20_000 + "THE END", "short")
    assert say(store, "q", chooser=Fixed((0, 1))).count("x" * 50) < 50
    assert "... and 18,007 characters more (m)" in say(store, "q", chooser=Fixed((0, 1)))
    assert "and 1 character more (m)" in terminal._indented("x" * 11, 10)
    assert "THE END" in say(store, "m", "q", chooser=Fixed((0, 1)))


@pytest.mark.parametrize("columns, widest", [(40, 40), (500, terminal.WIDTH)])
def test_lines_end_before_the_terminal_would_break_them(tmp_path, monkeypatch, columns, widest):
    monkeypatch.setenv("COLUMNS", str(columns))
    store = one_item(tmp_path, "Which?", "x" * 1000, "y " * 500)
    screen = say(store, "q", chooser=Fixed((0, 1)))
    lines = [line for line in screen.splitlines() if line.strip() and not line.strip(" xy")]
    assert all(line.startswith(terminal.INDENT) for line in lines)
    assert widest - 2 <= max(map(len, lines)) <= widest


def test_an_empty_response_is_seen_and_can_be_ranked(tmp_path):
    store = one_item(tmp_path, "Which?", "", "blue")
    assert "[a]\n    (nothing)" in say(store, "b a", "", chooser=Fixed((0, 1)))
    assert stored(store) == [("ranking", "", (2, 1))]


# ---- the command ---------------------------------------------------------------------------------


def run(monkeypatch, arguments: list[str], *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    parser = argparse.ArgumentParser()
    rank.add_options(parser)
    rank.run(parser.parse_args(arguments))


def write_samples(path, *rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_takes_samples_in_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    samples = write_samples(
        tmp_path / "samples.jsonl",
        *(
            {"id": f"q{i}", "prompt": f"number {i}?", "responses": ["yes", "no", "maybe"]}
            for i in range(4)
        ),
    )
    file = str(tmp_path / "store.sqlite")
    run(monkeypatch, [file, "--labeller", "ann", "--samples", samples, "--k", "2"], "a b", "b", "q")
    run(monkeypatch, [file, "--labeller", "ann", "--samples", samples, "--goal", "3"], "a=b", "")
    store = FeedbackStore(file)
    assert {prompt.id for prompt in store.prompts()} == {"q0", "q1", "q2", "q3"}
    assert [len(entry.responses) for entry in store.entries("ann")] == [2, 2, 3]
    assert all(len(store.samples(prompt)) == 3 for prompt in store.prompts())
    assert "3 of 3 done" in capsys.readouterr().out


def test_where_nothing_can_be_compared_that_is_said(tmp_path, monkeypatch):
    samples = write_samples(
        tmp_path / "samples.jsonl",
        *(
            {"prompt": prompt, "responses": ["yes"] * count}
            for prompt, count in (("a", 1), ("b", 3))
        ),
    )
    with pytest.raises(UserError, match="no prompt in .* two different responses.*--responses 4"):
        run(monkeypatch, [str(tmp_path / "s.sqlite"), "--labeller", "ann", "--samples", samples])
    assert len(FeedbackStore(tmp_path / "s.sqlite").prompts()) == 2


def test_samples_may_name_their_model_and_facts(tmp_path, monkeypatch):
    samples = write_samples(
        tmp_path / "samples.jsonl",
        {"prompt": "Which?", "responses": ["yes", ""], "model": "sft", "facts": {"colour": "red"}},
    )
    run(monkeypatch, [str(tmp_path / "store.sqlite"), "--labeller", "ann", "--samples", samples])
    store = FeedbackStore(tmp_path / "store.sqlite")
    (prompt,) = store.prompts()
    assert prompt.facts == {"colour": "red"} and len(prompt.id) == 12
    assert store.samples(prompt) == [Sample("yes", "sft"), Sample("", "sft")]


@pytest.mark.parametrize(
    "row, error",
    [
        ({"prompt": "Which?", "responses": ["yes", 3]}, "field 'responses': number 2 is a number"),
        ({"prompt": "Which?"}, "line 2, field 'responses': is missing"),
        ({"prompt": " ", "responses": []}, "line 2, field 'prompt': is empty"),
        ({"prompt": "Which?", "response": ["yes"]}, "did you mean 'responses'"),
    ],
)
def test_samples_that_are_not_right_leave_no_store(tmp_path, monkeypatch, row, error):
    good = {"prompt": "a", "responses": ["b", "c"]}
    samples = write_samples(tmp_path / "samples.jsonl", good, row)
    file = tmp_path / "store.sqlite"
    with pytest.raises(UserError, match=error):
        run(monkeypatch, [str(file), "--labeller", "ann", "--samples", samples])
    assert not file.exists()


def test_nothing_to_rank_is_said_with_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="give --samples FILE"):
        run(monkeypatch, [str(tmp_path / "store.sqlite"), "--labeller", "ann"])


def test_a_number_of_responses_out_of_range_leaves_no_store(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="choose from 2 to 9"):
        run(monkeypatch, [str(tmp_path / "store.sqlite"), "--labeller", "ann", "--k", "12"])
    assert not (tmp_path / "store.sqlite").exists()


def test_sessions_on_the_terminal_and_elsewhere_share_one_way(store):
    expected = RankingSession(store, "ann", Selection()).current
    screen = say(store, "q", chooser=Selection())
    assert expected.prompt.text in screen
    assert screen.index(f"[a]\n    {TEXTS[expected.shown[0]]}") < screen.index(
        f"[d]\n    {TEXTS[expected.shown[3]]}"
    )
