"""Losses, accuracy and calibration of rankings against loops and numbers worked by hand."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from doubles import close, random, t
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lab import maths as m
from rlhf_lab.errors import UserError

LN2 = math.log(2)
quick = settings(max_examples=25, deadline=None, derandomize=True)


# ---- ranking losses ------------------------------------------------------------------------------


def test_pair_loss_does_not_overflow():
    close(m.pair_loss(t(-100), t(0)), 100)
    close(m.pair_loss(t(0), t(0)), LN2)
    assert m.pair_loss(torch.tensor([-1e4]), torch.tensor([0.0])) == 1e4
    assert 0 < m.pair_loss(t(30), t(0)) < 1e-12


def test_pair_loss_agrees_with_binary_cross_entropy():
    chosen, rejected = random(7, seed=1), random(7, seed=2)
    expected = F.binary_cross_entropy_with_logits(chosen - rejected, torch.ones(7).double())
    close(m.pair_loss(chosen, rejected), expected)


def test_loss_of_a_ranking_of_four():
    scores, ranks = t([2, 1, 0, -1]), torch.tensor([[1, 2, 3, 4]])
    close(m.kwise_loss(scores, ranks), 0.207038, atol=5e-7)


def test_loss_of_equal_scores():
    scores, ranks = torch.full((2, 4), 3.0).double(), torch.tensor([[1, 2, 3, 4], [4, 2, 1, 3]])
    close(m.kwise_loss(scores, ranks), LN2)


def test_comparisons_with_ties_unranked_and_absent():
    beats = m.comparisons(torch.tensor([[2, 1, 2, m.UNRANKED, m.UNRANKED, m.ABSENT]]))
    expected = torch.zeros(6, 6, dtype=torch.bool)
    for i, j in [(1, 0), (1, 2), (0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4)]:
        expected[i, j] = True
    assert torch.equal(beats[0], expected)


def brute_force_kwise(scores, ranks, soft_ties):
    prompts = []
    for s, r in zip(scores.tolist(), ranks.tolist()):
        losses = []
        for i, j in itertools.combinations(range(len(s)), 2):
            a = math.inf if r[i] == m.UNRANKED else r[i]
            b = math.inf if r[j] == m.UNRANKED else r[j]
            if m.ABSENT in (a, b) or a == b == math.inf:
                continue
            up, down = math.log1p(math.exp(s[j] - s[i])), math.log1p(math.exp(s[i] - s[j]))
            if a != b:
                losses.append(up if a < b else down)
            elif soft_ties:
                losses.append((up + down) / 2)
        if losses:
            prompts.append(sum(losses) / len(losses))
    return sum(prompts) / len(prompts) if prompts else 0.0


@quick
@given(
    ranks=st.lists(st.lists(st.integers(-1, 4), min_size=4, max_size=4), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    soft_ties=st.booleans(),
)
def test_kwise_loss_equals_a_loop_over_pairs(ranks, seed, soft_ties):
    ranks, scores = torch.tensor(ranks), random(len(ranks), 4, seed=seed)
    garbage = scores.masked_fill(ranks == m.ABSENT, math.nan)
    close(m.kwise_loss(garbage, ranks, soft_ties), brute_force_kwise(scores, ranks, soft_ties))


def test_a_prompt_weighs_the_same_however_many_pairs_it_has():
    scores = t([2, 1, 0, -1], [5, 5, 0, 0])
    ranks = torch.tensor([[1, 2, 3, 4], [1, 2, -1, -1]])
    close(m.kwise_loss(scores, ranks), (0.207038 + LN2) / 2, atol=5e-7)


@pytest.mark.parametrize("empty", [[0, 0, 0], [1, 1, 1], [-1, -1, -1], [1, -1, -1], [2, 2, -1]])
def test_a_prompt_without_comparisons_is_not_counted(empty):
    scores, ranks = t([2, 1, 0], [9, -9, 3]), torch.tensor([[1, 2, 3], empty])
    scores = scores.masked_fill(ranks == m.ABSENT, math.nan).requires_grad_()
    close(m.kwise_loss(scores, ranks).detach(), m.kwise_loss(scores[:1], ranks[:1]).detach())
    nothing = m.kwise_loss(scores[1:], ranks[1:])
    (gradient,) = torch.autograd.grad(nothing, scores)
    assert nothing == 0
    close(gradient, torch.zeros(2, 3), atol=0)


def test_prompts_are_counted_as_the_loss_counts_them():
    ranks = torch.tensor([[1, 2], [1, 1], [m.UNRANKED, m.UNRANKED], [1, m.ABSENT]])
    assert m.prompts_compared(ranks) == 1
    assert m.prompts_compared(ranks, soft_ties=True) == 2


def test_soft_ties_cost_ln_2_at_least_and_pull_together():
    ranks = torch.tensor([[1, 1]])
    close(m.kwise_loss(t([3, 3]), ranks, soft_ties=True), LN2)
    scores = t([1, -1]).requires_grad_()
    loss = m.kwise_loss(scores, ranks, soft_ties=True)
    loss.backward()
    close(loss.detach(), math.log1p(math.exp(2)) - 1)
    close(scores.grad, [[math.tanh(1) / 2, -math.tanh(1) / 2]])
    close(m.kwise_loss(t([1, -1]), ranks), 0)


def test_kwise_of_two_is_the_pair_loss():
    scores = random(6, 2)
    ranks = torch.tensor([[1, 2], [2, 1]]).repeat(3, 1)
    chosen = scores.gather(1, ranks.argmin(1, keepdim=True))
    rejected = scores.gather(1, ranks.argmax(1, keepdim=True))
    close(m.kwise_loss(scores, ranks), m.pair_loss(chosen, rejected))


def test_kwise_loss_ignores_order_shift_and_how_ranks_are_numbered():
    scores, ranks = random(3, 4), torch.tensor([[1, 2, 3, 4], [2, 2, 1, 0], [3, 1, 0, -1]])
    order = torch.tensor([2, 0, 3, 1])
    expected = m.kwise_loss(scores, ranks)
    close(m.kwise_loss(scores[:, order], ranks[:, order]), expected)
    close(m.kwise_loss(scores + 7, ranks), expected)
    close(m.kwise_loss(scores, torch.where(ranks > 0, ranks * 10, ranks)), expected)


def test_kwise_losses_of_micro_batches_add_up():
    scores, ranks = random(3, 3), torch.tensor([[1, 2, 3], [1, 1, 2], [0, 1, 0]])
    pieces = [m.kwise_loss(scores[i : i + 1], ranks[i : i + 1]) for i in range(3)]
    close(sum(pieces) / 3, m.kwise_loss(scores, ranks))


@pytest.mark.parametrize("soft_ties", [False, True])
def test_a_kwise_loss_made_of_a_pair_loss_is_the_kwise_loss(soft_ties):
    ranks = torch.tensor([[1, 2, 2, 3], [1, 1, 0, 0], [m.UNRANKED, 1, -1, -1], [1, 1, -1, -1]])
    scores = random(4, 4).masked_fill(ranks == m.ABSENT, math.nan).requires_grad_()
    made, own = (loss(scores, ranks, soft_ties) for loss in (m.kwise_of(m.pair_loss), m.kwise_loss))
    close(made.detach(), own.detach())
    close(*(torch.autograd.grad(loss, scores)[0] for loss in (made, own)))
    nothing = m.kwise_of(m.pair_loss)(scores[:1, :1], ranks[:1, :1])
    assert nothing == 0 and torch.autograd.grad(nothing, scores)[0].eq(0).all()


def test_pair_accuracy_counts_equal_scores_half():
    ranks = torch.tensor([[1, 2, 3], [1, 1, 0], [1, -1, -1]])
    scores = t([3, 3, 1], [0, 2, 1], [5, math.nan, math.nan])
    # 3 = 3 half, 3 > 1 twice; 0 < 1 wrong, 2 > 1 right; nothing to compare
    close(m.pair_accuracy(scores, ranks), 3.5 / 5)
    close(m.pair_margins(scores, ranks), [0, 2, 2, -1, 1])
    close(m.pair_accuracy(-scores, ranks), 1.5 / 5)
    assert m.pair_accuracy(scores, torch.zeros(3, 3, dtype=torch.long)).isnan()


def test_calibration_by_hand():
    probabilities, outcomes = t(0.05, 0.6, 0.7, 0.95, 1.0), torch.tensor([0, 1, 0, 1, 1])
    predicted, observed, counts = m.calibration(probabilities, outcomes, bins=4)
    assert counts.tolist() == [1, 0, 2, 2]
    close(predicted, [0.05, math.nan, 0.65, 0.975])
    close(observed, [0, math.nan, 0.5, 1])
    error = (0.05 + 2 * 0.15 + 2 * 0.025) / 5
    close(m.calibration_error(probabilities, outcomes, bins=4), error)


def test_normalisation_gives_mean_0_and_deviation_1_and_keeps_the_order():
    assert m.normalisation(-3.2, 1.6) == pytest.approx((0.625, 2.0))
    scores = random(50, seed=3) * 1.7 - 4
    gain, bias = m.normalisation(scores.mean().item(), scores.std().item())
    scaled = gain * scores + bias
    close(scaled.mean(), 0)
    close(scaled.std(), 1)
    assert torch.equal(scaled.argsort(), scores.argsort())


@pytest.mark.parametrize("sd", [0.0, -1.0, math.nan])
def test_normalisation_needs_scores_that_differ(sd):
    with pytest.raises(UserError, match="standard deviation"):
        m.normalisation(1.0, sd)
