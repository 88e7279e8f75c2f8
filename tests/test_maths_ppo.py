"""Rewards, advantages and the losses of PPO against numbers worked by hand and definitions."""

import math

import pytest
import torch
import torch.nn.functional as F
from doubles import close, random, t

from rlhf_lab import maths as m

# ---- rewards and advantages ----------------------------------------------------------------------


def test_a_response_cut_off_costs_at_least_the_penalty():
    scores = t(3, 0.5, 0, -0.5, -4)
    cut = torch.zeros(5, dtype=torch.bool)
    close(m.no_end_penalty(scores, cut), [-1, -1, -1, -1.5, -5])
    close(m.no_end_penalty(scores, cut, penalty=2.0), [-2, -2, -2, -2.5, -6])
    close(m.no_end_penalty(scores, ~cut), scores)
    mixed = m.no_end_penalty(scores, torch.tensor([1, 0, 1, 0, 1]))
    close(mixed, [3, -1, 0, -1.5, -4])


def test_score_lands_on_the_last_real_token():
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    nothing = torch.zeros(4, 5, dtype=torch.float64)
    rewards = m.kl_rewards(t(7, 8, 9, 6), nothing, nothing, mask, beta=0.1)
    expected = [[0, 0, 7, 0, 0], [0, 0, 0, 0, 8], [9, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    close(rewards, expected)


def test_rewards_of_one_response_by_hand():
    logprobs, ref_logprobs = t([-1, -2, -3, 50]), t([-1.5, -1, -3, -50])
    rewards = m.kl_rewards(t(2), logprobs, ref_logprobs, torch.tensor([[1, 1, 1, 0]]), beta=0.2)
    close(rewards, [[-0.1, 0.2, 2, 0]])  # going up against the reference costs; k2 would never pay


def test_rewards_sum_to_score_minus_beta_kl():
    logprobs, ref_logprobs = random(6, 9, seed=5), random(6, 9, seed=6)
    scores, lengths = random(6, seed=7), torch.tensor([[1], [3], [9], [4], [7], [2]])
    mask = torch.arange(9) < lengths
    rewards = m.kl_rewards(scores, logprobs, ref_logprobs, mask, beta=0.05)
    sequence_kl = m.masked_sum(m.kl_k1(logprobs, ref_logprobs), mask)
    close(rewards.sum(-1), scores - 0.05 * sequence_kl)
    # objective/rlhf_reward = objective/scores + objective/non_score_reward
    close(rewards.sum(-1).mean(), scores.mean() + (-0.05 * sequence_kl).mean())


def test_rewards_and_advantages_carry_no_gradient():
    logprobs, mask = random(2, 3).requires_grad_(), torch.ones(2, 3)
    rewards = m.kl_rewards(random(2), logprobs, random(2, 3), mask, beta=0.1)
    assert not rewards.requires_grad
    assert not any(x.requires_grad for x in m.gae(logprobs, logprobs, mask))


def test_gae_by_hand():
    advantages, returns = m.gae(t([-0.1, 0.05, 1]), t([0.2, 0.4, 0.6]), torch.ones(1, 3), 1.0, 0.95)
    close(advantages, [[0.6985, 0.63, 0.4]])
    close(returns, [[0.8985, 1.03, 1.0]])


def test_gae_forgets_what_follows_the_end():
    rewards, values = t([-0.1, 0.05, 1, 3, 4]), t([0.2, 0.4, 0.6, 0.9, 0.7])
    advantages, returns = m.gae(rewards, values, torch.tensor([[1, 1, 1, 0, 0]]), 1.0, 0.95)
    close(advantages, [[0.6985, 0.63, 0.4, 0, 0]])
    close(returns, [[0.8985, 1.03, 1.0, 0, 0]])
    leaky, _ = m.gae(t([-0.1, 0.05, 1, 0, 0]), values, torch.ones(1, 5), 1.0, 0.95)
    close(leaky[0, 2], 0.478, atol=5e-4)  # what the bug looks like


def test_returns_are_taken_before_whitening():
    advantages, returns = m.gae(t([0, 0, 10]), t([0.2, 0.4, 0.6]), torch.ones(1, 3), 1.0, 0.95)
    close(returns, [[9.07, 9.53, 10.0]], atol=5e-3)
    whitened_first = m.whiten(advantages, torch.ones(1, 3)) + t([0.2, 0.4, 0.6])
    assert (whitened_first - returns).abs().min() > 5


def test_gae_at_lambda_one_is_reward_to_come_minus_value():
    rewards, values, mask = random(3, 6, seed=8), random(3, 6, seed=9), torch.ones(3, 6)
    to_come = rewards.flip(-1).cumsum(-1).flip(-1)
    advantages, returns = m.gae(rewards, values, mask, gamma=1.0, lam=1.0)
    close(advantages, to_come - values)
    close(returns, to_come)


def test_gae_at_lambda_zero_is_one_step_ahead():
    rewards, values, mask = random(1, 3, seed=8), random(1, 3, seed=9), torch.ones(1, 3)
    (r0, r1, r2), (v0, v1, v2) = rewards[0], values[0]
    expected = torch.stack([r0 + 0.9 * v1 - v0, r1 + 0.9 * v2 - v1, r2 - v2])
    close(m.gae(rewards, values, mask, gamma=0.9, lam=0.0)[0][0], expected)


def test_a_perfect_critic_leaves_no_advantage():
    gamma, rewards = 0.9, t([0, 1, 0, 2, 5], [3, 1, 4, 0, 0])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    values = torch.zeros_like(rewards)
    for i in reversed(range(5)):
        values[:, i] = rewards[:, i] + (gamma * values[:, i + 1] if i < 4 else 0)
    advantages, returns = m.gae(rewards, values, mask, gamma, 0.95)
    close(advantages, torch.zeros(2, 5))
    close(returns, values)


def test_explained_variance_by_hand():
    returns, mask = t(1, 2, 3, math.nan).view(1, 4), torch.tensor([[1, 1, 1, 0]])
    for values, share in (
        ((1, 2, 3, 9), 1),
        ((5, 6, 7, 9), 1),
        ((2, 2, 2, 9), 0),
        ((3, 2, 1, 9), -3),
    ):
        close(m.explained_variance(t(*values).view(1, 4), returns, mask), share)
    close(m.explained_variance(returns, t(2, 2, 2, 0).view(1, 4), mask), math.nan)


def test_gae_equals_its_definition_as_a_sum():
    gamma, lam, rewards, values = 0.97, 0.9, random(1, 7, seed=1), random(1, 7, seed=2)
    following = torch.cat([values[0, 1:], t(0)])
    deltas = rewards[0] + gamma * following - values[0]
    expected = [sum((gamma * lam) ** k * deltas[i + k] for k in range(7 - i)) for i in range(7)]
    close(m.gae(rewards, values, torch.ones(1, 7), gamma, lam)[0][0], torch.stack(expected))


# ---- PPO losses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ratio, advantage, loss, slope, clipped",
    [
        (1.5, 1, -1.2, 0, 1),
        (1.5, -1, 1.5, 1.5, 0),
        (0.5, 1, -0.5, -0.5, 0),
        (0.5, -1, 0.8, 0, 1),
        (1.1, 1, -1.1, -1.1, 0),
        (1.0, 1, -1.0, -1.0, 0),
    ],
)
def test_policy_loss_table(ratio, advantage, loss, slope, clipped):
    new_logprobs = t([math.log(ratio) - 1]).requires_grad_()
    given = new_logprobs, t([-1]), t([advantage]), torch.ones(1, 1), 0.2
    actual, metrics = m.clipped_policy_loss(*given), m.policy_metrics(*given)
    actual.backward()
    close(actual.detach(), loss)
    close(new_logprobs.grad, [[slope]])
    close(metrics["policy/clipfrac_avg"], clipped)
    close(metrics["policy/approxkl_avg"], math.log(ratio) ** 2 / 2)
    close(metrics["val/ratio"], ratio)


def test_epsilon_is_the_clip_range():
    loss = m.clipped_policy_loss(t([math.log(1.5)]), t([0]), t([1]), torch.ones(1, 1), epsilon=0.1)
    close(loss, -1.1)


@pytest.mark.parametrize(
    "value, loss, slope, clipped", [(0.6, 0.98, -1.4, 0), (1.0, 0.845, 0, 1), (0.1, 1.805, -1.9, 0)]
)
def test_value_loss_table(value, loss, slope, clipped):
    new_values = t([value]).requires_grad_()
    given = new_values, t([0.5]), t([2]), torch.ones(1, 1), 0.2
    actual, metrics = m.clipped_value_loss(*given), m.value_metrics(*given)
    actual.backward()
    close(actual.detach(), loss)
    close(new_values.grad, [[slope]])
    close(metrics["val/clipfrac_avg"], clipped)


def test_the_first_update_has_ratio_one_and_plain_policy_gradient():
    logprobs, advantages, mask = random(3, 4), random(3, 4, seed=1), torch.ones(3, 4)
    new_logprobs = logprobs.clone().requires_grad_()
    given = new_logprobs, logprobs, advantages, mask
    loss, metrics = m.clipped_policy_loss(*given), m.policy_metrics(*given)
    (gradient,) = torch.autograd.grad(loss, new_logprobs)
    close(gradient, -advantages / 12)
    assert metrics["val/ratio"] == 1
    assert metrics["policy/approxkl_avg"] == 0 and metrics["policy/clipfrac_avg"] == 0
    reinforce = m.reinforce_loss(new_logprobs, advantages, mask)
    close(torch.autograd.grad(reinforce, new_logprobs)[0], gradient)


def test_approximate_kl_is_positive_whichever_way_the_policy_moves():
    old, new = t([0.5, 0.3, 0.2]).log(), t([0.2, 0.3, 0.5]).log()
    for before, after in [(old, new), (new, old)]:
        metrics = m.policy_metrics(after, before, torch.zeros(1, 3), torch.ones(1, 3))
        close(metrics["policy/approxkl_avg"], math.log(2.5) ** 2 / 3)


def test_the_end_token_is_learned_and_padding_is_not():
    mask = m.response_mask(torch.tensor([[5, 6, 2, 9, 9]]), end_id=2)
    new_logprobs = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    m.clipped_policy_loss(new_logprobs, torch.zeros(1, 5), torch.ones(1, 5), mask).backward()
    close(new_logprobs.grad, [[-1 / 3, -1 / 3, -1 / 3, 0, 0]])


def test_metrics_carry_no_gradient():
    x = random(2, 3).requires_grad_()
    for metrics in [
        m.policy_metrics(x, random(2, 3), random(2, 3), torch.ones(2, 3)),
        m.value_metrics(x, random(2, 3), random(2, 3), torch.ones(2, 3)),
    ]:
        assert not any(metric.requires_grad for metric in metrics.values())


# ---- padding and micro-batches -------------------------------------------------------------------


def update(new_logprobs, new_values, logprobs, ref_logprobs, values, scores, mask):
    """Everything of an update that must not depend on padding: numbers and gradients."""
    new_logprobs, new_values = new_logprobs.requires_grad_(), new_values.requires_grad_()
    rewards = m.kl_rewards(scores, logprobs, ref_logprobs, mask, beta=0.1)
    rewards = m.whiten(rewards, mask, keep_mean=True)
    advantages, returns = m.gae(rewards, values, mask, gamma=0.99, lam=0.9)
    advantages = m.whiten(advantages, mask)
    policy = m.clipped_policy_loss(new_logprobs, logprobs, advantages, mask)
    value = m.clipped_value_loss(new_values, values, returns, mask)
    metrics = m.policy_metrics(new_logprobs, logprobs, advantages, mask)
    value_metrics = m.value_metrics(new_values, values, returns, mask)
    reinforce = m.reinforce_loss(new_logprobs, advantages, mask)
    (policy + 0.1 * value + 0.3 * reinforce).backward()
    numbers = [policy, value, reinforce, *metrics.values(), *value_metrics.values()]
    numbers += [m.masked_mean(m.kl_k3(logprobs, ref_logprobs), mask)]
    numbers += [m.masked_sum(-logprobs, mask).mean()]
    tokens = [rewards, advantages, returns, new_logprobs.grad, new_values.grad]
    return torch.stack([number.detach() for number in numbers]), tokens


@pytest.mark.parametrize("garbage", [0.0, 1e3, -1e6, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float64])
def test_padding_changes_nothing(garbage, dtype):
    tensors = [random(3, 5, seed=seed, scale=0.5) for seed in range(5)]
    mask, scores = torch.arange(5) < torch.tensor([[5], [2], [3]]), random(3, seed=9)
    padded = [F.pad(x, (0, 3)).masked_fill(~F.pad(mask, (0, 3)), garbage) for x in tensors]
    numbers, tokens = update(*(x.clone() for x in tensors), scores, mask.to(dtype))
    more_numbers, more_tokens = update(*padded, scores, F.pad(mask, (0, 3)).to(dtype))
    close(more_numbers, numbers, atol=1e-12)
    for short, long in zip(tokens, more_tokens):
        close(long[:, :5], short, atol=1e-12)
        close(long[~F.pad(mask, (0, 3))], torch.zeros(14), atol=0)


@pytest.mark.parametrize("cut", [[1, 3], [2, 2], [1, 1, 1, 1]])
def test_micro_batches_add_up_to_the_minibatch(cut):
    new, old, other = (random(4, 6, seed=seed, scale=0.4) for seed in range(3))
    mask = torch.arange(6) < torch.tensor([[6], [1], [4], [2]])

    def losses(rows, share=1.0):
        x, m_ = new[rows].clone().requires_grad_(), mask[rows]
        old_and_new, values = (x, old[rows], other[rows], m_), (x, old[rows], other[rows], m_)
        total = m.clipped_policy_loss(*old_and_new) + m.clipped_value_loss(*values)
        total = share * (total + m.reinforce_loss(x, other[rows], m_))
        total.backward()
        metrics = m.policy_metrics(*old_and_new) | m.value_metrics(*values)
        return torch.stack([total.detach(), *(share * x for x in metrics.values())]), x.grad

    parts = torch.arange(4).split(cut)
    whole, gradient = losses(slice(None))
    pieces = [losses(rows, mask[rows].sum() / mask.sum()) for rows in parts]
    close(sum(numbers for numbers, _ in pieces), whole, atol=1e-7)
    close(torch.cat([grad for _, grad in pieces]), gradient, atol=1e-7)
    naive = sum(losses(rows)[0][0] for rows in parts) / len(cut)
    assert abs(naive - whole[0]) > 1e-3  # the mean of means is another loss


def test_the_largest_log_ratio_is_of_real_tokens_alone():
    new, old = t([-1.0, -2.0, 9.0], [-0.5, -1.0, -3.0]), t([-1.5, -2.0, 0.0], [-0.2, 3.0, math.nan])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    close(m.largest_log_ratio(new, old, mask), 0.5)
