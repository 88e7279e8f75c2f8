"""DPO, groups and best-of-n against numbers worked by hand and enumeration."""

import itertools
import math

import pytest
import torch
from doubles import close, random, t
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lab import maths as m
from rlhf_lab.errors import UserError

LN2 = math.log(2)
quick = settings(max_examples=25, deadline=None, derandomize=True)


# ---- other roads ---------------------------------------------------------------------------------


def test_dpo_loss():
    close(m.dpo_loss(t(-5), t(-9), t(-5), t(-9)), LN2)
    close(m.dpo_loss(t(-4), t(-10), t(-5), t(-9), dpo_beta=0.1), 0.598139, atol=5e-7)
    close(m.dpo_loss(t(-10), t(-4), t(-9), t(-5), dpo_beta=0.1), 0.798139, atol=5e-7)


def test_dpo_with_unequal_lengths_equals_one_at_a_time():
    chosen, rejected, ref_chosen, ref_rejected = (random(2, 5, seed=seed) for seed in range(4))
    chosen_mask = torch.arange(5) < torch.tensor([[2], [5]])
    rejected_mask = torch.arange(5) < torch.tensor([[4], [1]])
    batched = m.dpo_loss(
        m.masked_sum(chosen, chosen_mask),
        m.masked_sum(rejected, rejected_mask),
        m.masked_sum(ref_chosen, chosen_mask),
        m.masked_sum(ref_rejected, rejected_mask),
    )
    margins = [
        (chosen - ref_chosen)[i, :c].sum() - (rejected - ref_rejected)[i, :r].sum()
        for i, (c, r) in enumerate([(2, 4), (5, 1)])
    ]
    close(batched, sum(math.log1p(math.exp(-0.1 * margin)) for margin in margins) / 2)


@pytest.mark.parametrize(
    "advantages, expected, atol",
    [
        (m.grpo_advantages, [1.4997, -0.4999, -0.4999, -0.4999], 5e-5),
        (m.rloo_advantages, [1, -1 / 3, -1 / 3, -1 / 3], 1e-9),
        (m.dr_grpo_advantages, [0.75, -0.25, -0.25, -0.25], 1e-9),
    ],
)
def test_group_advantages(advantages, expected, atol):
    close(advantages(t([1, 0, 0, 0], [0, 0, 0, 0], [0.1] * 4)), [expected, [0] * 4, [0] * 4], atol)


def test_leave_one_out_is_the_mean_of_the_others():
    scores = random(3, 5)
    others = torch.stack([scores[:, [j for j in range(5) if j != i]].mean(1) for i in range(5)], 1)
    close(m.rloo_advantages(scores), scores - others)


# ---- best-of-n and over-optimisation -------------------------------------------------------------


@pytest.mark.parametrize("n, bound", [(1, 0), (4, 0.6363), (16, 1.8351), (64, 3.1745)])
def test_best_of_n_bound(n, bound):
    assert m.best_of_n_kl_bound(n) == pytest.approx(bound, abs=5e-5)


def test_best_of_n_kl_of_eight_equiprobable_responses():
    eight = m.best_of_n_kl_estimate(torch.arange(8), n=64)
    close(eight, 2.08, atol=5e-3)
    close(m.best_of_n_kl_estimate(torch.arange(8).repeat_interleave(5), n=64), eight)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_kl_by_enumeration(n):
    """Three responses of probability 1/2, 1/3, 1/6: KL of the best-of-n's own distribution."""
    chances = {0.0: 1 / 2, 1.0: 1 / 3, 2.0: 1 / 6}
    best = dict.fromkeys(chances, 0.0)
    for draw in itertools.product(chances, repeat=n):
        best[max(draw)] += math.prod(chances[s] for s in draw)
    expected = sum(q * math.log(q / chances[s]) for s, q in best.items())
    scores = torch.tensor([1.0, 0, 0, 2, 1, 0])
    close(m.best_of_n_kl_estimate(scores, n), expected)
    assert expected <= m.best_of_n_kl_bound(n) + 1e-12


def test_best_of_n_kl_without_ties_nears_the_bound_from_below():
    scores = random(2, 200, seed=5)
    estimate = m.best_of_n_kl_estimate(scores, n=4)
    assert estimate.shape == (2,)
    close(estimate, [m.best_of_n_kl_bound(4)] * 2, atol=1e-4)
    assert (estimate < m.best_of_n_kl_bound(4)).all()
    close(m.best_of_n_kl_estimate(torch.zeros(9), n=4), 0)


def test_best_of_n_value_by_hand():
    scores = t(1, 2, 3, 4)
    close(m.best_of_n_value(scores, scores, 2), 3.3333, atol=5e-5)
    close(m.best_of_n_value(scores, scores, 1), 2.5)
    close(m.best_of_n_value(scores, scores, 4), 4)
    # The best by score may be the worst by mark: sorting on the mark would hide it.
    close(m.best_of_n_value(scores, -scores, 4), -4)


@quick
@given(
    samples=st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=6),
    n=st.integers(1, 6),
)
def test_best_of_n_value_equals_the_mean_over_subsets(samples, n):
    n = min(n, len(samples))
    expected = []
    for subset in itertools.combinations(samples, n):
        top = [mark for score, mark in subset if score == max(s for s, _ in subset)]
        expected.append(sum(top) / len(top))
    scores, marks = torch.tensor(samples).T
    close(m.best_of_n_value(scores, marks, n), sum(expected) / len(expected))


def test_best_of_n_value_takes_a_batch_and_large_m():
    scores = torch.stack([torch.arange(600.0), torch.zeros(600)])
    marks = torch.arange(600.0).expand(2, 600)
    close(m.best_of_n_value(scores, marks, 300), [601 * 300 / 301 - 1, 299.5], atol=1e-6)


@pytest.mark.parametrize("n", [0, 4])
def test_best_of_n_value_needs_enough_samples(n):
    with pytest.raises(UserError, match=f"n = {n} needs 1 <= n <= 3"):
        m.best_of_n_value(torch.zeros(3), torch.zeros(3), n)


def test_over_optimisation_peaks():
    d = torch.linspace(0, 30, 30_001, dtype=torch.float64)
    bon, rl = m.overoptimisation_bon(d, 1.2, 0.3), m.overoptimisation_rl(d, 1.2, 0.3)
    close(d[bon.argmax()], 2.0)
    close(bon.max(), 1.2)
    close(d[rl.argmax()], 20.09, atol=5e-3)
    close(rl.max(), 6.026, atol=5e-4)
    assert bon[0] == 0 and rl[0] == 0
