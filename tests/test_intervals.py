"""Intervals against numbers worked by hand, another implementation, enumeration and simulation."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from rlhf_lab import intervals
from rlhf_lab.compare.measure import paired_shares
from rlhf_lab.evaluate import win_rate
from rlhf_lab.intervals import exact_interval

# ---- by prompt --------------------------------------------------------------------------------


def test_interval_counts_each_prompt_once():
    table = torch.tensor([[1.0, 3.0], [5.0, 7.0], [4.0, 4.0]])  # means 2, 6, 4: sd 2
    mean, low, high = intervals.interval(table)
    assert mean == pytest.approx(4)
    half = 4.302653 * 2 / math.sqrt(3)  # Student's t with two degrees of freedom
    assert (low, high) == pytest.approx((4 - half, 4 + half))


def test_repeating_a_response_does_not_narrow_the_interval():
    table = torch.tensor([[1.0], [2.0], [6.0]])
    assert intervals.interval(table.repeat(1, 50)) == pytest.approx(intervals.interval(table))


@pytest.mark.parametrize("prompts", [5, 10, 40])
def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says(prompts):
    """The three responses to a prompt share its difficulty; the truth is 6. The normal quantile
    held it in 88 of 100 cases with five prompts."""
    rng = torch.Generator().manual_seed(prompts)
    held = 0
    for _ in range(2000):
        difficulty = torch.randn(prompts, 1, generator=rng)
        table = 6 + difficulty + 0.7 * torch.randn(prompts, 3, generator=rng)
        _, low, high = intervals.interval(table)
        held += low <= 6 <= high
    assert 0.935 <= held / 2000 <= 0.965


@pytest.mark.parametrize("prompts, wins", [(40, 0.97), (40, 0.8), (200, 0.97), (10, 0.9)])
def test_the_interval_of_a_win_rate_holds_the_truth_near_one_too(prompts, wins):
    """Two responses to a prompt against two of a rival: prompts differ in how often the policy
    wins, `wins` on average. Taken as a mean, 40 prompts at .97 held it in 70 of 100 cases."""
    rng = np.random.default_rng(prompts)
    held = 0
    for _ in range(400):
        chance = rng.beta(5 * wins, 5 * (1 - wins), (prompts, 1))
        marks = torch.tensor(rng.random((prompts, 2)) < chance).float()
        _, low, high = win_rate(marks, torch.full((prompts, 2), 0.5))
        held += low <= wins <= high
    assert held / 400 >= 0.925


def test_all_wins_are_no_certainty():
    rate, low, high = win_rate(torch.ones(40, 2), torch.zeros(40, 2))
    assert rate == high == 1 and 0.85 < low < 0.95


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_the_interval_of_a_difference_of_shares_holds_the_truth(share):
    """A flaw that one model has in this share of its responses, and the other half as often."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        mine = torch.tensor(rng.random((60, 2)) < share)
        other = torch.tensor(rng.random((60, 2)) < share / 2)
        _, low, high = paired_shares(mine, other)
        held += low <= share / 2 <= high
    assert held / 400 >= 0.925
    assert paired_shares(torch.zeros(60, 2), torch.zeros(60, 2))[2] > 0.02


def test_ratio_interval_holds_the_ratio():
    few, many = torch.tensor([[0.0, 1, 0, 0]] * 40), torch.tensor([[1.0, 1, 0, 0]] * 40)
    assert intervals.ratio_interval(few, many) == pytest.approx((0.5, 0.5, 0.5))
    ratio, low, high = intervals.ratio_interval(few[torch.randperm(40)] * torch.rand(40, 1), many)
    assert low < ratio < high


def test_a_share_is_the_ratio_of_the_sums_and_its_interval_depends_on_the_seed_alone():
    first = intervals.share_interval([1, 2, 0.5], [2, 2, 1], seed=1)
    assert first[0] == pytest.approx(3.5 / 5)
    assert first == intervals.share_interval([1, 2, 0.5], [2, 2, 1], seed=1)
    assert first != intervals.share_interval([1, 2, 0.5], [2, 2, 1], seed=2)
    assert all(map(np.isnan, intervals.share_interval([], [])))


def test_more_pairs_of_the_same_prompts_make_no_interval_narrower():
    parts = np.random.default_rng(0).binomial(6, 0.7, 40)
    assert intervals.share_interval(parts, np.full(40, 6)) == pytest.approx(
        intervals.share_interval(parts * 10, np.full(40, 60))
    )


@pytest.mark.parametrize("prompts", [10, 30, 100])
def test_intervals_hold_the_truth_as_often_as_they_say(prompts):
    """Prompts differ in difficulty, so that the six pairs of one are alike; the truth is 3/4."""
    rng = np.random.default_rng(prompts)
    held = 0
    for _ in range(300):
        agreed = rng.binomial(6, rng.beta(3, 1, prompts))
        _, low, high = intervals.share_interval(agreed, np.full(prompts, 6))
        held += low <= 0.75 <= high
    assert 0.93 <= held / 300 < 1


def test_the_interval_of_a_share_holds_the_truth_where_most_prompts_have_no_pair():
    """As of pairs that differ in correctness alone: some 90 at 45 of 500 prompts; the truth .9."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        pairs = rng.binomial(1, 0.09, 500) * rng.integers(1, 4, 500)
        right = rng.binomial(pairs, rng.beta(4.5, 0.5, 500))
        _, low, high = intervals.share_interval(right, pairs)
        held += low <= 0.9 <= high
    assert held / 300 >= 0.92


def test_full_agreement_on_few_prompts_is_no_certainty():
    value, low, high = intervals.share_interval(np.ones(10), np.ones(10))
    assert value == high == 1
    assert low == pytest.approx(0.72, abs=0.07)  # Wilson's interval: 0.722


def test_a_median_and_its_interval():
    value, low, high = intervals.median_interval(range(100), range(100))
    assert value == 49.5
    # The order statistics between which the median lies with 95 %: the 40th and the 61st.
    assert (low, high) == pytest.approx((39, 60), abs=3)
    assert intervals.median_interval([5.0, 1, 3], ["p", "p", "p"])[0] == 3


def test_none_of_forty_prompts_is_not_never():
    """The rule of three: with none of n seen, up to about 3 / n goes unnoticed (95 %)."""
    estimate, low, high = intervals.share_interval(torch.zeros(40))
    assert (estimate, low) == (0, 0) and 1 / 40 < high < 4.5 / 40
    estimate, low, high = intervals.share_interval(torch.ones(40))
    assert (estimate, high) == (1, 1) and 1 - 4.5 / 40 < low < 1 - 1 / 40


# ---- independent choices ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wins, losses, p",
    [
        (14, 6, 0.11532),
        (6, 14, 0.11532),
        (15, 5, 0.04139),
        (5, 0, 0.0625),
        (6, 0, 0.03125),
        (10, 10, 1.0),
        (0, 0, 1.0),
    ],
)
def test_the_sign_test_against_known_numbers(wins, losses, p):
    assert intervals.sign_test(wins, losses) == pytest.approx(p, abs=5e-6)


@pytest.mark.parametrize(
    "wins, losses, low, high",
    [
        (14, 6, 0.45721, 0.88107),
        (15, 5, 0.50895, 0.91343),
        (20, 0, 0.025 ** (1 / 20), 1.0),
        (0, 10, 0.0, 1 - 0.025 ** (1 / 10)),
        (1, 0, 0.025, 1.0),
    ],
)
def test_the_interval_against_clopper_and_pearson(wins, losses, low, high):
    share = exact_interval(wins, 0, losses)
    assert share == pytest.approx((wins / (wins + losses), low, high), abs=5e-6)


def test_ties_count_half_and_never_narrow_the_interval():
    share, low, high = exact_interval(6, 4, 10)
    assert share == pytest.approx(0.4)  # (6 + 2) / 20, as with 8 wins and 12 losses
    assert (low, high) == pytest.approx(exact_interval(8, 0, 12)[1:])
    _, low, high = exact_interval(6, 5, 9)  # 8.5 of 20: from 8 at one end to 9 at the other
    assert low == exact_interval(8, 0, 12)[1] and high == exact_interval(9, 0, 11)[2]
    share, low, high = exact_interval(0, 0, 0)
    assert math.isnan(share) and (low, high) == (0, 1)


@pytest.mark.parametrize("choices", [1, 4, 9, 12])
def test_the_interval_holds_the_true_share_in_95_of_100_cases_whatever_the_ties(choices):
    """By enumeration of every outcome of wins, ties and losses."""
    ends = {
        (w, t): exact_interval(w, t, choices - w - t)[1:]
        for w in range(choices + 1)
        for t in range(choices + 1 - w)
    }
    for win, tie in product((0, 0.1, 0.3, 0.5, 0.75, 1), (0, 0.2, 0.5, 0.9)):
        loss = 1 - win - tie
        if loss < 0:
            continue
        held = sum(
            math.comb(choices, w)
            * math.comb(choices - w, t)
            * win**w
            * tie**t
            * loss ** (choices - w - t)
            for (w, t), (low, high) in ends.items()
            if low - 1e-9 <= win + tie / 2 <= high + 1e-9
        )
        assert held >= 0.95


def test_power_is_that_of_enumeration_in_whole_numbers():
    """Of 20 choices it takes 15, or 5 and fewer, to reject; the sum in exact fractions."""
    assert intervals.wins_needed(20) == 15 and intervals.wins_needed(5) is None
    share = Fraction(3, 5)
    exact = sum(
        math.comb(20, k) * share**k * (1 - share) ** (20 - k)
        for k in range(21)
        if k >= 15 or k <= 5
    )
    assert intervals.power(20, 0.6) == pytest.approx(float(exact), abs=1e-12)
    assert intervals.power(20, 1.0) == 1 and intervals.power(5, 0.9) == 0


def test_how_many_choices_tell_60_from_50_percent():
    needed = intervals.choices_needed(0.6, 0.8)
    # The normal approximation, ((1.96 * .5 + .8416 * sqrt(.24)) / .1) ** 2 = 194, is a little low.
    assert needed == 199
    assert intervals.power(needed, 0.6) >= 0.8 > intervals.power(needed - 1, 0.6)
    assert intervals.choices_needed(0.501, most=50) is None


@pytest.mark.parametrize("wins, losses", [(0, 7), (1, 0), (9, 3), (40, 60), (700, 300)])
def test_exact_and_wilson_intervals_are_those_of_scipy(wins, losses):
    other = binomtest(wins, wins + losses)
    ends = other.proportion_ci(method="exact")
    assert exact_interval(wins, 0, losses)[1:] == pytest.approx(ends, abs=1e-9)
    share, *ends = intervals.wilson_interval(wins / (wins + losses), wins + losses)
    assert share == wins / (wins + losses)  # scipy has more digits of 1.96
    assert ends == pytest.approx(other.proportion_ci(method="wilson"), abs=1e-5)


def test_wilson_intervals_of_none_and_of_all_end_there():
    for count in range(1, 200):
        assert intervals.wilson_interval(0.0, count)[1] == 0.0
        assert intervals.wilson_interval(1.0, count)[2] == 1.0
