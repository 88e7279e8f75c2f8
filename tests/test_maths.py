"""The formulas against numbers worked by hand, exact enumeration, and other implementations."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lab import maths as m
from rlhf_lab.errors import UserError

LN2 = math.log(2)
quick = settings(max_examples=25, deadline=None, derandomize=True)


def t(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def close(actual, expected, atol=1e-9):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64), expected, rtol=0, atol=atol, equal_nan=True
    )


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


# ---- log-probabilities ---------------------------------------------------------------------------


def test_temperature_divides_the_logits():
    logits, token = t(2, 1, 0).view(1, 1, 3), torch.tensor([[0]])
    close(m.logprobs_of(logits, token), [[-0.4076]], atol=5e-5)
    close(m.logprobs_of(logits, token, temperature=0.7), [[-0.2601]], atol=5e-5)


def test_logprobs_of_agrees_with_cross_entropy():
    logits, tokens = random(3, 5, 11, scale=20), torch.arange(15).view(3, 5) % 11
    expected = -F.cross_entropy(logits.transpose(1, 2) / 1.3, tokens, reduction="none")
    close(m.logprobs_of(logits, tokens, 1.3), expected)


def test_logprobs_of_survives_huge_logits_and_half_precision():
    logits = torch.tensor([[[1e4, 0.0, -1e4]]])
    assert m.logprobs_of(logits, torch.tensor([[2]])).item() == -2e4
    half = m.logprobs_of(torch.tensor([[[2.0, 1.0, 0.0]]]).bfloat16(), torch.tensor([[0]]))
    assert half.dtype == torch.float32
    close(half, [[-0.40760596]], atol=1e-6)


def test_a_dropped_token_may_have_an_infinite_logit():
    logits = t(1, 0, -math.inf).view(1, 1, 3).requires_grad_()
    m.logprobs_of(logits, torch.tensor([[0]])).sum().backward()
    p = 1 / (1 + math.e)
    close(logits.grad.view(3), [p, -p, 0])


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_entropy_and_kl_agree_with_torch(temperature):
    logits, ref_logits = random(2, 4, 9, seed=1, scale=3), random(2, 4, 9, seed=2, scale=3)
    policy = torch.distributions.Categorical(logits=logits / temperature)
    reference = torch.distributions.Categorical(logits=ref_logits / temperature)
    close(m.entropy(logits, temperature), policy.entropy())
    expected = torch.distributions.kl_divergence(policy, reference)
    close(m.kl(logits, ref_logits, temperature), expected)
    close(m.kl(logits, logits, temperature), torch.zeros(2, 4), atol=0)


def test_kl_agrees_with_kl_div_in_the_right_direction():
    p, q = t(0.5, 0.3, 0.2), t(0.4, 0.4, 0.2)
    close(m.kl(p.log(), q.log()), 0.025267, atol=5e-7)
    close(m.kl(p.log(), q.log()), F.kl_div(q.log(), p, reduction="sum"))


def test_entropy_of_uniform_is_log_v():
    close(m.entropy(torch.zeros(1, 1, 8, dtype=torch.float64)), [[math.log(8)]])


# ---- masks and masked statistics -----------------------------------------------------------------


def test_mask_ends_with_the_first_end_token():
    end = 2
    tokens = torch.tensor([[5, 6, end, 9, 9], [5, 6, 7, 8, 3], [end, end, 5, end, 9]])
    mask = m.response_mask(tokens, end)
    assert mask.long().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]
    assert m.last_index(mask).tolist() == [2, 4, 0]


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_last_index_with_gaps_left_padding_and_nothing(dtype):
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]]).to(dtype)
    assert m.last_index(mask).tolist() == [2, 3, 2, -1]


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float64])
def test_masked_sum_and_mean(dtype):
    x, mask = t([1, 2, 3], [4, 5, math.nan]), torch.tensor([[1, 1, 1], [1, 1, 0]]).to(dtype)
    close(m.masked_sum(x, mask), [6, 9])
    close(m.masked_mean(x, mask), 3)
    close(m.masked_mean(x, mask, denominator=10), 1.5)
    close(m.masked_mean(x, torch.zeros_like(mask)), 0)


def test_whitening_hand_numbers():
    x, mask = t([1, 2, 3], [4, 5, 99]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    expected = t([-1.4142, -0.7071, 0], [0.7071, 1.4142, 0])
    close(m.masked_whiten(x, mask), expected, atol=5e-5)
    close(m.masked_whiten(x, mask, keep_mean=True), (expected + 3) * mask, atol=5e-5)


def test_whitening_is_over_the_batch_and_not_per_response():
    whitened = m.masked_whiten(t([1, 1], [5, 5]), torch.ones(2, 2))
    close(whitened, [[-1, -1], [1, 1]], atol=1e-6)


def test_whitening_of_equal_numbers_is_finite():
    close(m.masked_whiten(torch.full((2, 3), 4.0), torch.ones(2, 3)), torch.zeros(2, 3))


# ---- KL estimators -------------------------------------------------------------------------------

POLICY, REFERENCE = t(0.5, 0.3, 0.2), t(0.4, 0.4, 0.2)


@pytest.mark.parametrize(
    "estimator, mean, sd",
    [(m.kl_k1, 0.025267, 0.222), (m.kl_k2, 0.024862, 0.014), (m.kl_k3, 0.025267, 0.016)],
)
def test_kl_estimators_by_enumeration(estimator, mean, sd):
    values = estimator(POLICY.log(), REFERENCE.log())
    average = (POLICY * values).sum()
    close(average, mean, atol=5e-7)
    close((POLICY * (values - average).square()).sum().sqrt(), sd, atol=5e-4)


@pytest.mark.parametrize(
    "estimator, gradient",
    [(m.kl_k1, [0, 0, 0]), (m.kl_k2, [0.0989, -0.0939, -0.0051]), (m.kl_k3, [0.1, -0.1, 0])],
)
def test_what_each_estimator_descends_as_a_loss(estimator, gradient):
    logits = POLICY.log().requires_grad_()
    (POLICY * estimator(logits.log_softmax(-1), REFERENCE.log())).sum().backward()
    close(logits.grad, gradient, atol=5e-5)


def test_gradients_of_the_two_kl_directions():
    logits = POLICY.log().requires_grad_()
    (forward,) = torch.autograd.grad(m.kl(logits, REFERENCE.log()), logits)
    (backward,) = torch.autograd.grad(m.kl(REFERENCE.log(), logits), logits)
    close(forward, [0.0989, -0.0939, -0.0051], atol=5e-5)
    close(backward, [0.1, -0.1, 0])


def test_k1_may_be_negative_and_the_others_never():
    logprobs, ref_logprobs = random(200, seed=3), random(200, seed=4)
    assert m.kl_k1(logprobs, ref_logprobs).min() < 0
    assert m.kl_k2(logprobs, ref_logprobs).min() >= 0
    assert m.kl_k3(logprobs, ref_logprobs).min() >= 0


@pytest.mark.parametrize(
    "kl, expected", [(12, 0.151536), (6, 0.15), (3, 0.148464), (6.6, 0.15 * (1 + 0.1 * 0.0512))]
)
def test_adaptive_beta(kl, expected):
    assert m.adaptive_beta(0.15, kl, target=6, n=512, horizon=10_000) == pytest.approx(
        expected, abs=1e-9
    )


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
    rewards = m.shape_rewards(t(7, 8, 9, 6), nothing, nothing, mask, beta=0.1)
    expected = [[0, 0, 7, 0, 0], [0, 0, 0, 0, 8], [9, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    close(rewards, expected)


def test_rewards_of_one_response_by_hand():
    logprobs, ref_logprobs = t([-1, -2, -3, 50]), t([-1.5, -1, -3, -50])
    rewards = m.shape_rewards(t(2), logprobs, ref_logprobs, torch.tensor([[1, 1, 1, 0]]), beta=0.2)
    close(rewards, [[-0.1, 0.2, 2, 0]])  # going up against the reference costs; k2 would never pay


def test_rewards_sum_to_score_minus_beta_kl():
    logprobs, ref_logprobs = random(6, 9, seed=5), random(6, 9, seed=6)
    scores, lengths = random(6, seed=7), torch.tensor([[1], [3], [9], [4], [7], [2]])
    mask = torch.arange(9) < lengths
    rewards = m.shape_rewards(scores, logprobs, ref_logprobs, mask, beta=0.05)
    sequence_kl = m.masked_sum(m.kl_k1(logprobs, ref_logprobs), mask)
    close(rewards.sum(-1), scores - 0.05 * sequence_kl)
    # objective/rlhf_reward = objective/scores + objective/non_score_reward
    close(rewards.sum(-1).mean(), scores.mean() + (-0.05 * sequence_kl).mean())


def test_rewards_and_advantages_carry_no_gradient():
    logprobs, mask = random(2, 3).requires_grad_(), torch.ones(2, 3)
    rewards = m.shape_rewards(random(2), logprobs, random(2, 3), mask, beta=0.1)
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
    whitened_first = m.masked_whiten(advantages, torch.ones(1, 3)) + t([0.2, 0.4, 0.6])
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
    actual, metrics = m.policy_loss(new_logprobs, t([-1]), t([advantage]), torch.ones(1, 1), 0.2)
    actual.backward()
    close(actual.detach(), loss)
    close(new_logprobs.grad, [[slope]])
    close(metrics["policy/clipfrac_avg"], clipped)
    close(metrics["policy/approxkl_avg"], math.log(ratio) ** 2 / 2)
    close(metrics["val/ratio"], ratio)


def test_epsilon_is_the_clip_range():
    loss, _ = m.policy_loss(t([math.log(1.5)]), t([0]), t([1]), torch.ones(1, 1), epsilon=0.1)
    close(loss, -1.1)


@pytest.mark.parametrize(
    "value, loss, slope, clipped", [(0.6, 0.98, -1.4, 0), (1.0, 0.845, 0, 1), (0.1, 1.805, -1.9, 0)]
)
def test_value_loss_table(value, loss, slope, clipped):
    new_values = t([value]).requires_grad_()
    actual, metrics = m.value_loss(new_values, t([0.5]), t([2]), torch.ones(1, 1), epsilon=0.2)
    actual.backward()
    close(actual.detach(), loss)
    close(new_values.grad, [[slope]])
    close(metrics["val/clipfrac_avg"], clipped)


def test_the_first_update_has_ratio_one_and_plain_policy_gradient():
    logprobs, advantages, mask = random(3, 4), random(3, 4, seed=1), torch.ones(3, 4)
    new_logprobs = logprobs.clone().requires_grad_()
    loss, metrics = m.policy_loss(new_logprobs, logprobs, advantages, mask)
    (gradient,) = torch.autograd.grad(loss, new_logprobs)
    close(gradient, -advantages / 12)
    assert metrics["val/ratio"] == 1
    assert metrics["policy/approxkl_avg"] == 0 and metrics["policy/clipfrac_avg"] == 0
    reinforce = m.reinforce_loss(new_logprobs, advantages, mask)
    close(torch.autograd.grad(reinforce, new_logprobs)[0], gradient)


def test_approximate_kl_is_positive_whichever_way_the_policy_moves():
    old, new = t([0.5, 0.3, 0.2]).log(), t([0.2, 0.3, 0.5]).log()
    for before, after in [(old, new), (new, old)]:
        _, metrics = m.policy_loss(after, before, torch.zeros(1, 3), torch.ones(1, 3))
        close(metrics["policy/approxkl_avg"], math.log(2.5) ** 2 / 3)


def test_the_end_token_is_learned_and_padding_is_not():
    mask = m.response_mask(torch.tensor([[5, 6, 2, 9, 9]]), end_id=2)
    new_logprobs = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    m.policy_loss(new_logprobs, torch.zeros(1, 5), torch.ones(1, 5), mask)[0].backward()
    close(new_logprobs.grad, [[-1 / 3, -1 / 3, -1 / 3, 0, 0]])


def test_metrics_carry_no_gradient():
    x = random(2, 3).requires_grad_()
    for _, metrics in [
        m.policy_loss(x, random(2, 3), random(2, 3), torch.ones(2, 3)),
        m.value_loss(x, random(2, 3), random(2, 3), torch.ones(2, 3)),
    ]:
        assert not any(metric.requires_grad for metric in metrics.values())


# ---- padding and micro-batches -------------------------------------------------------------------


def update(new_logprobs, new_values, logprobs, ref_logprobs, values, scores, mask):
    """Everything of an update that must not depend on padding: numbers and gradients."""
    new_logprobs, new_values = new_logprobs.requires_grad_(), new_values.requires_grad_()
    rewards = m.shape_rewards(scores, logprobs, ref_logprobs, mask, beta=0.1)
    rewards = m.masked_whiten(rewards, mask, keep_mean=True)
    advantages, returns = m.gae(rewards, values, mask, gamma=0.99, lam=0.9)
    advantages = m.masked_whiten(advantages, mask)
    policy, metrics = m.policy_loss(new_logprobs, logprobs, advantages, mask)
    value, value_metrics = m.value_loss(new_values, values, returns, mask)
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

    def losses(rows, denominator):
        x = new[rows].clone().requires_grad_()
        policy, metrics = m.policy_loss(x, old[rows], other[rows], mask[rows], 0.2, denominator)
        value, others = m.value_loss(x, old[rows], other[rows], mask[rows], 0.2, denominator)
        total = policy + value + m.reinforce_loss(x, other[rows], mask[rows], denominator)
        total.backward()
        return torch.stack([total.detach(), *metrics.values(), *others.values()]), x.grad

    whole, gradient = losses(slice(None), None)
    pieces = [losses(rows, mask.sum()) for rows in torch.arange(4).split(cut)]
    close(sum(numbers for numbers, _ in pieces), whole, atol=1e-12)
    close(torch.cat([grad for _, grad in pieces]), gradient, atol=1e-12)
    naive = sum(losses(rows, None)[0][0] for rows in torch.arange(4).split(cut)) / len(cut)
    assert abs(naive - whole[0]) > 1e-3  # the mean of means is another loss


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
    scores = t([[0.3, 0.1]] * 4)
    for soft in (False, True):
        whole = m.kwise_loss(scores, ranks, soft)
        close(m.kwise_loss(scores, ranks, soft, m.prompts_compared(ranks, soft)), whole)


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
    pieces = [m.kwise_loss(scores[i : i + 1], ranks[i : i + 1], denominator=3) for i in range(3)]
    close(sum(pieces), m.kwise_loss(scores, ranks))


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
