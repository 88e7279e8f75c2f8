"""Every differentiable formula against finite differences in float64."""

import pytest
import torch
from doubles import random
from torch.autograd import gradcheck

from rlhf_lab import maths as m

TOKENS = torch.tensor([[0, 3, 1], [4, 4, 2]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
RANKS = torch.tensor([[1, 2, 2, 3], [0, 1, 0, -1], [1, 1, -1, -1], [4, 3, 1, 2]])


def leaf(*shape, seed=0):
    return random(*shape, seed=seed).requires_grad_()


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_vocabulary_formulas(temperature):
    logits, ref_logits = leaf(2, 3, 5), leaf(2, 3, 5, seed=1)
    assert gradcheck(lambda z: m.logprobs_of(z, TOKENS, temperature), logits)
    assert gradcheck(lambda z: m.entropy(z, temperature), logits)
    assert gradcheck(lambda z, r: m.kl(z, r, temperature), (logits, ref_logits))


def test_logprobs_gradient_equals_autograds_in_float32():
    logits = leaf(2, 3, 5).float().detach().requires_grad_()
    weights = random(2, 3, seed=3).float()
    own = torch.autograd.grad((m.logprobs_of(logits, TOKENS, 0.7) * weights).sum(), logits)[0]
    plain = (logits / 0.7).log_softmax(-1).gather(-1, TOKENS.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(own, torch.autograd.grad((plain * weights).sum(), logits)[0])


def test_logprobs_backward_twice_through_a_kept_graph():
    logits = leaf(2, 3, 5)
    total = m.logprobs_of(logits, TOKENS).sum()
    first = torch.autograd.grad(total, logits, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(total, logits)[0])


@pytest.mark.parametrize("estimator", [m.kl_k1, m.kl_k2, m.kl_k3])
def test_kl_estimators(estimator):
    assert gradcheck(estimator, (leaf(2, 3), leaf(2, 3, seed=1)))


def test_token_losses():
    x, old, other = leaf(2, 3), random(2, 3, seed=1), random(2, 3, seed=2)
    assert gradcheck(lambda x: m.clipped_policy_loss(x, old, other, MASK, 0.2), x)
    assert gradcheck(lambda x: m.clipped_value_loss(x, old, other, MASK, 0.2), x)
    assert gradcheck(lambda x: m.reinforce_loss(x, other, MASK), x)
    assert gradcheck(lambda x: m.masked_mean(x, MASK), x)
    assert gradcheck(lambda x: m.masked_sum(x, MASK), x)
    assert gradcheck(lambda x: m.whiten(x, MASK, keep_mean=True), x)


def test_ranking_losses():
    scores = leaf(4, 4)
    assert gradcheck(lambda s: m.kwise_loss(s, RANKS), scores)
    assert gradcheck(lambda s: m.kwise_loss(s, RANKS, soft_ties=True), scores)
    assert gradcheck(m.pair_loss, (leaf(4), leaf(4, seed=1)))
    assert gradcheck(m.dpo_loss, tuple(leaf(4, seed=seed) for seed in range(4)))


def test_absent_responses_get_no_gradient_even_when_their_score_is_nan():
    scores = random(4, 4).masked_fill(RANKS == m.ABSENT, torch.nan).requires_grad_()
    (gradient,) = torch.autograd.grad(m.kwise_loss(scores, RANKS, soft_ties=True), scores)
    assert gradient.isfinite().all() and (gradient[RANKS == m.ABSENT] == 0).all()
    assert (gradient[0] != 0).all()


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf])
def test_garbage_in_any_padded_input_of_a_token_loss_gets_no_gradient(garbage):
    inputs = [random(2, 3, seed=seed).masked_fill(MASK == 0, garbage) for seed in range(3)]
    x, old, other = inputs[0].requires_grad_(), *inputs[1:]
    losses = [
        m.clipped_policy_loss(x, old, other, MASK),
        m.clipped_value_loss(x, old, other, MASK),
        m.reinforce_loss(x, other, MASK),
    ]
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss, x)
        assert loss.isfinite() and gradient.isfinite().all()
        assert (gradient[MASK == 0] == 0).all() and (gradient != 0).any()
