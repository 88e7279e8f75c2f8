"""Variants: other numbers for each student, on which the same answers are right and wrong."""

import functools
import os

import pytest
import torch
from test_answers import FILES
from test_exercises import EXERCISES, WITH_GRADIENT, _gradient_at

from rlhf_lab.course.exercises import check
from rlhf_lab.course.exercises.examine import judge
from rlhf_lab.course.exercises.variants import varied

SEEDS = os.environ.get("VARIANTS", "k7f3").split()  # more: VARIANTS="a b c" pytest ...
each_variant = pytest.mark.parametrize("seed", SEEDS)
each = pytest.mark.parametrize("name", EXERCISES)


@functools.cache
def variant_of(name, seed):
    return varied(EXERCISES[name], seed)


def answers(kind, name):
    return [answer for file in FILES for answer in getattr(file, kind).get(name, [])]


@each_variant
@each
def test_right_answers_are_right(name, seed):
    for number, function in enumerate(answers("RIGHT", name)):
        result = judge(variant_of(name, seed), function, own=True)
        assert result.right, f"{number}: {result.text}"


@each_variant
@each
def test_wrong_answers_are_wrong_and_named(name, seed):
    for number, (function, words) in enumerate(answers("WRONG", name)):
        text = judge(variant_of(name, seed), function, own=True).text
        assert words in text and "There are two mistakes" not in text, f"{number} {words}: {text}"


@each_variant
@each
def test_two_mistakes_are_told_as_two(name, seed):
    for number, (function, words) in enumerate(answers("TWO", name)):
        text = judge(variant_of(name, seed), function, own=True).text
        assert "There are two mistakes. The first: " in text, f"{number} {words}: {text}"
        assert any(some in text for some in words.split("|")), f"{number} {words}: {text}"


@each_variant
@each
def test_every_usual_mistake_is_told_by_its_own_sentence(name, seed):
    exercise = variant_of(name, seed)
    for some in exercise.mistakes:
        assert some.sentence in judge(exercise, exercise.written(some)).text


@each
def test_variants_have_other_inputs_and_other_right_answers(name):
    variants = [variant_of(name, seed) for seed in ("k7f3", "b", "c")]
    answers = [[v.right(*case.inputs.values()) for case in v.cases] for v in variants]
    assert len({str(v.cases) for v in variants}) == 3
    assert len({str(each) for each in answers}) > 1  # two may agree by chance


def test_a_variant_is_always_the_same_and_none_is_the_exercise_itself():
    whiten = EXERCISES["whiten"]
    assert str(varied(whiten, "k7f3").cases) == str(variant_of("whiten", "k7f3").cases)
    assert varied(whiten, "") is whiten


@each
def test_what_is_no_number_stays(name):
    if EXERCISES[name].draw:
        return
    for case, old in zip(variant_of(name, "k7f3").cases, EXERCISES[name].cases):
        assert case.name == old.name
        for key, x in case.inputs.items():
            before = old.inputs[key]
            if not isinstance(x, torch.Tensor) or not x.is_floating_point():
                assert x is before
                continue
            odd = ~before.isfinite()
            assert torch.equal(x.sign().nan_to_num(9), before.sign().nan_to_num(9))
            assert torch.equal(x[odd].nan_to_num(9), before[odd].nan_to_num(9))
            rank, old_rank = (y[~odd].unique(return_inverse=True)[1] for y in (x, before))
            assert torch.equal(rank, old_rank)


@pytest.mark.parametrize("exercise", WITH_GRADIENT, ids=lambda exercise: exercise.name)
def test_no_case_of_a_variant_lies_on_a_kink(exercise):
    for case in variant_of(exercise.name, "k7f3").cases:
        before = _gradient_at(exercise, case.inputs)
        for name, x in case.inputs.items():
            if not isinstance(x, torch.Tensor) or not x.is_floating_point():
                continue
            for nudge in torch.eye(x.numel()).view(-1, *x.shape):
                after = _gradient_at(exercise, {**case.inputs, name: x + 1e-4 * nudge})
                assert (after - before).abs().max() < 0.01 * max(before.abs().max(), 1e-9)


# ---- the check -----------------------------------------------------------------------------------


def test_a_check_tries_a_variant_and_then_what_is_hidden():
    right = EXERCISES["gae"].right
    own, hidden = varied(EXERCISES["gae"], "k7f3"), varied(EXERCISES["gae"], "secret")
    known = {str(case.inputs): right(*case.inputs.values()) for case in own.cases}

    def by_heart(rewards, values, mask, gamma, lam):
        given = dict(rewards=rewards, values=values, mask=mask, gamma=gamma, lam=lam)
        return known.get(str(given), (torch.zeros(()), torch.zeros(())))

    assert check.gae(check.variant(by_heart, "k7f3")).right
    found = check.gae(check.variant(by_heart, "k7f3", "secret"))
    assert not found.right and "It is right on the inputs you know, but not on" in found.text
    assert not check.gae(check.variant(by_heart, "other")).right
    assert not check.gae(by_heart).right
    honest = answers("RIGHT", "gae")[0]
    assert check.gae(check.variant(honest, "k7f3", "secret")).right
    assert hidden.cases[0].inputs["rewards"].tolist() != own.cases[0].inputs["rewards"].tolist()


def test_what_a_check_prints_holds_the_numbers_of_the_variant():
    wrong, words = answers("WRONG", "kl_rewards")[0]
    texts = [check.kl_rewards(check.variant(wrong, seed)).text for seed in ("a", "b", "")]
    assert len(set(texts)) == 3
    assert all(words in text for text in texts)
