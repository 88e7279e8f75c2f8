"""The world of nine responses: every claim by adding all of them up."""

import pytest
import torch

from rlhf_lab import maths
from rlhf_lab.course import tiny_world as world


@pytest.fixture
def theta():
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def single_estimates(theta, baseline=0.0):
    """REINFORCE's estimate from each response alone, (9, 4, 3)."""
    return torch.stack(
        [world.reinforce_gradient(theta, torch.tensor([i]), baseline=baseline) for i in range(9)]
    )


def test_the_nine_responses_are_a_distribution(theta):
    assert len(set(world.texts())) == 9 and world.texts()[5] == "no thanks"
    assert float(world.probabilities(theta).sum()) == pytest.approx(1)
    uniform = world.probabilities(torch.zeros(4, 3, dtype=torch.float64))
    assert uniform.tolist() == pytest.approx([1 / 9] * 9)


def test_the_probability_is_a_product_of_two_words(theta):
    first, after_no = theta[0].softmax(0), theta[2].softmax(0)
    assert float(world.probabilities(theta)[5]) == pytest.approx(float(first[1] * after_no[2]))


def test_the_exact_gradient_is_that_of_finite_differences(theta):
    gradient, step = world.exact_gradient(theta), 1e-6
    for i in range(4):
        for j in range(3):
            up, down = theta.clone(), theta.clone()
            up[i, j] += step
            down[i, j] -= step
            slope = (world.expected_score(up) - world.expected_score(down)) / (2 * step)
            assert float(gradient[i, j]) == pytest.approx(float(slope), abs=1e-7)


@pytest.mark.parametrize("baseline", [0.0, 4.0, -100.0])
def test_reinforce_is_right_on_average_whatever_the_baseline(theta, baseline):
    mean = (world.probabilities(theta)[:, None, None] * single_estimates(theta, baseline)).sum(0)
    torch.testing.assert_close(mean, world.exact_gradient(theta))


def test_the_mean_score_as_a_baseline_lowers_the_variance(theta):
    def variance(baseline):
        off = single_estimates(theta, baseline) - world.exact_gradient(theta)
        return float((world.probabilities(theta) * off.square().sum((1, 2))).sum())

    assert variance(float(world.expected_score(theta))) < variance(0.0) / 5


def test_a_batch_is_the_mean_of_its_responses(theta):
    rows = torch.tensor([0, 0, 7])
    alone = single_estimates(theta)
    torch.testing.assert_close(world.reinforce_gradient(theta, rows), alone[rows].mean(0))


def test_it_is_the_gradient_of_the_packages_loss(theta):
    """maths.reinforce_loss is a mean over tokens, here two a response: half of it, and downhill."""
    rows = torch.tensor([2, 5, 8])
    theta.requires_grad_()
    logprobs = world.token_logprobs(theta, rows)
    loss = maths.reinforce_loss(logprobs, world.SCORES[rows, None].expand(-1, 2), torch.ones(3, 2))
    gradient = torch.autograd.grad(loss, theta)[0]
    torch.testing.assert_close(world.reinforce_gradient(theta, rows), -2 * gradient)


def test_draws_follow_the_policy(theta):
    rows = world.draw(theta, 20_000, torch.Generator().manual_seed(0))
    shares = rows.bincount(minlength=9) / 20_000
    torch.testing.assert_close(shares.double(), world.probabilities(theta), atol=0.015, rtol=0)


@pytest.mark.parametrize("beta", [0.3, 1.0, 5.0])
def test_no_policy_beats_the_best_one(theta, beta):
    ref = world.probabilities(theta)

    def value(p):
        return float((p * world.SCORES).sum() - beta * (p * (p / ref).log()).sum())

    best = world.best_policy(ref, beta)
    rivals = torch.distributions.Dirichlet(torch.ones(9, dtype=torch.float64))
    torch.manual_seed(0)
    assert float(best.sum()) == pytest.approx(1)
    assert all(value(best) > value(p) for p in [*rivals.sample((200,)), ref])
    nearby = [best * (1 + 0.01 * torch.randn(9, dtype=torch.float64)) for _ in range(50)]
    assert all(value(best) > value(p / p.sum()) for p in nearby)
