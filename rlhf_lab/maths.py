"""Every formula of RLHF as a pure function of tensors, without models or state.

Shapes: B responses (or prompts), N tokens of a response, K responses ranked per prompt, V
vocabulary, M samples. A `mask` is 1 (or True) on the response tokens up to and including the end
token; values where it is 0, even nan, change neither a result nor a gradient.

A loss is a mean over the real tokens (or prompts) it is given. A stage that reads a minibatch in
pieces weights the loss of each by its share of the minibatch's tokens (or prompts): the weighted
losses, gradients and metrics add up to those of the whole, however it is split.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab.errors import UserError

# Ranks are whole numbers, 1 is best. UNRANKED was shown but not placed; ABSENT is no response.
UNRANKED, ABSENT = 0, -1


# ---- log-probabilities ---------------------------------------------------------------------------


def logprobs_of(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability, in nats, of each token: logits (B, N, V), tokens (B, N) -> (B, N).

    The same temperature must divide the logits of sampling, policy and reference alike, or the
    ratio is not 1 at the first update (Ziegler et al. 2019). Half precision is raised to float32.
    """
    return _TokenLogprobs.apply(_scaled(logits, temperature), tokens)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of each position's distribution, in nats: finite logits (B, N, V) -> (B, N)."""
    logprobs = _scaled(logits, temperature).log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def kl(logits: Tensor, ref_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(policy || reference) over the whole vocabulary, in nats: two (B, N, V) -> (B, N)."""
    logprobs = _scaled(logits, temperature).log_softmax(-1)
    ref_logprobs = _scaled(ref_logits, temperature).log_softmax(-1)
    return (logprobs.exp() * (logprobs - ref_logprobs)).sum(-1)


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return logits if temperature == 1 else logits / temperature


class _TokenLogprobs(torch.autograd.Function):
    """log_softmax then gather, with one (B, N, V) buffer fewer on the way back than autograd's."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor) -> Tensor:
        logprobs, index = logits.log_softmax(-1), tokens.long().unsqueeze(-1)
        ctx.save_for_backward(logprobs, index)
        return logprobs.gather(-1, index).squeeze(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logprobs, index = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        return logprobs.exp().mul_(-grad).scatter_add_(-1, index, grad), None  # (onehot - p) grad


# ---- masks and masked statistics -----------------------------------------------------------------


def response_mask(response_tokens: Tensor, end_id: int | Tensor) -> Tensor:
    """True on the tokens (B, N) up to and including the first end token, or on all if there is
    none. end_id: the id that ends a response, or several (E,)."""
    ends = torch.as_tensor(end_id, device=response_tokens.device)
    hit = torch.isin(response_tokens, ends).long()
    return hit.cumsum(-1) - hit == 0


def label_mask(tokens: Tensor, starts: Tensor, end_id: int, pad_id: int) -> Tensor:
    """True on the tokens that SFT learns, those of the response with its end token: (B, T), (B,) ->
    (B, T). tokens: prompt, response and padding; starts: the column of each response's first token.
    end_id is for masks that you write yourself: this one needs only pad_id."""
    columns = torch.arange(tokens.shape[1], device=tokens.device)
    return (columns >= starts[:, None]) & (tokens != pad_id)


def last_index(mask: Tensor) -> Tensor:
    """Index of the last 1 of each row: (B, N) -> (B,) long; -1 for a row without any."""
    positions = torch.arange(mask.shape[-1], device=mask.device)
    return torch.where(mask.bool(), positions, -1).amax(-1)


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Sum over the real tokens of each response: (B, N) -> (B,)."""
    return _real(x, mask).sum(-1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens of the whole batch: (B, N) -> (); 0 when there are none."""
    return _real(x, mask).sum() / mask.sum().clamp(min=1)


def whiten(x: Tensor, mask: Tensor, keep_mean: bool = False) -> Tensor:
    """Scale the real tokens of a batch to variance 1 and, unless `keep_mean`, mean 0; padding is 0.

    Population variance over all real tokens together, never per response, which would give good
    and bad responses the same advantages (Ziegler et al. 2019; rewards are whitened with the mean
    kept, advantages without).
    """
    mean = masked_mean(x, mask)
    variance = masked_mean((_real(x, mask) - mean).square(), mask)
    return _real((x - mean) * torch.rsqrt(variance + 1e-8) + (mean if keep_mean else 0.0), mask)


def _real(x: Tensor, mask: Tensor) -> Tensor:
    return x.masked_fill(~mask.bool(), 0)  # not x * mask: nan * 0 is nan


# ---- KL from the sampled tokens alone ------------------------------------------------------------
# Schulman 2020, "Approximating KL divergence"; tokens sampled from the policy. In the reward use
# k1: the policy gradient of its sum over a response is the gradient of the whole response's KL. In
# the loss, each token's estimator only sees its own position, given the tokens before it: k1's
# gradient is 0 on average, k2's is that of the position's KL(policy || reference), and k3's is that
# of KL(reference || policy). None charges a token for the KL that it causes at later positions.


def kl_k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Log-ratio of each token: unbiased, often negative: two (B, N) -> (B, N)."""
    return logprobs - ref_logprobs


def kl_k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Half the squared log-ratio: slightly biased, never negative: two (B, N) -> (B, N)."""
    return (logprobs - ref_logprobs).square() / 2


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """r - 1 - log r, r = reference / policy: unbiased, never negative: two (B, N) -> (B, N)."""
    log_r = ref_logprobs - logprobs
    return torch.expm1(log_r) - log_r


def adaptive_beta(beta: float, kl: float, target: float, n: int, horizon: int) -> float:
    """The next KL coefficient, after `n` episodes whose mean sequence KL was `kl` nats.

    It rises while the KL is above `target` and falls below, by a factor of at most
    1 +- 0.2 n / horizon (Ziegler et al. 2019).
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * n / horizon)


# ---- rewards and advantages ----------------------------------------------------------------------


def no_end_penalty(scores: Tensor, ended: Tensor, penalty: float = 1.0) -> Tensor:
    """Scores, lowered to min(score, 0) - penalty for cut-off responses: (B,), bool (B,) -> (B,).

    With a fixed score such as -1, cutting off would pay for every response that scores worse; with
    a plain subtraction, a good response could be cut off and still score above 0. This way, cutting
    off always costs at least `penalty` and always scores below 0.
    """
    return torch.where(ended.bool(), scores, scores.clamp(max=0) - penalty)


@torch.no_grad()
def kl_rewards(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, beta: float
) -> Tensor:
    """Reward of each token: -beta * k1, and the score on the last real token: (B, N).

    Summed over a response it is score - beta * KL, whose mean PPO maximises (Ziegler et al. 2019).
    Carries no gradient; padding gets 0.
    """
    rewards = -beta * _real(kl_k1(logprobs, ref_logprobs), mask)
    positions = torch.arange(mask.shape[-1], device=mask.device)
    return rewards + (positions == last_index(mask).unsqueeze(-1)) * scores.unsqueeze(-1)


@torch.no_grad()
def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns (Schulman et al. 2016): each (B, N).

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lam A_{t+1}. Rewards
    and values of the padding are zeroed first, so V and A after the end are 0. Returns are A + V of
    these raw advantages: whiten afterwards. Carries no gradient; padding gets 0.
    """
    rewards, values = _real(rewards, mask), _real(values, mask)
    deltas = rewards + gamma * F.pad(values[:, 1:], (0, 1)) - values
    advantages = torch.empty_like(deltas)
    following: Tensor | float = 0.0
    for t in reversed(range(deltas.shape[1])):
        following = deltas[:, t] + gamma * lam * following
        advantages[:, t] = following
    return advantages, advantages + values


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """How well the values predict the returns: 1 - var(returns - values) / var(returns), () over
    the real tokens of a batch.

    1 is perfect, 0 is as good as always predicting the mean, below 0 is worse; nan if all returns
    are equal. All tensors (B, N).
    """
    rest, whole = (returns - values)[mask.bool()], returns[mask.bool()]
    variance = whole.var(correction=0)
    return torch.where(variance > 0, 1 - rest.var(correction=0) / variance, torch.nan)


# ---- PPO losses ----------------------------------------------------------------------------------


def clipped_policy_loss(
    new_logprobs: Tensor, logprobs: Tensor, advantages: Tensor, mask: Tensor, epsilon: float = 0.2
) -> Tensor:
    """PPO's clipped loss, mean of max(-A ratio, -A clip(ratio, 1 - epsilon, 1 + epsilon)): () from
    four (B, N); only `new_logprobs` carries a gradient (Schulman et al. 2017)."""
    # Zero the padding before exp: an infinite ratio would put nan in the gradient, masked or not.
    ratio = _real(new_logprobs - logprobs, mask).exp()
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - epsilon, 1 + epsilon)
    return masked_mean(torch.maximum(plain, clipped), mask)


@torch.no_grad()
def policy_metrics(
    new_logprobs: Tensor, logprobs: Tensor, advantages: Tensor, mask: Tensor, epsilon: float = 0.2
) -> dict[str, Tensor]:
    """The metrics of a policy step, means over real tokens, each (): approximate KL of old to new
    policy (k2), the share of tokens whose loss the clip changed, and the ratio.

    Before the first step the first two are 0. A mean ratio of 1 tells you nothing: over samples of
    the old policy it is 1 on average, whatever the new policy is.
    """
    log_ratio = _real(new_logprobs - logprobs, mask)
    ratio = log_ratio.exp()
    clipped = -advantages * ratio.clamp(1 - epsilon, 1 + epsilon) > -advantages * ratio
    return {
        "policy/approxkl_avg": masked_mean(log_ratio.square() / 2, mask),
        "policy/clipfrac_avg": masked_mean(clipped.to(ratio), mask),
        "val/ratio": masked_mean(ratio, mask),
    }


@torch.no_grad()
def largest_log_ratio(new_logprobs: Tensor, logprobs: Tensor, mask: Tensor) -> Tensor:
    """The largest |log-ratio| of new to old policy of any real token: three (B, N) -> ()."""
    return _real(new_logprobs - logprobs, mask).abs().max()


def clipped_value_loss(
    new_values: Tensor, values: Tensor, returns: Tensor, mask: Tensor, epsilon: float = 0.2
) -> Tensor:
    """Half the squared error of the values, or of the values clipped to within `epsilon` of the old
    ones, whichever is larger (Ziegler et al. 2019; multiply it by the value coefficient): () from
    four (B, N); only `new_values` carries a gradient."""
    new_values = _real(new_values, mask)
    held = values + (new_values - values).clamp(-epsilon, epsilon)
    plain, clipped = (new_values - returns).square(), (held - returns).square()
    return masked_mean(torch.maximum(plain, clipped), mask) / 2


@torch.no_grad()
def value_metrics(
    new_values: Tensor, values: Tensor, returns: Tensor, mask: Tensor, epsilon: float = 0.2
) -> dict[str, Tensor]:
    """The share of real tokens whose value loss the clip changed, ()."""
    held = values + (new_values - values).clamp(-epsilon, epsilon)
    clipped = (held - returns).square() > (new_values - returns).square()
    return {"val/clipfrac_avg": masked_mean(clipped.to(returns), mask)}


def reinforce_loss(new_logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Mean of -A logprob over real tokens (Williams 1992): (B, N), (B, N) -> ()."""
    return masked_mean(-advantages * _real(new_logprobs, mask), mask)


# ---- ranking losses ------------------------------------------------------------------------------


def pair_loss(chosen_scores: Tensor, rejected_scores: Tensor) -> Tensor:
    """Bradley-Terry: mean of -log sigmoid(chosen - rejected): (B,), (B,) -> ()."""
    return -F.logsigmoid(chosen_scores - rejected_scores).mean()


def comparisons(ranks: Tensor) -> Tensor:
    """Which response beats which: int ranks (B, K) -> bool (B, K, K), True where i beats j.

    A lower rank beats a higher one and any rank beats UNRANKED; ties and two unranked responses
    are not compared, and ABSENT ones (padding when prompts have fewer than K) never are.
    """
    i, j = ranks.unsqueeze(-1), ranks.unsqueeze(-2)
    return (i > 0) & ((i < j) | (j == UNRANKED))


def kwise_loss(scores: Tensor, ranks: Tensor, soft_ties: bool = False) -> Tensor:
    """Bradley-Terry over all compared pairs: scores (B, K), int ranks (B, K) -> ().

    Mean over the pairs of a prompt, then over the prompts that have a pair (Ouyang et al. 2022,
    eq. 1): a prompt weighs the same however many of its responses were compared. Tied pairs are
    dropped, or with `soft_ties` pulled together, at a loss of ln 2 when equal. 0 without any pair.
    """
    weights = pair_weights(ranks, soft_ties).to(scores)  # (B, K, K)
    margins = _real(scores.unsqueeze(-1) - scores.unsqueeze(-2), weights)
    losses, pairs = -(weights * F.logsigmoid(margins)).sum((-2, -1)), weights.sum((-2, -1))
    return (losses / pairs.clamp(min=1)).sum() / (pairs > 0).sum().clamp(min=1)


def kwise_of(pair_loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A k-wise loss, with the arguments of `kwise_loss`, made from any pair loss.

    pair_loss: its mean over the pairs it gets, (pairs,), (pairs,) -> ().
    """

    def loss(scores: Tensor, ranks: Tensor, soft_ties: bool = False) -> Tensor:
        times = (2 * pair_weights(ranks, soft_ties)).long()  # a tie once each way, others twice
        each = []
        for row, count in zip(scores, times):
            better, worse = count.nonzero(as_tuple=True)
            often = count[better, worse]
            if len(often):
                pairs = (row[side].repeat_interleave(often, 0) for side in (better, worse))
                each.append(pair_loss(*pairs))
        return torch.stack(each).mean() if each else scores[:0].sum()

    return loss


def pair_weights(ranks: Tensor, soft_ties: bool = False) -> Tensor:
    """How much response i counts as better than j: 1 where it was ranked above, with `soft_ties`
    half a win for either side of a tie, else 0: (B, K) -> (B, K, K)."""
    weights = comparisons(ranks).float()
    if soft_ties:
        i, j = ranks.unsqueeze(-1), ranks.unsqueeze(-2)
        itself = torch.eye(ranks.shape[-1], dtype=torch.bool, device=ranks.device)
        weights = weights + 0.5 * ((i == j) & (i > 0) & ~itself)
    return weights


def prompts_compared(ranks: Tensor, soft_ties: bool = False) -> int:
    """How many prompts have a pair, and so count in `kwise_loss`: ranks (B, K) -> a number."""
    return int((pair_weights(ranks, soft_ties) > 0).any(-1).any(-1).sum())


def pair_margins(scores: Tensor, ranks: Tensor) -> Tensor:
    """Score of winner minus loser for every comparison: (B, K), (B, K) -> (pairs,)."""
    return (scores.unsqueeze(-1) - scores.unsqueeze(-2))[comparisons(ranks)]


def pair_accuracy(scores: Tensor, ranks: Tensor) -> Tensor:
    """Share of all comparisons that the scores order correctly: (B, K), (B, K) -> ().

    Equal scores count half; ties in the ranking are not comparisons. nan when there are none.
    """
    margins = pair_margins(scores, ranks)
    return ((margins.sign() + 1) / 2).mean()


def uncertainty(scores: Tensor) -> Tensor:
    """How uncertain comparisons are by these scores: (P, K) -> (P,), in nats.

    The entropy of the Bradley-Terry probability, sigmoid(difference), mean over the pairs of a
    prompt: ln 2 where all scores are equal. A score of nan means no response; 0 for a
    prompt without a pair.
    """
    first, second = torch.triu_indices(scores.shape[1], scores.shape[1], offset=1)
    margins = scores[:, first] - scores[:, second]  # (P, pairs)
    there = ~margins.isnan()
    margins = margins.nan_to_num()
    nats = entropy(torch.stack([margins, torch.zeros_like(margins)], -1))
    return (nats * there).sum(1) / there.sum(1).clamp(min=1)


def calibration(
    probabilities: Tensor, outcomes: Tensor, bins: int = 10
) -> tuple[Tensor, Tensor, Tensor]:
    """Reliability diagram: mean prediction, mean outcome and count of each bin: (M,) -> (bins,).

    For pairs take the side the model favours: probabilities sigmoid(|margin|), outcomes margin > 0.
    Empty bins are nan.
    """
    bin_of = (probabilities * bins).long().clamp(0, bins - 1)
    counts = bin_of.bincount(minlength=bins)
    sums = (bin_of.bincount(x.double(), minlength=bins) for x in (probabilities, outcomes))
    predicted, observed = (total / counts for total in sums)
    return predicted, observed, counts


def calibration_error(probabilities: Tensor, outcomes: Tensor, bins: int = 10) -> Tensor:
    """Expected calibration error: the gap between prediction and outcome, averaged over bins."""
    predicted, observed, counts = calibration(probabilities, outcomes, bins)
    return ((predicted - observed).abs().nan_to_num() * counts).sum() / counts.sum()


def normalisation(mean: float, sd: float) -> tuple[float, float]:
    """(gain, bias) that rescale scores of this mean and standard deviation to 0 and 1.

    The ranking does not change. UserError when `sd` is not positive.
    """
    if not sd > 0:
        raise UserError(f"cannot normalise scores of standard deviation {sd}: give unequal ones")
    return 1 / sd, -mean / sd


# ---- other methods -------------------------------------------------------------------------------


def dpo_scores(logprobs: Tensor, ref_logprobs: Tensor, dpo_beta: float) -> Tensor:
    """Implicit score of responses from their summed log-probs: (B,), (B,) -> (B,)."""
    return dpo_beta * (logprobs - ref_logprobs)


def dpo_loss(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    dpo_beta: float = 0.1,
) -> Tensor:
    """The pair loss of the implicit scores (Rafailov et al. 2023): four (B,) -> ().

    Each is a sum over its own response: `masked_sum(logprobs, mask)` with that response's mask.
    """
    chosen = dpo_scores(chosen_logprobs, ref_chosen_logprobs, dpo_beta)
    return pair_loss(chosen, dpo_scores(rejected_logprobs, ref_rejected_logprobs, dpo_beta))


def grpo_advantages(scores: Tensor) -> Tensor:
    """Score minus the mean of its group, divided by the group's sample standard deviation (Shao et
    al. 2024): (B, K >= 2) -> (B, K)."""
    return dr_grpo_advantages(scores) / (scores.std(-1, keepdim=True) + 1e-4)


def rloo_advantages(scores: Tensor) -> Tensor:
    """Score minus the mean of the others (Kool et al. 2019): (B, K >= 2) -> (B, K)."""
    return dr_grpo_advantages(scores) * scores.shape[-1] / (scores.shape[-1] - 1)


def dr_grpo_advantages(scores: Tensor) -> Tensor:
    """Score minus the mean of its group, not divided (Liu et al. 2025): (B, K) -> (B, K)."""
    return scores - scores.mean(-1, keepdim=True)


# ---- ensembles of reward models ------------------------------------------------------------------


def worst_case(scores: Tensor) -> Tensor:
    """The lowest score that any of M reward models gives: (M, B) -> (B,) (Coste et al. 2024)."""
    return scores.amin(0)


def uncertainty_weighted(scores: Tensor, weight: float) -> Tensor:
    """Mean of M scores less `weight` times their population variance: (M, B) -> (B,) (Coste et al.
    2024). A weight of 0 is the plain mean."""
    return scores.mean(0) - weight * scores.var(0, correction=0)


# ---- best-of-n and over-optimisation -------------------------------------------------------------


def best_of_n_kl_bound(n: int) -> float:
    """KL in nats of best-of-n from plain sampling: exact if no two scores tie, else too high."""
    return math.log(n) - (n - 1) / n


def best_of_n_kl_estimate(scores: Tensor, n: int) -> Tensor:
    """KL in nats of best-of-n from plain sampling, ties included: scores (..., M) -> (...).

    Mean of log w over best-of-n draws, where w = (F<=^n - F<^n) / (F<= - F<) is how much more
    often best-of-n draws a response than sampling does, and F is the distribution function of one
    prompt's scores, taken from its M samples. It cannot exceed ln M: use M well above n.
    """
    below, up_to = (count.double() / scores.shape[-1] for count in _ranks_among(scores))
    weights = (up_to**n - below**n) / (up_to - below)
    return torch.xlogy(weights, weights).mean(-1)


def best_of_n_value(scores: Tensor, marks: Tensor, n: int) -> Tensor:
    """Expected mark of the best-scored of n responses, from M samples: two (..., M) -> (...).

    Unbiased: the mean over all subsets of n, where k of M samples hold a share C(k, n) / C(M, n) of
    the subsets; equal scores share their chance. UserError unless 1 <= n <= M.
    """
    m = scores.shape[-1]
    if not 1 <= n <= m:
        raise UserError(f"best of n = {n} needs 1 <= n <= {m}, the number of samples per prompt")
    below, up_to = _ranks_among(scores)
    subsets = [math.comb(k, n) / math.comb(m, n) for k in range(m + 1)]
    share = torch.tensor(subsets, dtype=torch.float64, device=scores.device)
    weights = (share[up_to] - share[below]) / (up_to - below)
    return (weights * marks).sum(-1)


def _ranks_among(scores: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the M scores are below each, and how many not above: (..., M) -> (..., M)."""
    mine, others = scores.unsqueeze(-1), scores.unsqueeze(-2)
    return (others < mine).sum(-1), (others <= mine).sum(-1)


def overoptimisation_bon(d: Tensor, gain: float, penalty: float) -> Tensor:
    """Mark gained by best-of-n at d = sqrt(KL), highest at gain / (2 penalty) (Gao et al. 2022)."""
    return d * (gain - penalty * d)


def overoptimisation_rl(d: Tensor, gain: float, penalty: float) -> Tensor:
    """Mark gained by RL at d = sqrt(KL), highest at exp(gain / penalty - 1) (Gao et al. 2022).

    Its slope at 0 is infinite: do not fit it near there.
    """
    return gain * d - penalty * torch.xlogy(d, d)
