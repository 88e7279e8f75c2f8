"""A reward of the learner's own: what is said of it before training."""

import math
import time

import numpy as np
import pytest
import torch

from rlhf_lab.course.own_reward import as_scorer, number_of, title_of, written
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import Responses
from rlhf_lab.records import Prompt

PROMPTS = [Prompt(str(i), f"Customer: {i}?\nAgent:") for i in range(3)]
TEXTS = [["Hello there."], ["No."], ["Please wait a bit."]]


@pytest.fixture
def answers():
    return Responses(PROMPTS, TEXTS, None, torch.ones(3, 1))  # a reward reads the texts alone


def words(prompt, text):
    """Counts words.

    More of them is better."""
    return len(text.split())


def test_scores_are_in_standard_deviations_of_the_sft_policys(answers):
    scorer = as_scorer(words, answers)  # 2, 1 and 4 words
    scores = torch.tensor(scorer(PROMPTS, [text for [text] in TEXTS]))
    assert scores.mean() == pytest.approx(0, abs=1e-6) and scores.std() == pytest.approx(1)
    assert scorer(PROMPTS[:1], ["one two three"])[0] == pytest.approx((3 - 7 / 3) / 7**0.5 * 3**0.5)


@pytest.mark.parametrize(
    "value, number",
    [
        (2, 2.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.bool_(True), 1.0),
        (np.array([3]), 3.0),
        (torch.tensor(-1.5), -1.5),
        (torch.tensor([[4]]), 4.0),
    ],
)
def test_any_single_number_is_a_reward(value, number):
    assert number_of(lambda prompt, text: value, "", "") == number


@pytest.mark.parametrize(
    "value, words",
    [
        (None, "returned None for the answer 'Hi': is a return missing?"),
        ("much", "returned 'much' for the answer 'Hi': return one number"),
        ([1.0], "return one number"),
        (torch.ones(2), "return one number"),
        (np.ones(2), "return one number"),
        (1j, "return one number"),
        (math.nan, "returned nan for the answer 'Hi': return a finite number"),
        (-math.inf, "returned -inf"),
        (10**400, "returned inf"),
        (1e300, "below a billion"),
    ],
)
def test_anything_else_is_refused_with_the_answer_that_got_it(value, words):
    with pytest.raises(UserError) as refused:
        number_of(lambda prompt, text: value, "Customer: Hm?", "Hi")
    assert words in str(refused.value)


def test_a_reward_that_stops_is_told_with_its_error():
    def my_reward(prompt, text):
        return 1 / len(text)

    with pytest.raises(
        UserError, match="my_reward stopped for the answer '' with ZeroDivisionError"
    ):
        number_of(my_reward, "", "")


def test_it_is_tried_on_an_empty_answer_before_training(answers):
    with pytest.raises(UserError, match="stopped for the answer '' with IndexError.*empty one"):
        as_scorer(lambda prompt, text: float(text[0] == "H"), answers)


def test_a_reward_that_cannot_teach_is_refused(answers):
    with pytest.raises(UserError, match="gives 1 to every one of 3 answers"):
        as_scorer(lambda prompt, text: 1, answers)
    count = iter(range(1000))
    with pytest.raises(UserError, match="two different numbers for the same answer"):
        as_scorer(lambda prompt, text: next(count), answers)
    with pytest.raises(UserError, match="without brackets"):
        as_scorer(3.0, answers)


def test_a_slow_reward_is_refused_after_a_few_answers(answers):
    asked = []

    def my_reward(prompt, text):
        asked.append(text)
        time.sleep(0.1)
        return len(text)

    with pytest.raises(UserError, match="seconds for one answer, and a run asks for a thousand"):
        as_scorer(my_reward, answers)
    assert len(asked) == 3


def test_the_sample_takes_the_place_of_a_reward_that_is_not_written(answers):
    def my_reward(prompt, text):
        raise NotImplementedError

    said = []
    assert written(my_reward, words, said.append) is words
    assert written(words, my_reward, said.append) is words
    broken = lambda prompt, text: 1 / 0  # noqa: E731
    assert written(broken, words, said.append) is broken  # as_scorer says what is wrong
    assert "not written yet: a sample takes its place (Counts words.)" in said[0]
    assert "your own reward: Counts words." in said[1]


def test_a_reward_is_called_what_its_docstring_says():
    assert title_of(words) == "Counts words." and title_of(len).startswith("Return")
    assert title_of(lambda prompt, text: 0) == "<lambda>"
