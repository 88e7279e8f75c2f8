"""Log-probabilities, masks and KL against numbers worked by hand, enumeration and torch."""

import math

import pytest
import torch
import torch.nn.functional as F
from doubles import close, random, t

from rlhf_lab import maths as m

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
    close(m.masked_mean(x, torch.zeros_like(mask)), 0)


def test_whitening_hand_numbers():
    x, mask = t([1, 2, 3], [4, 5, 99]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    expected = t([-1.4142, -0.7071, 0], [0.7071, 1.4142, 0])
    close(m.whiten(x, mask), expected, atol=5e-5)
    close(m.whiten(x, mask, keep_mean=True), (expected + 3) * mask, atol=5e-5)


def test_whitening_is_over_the_batch_and_not_per_response():
    whitened = m.whiten(t([1, 1], [5, 5]), torch.ones(2, 2))
    close(whitened, [[-1, -1], [1, 1]], atol=1e-6)


def test_whitening_of_equal_numbers_is_finite():
    close(m.whiten(torch.full((2, 3), 4.0), torch.ones(2, 3)), torch.zeros(2, 3))


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


def two_word_kl(first, second, ref_first, ref_second, weights=None):
    """The KL of responses of two words: that of the first, and of the second after each of them.
    weights: the chance of each first word, the policy's unless given."""
    weights = first.softmax(-1) if weights is None else weights
    return m.kl(first, ref_first) + (weights * m.kl(second, ref_second)).sum()


def test_k2_in_the_loss_charges_no_token_for_the_kl_that_it_leads_to():
    """Both say either first word in half of all cases. After the first one the reference tosses a
    coin, where the policy is sure: ln 2 nats. So the first word costs, and k2 does not see it."""
    first, second = torch.zeros(2, dtype=torch.float64), t([40, 0], [0, 0])
    ref_first, ref_second = torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2).double()
    first.requires_grad_()
    kl = two_word_kl(first, second, ref_first, ref_second)
    close(kl, math.log(2) / 2, atol=1e-9)
    (whole,) = torch.autograd.grad(kl, first)
    close(whole, [math.log(2) / 4, -math.log(2) / 4], atol=1e-9)  # +-.173
    chances = first.detach().softmax(-1)  # responses are drawn, and the draw has no gradient
    (k2,) = torch.autograd.grad(
        (chances * m.kl_k2(first.log_softmax(-1), ref_first.log_softmax(-1))).sum(), first
    )
    close(k2, [0, 0], atol=1e-12)
    # k1 in the reward: a response's log-probability times its whole log-ratio.
    joint = first.log_softmax(-1)[:, None] + second.log_softmax(-1)
    ref_joint = ref_first.log_softmax(-1)[:, None] + ref_second.log_softmax(-1)
    reward = (joint - ref_joint).detach()
    (policy_gradient,) = torch.autograd.grad((joint.detach().exp() * reward * joint).sum(), first)
    close(policy_gradient, whole, atol=1e-9)


def test_k2_has_the_gradient_of_each_positions_kl_and_not_of_the_whole():
    """Ten random policies of two words out of three: the same as with the first word's chances held
    fixed, and another direction than the gradient of the whole KL."""
    cosines = []
    for seed in range(10):
        first, second = random(3, seed=seed), random(3, 3, seed=seed + 50)
        ref_first, ref_second = random(3, seed=seed + 100), random(3, 3, seed=seed + 150)
        leaves = [first.requires_grad_(), second.requires_grad_()]
        p1 = first.detach().softmax(-1)
        p2 = p1[:, None] * second.detach().softmax(-1)  # the chance of each response
        k2 = (p1 * m.kl_k2(first.log_softmax(-1), ref_first.log_softmax(-1))).sum()
        k2 = k2 + (p2 * m.kl_k2(second.log_softmax(-1), ref_second.log_softmax(-1))).sum()
        mine = torch.autograd.grad(k2, leaves)
        fixed = torch.autograd.grad(two_word_kl(*leaves, ref_first, ref_second, p1), leaves)
        for one, other in zip(mine, fixed):
            close(one, other, atol=1e-9)
        whole = torch.autograd.grad(two_word_kl(*leaves, ref_first, ref_second), leaves)
        a, b = (torch.cat([x.flatten() for x in some]) for some in (mine, whole))
        cosines.append(float(a @ b / a.norm() / b.norm()))
    assert max(cosines) < 0.9999 and min(cosines) < 0.94


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
