"""Answers that learners may write to the exercises of notebooks 05 to 10, 05b among them."""

import itertools
import math
import re
import statistics

import numpy as np
import torch
import torch.nn.functional as F

RIGHT, WRONG, TWO = {}, {}, {}

# ---- clipped_tokens ------------------------------------------------------------------------------


def clipped_by_loop(new, old, A, epsilon):
    out = torch.zeros(A.shape, dtype=torch.bool)
    for b in range(A.shape[0]):
        for n in range(A.shape[1]):
            ratio = math.exp(new[b, n] - old[b, n])
            if (A[b, n] > 0 and ratio > 1 + epsilon) or (A[b, n] < 0 and ratio < 1 - epsilon):
                out[b, n] = True
    return out


def clipped_by_autograd(new, old, A, epsilon):
    new = new.clone().requires_grad_()
    ratio = (new - old).exp()
    torch.maximum(-A * ratio, -A * ratio.clamp(1 - epsilon, 1 + epsilon)).sum().backward()
    return new.grad == 0


def clipped_by_comparison(new, old, A, epsilon):
    ratio = (new - old).exp()
    return A * ratio.clamp(1 - epsilon, 1 + epsilon) < A * ratio - 1e-7


def clipped_by_index(new, old, A, epsilon):
    ratio = (new - old).exp()
    out = torch.empty_like(A, dtype=torch.bool)
    out[A > 0] = ratio[A > 0] > 1 + epsilon
    out[A < 0] = ratio[A < 0] < 1 - epsilon
    return out


RIGHT["clipped_tokens"] = [
    clipped_by_loop,
    clipped_by_autograd,
    clipped_by_comparison,
    clipped_by_index,
    lambda new, old, A, e: (new.double().exp() / old.double().exp() - 1) * A.sign() > e,
    lambda new, old, A, e: torch.where(
        A > 0, new - old > math.log(1 + e), old - new > -math.log(1 - e)
    ),
    lambda new, old, A, e: torch.logical_or(
        torch.logical_and(A.gt(0), (new - old).exp().gt(1 + e)),
        torch.logical_and(A.lt(0), (new - old).exp().lt(1 - e)),
    ),
    lambda new, old, A, e: torch.stack(
        [(a > 0) * (r > 1 + e) + (a < 0) * (r < 1 - e) for a, r in zip(A, torch.exp(new - old))]
    ),
]
WRONG["clipped_tokens"] = [
    (lambda n, o, A, e: ((n - o).exp() - 1).abs() > e, "every ratio outside"),
    (lambda n, o, A, e: clipped_by_loop(n, o, -A, e), "sign is reversed"),
    (lambda n, o, A, e: clipped_by_loop(o, n, A, e), "inverted"),
    (lambda n, o, A, e: (A > 0) & ((n - o).exp() > 1 + e), "only good tokens count"),
    (lambda n, o, A, e: (A < 0) & ((n - o).exp() < 1 - e), "only bad tokens count"),
    (lambda n, o, A, e: ~clipped_by_loop(n, o, A, e), "keep their gradient"),
    (lambda n, o, A, e: (n - o) * A.sign() > e, "log of the ratio was compared"),
    (lambda n, o, A, e: clipped_by_index(n, o, A, 0.2), "epsilon is always 0.2"),
    (lambda n, o, A, e: (A > 0) & ((n - o).exp() > 1 + e) & (A < 0), "both cases must hold"),
    (
        lambda n, o, A, e: ((A > 0) & (n / o > 1 + e)) | ((A < 0) & (n / o < 1 - e)),
        "log-probabilities were divided",
    ),
    (lambda n, o, A, e: (n - o).exp() > 1 + e, "clipped when its ratio is too high"),
]
TWO["clipped_tokens"] = [
    (lambda n, o, A, e: (A < 0) & ((o - n).exp() < 1 - e), "inverted|only bad"),
    (lambda n, o, A, e: ~((A > 0) & ((n - o).exp() > 1 + e)), "only good|keep their"),
]

# ---- response_kl ---------------------------------------------------------------------------------


def kl_by_loop(logprobs, ref_logprobs, mask):
    totals = []
    for b in range(len(mask)):
        total = 0.0
        for n in range(mask.shape[1]):
            if mask[b, n]:
                total += (logprobs[b, n] - ref_logprobs[b, n]).item()
        totals.append(total)
    return torch.tensor(totals)


def kl_by_index_add(logprobs, ref_logprobs, mask):
    rows = mask.nonzero()[:, 0]
    return torch.zeros(len(mask)).index_add_(0, rows, (logprobs - ref_logprobs)[mask])


def kl_by_clone(logprobs, ref_logprobs, mask):
    difference = logprobs.clone().sub_(ref_logprobs)
    difference[~mask] = 0
    return difference.sum(dim=1)


RIGHT["response_kl"] = [
    kl_by_loop,
    kl_by_index_add,
    kl_by_clone,
    lambda p, q, m: torch.stack([(a[k] - b[k]).sum() for a, b, k in zip(p, q, m)]),
    lambda p, q, m: torch.where(m, p.double() - q.double(), 0).sum(1),
    lambda p, q, m: torch.einsum(
        "bn,bn->b", torch.where(m, p, 0) - torch.where(m, q, 0), m.float()
    ),
    lambda p, q, m: p.masked_fill(~m, 0).sum(1) - q.masked_fill(~m, 0).sum(1),
    lambda p, q, m: torch.tensor((np.where(m, p, 0) - np.where(m, q, 0)).sum(1)),
    lambda p, q, m: torch.where(m, (p - q).exp(), 1).prod(1).log(),
    lambda p, q, m: torch.where(m, p - q, torch.nan).nansum(-1),
]
WRONG["response_kl"] = [
    (lambda p, q, m: ((p - q) ** 2 / 2).masked_fill(~m, 0).sum(1), "the estimator k2"),
    (lambda p, q, m: (torch.exp(q - p) - 1 + p - q).masked_fill(~m, 0).sum(1), "the estimator k3"),
    (lambda p, q, m: (torch.exp(p - q) - 1 - p + q).masked_fill(~m, 0).sum(1), "inverted"),
    (lambda p, q, m: abs(p - q).masked_fill(~m, 0).sum(1), "sign of each token was dropped"),
    (lambda p, q, m: torch.relu(p - q).masked_fill(~m, 0).sum(1), "set to 0"),
    (lambda p, q, m: kl_by_loop(q, p, m), "the policy's log-probability minus"),
    (lambda p, q, m: kl_by_loop(p, q, m) / m.sum(1), "mean over the tokens"),
    (lambda p, q, m: (p - q).where(m, 0).mean(1), "mean over the whole row"),
    (lambda p, q, m: kl_by_loop(p, q, m).sum(), "one sum over the whole batch"),
    (lambda p, q, m: kl_by_loop(p, q, m).mean(), "mean over the responses"),
    (lambda p, q, m: (p - q).where(m, 0), "sum over the tokens is missing"),
    (lambda p, q, m: (p - q).sum(1), "padding is summed too"),
    (lambda p, q, m: ((p - q) * m).sum(1), "0 times nan is nan"),
    (lambda p, q, m: (p.exp() * (p - q)).where(m, 0).sum(1), "weighed with its probability"),
    (lambda p, q, m: (p.exp() - q.exp()).where(m, 0).sum(1), "probabilities were subtracted"),
    (lambda p, q, m: kl_by_loop(p[:, :-1], q[:, :-1], m[:, 1:]), "last real token"),
]
TWO["response_kl"] = [
    (lambda p, q, m: ((p - q) ** 2 / 2).where(m, 0).sum(1) / m.sum(1), "k2|mean over"),
    (lambda p, q, m: abs(p - q).where(m, 0).sum(), "sign of each|one sum"),
    (lambda p, q, m: -kl_by_loop(p, q, m) / m.sum(1), "minus|mean over|sign"),
    (lambda p, q, m: (abs(p - q) * m).sum(1), "sign of each|0 times nan"),
]

# ---- first_ratio_check ---------------------------------------------------------------------------


def largest_by_loop(logprobs, new_logprobs, mask):
    largest = 0.0
    for b in range(len(mask)):
        for n in range(mask.shape[1]):
            if mask[b, n]:
                largest = max(largest, abs(new_logprobs[b, n].item() - logprobs[b, n].item()))
    return torch.tensor(largest)


def largest_in_place(logprobs, new_logprobs, mask):
    difference = new_logprobs.clone() - logprobs
    difference[~mask] = 0
    return torch.maximum(difference.max(), -difference.min())


RIGHT["first_ratio_check"] = [
    largest_by_loop,
    largest_in_place,
    lambda old, new, m: (new - old)[m].abs().max(),
    lambda old, new, m: (old - new).masked_fill(~m, 0).abs().max(),
    lambda old, new, m: torch.where(m, new - old, 0).abs().amax(dim=(0, 1)),
    lambda old, new, m: (new[m].exp() / old[m].exp()).log().abs().max(),
    lambda old, new, m: torch.linalg.vector_norm(new[m] - old[m], math.inf),
    lambda old, new, m: float(np.abs(new.numpy()[m.numpy()] - old.numpy()[m.numpy()]).max()),
]
WRONG["first_ratio_check"] = [
    (lambda old, new, m: (new - old)[m].max(), "sign is kept"),
    (lambda old, new, m: (old - new)[m].max(), "the other way round"),
    (lambda old, new, m: (new - old)[m].abs().mean(), "mean of the |log-ratios|"),
    (lambda old, new, m: (new - old)[m].mean(), "cancel out"),
    (lambda old, new, m: (new - old)[m].abs().sum(), "were summed"),
    (lambda old, new, m: (new - old)[m].exp().max(), "the largest ratio"),
    (lambda old, new, m: (new - old)[m].exp().mean(), "mean of the ratios"),
    (lambda old, new, m: ((new - old)[m].exp() - 1).abs().max(), "|ratio - 1|"),
    (lambda old, new, m: ((new - old)[m] ** 2 / 2).mean(), "approximate KL"),
    (lambda old, new, m: ((new - old)[m] ** 2).max(), "squared"),
    (lambda old, new, m: (new - old).abs().max(), "padding"),
    (lambda old, new, m: ((new - old) * m).abs().max(), "0 times nan is nan"),
    (lambda old, new, m: torch.where(m, new - old, 0).abs().amax(1), "of each response"),
    (lambda old, new, m: (new - old)[:, :-1][m[:, 1:]].abs().max(), "last real token"),
]
TWO["first_ratio_check"] = [
    (lambda old, new, m: ((new - old) * m).abs().amax(1), "each response|0 times nan"),
    (lambda old, new, m: ((new - old)[m] ** 2).sum(), "squared|summed"),
]

# ---- score_position ------------------------------------------------------------------------------


def position_by_loop(rewards, logprobs, ref_logprobs, mask, beta):
    found = []
    for b in range(len(mask)):
        length = int(mask[b].sum())
        rest = [
            abs(float(rewards[b, n] + beta * (logprobs[b, n] - ref_logprobs[b, n])))
            for n in range(length)
        ]
        found.append(length - 1 - rest.index(max(rest)))
    return torch.tensor(found)


def position_backwards(rewards, logprobs, ref_logprobs, mask, beta):
    places = []
    for r, p, q, m in zip(rewards, logprobs, ref_logprobs, mask):
        score = r[m] + beta * (p[m] - q[m])
        places.append(score.flip(0).abs().argmax())
    return torch.stack(places)


def position_by_columns(rewards, logprobs, ref_logprobs, mask, beta):
    left = torch.where(mask, rewards + beta * (logprobs - ref_logprobs), 0).abs()
    columns = torch.arange(mask.shape[1])
    score = (left == left.max(1, keepdim=True).values).int() * columns
    return (mask * columns).max(1).values - score.max(1).values


RIGHT["score_position"] = [
    position_by_loop,
    position_backwards,
    position_by_columns,
    lambda r, p, q, m, beta: m.sum(1) - 1 - (r + beta * (p - q)).masked_fill(~m, 0).abs().argmax(1),
    lambda r, p, q, m, beta: (
        m.int().sum(-1) - torch.where(m, r - beta * (q - p), 0).square().argmax(-1) - 1
    ).float(),
    lambda r, p, q, m, beta: torch.tensor(
        m.numpy().sum(1) - 1 - np.abs(np.where(m, (r + beta * (p - q)).numpy(), 0)).argmax(1)
    ),
    lambda r, p, q, m, beta: (
        m.sum(1).sub(1).sub(torch.where(m, (r + beta * (p - q)).abs(), -1).max(1).indices)
    ),
]
_left = lambda r, p, q, m, beta: (r + beta * (p - q)).masked_fill(~m, 0)  # noqa: E731
WRONG["score_position"] = [
    (lambda r, p, q, m, b: m.sum(1) - 1 - r.where(m, 0).abs().argmax(1), "price of the KL is left"),
    (lambda r, p, q, m, b: position_by_loop(r, q, p, m, b), "taken off twice"),
    (lambda r, p, q, m, b: m.sum(1) - 1 - _left(r, p, q, m, b).argmax(1), "only scores above 0"),
    (lambda r, p, q, m, b: m.sum(1) - _left(r, p, q, m, b).abs().argmax(1), "one too many"),
    (
        lambda r, p, q, m, b: m.shape[1] - 1 - _left(r, p, q, m, b).abs().argmax(1),
        "count from the last column",
    ),
    (lambda r, p, q, m, b: _left(r, p, q, m, b).abs().argmax(1), "column of the score"),
    (lambda r, p, q, m, b: -position_by_loop(r, p, q, m, b), "sign is reversed"),
    (lambda r, p, q, m, b: (position_by_loop(r, p, q, m, b) != 0).long(), "in a wrong place"),
    (lambda r, p, q, m, b: position_by_loop(r, p, q, m, 0.1), "beta is always 0.1"),
]
TWO["score_position"] = [
    (lambda r, p, q, m, b: m.sum(1) - r.where(m, 0).abs().argmax(1), "one too many|price")
]

# ---- last_return_gap -----------------------------------------------------------------------------


def gap_by_loop(returns, rewards, mask):
    gaps = []
    for b in range(len(mask)):
        last = int(mask[b].sum()) - 1
        gaps.append(abs(returns[b, last].item() - rewards[b, last].item()))
    return torch.tensor(max(gaps))


def gap_by_shift(returns, rewards, mask):
    follows = F.pad(mask[:, 1:], (0, 1), value=False)
    return (returns - rewards)[mask & ~follows].abs().max()


RIGHT["last_return_gap"] = [
    gap_by_loop,
    gap_by_shift,
    lambda R, r, m: (R - r)[torch.arange(len(m)), m.sum(1) - 1].abs().max(),
    lambda R, r, m: (R - r).gather(1, m.sum(1, keepdim=True) - 1).abs().amax(),
    lambda R, r, m: torch.stack([(x[k] - y[k])[-1] for x, y, k in zip(R, r, m)]).abs().max(),
    lambda R, r, m: max(abs(x[k][-1] - y[k][-1]) for x, y, k in zip(R, r, m)),
    lambda R, r, m: float(
        np.abs(np.array([(x[k] - y[k])[-1].item() for x, y, k in zip(R, r, m)])).max()
    ),
]
_last = lambda x, m: x[torch.arange(len(m)), m.sum(1) - 1]  # noqa: E731
WRONG["last_return_gap"] = [
    (lambda R, r, m: (R - r)[m].abs().max(), "every token counts"),
    (lambda R, r, m: (R - r).where(m, 0)[:, -1].abs().max(), "last column"),
    (
        lambda R, r, m: (R - r)[torch.arange(len(m)), (m.sum(1) - 2).clamp(min=0)].abs().max(),
        "one token too early",
    ),
    (lambda R, r, m: (R - r)[:, 0].abs().max(), "first token was read"),
    (lambda R, r, m: _last(R - r, m).max(), "sign is kept"),
    (lambda R, r, m: _last(r - R, m).max(), "the other way round"),
    (lambda R, r, m: _last(R - r, m).abs().mean(), "mean over the responses"),
    (lambda R, r, m: _last(R - r, m).abs().sum(), "sum over the responses"),
    (lambda R, r, m: _last(R - r, m).square().max(), "squared"),
    (lambda R, r, m: _last(R - r, m).abs(), "one number for each response"),
]
TWO["last_return_gap"] = [
    (lambda R, r, m: (R - r)[m].abs().mean(), "every token|mean over"),
    (lambda R, r, m: _last(R - r, m).square().mean(), "squared|mean over"),
]

# ---- fooled --------------------------------------------------------------------------------------


def fooled_by_loop(sb, sa, mb, ma):
    count = 0
    for i in range(len(sb)):
        if sa[i] > sb[i] and ma[i] < mb[i]:
            count += 1
    return count / len(sb)


def fooled_by_numpy(sb, sa, mb, ma):
    sb, sa, mb, ma = (x.numpy() for x in (sb, sa, mb, ma))
    return np.mean((sa > sb) * (ma < mb))


def fooled_by_zip(sb, sa, mb, ma):
    pairs = list(zip(sb.tolist(), sa.tolist(), mb.tolist(), ma.tolist()))
    return len([1 for a, b, c, d in pairs if b > a and d < c]) / len(pairs)


RIGHT["fooled"] = [
    fooled_by_loop,
    fooled_by_numpy,
    fooled_by_zip,
    lambda sb, sa, mb, ma: ((sa > sb) & (ma < mb)).float().mean(),
    lambda sb, sa, mb, ma: (((sa - sb) > 0) & ((ma - mb) < 0)).double().mean(),
    lambda sb, sa, mb, ma: torch.logical_and(sb.lt(sa), mb.gt(ma)).sum() / sb.numel(),
    lambda sb, sa, mb, ma: torch.where(sa > sb, (ma < mb).float(), torch.zeros_like(ma)).mean(),
    lambda sb, sa, mb, ma: (((sa - sb).sign() - (ma - mb).sign()) == 2).float().mean(),
]
WRONG["fooled"] = [
    (lambda sb, sa, mb, ma: ((sa > sb) & (ma <= mb)).float().mean(), "unchanged mark counts"),
    (lambda sb, sa, mb, ma: ((sa >= sb) & (ma < mb)).float().mean(), "unchanged score counts"),
    (
        lambda sb, sa, mb, ma: ((sa >= sb) & (ma <= mb)).float().mean(),
        "unchanged scores and marks count",
    ),
    (
        lambda sb, sa, mb, ma: ((sa > sb) & (ma < mb)).sum() / (sa > sb).sum(),
        "number of answers whose score rose",
    ),
    (lambda sb, sa, mb, ma: (sa > sb)[ma < mb].float().mean(), "number of answers whose mark fell"),
    (lambda sb, sa, mb, ma: ((sa > sb) & (ma < mb)).sum().float(), "a number of prompts"),
    (lambda sb, sa, mb, ma: ((sa > sb) | (ma < mb)).float().mean(), "one of the two is enough"),
    (lambda sb, sa, mb, ma: (sa > sb).float().mean(), "only the score is compared"),
    (lambda sb, sa, mb, ma: (ma < mb).float().mean(), "only the mark is compared"),
    (lambda sb, sa, mb, ma: ((sa > sb) & (ma > mb)).float().mean(), "better in both"),
    (lambda sb, sa, mb, ma: ((sa < sb) & (ma < mb)).float().mean(), "worse in both"),
    (lambda sb, sa, mb, ma: fooled_by_loop(sa, sb, ma, mb), "the wrong way round"),
    (
        lambda sb, sa, mb, ma: float(sa.mean() > sb.mean() and ma.mean() < mb.mean()),
        "the means were compared",
    ),
    (lambda sb, sa, mb, ma: 100 * fooled_by_loop(sb, sa, mb, ma), "a percentage"),
    (lambda sb, sa, mb, ma: 1 - fooled_by_loop(sb, sa, mb, ma), "not fooled"),
]
TWO["fooled"] = [
    (
        lambda sb, sa, mb, ma: 1 - ((sa > sb) & (ma <= mb)).float().mean(),
        "unchanged mark|not fooled",
    ),
    (
        lambda sb, sa, mb, ma: 100 * ((sa > sb) & (ma < mb)).sum() / (sa > sb).sum(),
        "whose score rose|a percentage",
    ),
]

# ---- mark_at_kl ----------------------------------------------------------------------------------


def mark_at_kl_by_loop(kl, marks, wanted):
    for u in range(1, len(kl)):
        if kl[u] >= wanted:
            share = (wanted - kl[u - 1]) / (kl[u] - kl[u - 1])
            return (1 - share) * marks[u - 1] + share * marks[u]
    return torch.tensor(torch.nan)


def mark_at_kl_by_argmax(kl, marks, wanted):
    far = kl >= wanted
    if not far.any():
        return float("nan")
    after = int(far.int().argmax())
    return torch.lerp(
        marks[after - 1], marks[after], (wanted - kl[after - 1]) / (kl[after] - kl[after - 1])
    )


def mark_at_kl_by_numpy(kl, marks, wanted):
    kl, marks = kl.numpy(), marks.numpy()
    reached = np.flatnonzero(kl >= wanted)
    if reached.size == 0:
        return np.nan
    i = reached[0]
    return np.interp(wanted, kl[i - 1 : i + 1], marks[i - 1 : i + 1])


def mark_at_kl_by_running_maximum(kl, marks, wanted):
    farthest = kl.cummax(0).values
    if farthest[-1] < wanted:
        return math.nan
    i = int(torch.searchsorted(farthest, torch.tensor(float(wanted))))
    slope = (marks[i] - marks[i - 1]) / (kl[i] - kl[i - 1])
    return marks[i] - slope * (kl[i] - wanted)


def mark_at_kl_by_while(kl, marks, wanted):
    kl, marks, u = kl.tolist(), marks.tolist(), 0
    while u < len(kl) and kl[u] < wanted:
        u += 1
    if u == len(kl):
        return float("nan")
    a, b = kl[u] - wanted, wanted - kl[u - 1]
    return (a * marks[u - 1] + b * marks[u]) / (a + b)


def mark_at_kl_by_next(kl, marks, wanted):
    i = next((u for u, x in enumerate(kl) if x >= wanted), None)
    if i is None:
        return torch.tensor(float("nan"))
    return marks[i - 1] + (marks[i] - marks[i - 1]) * (wanted - kl[i - 1]) / (kl[i] - kl[i - 1])


RIGHT["mark_at_kl"] = [
    mark_at_kl_by_loop,
    mark_at_kl_by_argmax,
    mark_at_kl_by_numpy,
    mark_at_kl_by_running_maximum,
    mark_at_kl_by_while,
    mark_at_kl_by_next,
]


def _mark_at_kl(share, missing=lambda kl, marks: math.nan):
    """The right answer with another weight of the look after, or another end."""

    def function(kl, marks, wanted):
        for u in range(1, len(kl)):
            if kl[u] >= wanted:
                s = share(float((wanted - kl[u - 1]) / (kl[u] - kl[u - 1])))
                return marks[u - 1] + s * (marks[u] - marks[u - 1])
        return missing(kl, marks)

    return function


WRONG["mark_at_kl"] = [
    (lambda kl, marks, k: marks[(kl - k).abs().argmin()], "the nearest measurement"),
    (_mark_at_kl(lambda s: 1.0), "the look after"),
    (_mark_at_kl(lambda s: 0.0), "the look before"),
    (_mark_at_kl(lambda s: 0.5), "the mean of the two looks"),
    (_mark_at_kl(lambda s: 1 - s), "each other's weights"),
    (lambda kl, marks, k: mark_at_kl_by_loop(kl**0.5, marks, k**0.5), "over sqrt(KL)"),
    (lambda kl, marks, k: np.interp(k, kl.numpy(), marks.numpy()), "although np.interp"),
    (
        lambda kl, marks, k: mark_at_kl_by_loop(kl.sort().values, marks[kl.argsort()], k),
        "sorted by their KL",
    ),
    (_mark_at_kl(lambda s: s, lambda kl, marks: marks[-1]), "the last mark is no answer"),
    (_mark_at_kl(lambda s: s, lambda kl, marks: marks[kl.argmax()]), "farthest look"),
    (_mark_at_kl(lambda s: s, lambda kl, marks: 0.0), "0 would be a bad mark"),
]
TWO["mark_at_kl"] = [
    (_mark_at_kl(lambda s: 1.0, lambda kl, marks: marks[-1]), "the look after|the last mark"),
    (_mark_at_kl(lambda s: 1 - s, lambda kl, marks: 0.0), "other's weights|bad mark"),
]

# ---- fallen --------------------------------------------------------------------------------------


def fallen_by_list(marks, window):
    half, marks = window // 2, marks.tolist()
    means = [statistics.mean(marks[max(u - half, 0) : u + half + 1]) for u in range(len(marks))]
    won = max(means) - marks[0]
    return (max(means) - means[-1]) / won if won > 0 else float("nan")


def _means(marks, window):
    half = window // 2
    kernel = torch.ones(1, 1, 2 * half + 1)
    sums = F.conv1d(marks.view(1, 1, -1), kernel, padding=half)
    return (sums / F.conv1d(torch.ones_like(marks).view(1, 1, -1), kernel, padding=half)).flatten()


def fallen_by_convolution(marks, window):
    means = _means(marks, window)
    won = means.max() - marks[0]
    return torch.where(won > 0, (means.max() - means[-1]) / won, torch.nan)


def fallen_by_cumsum(marks, window):
    half, U = window // 2, len(marks)
    total = torch.cat([torch.zeros(1, dtype=torch.float64), marks.double().cumsum(0)])
    high = (torch.arange(U) + half + 1).clamp(max=U)
    low = (torch.arange(U) - half).clamp(min=0)
    means = (total[high] - total[low]) / (high - low)
    if means.max() <= marks[0]:
        return torch.tensor(math.nan)
    return (means.max() - means[-1]) / (means.max() - marks[0])


def fallen_by_band(marks, window):
    at = torch.arange(len(marks))
    near = ((at[:, None] - at).abs() <= window // 2).float()
    means = torch.einsum("uv,v->u", near / near.sum(1, keepdim=True), marks)
    peak, end, start = means.amax(), means[-1], marks[0]
    return (peak - end) / (peak - start) if peak > start else torch.full((), torch.nan)


def fallen_by_numpy(marks, window):
    marks, half = marks.numpy(), window // 2
    means = np.array([marks[max(0, u - half) : u + half + 1].mean() for u in range(len(marks))])
    won = means.max() - marks[0]
    return (means.max() - means[-1]) / won if won > 0 else np.nan


def fallen_by_unfold(marks, window):
    half = window // 2
    padded = F.pad(marks, (half, half), value=torch.nan)
    means = padded.unfold(0, 2 * half + 1, 1).nanmean(1)
    return fallen_by_parts(means.max(), means[-1], marks[0])


def fallen_by_parts(peak, end, start):
    return torch.tensor(torch.nan) if peak <= start else (peak - end) / (peak - start)


RIGHT["fallen"] = [
    fallen_by_list,
    fallen_by_convolution,
    fallen_by_cumsum,
    fallen_by_band,
    fallen_by_numpy,
    fallen_by_unfold,
]
WRONG["fallen"] = [
    (lambda m, w: fallen_by_parts(m.max(), m[-1], m[0]), "nothing was smoothed"),
    (lambda m, w: fallen_by_parts(_means(m, w).max(), m[-1], m[0]), "the end is the last mark"),
    (lambda m, w: fallen_by_parts(m.max(), _means(m, w)[-1], m[0]), "the peak is the best mark"),
    (
        lambda m, w: fallen_by_parts(_means(m, w).max(), _means(m, w)[-1], _means(m, w)[0]),
        "start was smoothed",
    ),
    (
        lambda m, w: (
            _means(m, w).max() - _means(m, w)[-1]
            if fallen_by_list(m, w) == fallen_by_list(m, w)
            else torch.tensor(torch.nan)
        ),
        "fall in points",
    ),
    (lambda m, w: 1 - fallen_by_list(m, w), "share that was kept"),
    (lambda m, w: -fallen_by_list(m, w), "sign is reversed"),
    (lambda m, w: 100 * fallen_by_list(m, w), "a percentage"),
    (lambda m, w: np.nan_to_num(fallen_by_list(m, w)), "it gives 0"),
    (
        lambda m, w: (_means(m, w).max() - _means(m, w)[-1]) / (_means(m, w).max() - m[0]),
        "nothing was won and no share",
    ),
    (
        lambda m, w: (lambda x: fallen_by_parts(x.max(), x[-1], m[0]))(
            torch.stack([m[max(0, u - w + 1) : u + 1].mean() for u in range(len(m))])
        ),
        "looks back only",
    ),
    (
        lambda m, w: (lambda x: fallen_by_parts(x.max(), x[-1], m[0]))(
            F.avg_pool1d(m[None], 2 * (w // 2) + 1, 1, w // 2)[0]
        ),
        "zeros were taken",
    ),
    (
        lambda m, w: (lambda x: fallen_by_parts(x.max(), x[-1], m[0]))(
            torch.stack([m[max(0, u - w // 2) : u + w // 2].mean() for u in range(len(m))])
        ),
        "last mark of each window is missing",
    ),
    (lambda m, w: fallen_by_list(m, 3), "window is always 3"),
]
TWO["fallen"] = [
    (lambda m, w: 1 - fallen_by_parts(m.max(), m[-1], m[0]), "nothing was smoothed|kept"),
    (lambda m, w: 1 - fallen_by_parts(m.max(), _means(m, w)[-1], m[0]), "the best mark|kept"),
    (lambda m, w: 1 - np.nan_to_num(fallen_by_list(m, w)), "it gives 0|kept"),
]

# ---- best_of_n_value -----------------------------------------------------------------------------


def value_by_subsets(scores, marks, n):
    picked = [
        marks[max(some, key=lambda i: scores[i])]
        for some in itertools.combinations(range(len(scores)), n)
    ]
    return torch.stack(picked).mean()


def value_by_dot(scores, marks, n):
    M = len(scores)
    chance = torch.tensor([math.comb(i, n - 1) for i in range(M)], dtype=torch.float64)
    return torch.dot(chance / math.comb(M, n), marks[torch.argsort(scores)].double())


def value_by_numbers(scores, marks, n):
    order = sorted(zip(scores.tolist(), marks.tolist()))
    return sum(math.comb(i, n - 1) * mark for i, (_, mark) in enumerate(order)) / math.comb(
        len(order), n
    )


def value_by_places(scores, marks, n):
    below = (scores[:, None] > scores).sum(1)
    weights = torch.zeros_like(marks)
    for i, k in enumerate(below.tolist()):
        weights[i] = math.comb(k, n - 1)
    return (weights * marks).sum() / weights.sum()


def value_by_share_of_lower(scores, marks, n):
    """How often the best is among the k lowest, and the difference from k - 1."""
    M, ordered = len(scores), marks[scores.sort().indices]
    upto = torch.tensor([math.comb(k, n) / math.comb(M, n) for k in range(M + 1)])
    return (upto.diff() * ordered).sum()


def value_by_scatter(scores, marks, n):
    M = len(scores)
    share = torch.tensor([math.comb(i, n - 1) / math.comb(M, n) for i in range(M)])
    weights = torch.zeros(M).scatter(0, scores.argsort(), share)
    return torch.einsum("m,m->", weights, marks)


RIGHT["best_of_n_value"] = [
    value_by_subsets,
    value_by_dot,
    value_by_numbers,
    value_by_places,
    value_by_share_of_lower,
    value_by_scatter,
    lambda s, m, n: np.mean(
        [m[list(c)][s[list(c)].argmax()] for c in itertools.combinations(range(len(s)), n)]
    ),
]


def _share(scores, marks, choose, total, descending=False):
    order = scores.argsort(descending=descending)
    return sum(choose(i) * marks[k] for i, k in enumerate(order.tolist())) / total


WRONG["best_of_n_value"] = [
    (lambda s, m, n: value_by_subsets(m, m, n), "sorted by the mark"),
    (lambda s, m, n: value_by_subsets(s, s, n), "expected score"),
    (lambda s, m, n: m[:n][s[:n].argmax()].item(), "only the first n"),
    (lambda s, m, n: m[s.argmax()], "best-scored of all M"),
    (lambda s, m, n: float(m.mean()), "mean mark of all samples"),
    (lambda s, m, n: m[s.argsort()[-n:]].mean(), "the n best-scored"),
    (lambda s, m, n: value_by_dot(-s, m, n), "order is reversed"),
    (lambda s, m, n: value_by_dot(torch.arange(len(s)), m, n), "old order"),
    (lambda s, m, n: _share(s, m, lambda i: math.comb(i, n), math.comb(len(s), n)), "C(i - 1, n)"),
    (
        lambda s, m, n: _share(s, m, lambda i: math.comb(i + 1, n - 1), math.comb(len(s), n)),
        "off by one",
    ),
    (lambda s, m, n: _share(s, m, lambda i: math.comb(i, n - 1), 1), "not divided"),
    (lambda s, m, n: _share(s, m, lambda i: math.comb(i, n - 1), len(s)), "divided by M"),
    (lambda s, m, n: _share(s, m, lambda i: (i + 1) ** n - i**n, len(s) ** n), "drawn twice"),
    (lambda s, m, n: value_by_numbers(s, m, 2) if len(s) > 1 else m[0], "n is always 2"),
]
TWO["best_of_n_value"] = [
    (lambda s, m, n: _share(m, m, lambda i: math.comb(i, n - 1), 1), "by the mark|not divided"),
    (lambda s, m, n: _share(s, m, lambda i: math.comb(i, n - 1), 1, True), "reversed|not divided"),
    (lambda s, m, n: value_by_subsets(-s, s, n), "reversed|expected score"),
]

# ---- clustered_interval --------------------------------------------------------------------------


def interval_by_loop(table):
    means = [sum(row) / len(row) for row in table.tolist()]
    mean = sum(means) / len(means)
    sd = math.sqrt(sum((m - mean) ** 2 for m in means) / (len(means) - 1))
    half = 1.96 * sd / math.sqrt(len(means))
    return mean, mean - half, mean + half


def interval_by_statistics(table):
    means = table.mean(1).tolist()
    half = 1.96 * statistics.stdev(means) / len(means) ** 0.5
    return statistics.fmean(means), statistics.fmean(means) - half, statistics.fmean(means) + half


def interval_by_var_mean(table):
    var, mean = torch.var_mean(table.double().mean(1))
    half = 1.96 * torch.sqrt(var / len(table))
    return mean, mean - half, mean + half


def interval_by_numpy(table):
    means = table.numpy().mean(1)
    half = 1.96 * means.std(ddof=1) / np.sqrt(means.size)
    return means.mean(), means.mean() - half, means.mean() + half


def interval_by_stack(table):
    P, S = table.shape
    means = table @ torch.full((S,), 1 / S)
    centred = means - means.mean()
    half = 1.96 * (torch.einsum("p,p->", centred, centred) / (P - 1) / P) ** 0.5
    return list(torch.stack([means.mean()] * 3) + half * torch.tensor([0.0, -1.0, 1.0]))


def interval_by_norm(table):
    means = torch.stack([row.mean() for row in table])
    half = 1.96 * (means - means.mean()).norm() / math.sqrt(len(means) * (len(means) - 1))
    return [table.mean(), table.mean().sub(half), table.mean().add(half)]


RIGHT["clustered_interval"] = [
    interval_by_loop,
    interval_by_statistics,
    interval_by_var_mean,
    interval_by_numpy,
    interval_by_stack,
    interval_by_norm,
    lambda table: torch.stack(interval_by_var_mean(table)),
]


def _interval(values, count, times=1.96, **std):
    half = times * values.std(**std) / count
    return values.mean(), values.mean() - half, values.mean() + half


def _swap(interval):
    return interval[0], interval[2], interval[1]


WRONG["clustered_interval"] = [
    (lambda t: _interval(t.flatten(), t.numel() ** 0.5), "P * S marks were independent"),
    (lambda t: _interval(t.mean(1), t.numel() ** 0.5), "root of all P * S marks"),
    (lambda t: _interval(t, len(t) ** 0.5), "deviation is that of all P * S"),
    (lambda t: _interval(t.mean(1), len(t) ** 0.5, unbiased=False), "population's deviation"),
    (lambda t: _interval(t.mean(1), len(t)), "divided by P:"),
    (lambda t: _interval(t.mean(1), 1), "standard deviation of the prompts' means"),
    (lambda t: _interval(t.mean(1), len(t) ** 0.5, 1), "one standard error"),
    (lambda t: _interval(t.mean(1), len(t) ** 0.5, 2), "2 is used in place of 1.96"),
    (lambda t: _interval(t.mean(1), len(t) ** 0.5, 1.645), "90 % interval"),
    (lambda t: _interval(t.mean(0), t.shape[1] ** 0.5), "mean was taken over the prompts"),
    (lambda t: _interval(t.mean(1), (len(t) - 1) ** 0.5), "root of P - 1"),
    (lambda t: _swap(interval_by_loop(t)), "ends are swapped"),
]
TWO["clustered_interval"] = [
    (lambda t: _interval(t.mean(1), 1, 1), "one standard error|standard deviation of"),
    (lambda t: _interval(t.flatten(), t.numel() ** 0.5, 2), "independent|2 stands"),
    (lambda t: _interval(t.mean(1), len(t), unbiased=False), "population|divided by P"),
    (lambda t: _swap(_interval(t, t.numel() ** 0.5)), "independent|are swapped"),
]

# ---- paired_difference ---------------------------------------------------------------------------

RIGHT["paired_difference"] = [
    lambda a, b: interval_by_loop(a - b),
    lambda a, b: interval_by_numpy(a - b),
    lambda a, b: interval_by_var_mean(a.mean(1, keepdim=True) - b.mean(1, keepdim=True)),
    lambda a, b: interval_by_norm(torch.stack([x - y for x, y in zip(a, b)])),
    lambda a, b: interval_by_stack(a.sub(b)),
    lambda a, b: interval_by_statistics(torch.einsum("ps,ps->ps", a - b, torch.ones_like(a))),
    lambda a, b: tuple(
        a.mean() - b.mean() + k * 1.96 * (a - b).mean(1).std() / len(a) ** 0.5 for k in (0, -1, 1)
    ),
    lambda a, b: (
        a.mean() - b.mean(),
        *(
            a.mean()
            - b.mean()
            + sign
            * 1.96
            * (
                (
                    a.mean(1).var()
                    + b.mean(1).var()
                    - 2 * torch.stack([a.mean(1), b.mean(1)]).cov()[0, 1]
                )
                / len(a)
            ).sqrt()
            for sign in (-1, 1)
        ),
    ),
]


def _unpaired(a, b, join):
    one, other = interval_by_loop(a), interval_by_loop(b)
    mean, half = one[0] - other[0], join(one[2] - one[0], other[2] - other[0])
    return mean, mean - half, mean + half


WRONG["paired_difference"] = [
    (lambda a, b: _unpaired(a, b, math.hypot), "variances of two independent means"),
    (lambda a, b: _unpaired(a, b, lambda x, y: x + y), "two intervals were added"),
    (
        lambda a, b: tuple(x - y for x, y in zip(interval_by_loop(a), interval_by_loop(b))),
        "end by end",
    ),
    (lambda a, b: interval_by_numpy(b - a), "sign is reversed"),
    (lambda a, b: interval_by_norm((a - b).abs()), "sign of each difference"),
    (lambda a, b: interval_by_norm((a - b).sign()), "wins less defeats"),
    (lambda a, b: _interval((a - b).flatten(), a.numel() ** 0.5), "marks were independent"),
    (lambda a, b: _interval((a - b).mean(1), len(a) ** 0.5, correction=0), "population's"),
    (lambda a, b: _interval((a - b).mean(1), 1), "divide it by the root of P"),
    (lambda a, b: _swap(interval_by_loop(a - b)), "ends are swapped"),
]
TWO["paired_difference"] = [
    (lambda a, b: _unpaired(b, a, math.hypot), "variances|sign is reversed"),
    (lambda a, b: _interval((b - a).flatten(), a.numel() ** 0.5), "independent|sign is reversed"),
    (lambda a, b: _interval((a - b).mean(1), len(a), 1), "one standard|divided by P"),
]

# ---- rloo_advantages -----------------------------------------------------------------------------


def rloo_by_loop(rewards):
    out = torch.zeros_like(rewards)
    for p in range(rewards.shape[0]):
        for k in range(rewards.shape[1]):
            others = [float(rewards[p, j]) for j in range(rewards.shape[1]) if j != k]
            out[p, k] = rewards[p, k] - sum(others) / len(others)
    return out


def rloo_by_matrix(rewards):
    K = rewards.shape[1]
    weights = (1 - torch.eye(K)) / (K - 1)
    return rewards - torch.einsum("pk,jk->pj", rewards, weights)


def rloo_by_masking(rewards):
    K = rewards.shape[1]
    table = rewards[:, None, :].expand(-1, K, K).clone()
    table[:, range(K), range(K)] = torch.nan
    return rewards - table.nanmean(2)


RIGHT["rloo_advantages"] = [
    rloo_by_loop,
    rloo_by_matrix,
    rloo_by_masking,
    lambda r: (r - r.mean(1, keepdim=True)) * r.shape[1] / (r.shape[1] - 1),
    lambda r: (r.double() * r.shape[1] - r.double().sum(-1)[:, None]) / (r.shape[1] - 1),
    lambda r: torch.stack(
        [r[:, k] - torch.cat([r[:, :k], r[:, k + 1 :]], 1).mean(1) for k in range(r.shape[1])], 1
    ),
    lambda r: (r[:, :, None] - r[:, None, :]).sum(2) / (r.shape[1] - 1),
    lambda r: torch.tensor(
        [[x - (sum(row) - x) / (len(row) - 1) for x in row] for row in r.tolist()]
    ),
]
WRONG["rloo_advantages"] = [
    (lambda r: torch.stack([row - row.mean() for row in r]), "the response itself among them"),
    (lambda r: (r - r.mean(1)[:, None]) / (r.std(1)[:, None] + 1e-4), "looks like GRPO"),
    (lambda r: (r - r.mean(1)[:, None]) / r.std(1)[:, None], "0 / 0"),
    (lambda r: rloo_by_loop(r.T).T, "wrong axis"),
    (lambda r: torch.sub(r, r.mean()), "one baseline for the whole batch"),
    (lambda r: r - (r.sum() - r) / (r.numel() - 1), "all others of the batch"),
    (lambda r: r - rloo_by_loop(r), "This is the baseline"),
    (lambda r: -rloo_by_loop(r), "sign is reversed"),
    (lambda r: 2 * r - r.sum(-1, keepdim=True), "sum of the others was subtracted"),
    (lambda r: r - (r.sum(1).view(-1, 1) - r) / r.size(1), "there are group - 1"),
    (lambda r: r - r.sum(1).view(-1, 1) / (r.size(1) - 1), "holds the response itself"),
    (lambda r: r - r.max(1, keepdim=True)[0], "best of the group"),
    (lambda r: r - r.median(1, keepdim=True)[0], "median of the group"),
]
TWO["rloo_advantages"] = [
    (lambda r: r.mean(1, keepdim=True) - r, "among them|sign"),
    (lambda r: r - r.mean(0), "wrong axis|among them"),
    (lambda r: (r.mean(1)[:, None] - r) / (r.std(1)[:, None] + 1e-4), "GRPO|sign"),
]

# ---- answer_kl -----------------------------------------------------------------------------------


def answer_kl_by_loop(first, second, ref_first, ref_second):
    p, q = first.softmax(0), ref_first.softmax(0)
    total = 0.0
    for w in range(len(p)):
        total = total + p[w] * (p[w].log() - q[w].log())
        s, r = second[w].softmax(0), ref_second[w].softmax(0)
        for v in range(len(s)):
            total = total + p[w] * s[v] * (s[v] / r[v]).log()
    return total


def answer_kl_by_joint(first, second, ref_first, ref_second):
    joint = first.log_softmax(-1)[:, None] + second.log_softmax(-1)
    ref = ref_first.log_softmax(-1)[:, None] + ref_second.log_softmax(-1)
    return (joint.exp() * (joint - ref)).sum()


def answer_kl_by_torch(first, second, ref_first, ref_second):
    from torch.distributions import Categorical, kl_divergence

    begin, ref_begin = Categorical(logits=first), Categorical(logits=ref_first)
    rest = kl_divergence(Categorical(logits=second), Categorical(logits=ref_second))
    return kl_divergence(begin, ref_begin) + begin.probs @ rest


def answer_kl_by_functional(first, second, ref_first, ref_second):
    def one(a, b):
        return F.kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="sum")

    rest = torch.stack([one(a, b) for a, b in zip(second, ref_second)])
    return one(first, ref_first) + torch.dot(first.softmax(-1), rest)


def answer_kl_by_einsum(first, second, ref_first, ref_second):
    p, s = first.softmax(-1), second.softmax(-1)
    log_ratio = s.log() - ref_second.softmax(-1).log()
    begin = torch.einsum("w,w->", p, p.log() - ref_first.log_softmax(-1))
    return begin + torch.einsum("w,wv,wv->", p, s, log_ratio)


def answer_kl_in_float64(*logits):
    return answer_kl_by_joint(*(x.double() for x in logits))


RIGHT["answer_kl"] = [
    answer_kl_by_loop,
    answer_kl_by_joint,
    answer_kl_by_torch,
    answer_kl_by_functional,
    answer_kl_by_einsum,
    answer_kl_in_float64,
]


def answer_kl_with(first, second, ref_first, ref_second, weights):
    def one(a, b):
        return (a.softmax(-1) * (a.log_softmax(-1) - b.log_softmax(-1))).sum(-1)

    return one(first, ref_first) + (weights * one(second, ref_second)).sum()


WRONG["answer_kl"] = [
    (
        lambda f, s, rf, rs: answer_kl_with(f, s, rf, rs, f.detach().softmax(0)),
        "as with k2 in a loss",
    ),
    (
        lambda f, s, rf, rs: answer_kl_with(f, s, rf, rs, rf.softmax(0)),
        "the reference's probabilities",
    ),
    (
        lambda f, s, rf, rs: answer_kl_with(f, s, rf, rs, 1 / len(f)),
        "Every first word counts the same",
    ),
    (lambda f, s, rf, rs: answer_kl_with(f, s, rf, rs, 1.0), "without weights"),
    (lambda f, s, rf, rs: answer_kl_by_joint(rf, rs, f, s), "direction is reversed"),
    (
        lambda f, s, rf, rs: answer_kl_by_joint(f, s * 0, rf, rs * 0),
        "KL of the second word is missing",
    ),
    (lambda f, s, rf, rs: answer_kl_by_joint(f, s, rf, rs) / 2, "mean over the two words"),
]


# ---- dpo_loss ------------------------------------------------------------------------------------

RIGHT["dpo_loss"] = [
    lambda c, r, rc, rr, beta: F.softplus(beta * ((r - rr) - (c - rc))).mean(),
    lambda c, r, rc, rr, beta: -F.logsigmoid(beta * ((c - r) - (rc - rr))).mean(),
    lambda c, r, rc, rr, beta: (
        sum(F.softplus(-beta * (a - b - p + q)) for a, b, p, q in zip(c, r, rc, rr)) / len(c)
    ),
    lambda c, r, rc, rr, beta: F.cross_entropy(
        beta * torch.stack([c - rc, r - rr], 1), torch.zeros(len(c), dtype=torch.long)
    ),
    lambda c, r, rc, rr, beta: torch.logaddexp(
        torch.zeros(len(c), dtype=torch.float64), beta * (r - rr - c + rc).double()
    ).mean(),
    lambda c, r, rc, rr, beta: F.binary_cross_entropy_with_logits(
        beta * (c - rc) - beta * (r - rr), torch.ones(len(c))
    ),
    lambda c, r, rc, rr, beta: (
        lambda x: (x.abs().neg().exp().log1p() - torch.where(x < 0, x, 0)).mean()
    )(beta * (c - rc - r + rr)),
    lambda c, r, rc, rr, beta: (
        -torch.log_softmax(
            torch.einsum("bk,k->bk", torch.stack((c - rc, r - rr), 1), torch.tensor([beta, beta])),
            1,
        )[:, 0].mean()
    ),
]


def _dpo(lead, scale=F.logsigmoid, reduce=torch.mean):
    return lambda c, r, rc, rr, beta: -reduce(scale(lead(c, r, rc, rr, beta)))


def _lead(c, r, rc, rr, beta):
    return beta * (c - rc - r + rr)


WRONG["dpo_loss"] = [
    (_dpo(lambda c, r, rc, rr, beta: beta * (c - r)), "the reference is missing"),
    (_dpo(lambda c, r, rc, rr, beta: -beta * (c - rc - r + rr)), "are swapped"),
    (_dpo(lambda c, r, rc, rr, beta: c - rc - r + rr), "beta is missing"),
    (_dpo(lambda c, r, rc, rr, beta: (c - rc - r + rr) / beta), "divided by beta"),
    (_dpo(lambda c, r, rc, rr, beta: beta * (c - rr - r + rc)), "reference of the other one"),
    (_dpo(lambda c, r, rc, rr, beta: beta * (c - rc)), "rejected response is missing"),
    (_dpo(lambda c, r, rc, rr, beta: beta * (c - rc + r - rr)), "two implicit scores were added"),
    (_dpo(_lead, reduce=torch.sum), "sum over the pairs"),
    (_dpo(_lead, reduce=lambda x: x), "mean over the pairs is missing"),
    (_dpo(_lead, scale=lambda x: torch.log(torch.sigmoid(x))), "It overflows"),
    (_dpo(_lead, scale=torch.sigmoid), "minus the mean probability"),
    (_dpo(_lead, scale=lambda x: x), "the sigmoid is missing"),
    (lambda *x: -_dpo(_lead)(*x), "the minus is missing"),
    (lambda *x: x[4] * _dpo(_lead)(*x[:4], 1.0), "beta multiplies the loss"),
    (_dpo(lambda *x: _lead(*x).mean()), "before the sigmoid"),
    (lambda *x: _dpo(_lead)(*x[:4], 0.1), "dpo_beta is always 0.1"),
    (_dpo(lambda c, r, rc, rr, beta: beta * ((c - rc)[:, None] - (r - rr)[None])), "(B, B)"),
]
TWO["dpo_loss"] = [
    (_dpo(lambda c, r, rc, rr, beta: beta * (c - r), reduce=torch.sum), "reference|sum over"),
    (_dpo(lambda c, r, rc, rr, beta: r - rr - c + rc), "are swapped|beta is missing"),
    (lambda *x: -_dpo(_lead, reduce=torch.sum)(*x), "minus|sum over"),
    (_dpo(lambda c, r, rc, rr, beta: c - r), "reference is missing|beta is missing"),
]

# ---- rank_by_rules -------------------------------------------------------------------------------


def ranks_by_loop(kept, weights):
    totals = [sum(k * w for k, w in zip(row, weights.tolist())) for row in kept.tolist()]
    return torch.tensor([1 + sum(other > mine + 1e-6 for other in totals) for mine in totals])


def ranks_by_sorting(kept, weights):
    totals = (kept @ weights).tolist()
    order = sorted(totals, reverse=True)
    return torch.tensor(
        [1 + next(i for i, x in enumerate(order) if abs(x - mine) <= 1e-6) for mine in totals]
    )


def ranks_by_search(kept, weights):
    totals = torch.einsum("kr,r->k", kept.double(), weights.double()).round(decimals=5)
    return 1 + torch.searchsorted((-totals).sort().values, -totals)


def ranks_by_walk(kept, weights):
    totals = (kept * weights).sum(1)
    ranks, before = torch.zeros(len(totals)), None
    for place, k in enumerate(totals.argsort(descending=True).tolist()):
        tied = before is not None and totals[before] - totals[k] <= 1e-6
        ranks[k] = ranks[before] if tied else place + 1
        before = k
    return ranks


RIGHT["rank_by_rules"] = [
    ranks_by_loop,
    ranks_by_sorting,
    ranks_by_search,
    ranks_by_walk,
    lambda kept, w: 1 + ((kept @ w)[None] - (kept @ w)[:, None] > 1e-6).sum(1),
    lambda kept, w: torch.stack([1 + (kept @ w > mine + 1e-6).sum() for mine in kept @ w]),
    lambda kept, w: len(kept) - ((kept @ w)[None] <= (kept @ w)[:, None] + 1e-6).sum(1) + 1.0,
]


def _ranks(totals, tie=1e-6):
    return 1 + (totals.view(1, -1) > totals.view(-1, 1) + tie).sum(1)


WRONG["rank_by_rules"] = [
    (lambda k, w: _ranks(-(k @ w)), "wrong way up"),
    (lambda k, w: ranks_by_loop(k, w) - 1, "counted from 0"),
    (
        lambda k, w: torch.sort(-(k @ w).round(decimals=4), stable=True).indices + 1,
        "like the order, which",
    ),
    (
        lambda k, w: torch.sort(-(k @ w).round(decimals=4), stable=True).indices,
        "counted from 0, which",
    ),
    (
        lambda k, w: torch.sort(-(k @ w).round(decimals=4), stable=True).indices.argsort() + 1,
        "got different ranks",
    ),
    (lambda k, w: _ranks((k * w).sum(1), 0), "equal to the last digit"),
    (lambda k, w: _ranks(k.sum(1)), "weights were left out"),
    (lambda k, w: _ranks(k.floor() @ w), "counts nothing"),
    (lambda k, w: _ranks(k.ceil() @ w), "counts in full"),
    (lambda k, w: k @ w, "These are the totals"),
    (
        lambda k, w: torch.tensor(
            [
                1 + len({x for x in (k @ w).round(decimals=4).tolist() if x > mine})
                for mine in (k @ w).round(decimals=4).tolist()
            ]
        ),
        "(1, 1, 3) and not (1, 1, 2)",
    ),
    (lambda k, w: ((k @ w)[None] >= (k @ w)[:, None] - 1e-6).sum(1), "(1, 1, 3) and not (2, 2, 3)"),
]
TWO["rank_by_rules"] = [
    (lambda k, w: _ranks(-(k @ w)) - 1, "wrong way up|counted from 0"),
    (lambda k, w: _ranks(-k.sum(1)), "wrong way up|weights were left out"),
    (lambda k, w: _ranks(k.sum(1)) - 1, "weights|counted from 0"),
]

# ---- promises ------------------------------------------------------------------------------------


def promises_by_regex(sentence, phrases, negations):
    text = " ".join(re.findall(r"[a-z0-9_']+", sentence.lower()))
    for phrase in phrases:
        for match in re.finditer(rf"(?<![\w']){re.escape(phrase)}(?![\w'])", text):
            if not set(text[: match.start()].split()[-4:]) & set(negations):
                return True
    return False


def promises_by_while(sentence, phrases, negations):
    words, word = [], ""
    for letter in sentence.lower() + " ":
        if letter.isalnum() or letter == "'":
            word += letter
        else:
            words += [word] if word else []
            word = ""
    i = 0
    while i < len(words):
        for phrase in phrases:
            n = len(phrase.split())
            if " ".join(words[i : i + n]) == phrase:
                before = words[i - 4 : i] if i >= 4 else words[:i]
                if not any(negation in before for negation in negations):
                    return True
        i += 1
    return False


def promises_by_positions(sentence, phrases, negations):
    words = re.sub(r"[^\w']+", " ", sentence.lower()).split()
    denied = {i + k for i, word in enumerate(words) if word in negations for k in (1, 2, 3, 4)}
    return any(
        tuple(words[i : i + len(p)]) == p and i not in denied
        for p in (tuple(phrase.split()) for phrase in phrases)
        for i in range(len(words))
    )


def promises_by_recursion(sentence, phrases, negations):
    def look(seen, rest):
        if not rest:
            return False
        here = any(rest[: len(p.split())] == p.split() for p in phrases)
        return (here and not set(seen[-4:]) & set(negations)) or look([*seen, rest[0]], rest[1:])

    return look([], re.findall(r"[\w']+", sentence.lower()))


def promises_by_padding(sentence, phrases, negations):
    words = [""] * 4 + re.findall(r"[\w']+", sentence.casefold())
    found = []
    for phrase in phrases:
        parts = phrase.split(" ")
        for i in range(4, len(words) - len(parts) + 1):
            if all(words[i + k] == part for k, part in enumerate(parts)):
                found.append(all(words[i - k] not in negations for k in range(1, 5)))
    return any(found)


def promises_by_string(sentence, phrases, negations):
    text = " " + " ".join(re.findall(r"[\w']+", sentence.lower())) + " "
    for phrase in phrases:
        at = text.find(f" {phrase} ")
        while at >= 0:
            if not any(word in negations for word in text[:at].split()[-4:]):
                return True
            at = text.find(f" {phrase} ", at + 1)
    return False


RIGHT["promises"] = [
    promises_by_regex,
    promises_by_while,
    promises_by_positions,
    promises_by_recursion,
    promises_by_padding,
    promises_by_string,
    lambda *x: np.bool_(promises_by_regex(*x)),
]


def _promises(window, split=lambda s: re.findall(r"[\w']+", s.lower()), stop=True):
    def function(sentence, phrases, negations):
        words = split(sentence)
        for phrase in phrases:
            n = len(phrase.split())
            for i in range(len(words) - n + 1):
                if words[i : i + n] == phrase.split():
                    if not any(w in negations for w in window(words, i)):
                        return True
                    if not stop:
                        return False
        return False

    return function


def _four(words, i):
    return words[max(0, i - 4) : i]


WRONG["promises"] = [
    (_promises(lambda words, i: []), "negations are not seen"),
    (_promises(lambda words, i: words[max(0, i - 3) : i]), "only three words"),
    (_promises(lambda words, i: words[max(0, i - 1) : i]), "only one word"),
    (_promises(lambda words, i: words[max(0, i - 5) : i]), "five words"),
    (_promises(lambda words, i: words[i - 4 : i]), "begin it at max(0, i - 4)"),
    (_promises(lambda words, i: words[:i]), "anywhere before the phrase"),
    (_promises(lambda words, i: words), "anywhere in the sentence"),
    (_promises(_four, lambda s: s.lower().split()), "punctuation sticks"),
    (_promises(_four, lambda s: re.findall(r"[\w']+", s)), "capitals make a difference"),
    (lambda *x: not promises_by_regex(*x), "reversed"),
    (lambda s, p, n: promises_by_string(s, p[:1], n), "only the first phrase"),
    (lambda s, p, n: all(promises_by_string(s, [one], n) for one in p), "every phrase must be"),
    (lambda s, p, n: promises_by_regex(s, " ".join(p).split(), n), "one word of a phrase"),
    (lambda s, p, n: False, "same answer for every input"),
]
TWO["promises"] = [
    (_promises(lambda words, i: words, lambda s: s.lower().split()), "anywhere|punctuation"),
    (_promises(lambda words, i: [], lambda s: re.findall(r"[\w']+", s)), "not seen|capitals"),
    (lambda *x: not _promises(lambda words, i: words[:i])(*x), "anywhere before|reversed"),
]

# ---- piece_losses --------------------------------------------------------------------------------


def pieces_by_loop(losses, mask, size):
    pieces = []
    for start in range(0, len(losses), size):
        pieces.append(losses[start : start + size][mask[start : start + size]].sum() / mask.sum())
    return torch.stack(pieces)


def pieces_by_padding(losses, mask, size):
    rows = torch.where(mask, losses, 0).sum(1)
    rows = F.pad(rows, (0, -len(rows) % size))
    return rows.view(-1, size).sum(1) / mask.sum()


def pieces_by_index(losses, mask, size):
    piece = torch.arange(len(losses)) // size
    rows = losses.masked_fill(~mask, 0).sum(1)
    return torch.zeros(int(piece[-1]) + 1).index_add(0, piece, rows) / mask.sum()


def pieces_by_scatter(losses, mask, size):
    b = mask.nonzero()[:, 0] // size
    count = math.ceil(len(losses) / size)
    return torch.zeros(count, dtype=torch.float64).scatter_add(
        0, b, losses[mask].double() / mask.sum()
    )


def pieces_by_matrix(losses, mask, size):
    B = len(losses)
    member = torch.arange(-(-B // size))[:, None] == torch.arange(B) // size
    return torch.einsum("mb,b->m", member.float(), losses.where(mask, 0).sum(1)) / mask.sum()


def pieces_by_weights(losses, mask, size):
    return torch.stack(
        [x[m].mean() * (m.sum() / mask.sum()) for x, m in zip(losses.split(size), mask.split(size))]
    )


RIGHT["piece_losses"] = [
    pieces_by_loop,
    pieces_by_padding,
    pieces_by_index,
    pieces_by_scatter,
    pieces_by_matrix,
    pieces_by_weights,
    lambda losses, mask, size: torch.cat(
        [
            (x.clone().masked_fill(~m, 0).sum() / mask.sum()).view(1)
            for x, m in zip(losses.split(size), mask.split(size))
        ]
    ),
]


def _pieces(each):
    """each(losses, mask, whole mask) of a piece."""
    return lambda losses, mask, size: torch.stack(
        [each(x, m, mask) for x, m in zip(losses.split(size), mask.split(size))]
    )


WRONG["piece_losses"] = [
    (_pieces(lambda x, m, whole: x[m].mean()), "its own token mean"),
    (_pieces(lambda x, m, whole: x[m].sum()), "These are the pieces' sums"),
    (_pieces(lambda x, m, whole: x[m].sum() / whole.numel()), "padding was counted among"),
    (_pieces(lambda x, m, whole: x.sum() / whole.sum()), "values on padding were added"),
    (_pieces(lambda x, m, whole: (x * m).sum() / whole.sum()), "0 times nan is nan"),
    (_pieces(lambda x, m, whole: x.sum() / whole.numel()), "mask was not used at all"),
    (_pieces(lambda x, m, whole: x[m].sum() / len(whole)), "by the number of responses: the"),
    (_pieces(lambda x, m, whole: x[m].sum() / len(m)), "responses in its piece"),
    (
        _pieces(lambda x, m, whole: sum(a[b].mean() for a, b in zip(x, m)) / len(whole)),
        "averaged first",
    ),
    (lambda x, m, n: _pieces(lambda a, b, w: a[b].mean())(x, m, n) / -(-len(x) // n), "pieces' me"),
    (lambda x, m, n: pieces_by_loop(x, m, n).sum(), "the batch's loss"),
    (lambda x, m, n: pieces_by_loop(x, m, n).cumsum(0), "holds those before it"),
    (
        lambda x, m, n: torch.stack(
            [x[i : i + n][m[i : i + n]].sum() / m.sum() for i in range(0, len(x) - n + 1, n)]
        ),
        "last piece was dropped",
    ),
    (
        lambda x, m, n: torch.stack([a[b].sum() / m.sum() for a, b in zip(x.chunk(n), m.chunk(n))]),
        "cut into `size` pieces",
    ),
    (lambda x, m, n: pieces_by_loop(x, m, 2), "size is always 2"),
]
TWO["piece_losses"] = [
    (lambda x, m, n: _pieces(lambda a, b, w: a[b].mean())(x, m, n).sum(), "own token|batch's loss"),
    (
        lambda x, m, n: torch.stack([a[b].mean() for a, b in zip(x.chunk(n), m.chunk(n))]),
        "own token|`size` pieces",
    ),
]

# ---- best_accuracy -------------------------------------------------------------------------------


def accuracy_by_loop(first, second):
    points = 0.0
    for a in first.tolist():
        for b in second.tolist():
            points += 1 if a > b else 0.5 if a == b else 0
    p = points / (len(first) * len(second))
    return max(p, 1 - p)


def _p(first, second):
    return (torch.sign(first.view(-1, 1) - second.view(1, -1)).mean() + 1) / 2


RIGHT["best_accuracy"] = [
    accuracy_by_loop,
    lambda a, b: max(_p(a, b), _p(b, a)),
    lambda a, b: 0.5 + (_p(a, b) - 0.5).abs(),
    lambda a, b: (1 + torch.sign(a[:, None] - b).double().mean().abs()) / 2,
    lambda a, b: torch.stack([_p(a, b), _p(b, a)]).max(),
    lambda a, b: max(
        np.mean([(x > y) + (x == y) / 2 for x, y in itertools.product(a.tolist(), b.tolist())]),
        np.mean([(x < y) + (x == y) / 2 for x, y in itertools.product(a.tolist(), b.tolist())]),
    ),
    lambda a, b: (
        lambda s: torch.where(
            s / len(a) / len(b) > 0.5, s / len(a) / len(b), 1 - s / len(a) / len(b)
        )
    )(torch.heaviside(torch.cartesian_prod(a, b).diff(dim=1).neg(), torch.tensor(0.5)).sum()),
]
WRONG["best_accuracy"] = [
    (_p, "how often the *first*"),
    (lambda a, b: _p(b, a), "how often the *second*"),
    (lambda a, b: 1 - accuracy_by_loop(a, b), "best guess is wrong"),
    (
        lambda a, b: max((a[:, None] > b).float().mean(), (a[:, None] < b).float().mean()),
        "ties count as wrong",
    ),
    (
        lambda a, b: max((a[:, None] >= b).float().mean(), (a[:, None] < b).float().mean()),
        "given to the first text",
    ),
    (
        lambda a, b: max((a[:, None] > b).float().mean(), (a[:, None] <= b).float().mean()),
        "given to the second text",
    ),
    (lambda a, b: accuracy_by_loop(a, b) * 2 - 1, "the lead over chance"),
    (
        lambda a, b: (lambda p: max(p, 1 - p))(
            sum((x > y) + (x == y) / 2 for x, y in zip(a.tolist(), b.tolist()))
            / min(len(a), len(b))
        ),
        "first rating of one was compared",
    ),
    (lambda a, b: 1.0 if a.mean() != b.mean() else 0.5, "higher mean always wins"),
    (lambda a, b: accuracy_by_loop(a, b) * len(a) * len(b), "These are counts"),
]
TWO["best_accuracy"] = [
    (lambda a, b: (a[:, None] > b).float().mean(), "*first*|ties"),
    (lambda a, b: (a[:, None] >= b).float().mean(), "*first*|ties|every tie"),
    (lambda a, b: _p(a, b) * len(a) * len(b), "*first*|counts"),
]
