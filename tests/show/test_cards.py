"""Answers as cards: what they show, that texts are escaped and bounded, and the plain form."""

import html
import re

import pytest
import torch

from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import Responses
from rlhf_lab.records import Mark, Prompt, Ranking
from rlhf_lab.show.cards import LONGEST, MOST, WIDTH, Card, Cards, cards_of, ranked

PROMPT = Prompt("1", "Customer: It does not charge.\nAgent:")
MARK = Mark(6.25, {}, reasons=("right step", "no greeting"))


def words(cards: Cards) -> str:
    """What a reader of the page sees, without its elements."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", cards._repr_html_())).split())


def responses(texts, marks=None, prompts=(PROMPT,)):
    return Responses(list(prompts), texts, None, torch.ones(len(texts), len(texts[0])), marks)


def test_a_card_shows_prompt_title_mark_score_response_and_reasons():
    cards = Cards([(PROMPT, [Card("Clean it.", "SFT", MARK, score=-0.004)])])
    shown = (
        "Customer: It does not charge. SFT mark 6.2 score 0.00 Clean it. right step; no greeting"
    )
    assert words(cards) == shown
    assert str(cards).splitlines() == [
        "Customer: It does not charge.",
        "  [SFT  mark 6.2  score 0.00]",
        "    Clean it.",
        "      right step; no greeting",
    ]
    assert repr(cards) == str(cards)


def test_reasons_given_stand_in_for_those_of_the_mark():
    card = Card("Clean it.", mark=MARK, reasons=["read by a person"])
    assert "read by a person" in words(Cards([("?", [card])]))
    assert "right step" not in words(Cards([("?", [card])]))


def test_many_words_of_reasons_are_a_line_each():
    reasons = ["no greeting: " + "says none of these " * 4, "no promises: says 'full refund'"]
    lines = str(Cards([("?", [Card("Clean it.", reasons=reasons)])])).splitlines()
    assert [line.strip()[:14] for line in lines if "–" in line] == [
        "– no greeting:",
        "– no promises:",
    ]


def test_a_card_without_a_judge_has_neither_mark_nor_reasons():
    assert words(Cards([("Hello?", [Card("Hello.")])])) == "Hello? Hello."


@pytest.mark.parametrize("place", ["prompt", "response", "title", "reason"])
def test_text_of_models_and_people_is_escaped(place):
    evil = "</div><script>x</script>\x1b[2J\u202e"
    given = {"prompt": "?", "response": "a", "title": "t", "reason": "r"} | {place: evil}
    card = Card(given["response"], given["title"], reasons=[given["reason"]])
    page = Cards([(given["prompt"], [card])])._repr_html_()
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page
    assert "&lt;script&gt;" in page and "⟨U+001B⟩" in page
    assert "\x1b" not in str(Cards([(given["prompt"], [card])]))


def test_long_texts_and_many_prompts_are_cut_and_say_so():
    cards = Cards([("?", [Card("a" * (LONGEST + 7))])])
    assert "… (7 more characters)" in words(cards) and words(cards).count("a" * LONGEST) == 1
    many = Cards([(f"question {i}.", []) for i in range(MOST + 3)])
    assert f"question {MOST - 1}." in words(many) and f"question {MOST}." not in words(many)
    assert words(many).endswith("… and 3 more prompts") and str(many).endswith("3 more prompts")


def test_plain_text_breaks_between_words_and_only_then_inside_one():
    text = "seventeen letters " * 20 + "x" * 200
    lines = str(Cards([("?", [Card(text)])])).splitlines()[1:]
    assert max(map(len, lines)) <= WIDTH
    whole = [line.strip() for line in lines if "x" not in line]
    assert set(" ".join(whole).split()) == {"seventeen", "letters"}


def test_an_empty_answer_is_said_to_be_empty():
    assert "(no text)" in words(Cards([("?", [Card(" \n")])]))


def test_a_ranking_is_shown_from_best_to_worst_with_unranked_ones_last():
    ranking = Ranking(PROMPT, ("c", "a", "u", "b"), (2, 1, None, 1))
    titles = re.findall(r"\[(.*?)\]", str(ranked(ranking, scores=torch.tensor([1.0, 2, 3, 4]))))
    assert titles == [
        "rank 1  score 2.00",
        "rank 1  score 4.00",
        "rank 2  score 1.00",
        "unranked  score 3.00",
    ]


def test_answers_of_models_stand_beside_each_other_under_their_prompt():
    other = Prompt("2", "Customer: And now?\nAgent:")
    sft = responses([["a1", "a2"], ["b1", "b2"]], prompts=(PROMPT, other))
    policy = responses([["c"], ["d"]], [[MARK], [MARK]], prompts=(PROMPT, other))
    shown = words(cards_of({"SFT": sft, "policy": policy}, {"policy": [[1.5], [2.5]]}))
    assert "charge. SFT a1 SFT a2 policy mark 6.2 score 1.50 c" in shown
    assert "now? SFT b1 SFT b2 policy mark 6.2 score 2.50 d" in shown
    assert words(cards_of(policy)).count("policy") == 0


def test_models_that_answered_different_prompts_are_refused():
    other = responses([["a"]], prompts=(Prompt("1", "Another?"),))
    with pytest.raises(UserError, match="'policy' answered other prompts than 'SFT'"):
        cards_of({"SFT": responses([["a"]]), "policy": other})
