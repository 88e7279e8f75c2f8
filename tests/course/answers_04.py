"""Answers that learners may write to the exercises of notebook 04."""

import torch
import torch.nn.functional as F

RIGHT, WRONG, TWO = {}, {}, {}

# ---- kl_rewards ----------------------------------------------------------------------------------


def rewards_by_loop(scores, logprobs, ref_logprobs, mask, beta):
    out = torch.zeros_like(logprobs)
    for b in range(len(scores)):
        length = int(mask[b].sum())
        for n in range(length):
            out[b, n] = -beta * (logprobs[b, n] - ref_logprobs[b, n])
        out[b, length - 1] += scores[b]
    return out


def rewards_by_scatter(scores, logprobs, ref_logprobs, mask, beta):
    kl = torch.where(mask, logprobs - ref_logprobs, 0.0)
    last = mask.sum(1, keepdim=True) - 1
    return (-beta * kl).scatter_add(1, last, scores[:, None])


def rewards_by_clone(scores, logprobs, ref_logprobs, mask, beta):
    rewards = (ref_logprobs - logprobs).clone() * beta
    rewards[~mask] = 0
    rewards[range(len(scores)), mask.long().argmin(1) - 1] += scores
    return rewards


def rewards_by_edges(scores, logprobs, ref_logprobs, mask, beta):
    ends = mask & ~F.pad(mask[:, 1:], (0, 1))
    return beta * (ref_logprobs - logprobs).masked_fill(~mask, 0) + ends * scores.unsqueeze(1)


RIGHT["kl_rewards"] = [
    rewards_by_loop,
    rewards_by_scatter,
    rewards_by_clone,
    rewards_by_edges,
    lambda s, new, ref, mask, beta: torch.stack(
        [
            torch.cat([beta * (q - p)[m], torch.zeros(int((~m).sum()))])
            + x * F.one_hot(m.sum() - 1, len(m))
            for x, p, q, m in zip(s, new, ref, mask)
        ]
    ),
    lambda s, new, ref, mask, beta: (
        s[:, None] * ((mask.cumsum(1) == mask.sum(1, keepdim=True)) & mask)
        - beta * torch.where(mask, new.double() - ref.double(), 0)
    ),
    lambda s, new, ref, mask, beta: torch.tensor(
        [
            [
                (beta * (q - p) if m else 0) + (x if n == sum(row) - 1 else 0)
                for n, (p, q, m) in enumerate(zip(new_row, ref_row, row))
            ]
            for x, new_row, ref_row, row in zip(
                s.tolist(), new.tolist(), ref.tolist(), mask.tolist()
            )
        ]
    ),
]


def _rewards(kl, mask, beta, last, scores):
    rewards = -beta * torch.where(mask, kl, torch.zeros_like(kl))
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def _last(mask):
    return mask.int().sum(1) - 1


def score_in_every_row(scores, logprobs, ref_logprobs, mask, beta):
    rewards = torch.where(mask, -beta * (logprobs - ref_logprobs), 0.0)
    rewards[:, mask.sum(1) - 1] += scores
    return rewards


WRONG["kl_rewards"] = [
    (score_in_every_row, "land in other rows too"),
    (lambda s, p, q, m, beta: _rewards(q - p, m, beta, _last(m), s), "sign of the KL"),
    (lambda s, p, q, m, beta: _rewards((p - q) ** 2 / 2, m, beta, _last(m), s), "estimator k2"),
    (
        lambda s, p, q, m, beta: _rewards((p - q) ** 2, m, beta, _last(m), s),
        "the square of the log",
    ),
    (
        lambda s, p, q, m, beta: _rewards((q - p).exp() - 1 - (q - p), m, beta, _last(m), s),
        "the estimator k3",
    ),
    (lambda s, p, q, m, beta: _rewards((p - q).abs(), m, beta, _last(m), s), "sign of each token"),
    (
        lambda s, p, q, m, beta: _rewards(p.exp() - q.exp(), m, beta, _last(m), s),
        "probabilities we",
    ),
    (lambda s, p, q, m, beta: _rewards(p - q, m, beta, -1, s), "into the last column"),
    (lambda s, p, q, m, beta: _rewards(p - q, m, beta, _last(m) + 1, s), "one column too far"),
    (lambda s, p, q, m, beta: _rewards(p - q, m, beta, _last(m) - 1, s), "one token too early"),
    (lambda s, p, q, m, beta: _rewards(p - q, m, beta, 0, s), "the first token gets"),
    (
        lambda s, p, q, m, beta: s.unsqueeze(1) * m - beta * (p - q).masked_fill(~m, 0),
        "every token gets the score",
    ),
    (lambda s, p, q, m, beta: -beta * torch.where(m, p - q, 0), "the score is missing"),
    (lambda s, p, q, m, beta: _rewards(p - q, m, 1, _last(m), s), "beta is missing"),
    (lambda s, p, q, m, beta: _rewards(p - q, m, 0.1, _last(m), s), "beta is always 0.1"),
    (lambda s, p, q, m, beta: _rewards(p - q, m, beta, _last(m), beta * s), "score as well"),
    (
        lambda s, p, q, m, beta: (-beta * (p - q) * m).index_put(
            (torch.arange(len(s)), _last(m)), s, accumulate=True
        ),
        "0 times nan is nan",
    ),
]


def rewards_instead(s, p, q, m, beta):
    rewards = -beta * (p - q).masked_fill(~m, 0)
    rewards[torch.arange(len(s)), m.sum(1) - 1] = s
    return rewards


def rewards_masked_late(s, p, q, m, beta):
    rewards = -beta * (p - q)
    rewards[:, -1] += s
    return rewards.masked_fill(~m, 0)


WRONG["kl_rewards"] += [
    (rewards_instead, "+= and not ="),
    (rewards_masked_late, "where the mask then took it away"),
]
TWO["kl_rewards"] = [
    (lambda s, p, q, m, beta: _rewards(q - p, m, beta, -1, s), "sign of the KL|last column"),
    (lambda s, p, q, m, beta: _rewards((p - q).abs(), m, 1, _last(m), s), "beta|sign of each"),
    (lambda s, p, q, m, beta: _rewards((p - q) ** 2 / 2, m, beta, _last(m) - 1, s), "k2|too early"),
    (lambda s, p, q, m, beta: m * s[:, None] + beta * torch.where(m, p - q, 0), "sign|every token"),
]

# ---- gae -----------------------------------------------------------------------------------------


def gae_by_rows(rewards, values, mask, gamma, lam):
    advantages, returns = torch.zeros_like(rewards), torch.zeros_like(rewards)
    for b in range(len(rewards)):
        length, running = int(mask[b].sum()), 0.0
        for n in range(length - 1, -1, -1):
            after = values[b, n + 1] if n + 1 < length else 0.0
            running = rewards[b, n] + gamma * after - values[b, n] + gamma * lam * running
            advantages[b, n] = running
            returns[b, n] = running + values[b, n]
    return advantages, returns


def _deltas(rewards, values, mask, gamma):
    r, v = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    return r + gamma * torch.cat([v[:, 1:], torch.zeros(len(v), 1)], 1) - v


def gae_by_matrix(rewards, values, mask, gamma, lam):
    deltas = _deltas(rewards, values, mask, gamma)
    N = deltas.shape[1]
    distance = torch.arange(N)[None] - torch.arange(N)[:, None]
    weights = torch.where(distance >= 0, (gamma * lam) ** distance.clamp(min=0).float(), 0.0)
    advantages = torch.einsum("nk,bk->bn", weights, deltas) * mask
    return advantages, (advantages + values).masked_fill(~mask, 0)


def gae_by_list(rewards, values, mask, gamma, lam):
    columns, running = [], torch.zeros(len(rewards))
    for delta in reversed(_deltas(rewards, values, mask, gamma).unbind(1)):
        running = delta + gamma * lam * running
        columns.insert(0, running)
    advantages = torch.stack(columns, dim=1)
    return advantages, advantages + torch.where(mask, values, 0)


def gae_in_place(rewards, values, mask, gamma, lam):
    rewards, values = rewards.clone(), values.clone()
    rewards[~mask] = values[~mask] = 0
    advantages = rewards - values
    advantages[:, :-1] += gamma * values[:, 1:]
    for n in range(rewards.shape[1] - 2, -1, -1):
        advantages[:, n] += gamma * lam * advantages[:, n + 1]
    return [advantages, advantages + values]


def gae_by_numbers(rewards, values, mask, gamma, lam):
    both = []
    for r, v, m in zip(rewards.tolist(), values.tolist(), mask.tolist()):
        row, running, after = [], 0.0, 0.0
        for reward, value, real in zip(r[::-1], v[::-1], m[::-1]):
            if real:
                running = reward + gamma * after - value + gamma * lam * running
                after = value
            row.insert(0, (running, running + value) if real else (0.0, 0.0))
        both.append(row)
    both = torch.tensor(both, dtype=torch.float64)
    return both[..., 0], both[..., 1]


def gae_by_targets(rewards, values, mask, gamma, lam):
    """Returns first: R_t = r_t + gamma ((1 - lam) V_(t+1) + lam R_(t+1))."""
    r, v = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)
    returns, following, after = torch.zeros_like(r), 0, 0
    for n in reversed(range(r.shape[1])):
        following = r[:, n] + gamma * ((1 - lam) * after + lam * following)
        returns[:, n], after = following, v[:, n]
    return returns - v, returns


RIGHT["gae"] = [
    gae_by_rows,
    gae_by_matrix,
    gae_by_list,
    gae_in_place,
    gae_by_numbers,
    gae_by_targets,
]


def _gae(delta, carry, start=0.0, order=reversed):
    """A learner's loop, delta and carry as they write them."""

    def function(rewards, values, mask, gamma, lam):
        r, v = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)
        out, running = torch.zeros_like(r), torch.zeros_like(r[:, 0]) + start
        for t in order(range(r.shape[1])):
            after = v[:, t + 1] if t + 1 < r.shape[1] else torch.zeros_like(v[:, 0])
            running = delta(r[:, t], after, v[:, t], gamma, lam) + carry(gamma, lam) * running
            out[:, t] = running
        out = out.masked_fill(~mask, 0)
        return out, out + v

    return function


def _td(r, after, v, gamma, lam):
    return r + gamma * after - v


def gae_with_padding(rewards, values, mask, gamma, lam):
    after = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    deltas = rewards + gamma * after - values
    out, running = torch.zeros_like(deltas), 0
    for t in range(deltas.shape[1] - 1, -1, -1):
        running = deltas[:, t] + gamma * lam * running
        out[:, t] = running
    return out.where(mask, 0), (out + values).where(mask, 0)


def gae_rolled(rewards, values, mask, gamma, lam):
    r, v = torch.where(mask, rewards, 0), torch.where(mask, values, 0)
    deltas = r + gamma * torch.roll(v, -1, 1) - v
    out, running = torch.zeros_like(deltas), 0
    for t in reversed(range(deltas.shape[1])):
        running = out[:, t] = deltas[:, t] + gamma * lam * running
    return out.where(mask, 0), (out + v).where(mask, 0)


def gae_white(rewards, values, mask, gamma, lam):
    advantages, _ = gae_by_rows(rewards, values, mask, gamma, lam)
    real = advantages[mask]
    advantages = torch.where(mask, (advantages - real.mean()) / real.std(correction=0), 0)
    return advantages, torch.where(mask, advantages + values, 0)


def gae_and(returns):
    def function(rewards, values, mask, gamma, lam):
        advantages, right = gae_by_list(rewards, values, mask, gamma, lam)
        r, v = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)
        return advantages, returns(advantages, right, r, v, gamma)

    return function


def to_go(advantages, right, r, v, gamma):
    out = r.clone()
    for t in reversed(range(r.shape[1] - 1)):
        out[:, t] += gamma * out[:, t + 1]
    return out * (right != 0)


WRONG["gae"] = [
    (_gae(_td, lambda g, lam: g), "lam is missing"),
    (_gae(_td, lambda g, lam: lam), "gamma is missing in the loop"),
    (_gae(_td, lambda g, lam: g * g), "by gamma twice"),
    (_gae(_td, lambda g, lam: lam**2), "by lam twice"),
    (_gae(_td, lambda g, lam: 1), "carries the advantage whole"),
    (_gae(_td, lambda g, lam: 0), "these are the deltas alone"),
    (_gae(lambda r, a, v, g, lam: r + a - v, lambda g, lam: g * lam), "gamma is missing in delta"),
    (_gae(lambda r, a, v, g, lam: r + a - v, lambda g, lam: lam), "in delta and in the loop"),
    (
        _gae(lambda r, a, v, g, lam: r + lam * a - v, lambda g, lam: g * lam),
        "gamma and lam are swapped",
    ),
    (_gae(lambda r, a, v, g, lam: r + g * lam * a - v, lambda g, lam: g * lam), "by gamma * lam"),
    (
        _gae(lambda r, a, v, g, lam: r + g * a, lambda g, lam: g * lam),
        "own value is not subtracted",
    ),
    (_gae(lambda r, a, v, g, lam: r - v, lambda g, lam: g * lam), "the next value is missing"),
    (_gae(_td, lambda g, lam: g * lam, order=iter), "the loop runs forwards"),
    (gae_rolled, "torch.roll wraps round"),
    (gae_with_padding, "rewards and values of the padding were left in"),
    (gae_white, "whitened in here"),
    (gae_and(lambda a, right, r, v, g: a), "lack the values"),
    (gae_and(lambda a, right, r, v, g: v), "lack the advantages"),
    (gae_and(lambda a, right, r, v, g: a + r), "advantages + rewards"),
    (lambda *x: gae_by_rows(*x)[::-1], "wrong order"),
    (lambda r, v, m, g, lam: gae_by_rows(r, v, m, g, 0.95), "lam is always 0.95"),
]


def gae_forwards(rewards, values, mask, gamma, lam):
    r, v = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)
    out, carried, next_value = torch.zeros_like(r), 0, 0
    for t in range(r.shape[1]):
        carried = r[:, t] + gamma * next_value - v[:, t] + gamma * lam * carried
        out[:, t], next_value = carried, v[:, t]
    out = out.masked_fill(~mask, 0)
    return out, out + v


def gae_without_the_last_column(rewards, values, mask, gamma, lam):
    r, v = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)
    out, carried = torch.zeros_like(r), 0
    for t in range(r.shape[1] - 2, -1, -1):
        carried = r[:, t] + gamma * v[:, t + 1] - v[:, t] + gamma * lam * carried
        out[:, t] = carried
    return out, out + v


def gae_of_three_columns(rewards, values, mask, gamma, lam):
    r, v = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)
    out, carried = torch.zeros_like(r), 0
    for t in (2, 1, 0):
        after = v[:, t + 1] if t + 1 < v.shape[1] else 0
        carried = r[:, t] + gamma * after - v[:, t] + gamma * lam * carried
        out[:, t] = carried
    return out, out + v


WRONG["gae"] += [
    (gae_forwards, "the value of the token before in place of the next one"),
    (gae_without_the_last_column, "leaves out the last column"),
    (gae_of_three_columns, "always runs over 3 columns"),
]
TWO["gae"] = [
    (_gae(lambda r, a, v, g, lam: r + lam * a - v, lambda g, lam: lam), "are swapped|gamma"),
    (_gae(lambda r, a, v, g, lam: r + a - v, lambda g, lam: g), "gamma is missing|lam is missing"),
    (_gae(_td, lambda g, lam: g, order=iter), "forwards|lam is missing"),
    (lambda *x: _gae(_td, lambda g, lam: lam)(*x)[::-1], "wrong order|gamma is missing"),
    (lambda r, v, m, g, lam: (gae_by_rows(r, v, m, g, 1.0)[0],) * 2, "lam is|lack the values"),
]

# ---- whiten --------------------------------------------------------------------------------------


def whiten_by_loop(x, mask):
    real = [v for row, m in zip(x.tolist(), mask.tolist()) for v, keep in zip(row, m) if keep]
    mean = sum(real) / len(real)
    sd = (sum((v - mean) ** 2 for v in real) / len(real) + 1e-8) ** 0.5
    return torch.tensor(
        [
            [(v - mean) / sd if keep else 0 for v, keep in zip(row, m)]
            for row, m in zip(x.tolist(), mask.tolist())
        ]
    )


def whiten_by_scatter(x, mask):
    real = x[mask].double()
    white = (real - real.mean()) / (real.var(correction=0) + 1e-8) ** 0.5
    return torch.zeros_like(x, dtype=torch.float64).masked_scatter(mask, white)


def whiten_by_index(x, mask):
    out = torch.zeros_like(x)
    out[mask] = (x[mask] - x[mask].mean()) / (x[mask].std(unbiased=False) + 1e-8)
    return out


def whiten_by_sums(x, mask):
    clean, n = torch.where(mask, x, 0), mask.sum()
    mean = clean.sum() / n
    centred = torch.where(mask, clean - mean, 0)
    return centred * torch.rsqrt(torch.einsum("bn,bn->", centred, centred) / n + 1e-8)


def whiten_in_place(x, mask):
    y = x.clone()
    y[~mask] = 0
    y -= y.sum() / mask.sum()
    y[~mask] = 0
    return y / torch.sqrt(y.pow(2).sum() / mask.sum() + 1e-8)


def whiten_or_zeros(x, mask):
    real = x[mask]
    if real.max() == real.min():
        return torch.zeros_like(x)
    return torch.where(mask, (x - real.mean()) / real.std(correction=0), 0)


def whiten_by_norm(x, mask):
    real = x[mask] - x[mask].mean()
    white = F.normalize(real, dim=0) * len(real) ** 0.5
    return torch.stack(
        [
            torch.cat([part, torch.zeros(mask.shape[1] - len(part))])
            for part in white.split(mask.sum(1).tolist())
        ]
    )


RIGHT["whiten"] = [
    whiten_by_loop,
    whiten_by_scatter,
    whiten_by_index,
    whiten_by_sums,
    whiten_in_place,
    whiten_or_zeros,
    whiten_by_norm,
]


def _white(x, mask, mean, sd):
    return torch.where(mask, (x - mean) / sd, torch.zeros_like(x))


WRONG["whiten"] = [
    (lambda x, m: _white(x, m, x[m].mean(), (x[m].var() + 1e-8).sqrt()), "divides by n - 1"),
    (lambda x, m: _white(x, m, x[m].mean(), x[m].std(correction=0)), "divides 0 by 0"),
    (
        lambda x, m: _white(x, m, 0, (x[m].var(correction=0) + 1e-8).sqrt()),
        "mean was not subtracted",
    ),
    (lambda x, m: _white(x, m, x[m].mean(), x[m].var(correction=0) + 1e-8), "by the variance"),
    (lambda x, m: _white(x, m, x[m].mean(), 1), "only the mean was subtracted"),
    (
        lambda x, m: _white(x, m, x[m].mean(), (x[m].var(correction=0) + 1e-5).sqrt()),
        "looks like 1e-05",
    ),
    (
        lambda x, m: _white(x, m, x[m].mean(), x[m].std(correction=0) + 1e-3),
        "0.001 was added to the standard deviation",
    ),
    (
        lambda x, m: torch.stack([whiten_by_index(r[None], k[None])[0] for r, k in zip(x, m)]),
        "each response was whitened by itself",
    ),
    (
        lambda x, m: _white(
            x,
            m,
            x.masked_fill(~m, 0).mean(),
            (x.masked_fill(~m, 0).var(correction=0) + 1e-8).sqrt(),
        ),
        "padding counts, as zeros",
    ),
    (
        lambda x, m: _white(x, m, x.mean(), (x.var(correction=0) + 1e-8).sqrt()),
        "padding counts in mean and variance",
    ),
    (lambda x, m: (x - x[m].mean()) / (x[m].var(correction=0) + 1e-8).sqrt(), "it should be 0"),
    (lambda x, m: whiten_by_sums(x, m).masked_fill(~m, 0) * 2, "It is 2 times the right"),
    (
        lambda x, m: (x - x[m].mean()) / (x[m].var(correction=0) + 1e-8).sqrt() * m,
        "0 times nan is nan",
    ),
]
TWO["whiten"] = [
    (lambda x, m: _white(x, m, x[m].mean(), x[m].std()), "n - 1|0 by 0"),
    (lambda x, m: _white(x, m, 0, (x[m].var() + 1e-8).sqrt()), "not subtracted|n - 1"),
    (lambda x, m: (x - x[m].mean()) / (x[m].var() + 1e-8).sqrt(), "n - 1|should be 0"),
    (lambda x, m: _white(x, m, x[m].mean(), (x[m].var() + 1e-4).sqrt()), "n - 1|0.0001"),
]

# ---- clipped_policy_loss -------------------------------------------------------------------------


def policy_by_loop(new, old, A, mask, epsilon):
    losses = []
    for b in range(len(mask)):
        for n in range(int(mask[b].sum())):
            ratio = torch.exp(new[b, n] - old[b, n])
            if A[b, n] > 0:
                losses.append(-A[b, n] * ratio.clamp(max=1 + epsilon))
            else:
                losses.append(-A[b, n] * ratio.clamp(min=1 - epsilon))
    return torch.stack(losses).mean()


def policy_by_stack(new, old, A, mask, epsilon):
    ratio = torch.where(mask, new - old, 0).exp()
    both = torch.stack([ratio, ratio.clamp(1 - epsilon, 1 + epsilon)])
    worst = (both * torch.where(mask, A, 0)).min(0).values
    return -worst.sum() / mask.sum()


def policy_in_log_space(new, old, A, mask, epsilon):
    new, old, A = new[mask], old[mask], A[mask]
    low, high = torch.log(torch.tensor(1 - epsilon)), torch.log(torch.tensor(1 + epsilon))
    ratio, clipped = (new - old).exp(), (new - old).clamp(low, high).exp()
    return torch.max(-A * ratio, -A * clipped).mean()


def policy_by_where(new, old, A, mask, epsilon):
    ratio = (new - old).masked_fill(~mask, 0).exp()
    held = torch.where(A > 0, ratio.clamp(max=1 + epsilon), ratio.clamp(min=1 - epsilon))
    return (-(A * held).masked_fill(~mask, 0)).sum() / mask.sum()


def policy_by_bounds(new, old, A, mask, epsilon):
    A = A[mask].double()
    ratio = new[mask].exp().double() / old[mask].exp().double()
    clipped = torch.min(torch.max(ratio, torch.tensor(1.0 - epsilon)), torch.tensor(1 + epsilon))
    return -torch.minimum(ratio * A, clipped * A).mean()


def policy_by_silenced_tokens(new, old, A, mask, epsilon):
    new, old, A = (x.masked_select(mask) for x in (new, old, A))
    ratio = torch.exp(new - old)
    silent = ((A > 0) & (ratio > 1 + epsilon)) | ((A < 0) & (ratio < 1 - epsilon))
    edge = torch.where(A > 0, 1 + epsilon, 1 - epsilon)
    loss = torch.zeros_like(ratio)
    loss[silent] = -(A * edge)[silent]
    loss[~silent] = -(A * ratio)[~silent]
    return torch.einsum("t->", loss) / len(loss)


RIGHT["clipped_policy_loss"] = [
    policy_by_loop,
    policy_by_stack,
    policy_in_log_space,
    policy_by_where,
    policy_by_bounds,
    policy_by_silenced_tokens,
    lambda new, old, A, mask, epsilon: (
        -torch.cat(
            [
                torch.amin(torch.stack([a * r, a * r.clip(1 - epsilon, 1 + epsilon)], -1), -1)
                for a, r in zip(
                    (a[m] for a, m in zip(A, mask)),
                    ((x - y)[m].exp() for x, y, m in zip(new, old, mask)),
                )
            ]
        ).mean()
    ),
    lambda new, old, A, mask, epsilon: torch.nanmean(
        torch.where(
            mask,
            torch.maximum(
                -A * (new - old).exp(), -A * (new - old).exp().clamp(1 - epsilon, 1 + epsilon)
            ),
            torch.nan,
        )
    ),
]


def _surrogates(new, old, A, epsilon, ratio=None):
    r = torch.exp(new - old) if ratio is None else ratio
    return A * r, A * torch.clamp(r, 1 - epsilon, 1 + epsilon)


def _policy(pick=torch.min, ratio=None, reduce=torch.mean, sign=-1):
    """A learner's loss over the real tokens."""

    def function(new, old, A, mask, epsilon):
        new, old, A = new[mask], old[mask], A[mask]
        r = None if ratio is None else ratio(new, old)
        return sign * reduce(pick(*_surrogates(new, old, A, epsilon, r)))

    return function


def policy_by_rows(new, old, A, mask, epsilon):
    each = [
        _policy()(n[None], o[None], a[None], m[None], epsilon)
        for n, o, a, m in zip(new, old, A, mask)
    ]
    return sum(each) / len(each)


WRONG["clipped_policy_loss"] = [
    (_policy(torch.max), "min is used in place of max"),
    (_policy(lambda a, b: a), "nothing is clipped"),
    (_policy(lambda a, b: b), "only the clipped part"),
    (_policy(sign=1), "this is what PPO maximises"),
    (_policy(torch.max, sign=1), "sign of the advantage"),
    (_policy(reduce=torch.sum), "sum over the tokens"),
    (_policy(ratio=lambda new, old: new - old), "the exp is missing"),
    (_policy(ratio=lambda new, old: new / old), "were divided"),
    (_policy(ratio=lambda new, old: (old - new).exp()), "inverted"),
    (_policy(ratio=lambda new, old: new.exp()), "the new probability alone"),
    (_policy(ratio=lambda new, old: new.exp() - old.exp()), "probabilities were subtracted"),
    (policy_by_rows, "mean of each response first"),
    (
        lambda new, old, A, mask, epsilon: -torch.min(*_surrogates(new, old, A, epsilon)).mean(),
        "padding counts",
    ),
    (
        lambda new, old, A, mask, epsilon: (
            -(torch.where(mask, torch.min(*_surrogates(new, old, A, epsilon)), 0)).mean()
        ),
        "still counts in the mean",
    ),
    (
        lambda new, old, A, mask, epsilon: (
            -((torch.min(*_surrogates(new, old, A, epsilon)) * mask).sum() / mask.sum())
        ),
        "0 times nan is nan",
    ),
    (lambda new, old, A, mask, epsilon: _policy()(new, old, A, mask, 0.2), "epsilon is always 0.2"),
    (
        lambda new, old, A, mask, epsilon: (
            -torch.min(
                A[mask] * (new - old)[mask].exp(),
                A[mask] * (new - old)[mask].exp().clamp(-epsilon, epsilon),
            ).mean()
        ),
        "between -epsilon and epsilon",
    ),
    (lambda new, old, A, mask, epsilon: -1.2 + 0 * new[mask].sum(), "same answer for every input"),
]
TWO["clipped_policy_loss"] = [
    (_policy(torch.max, reduce=torch.sum), "min is used|sum over"),
    (_policy(ratio=lambda new, old: new - old, sign=1), "exp is missing|sign"),
    (_policy(lambda a, b: b, reduce=torch.sum), "clipped part|sum over"),
    (
        lambda new, old, A, mask, epsilon: -torch.max(*_surrogates(new, old, A, epsilon)).mean(),
        "min is used|padding counts",
    ),
]

# ---- clipped_value_loss --------------------------------------------------------------------------


def value_by_loop(new, old, R, mask, epsilon):
    total = 0.0
    for b, n in mask.nonzero().tolist():
        held = old[b, n] + (new[b, n] - old[b, n]).clamp(-epsilon, epsilon)
        total = total + max((new[b, n] - R[b, n]) ** 2, (held - R[b, n]) ** 2)
    return total / mask.sum() / 2


def value_by_where(new, old, R, mask, epsilon):
    new, old, R = (torch.where(mask, x, 0) for x in (new, old, R))
    held = torch.clamp(new, old - epsilon, old + epsilon)
    plain, other = (new - R) ** 2, (held - R) ** 2
    return 0.5 * torch.where(plain > other, plain, other).sum() / mask.sum()


def value_by_stack(new, old, R, mask, epsilon):
    new, old, R = new[mask], old[mask], R[mask]
    held = torch.stack([new - old, torch.full_like(new, epsilon)]).min(0).values
    held = old + torch.stack([held, torch.full_like(new, -epsilon)]).max(0).values
    return torch.stack([(new - R).square(), (held - R).square()]).max(0)[0].mean() / 2


def value_by_min_and_max(new, old, R, mask, epsilon):
    held = torch.max(torch.min(new, old + epsilon), old - epsilon)
    losses = torch.maximum((new - R).pow(2), (held - R).pow(2))[mask]
    return 0.5 * losses.double().mean()


def value_by_distance(new, old, R, mask, epsilon):
    new, old, R = (x.masked_select(mask) for x in (new, old, R))
    held = torch.where(new > old + epsilon, old + epsilon, new)
    held = torch.where(held < old - epsilon, old - epsilon, held)
    far = torch.maximum((new - R).abs(), (held - R).abs())
    return torch.dot(far, far) / (2 * len(far))


def value_by_mse(new, old, R, mask, epsilon):
    held = old + (new - old).clip(-epsilon, epsilon)
    plain = F.mse_loss(new[mask], R[mask], reduction="none")
    other = F.mse_loss(held[mask], R[mask], reduction="none")
    out = plain.clone()
    out[other > plain] = other[other > plain]
    return out.mean().div(2)


RIGHT["clipped_value_loss"] = [
    value_by_loop,
    value_by_where,
    value_by_stack,
    value_by_min_and_max,
    value_by_distance,
    value_by_mse,
    lambda new, old, R, mask, epsilon: (
        torch.cat(
            [
                torch.maximum((n - r) ** 2, (n.clamp(o - epsilon, o + epsilon) - r) ** 2)[m]
                for n, o, r, m in zip(new, old, R, mask)
            ]
        ).sum()
        / (2 * mask.sum())
    ),
]


def _value(pick=torch.max, held=None, reduce=torch.mean, half=0.5, power=2):
    def function(new, old, R, mask, epsilon):
        n, o, r = new[mask], old[mask], R[mask]
        h = o + (n - o).clamp(-epsilon, epsilon) if held is None else held(n, o, r, epsilon)
        return half * reduce(pick((n - r).abs() ** power, (h - r).abs() ** power))

    return function


def value_by_rows(new, old, R, mask, epsilon):
    rows = [
        value_by_where(*(x[b : b + 1] for x in (new, old, R, mask)), epsilon)
        for b in range(len(new))
    ]
    return torch.stack(rows).mean()


WRONG["clipped_value_loss"] = [
    (_value(torch.min), "min is used in place of max"),
    (_value(lambda a, b: a), "nothing is clipped"),
    (_value(lambda a, b: b), "only the held value"),
    (_value(half=1), "twice as large"),
    (_value(reduce=torch.sum), "sum over the tokens"),
    (_value(power=1), "not squared"),
    (_value(lambda a, b: (a + b) / 2), "mean of the two errors"),
    (_value(held=lambda n, o, r, e: n.clamp(-e, e)), "itself was clamped"),
    (_value(held=lambda n, o, r, e: (n - o).clamp(-e, e)), "not added again"),
    (_value(held=lambda n, o, r, e: n.clamp(1 - e, 1 + e)), "as for a ratio"),
    (_value(held=lambda n, o, r, e: o), "error of the old value"),
    (value_by_rows, "mean of each response first"),
    (
        lambda new, old, R, mask, epsilon: (
            0.5
            * torch.max((new - R) ** 2, (new.clamp(old - epsilon, old + epsilon) - R) ** 2).mean()
        ),
        "padding counts",
    ),
    (
        lambda new, old, R, mask, epsilon: (
            0.5
            * (
                torch.max((new - R) ** 2, (new.clamp(old - epsilon, old + epsilon) - R) ** 2) * mask
            ).sum()
            / mask.sum()
        ),
        "0 times nan is nan",
    ),
    (lambda new, old, R, mask, epsilon: value_by_mse(new, old, R, mask, 0.2), "epsilon is always"),
]
WRONG["clipped_value_loss"] += [
    (
        lambda new, old, R, mask, epsilon: (
            torch.maximum(
                F.mse_loss(new[mask], R[mask]),
                F.mse_loss(new.clamp(old - epsilon, old + epsilon)[mask], R[mask]),
            )
            / 2
        ),
        "the larger of the two means",
    ),
    (lambda *x: (2 * value_by_mse(*x)) ** 0.5, "the root of the mean"),
    (
        lambda new, old, R, mask, epsilon: (
            0.5 * value_by_each(new, old, R, mask, epsilon).sum(1) / mask.sum(1)[:, None]
        ).mean(),
        "by the length of every other",
    ),
]


def value_by_each(new, old, R, mask, epsilon):
    held = new.clamp(old - epsilon, old + epsilon)
    return torch.maximum((new - R) ** 2, (held - R) ** 2).masked_fill(~mask, 0)


TWO["clipped_value_loss"] = [
    (_value(torch.min, half=1), "min is used|twice"),
    (_value(reduce=torch.sum, half=1), "sum over|twice"),
    (_value(lambda a, b: a, half=1), "nothing is clipped|twice"),
    (lambda *x: 2 * value_by_rows(*x), "mean of each response|twice"),
    (_value(held=lambda n, o, r, e: n.clamp(-e, e), reduce=torch.sum), "itself was|sum over"),
]
