"""Blind comparison: nobody can tell which model wrote what before they have chosen."""

import json

import pytest
import torch
from helpers import refusal

from rlhf_lab.compare.blind.comparison import BlindComparison, draw_pairs
from rlhf_lab.compare.blind.outcome import Outcome
from rlhf_lab.evaluate import Responses
from rlhf_lab.feedback.session import rank_headless
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.tasks.labellers import Labeller

NAMES = ("Xanadu", "Yggdrasil")  # words that no response holds


def answers(texts: list[str]) -> Responses:
    prompts = [Prompt(f"p{i}", f"Question {i}?") for i in range(len(texts))]
    return Responses(prompts, [[t, "never shown"] for t in texts], None, torch.ones(len(texts), 2))


def two(count: int = 30, same: tuple[int, ...] = ()) -> tuple[Responses, Responses]:
    """Responses "long answer ..." of the second model beside "short ..." of the first."""
    first = [f"short {i}" for i in range(count)]
    second = [first[i] + " " if i in same else f"long answer {i}" for i in range(count)]
    return answers(first), answers(second)


def comparison(count: int = 20, **changes) -> BlindComparison:
    return BlindComparison(*two(), count, names=NAMES, **changes)


def choose(blind: BlindComparison, wins: int, ties: int = 0, losses: int = 0) -> None:
    """Prefer the second model's response so many times, and so on."""
    session = blind.session()
    for ranks in [(2, 1)] * wins + [(1, 1)] * ties + [(1, None)] * losses:
        session.submit(ranks)


# ---- which pairs are shown --------------------------------------------------------------------


def test_pairs_are_different_responses_to_prompts_drawn_at_random_on_shuffled_sides():
    pairs, after = draw_pairs(*two(200), 100, seed=0)
    assert len({p.prompt.id for p in pairs}) == 100 and after == 0
    assert [p.prompt.id for p in pairs] != sorted(p.prompt.id for p in pairs)
    assert all(p.texts[0].startswith("short") and p.texts[1].startswith("long") for p in pairs)
    assert 30 < sum(p.shown == (0, 1) for p in pairs) < 70  # 100 fair coins
    assert draw_pairs(*two(200), 100, seed=0)[0] == pairs
    assert draw_pairs(*two(200), 100, seed=1)[0] != pairs


def test_more_pairs_begin_with_the_same_ones_whatever_else_the_prompts_are():
    few, many = (draw_pairs(*two(200), count, seed=0)[0] for count in (20, 40))
    assert many[:20] == few
    first, second = two(200)
    turned = [
        Responses(a.prompts[::-1], a.texts[::-1], None, a.ended, None) for a in (first, second)
    ]
    assert draw_pairs(*turned, 20, seed=0)[0] == few


def test_one_can_go_on_to_a_larger_count_with_the_same_store(tmp_path):
    store = tmp_path / "blind.sqlite3"
    choose(comparison(10, store=store), wins=7, losses=3)
    more = comparison(20, store=store)
    assert (more.result().wins, more.result().losses) == (7, 3)
    choose(more, wins=10)
    assert (more.result().wins, more.result().losses) == (17, 3)


def test_equal_responses_are_passed_over_and_counted_as_ties():
    blind = BlindComparison(*two(12, same=(0, 3, 4, 7)), count=50, names=NAMES)
    assert len(blind.pairs) == 8
    choose(blind, wins=5, losses=3)
    outcome = blind.result()
    assert (outcome.wins, outcome.ties, outcome.losses, outcome.same) == (5, 0, 3, 4)
    assert outcome.share[0] == pytest.approx(7 / 12)
    assert "Both wrote the same to 4 more prompts" in str(outcome)


def test_equal_responses_count_only_as_far_as_one_has_got():
    blind = BlindComparison(*two(40, same=tuple(range(20))), count=10, names=NAMES)
    choose(blind, wins=4)
    assert blind.result().same == sum(pair.passed for pair in blind.pairs[:4])


def test_two_models_that_never_differ():
    blind = BlindComparison(*two(5, same=(0, 1, 2, 3, 4)), names=NAMES)
    assert "both models wrote the same to all 5 prompts" in str(blind.result())
    assert "to all 5 prompts" in blind.still()


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(count=0), "at least 1"),
        (dict(second=two(4)[1]), "different prompts"),
        (dict(labeller=" "), "labeller"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, words):
    first, second = two(30)
    given = dict(first=first, second=second, count=5, labeller="me") | change

    def start():
        BlindComparison(**given).session()

    assert words in refusal(start)


# ---- blind ------------------------------------------------------------------------------------


def shown_to(blind: BlindComparison) -> list[str]:
    """Everything that a person can see before the choice: widget, still, and their texts."""
    data, _ = blind._repr_mimebundle_()
    return [json.dumps(blind.widget.state), data["text/html"], data["text/plain"]]


def test_nothing_tells_the_models_apart_before_the_last_choice():
    blind = comparison(3)
    first_places = set()
    for _ in range(3):
        assert not any(name in text for text in shown_to(blind) for name in NAMES)
        assert not any(name in str(blind.result()) for name in NAMES)
        item = blind.session().current
        first_places.add(item.shown[0])
        assert blind.widget.state["item"]["texts"] == [item.responses[i] for i in item.shown]
        say(blind, [[0]])
    assert "for Yggdrasil" in str(blind.result()) and "for Yggdrasil" in blind.still()


def say(blind: BlindComparison, order: list) -> None:
    """Submit an order of places on screen, as the page would."""
    message = {"action": "submit", "serial": blind.widget.state["serial"], "order": order}
    blind.widget._handle_custom_msg(message, [])


def test_the_widget_s_places_come_back_as_the_models(tmp_path):
    blind = comparison(12)
    while item := blind.widget.state["item"]:  # always the long answer, wherever it stands
        say(blind, [[place for place, t in enumerate(item["texts"]) if t.startswith("long")]])
    outcome = blind.result()
    assert (outcome.wins, outcome.ties, outcome.losses, outcome.left) == (12, 0, 0, 0)


def test_on_the_terminal_letters_come_back_as_the_models_and_the_outcome_is_told():
    blind, screen = comparison(4), []

    def read(question: str) -> str:
        page = next(text for text in reversed(screen) if "[a]" in text)
        if "4 of 4" in page and blind.session().current is None:
            return ""
        return "a" if page.index("long") < page.index("short") else "b > a"

    blind.ask(read, screen.append)
    assert not any(name in text for text in screen[:-1] for name in NAMES)
    assert screen[-1].startswith("After 4 choices: 4 for Yggdrasil, 0 for Xanadu, no ties.")


def test_who_stops_early_on_the_terminal_is_told_what_there_is():
    blind, screen = comparison(4), []
    lines = iter(["s", "a=b", "q"])
    blind.ask(lambda _: next(lines), screen.append)
    assert screen[-1].startswith("After 1 of 3 choices: 0 for Yggdrasil, 0 for Xanadu, 1 tie.")
    assert "1 skipped" in screen[-1] and "Nothing tells the two apart" in screen[-1]


def test_who_can_go_on_is_told_at_the_end_and_who_cannot_that_nothing_is_kept(tmp_path):
    def said(**kept):
        lines, screen = iter(["a", "q"]), []
        comparison(4, **kept).ask(lambda _: next(lines), screen.append)
        return screen[-2:]

    stored, outcome = said(store=tmp_path / "blind.sqlite3")
    assert "is stored" in stored and outcome.startswith("1 choices made. 3 to go;")
    lost, outcome = said()
    assert "nothing was saved" in lost and outcome.startswith("After 1 of 4 choices")


# ---- what is kept -----------------------------------------------------------------------------


def test_one_can_go_on_later_and_take_back(tmp_path):
    kept = dict(store=tmp_path / "blind.sqlite3")
    choose(comparison(**kept), wins=2, losses=1)
    again = comparison(**kept)
    assert (again.result().choices, again.result().left) == (3, 17)
    again.session().undo()
    assert (again.result().wins, again.result().losses) == (2, 0)


def test_another_labeller_starts_anew(tmp_path):
    store = tmp_path / "blind.sqlite3"
    choose(comparison(store=store), wins=2)
    assert comparison(store=store, labeller="ben").result().choices == 0


def test_choices_between_other_responses_are_not_counted_as_these(tmp_path):
    store = tmp_path / "blind.sqlite3"
    choose(comparison(store=store), wins=2)
    other = answers([f"quite another {i}" for i in range(30)])
    message = refusal(BlindComparison, two()[0], other, 20, store=store)
    assert "blind.sqlite3" in message and "another store" in message


def test_a_simulated_person_can_choose_in_a_notebook_without_a_front_end():
    blind = comparison(10)
    likes_long = Labeller("likes long", {"long": 1.0}, noise=0.0)

    def judge(prompt, text):
        return Mark(0.0, {"long": float(text.startswith("long"))})

    assert rank_headless(blind.session(), likes_long, judge) == 10
    assert blind.result().wins == 10


def test_what_models_wrote_is_escaped():
    blind = BlindComparison(answers(["<script>1</script>"]), answers(["\x1b[31mred"]))
    page = blind._repr_mimebundle_()[0]["text/html"]
    assert "<script" not in page and "&lt;script&gt;" in page and "\x1b" not in page


# ---- what it comes to -------------------------------------------------------------------------


def test_the_outcome_in_words():
    text = str(Outcome("SFT", "policy", wins=14, ties=0, losses=6))
    assert text.startswith("After 20 choices: 14 for policy, 6 for SFT, no ties.")
    assert "policy wins 70 %" in text and "46 to 88 %" in text
    assert "could be chance" in text and "12 of 100" in text and "p = 0.115" in text
    assert "a true 60 % in 13 of 100" in text and "about 199 choices" in text


def test_an_outcome_that_is_hardly_chance_names_the_better_one():
    better = str(Outcome("SFT", "policy", wins=15, ties=0, losses=5))
    assert "hardly chance" in better and "You prefer policy." in better and "p = 0.041" in better
    worse = str(Outcome("SFT", "policy", wins=0, ties=3, losses=17))
    assert "You prefer SFT." in worse and "p < 0.001" in worse


def test_before_the_end_it_tells_only_who_asks():
    outcome = dict(first="SFT", second="policy", wins=3, ties=0, losses=1, left=16)
    assert str(Outcome(**outcome)) == ("4 choices made. 16 to go; the result is shown at the end.")
    assert str(Outcome(**outcome, asked=True)).startswith("After 4 of 20 choices: 3 for policy")
