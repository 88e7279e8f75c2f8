"""Answers that learners may write to the exercises of notebooks 00 to 03."""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F

RIGHT, WRONG, TWO = {}, {}, {}

# ---- win_share -----------------------------------------------------------------------------------


def share_by_loop(marks, rival_marks):
    points = 0.0
    for mine, other in zip(marks.tolist(), rival_marks.tolist()):
        if mine > other:
            points += 1
        elif mine == other:
            points += 0.5
    return points / len(marks)


def share_written_in_place(marks, rival_marks):
    result = torch.zeros_like(marks)
    result[marks > rival_marks] = 1
    result[marks == rival_marks] = 0.5
    return result.mean()


RIGHT["win_share"] = [
    share_by_loop,
    share_written_in_place,
    lambda m, r: ((m > r).float() + 0.5 * (m == r).float()).mean(),
    lambda m, r: torch.where(m == r, 0.5, (m > r).double()).mean(),
    lambda m, r: torch.heaviside(m - r, torch.tensor(0.5)).mean(),
    lambda m, r: ((m > r).sum() + (m >= r).sum()) / (2 * m.numel()),
    lambda m, r: np.where(m > r, 1.0, np.where(m == r, 0.5, 0.0)).mean(),
    lambda m, r: sum((a > b) + (a == b) / 2 for a, b in zip(m, r)) / len(r),
]
WRONG["win_share"] = [
    (lambda m, r: sum(a > b for a, b in zip(m.tolist(), r.tolist())) / len(m), "ties count noth"),
    (lambda m, r: 1 - (r > m).double().mean(), "ties count as wins"),
    (lambda m, r: (m > r).sum() / (m != r).sum(), "ties were left out"),
    (lambda m, r: ((r > m).float() + (r == m) / 2).mean(), "how often the rival wins"),
    (lambda m, r: torch.sign(m - r).mean(), "wins minus defeats"),
    (lambda m, r: m.mean() - r.mean(), "mean difference of the marks"),
    (lambda m, r: ((m.view(-1, 1) > r) + 0.5 * (m.view(-1, 1) == r)).mean(), "every mark of the"),
    (lambda m, r: 0.625, "same answer for every input"),
]
TWO["win_share"] = [
    (lambda m, r: (r > m).float().mean(), "ties count nothing|rival wins"),
    (lambda m, r: (m >= r).sum(), "ties count as wins|number of wins"),
    (lambda m, r: (m[:, None] > r[None, :]).float().mean(), "ties count nothing|every mark"),
]

# ---- best_of_n_mark ------------------------------------------------------------------------------


def picked_by_loop(scores, marks):
    total = 0
    for s, m in zip(scores, marks):
        total += m[s.argmax()]
    return total / len(scores)


RIGHT["best_of_n_mark"] = [
    picked_by_loop,
    lambda s, m: m[torch.arange(len(s)), s.argmax(1)].mean(),
    lambda s, m: (m * F.one_hot(s.argmax(1), s.shape[1])).sum(1).mean(),
    lambda s, m: torch.take_along_dim(m, s.argmax(1)[:, None], 1).mean(),
    lambda s, m: m[s == s.max(dim=1, keepdim=True).values].mean(),
    lambda s, m: m.gather(1, s.sort(1, descending=True).indices)[:, 0].double().mean(),
    lambda s, m: np.mean([row[i] for row, i in zip(m.tolist(), s.argmax(1).tolist())]),
    lambda s, m: sum(max(zip(a, b))[1] for a, b in zip(s.tolist(), m.tolist())) / len(s),
]
WRONG["best_of_n_mark"] = [
    (lambda s, m: m.amax(1).mean(), "picked by the mark"),
    (lambda s, m: torch.stack([row.max() for row in s]).mean(), "mean of the best scores"),
    (lambda s, m: m[torch.arange(len(m)), s.min(1).indices].mean(), "worst score was picked"),
    (lambda s, m: m[:, s.argmax(1)].mean(), "other prompts picked"),
    (lambda s, m: m.view(-1)[torch.argmax(s)], "one response was picked out of all"),
    (lambda s, m: sum(row[i] for row, i in zip(m, s.argmax(1))), "sum over the prompts"),
    (lambda s, m: sum(sum(row) / len(row) for row in m) / len(m), "mean mark of all responses"),
    (lambda s, m: m[s.argmax(0), torch.arange(s.shape[1])].mean(), "picked for each column"),
]
TWO["best_of_n_mark"] = [
    (lambda s, m: m.min(1).values.mean(), "picked by the mark|worst score"),
    (lambda s, m: s.max(1).values.sum(), "best scores|sum over the prompts"),
]

# ---- label_mask ----------------------------------------------------------------------------------


def mask_by_loop(tokens, starts, end_id, pad_id):
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for b, row in enumerate(tokens.tolist()):
        for t in range(int(starts[b]), len(row)):
            if row[t] == pad_id and row[t] != end_id:
                break
            mask[b, t] = True
            if row[t] == end_id:
                break
    return mask


def mask_by_lengths(tokens, starts, end_id, pad_id):
    rows = []
    for row, start in zip(tokens.tolist(), starts.tolist()):
        rest = row[start:]
        ended = end_id in rest
        length = rest.index(end_id) + 1 if ended else sum(x != pad_id for x in rest)
        rows.append([False] * start + [True] * length + [False] * (len(rest) - length))
    return torch.tensor(rows)


def mask_by_last_column(tokens, starts, end_id, pad_id):
    B, T = tokens.shape
    at = torch.arange(T).expand(B, T)
    first_end = torch.where((tokens == end_id) & (at >= starts.unsqueeze(1)), at, T).amin(1)
    first_pad = torch.where((tokens == pad_id) & (at > starts.unsqueeze(1)), at, T).amin(1) - 1
    last = torch.where(first_end < T, first_end, first_pad)
    return (at >= starts.unsqueeze(1)) & (at <= last.unsqueeze(1))


def mask_by_clone(tokens, starts, end_id, pad_id):
    mask = tokens.clone().bool() | True
    for b in range(len(tokens)):
        mask[b, : starts[b]] = False
        ends = (tokens[b, starts[b] :] == end_id).nonzero()
        if len(ends):
            mask[b, starts[b] + ends[0, 0] + 1 :] = False
        else:
            mask[b] &= tokens[b] != pad_id
    return mask


RIGHT["label_mask"] = [
    mask_by_loop,
    mask_by_lengths,
    mask_by_last_column,
    mask_by_clone,
    lambda tokens, starts, end_id, pad_id: (
        (torch.arange(tokens.shape[1])[None] >= starts[:, None])
        & ((tokens != pad_id) | (tokens == end_id))
        & (
            F.pad(
                ((tokens == end_id) & (torch.arange(tokens.shape[1]) >= starts[:, None])).cumsum(1),
                (1, -1),
            )
            == 0
        )
    ),
    lambda tokens, starts, end_id, pad_id: torch.stack(
        [
            torch.tensor(
                [
                    t >= s and end_id not in row[s:t] and (x != pad_id or x == end_id)
                    for t, x in enumerate(row)
                ]
            )
            for row, s in zip(tokens.tolist(), starts.tolist())
        ]
    ),
]


def _at(tokens):
    return torch.arange(tokens.size(1)).repeat(tokens.size(0), 1)


def mask_without_the_end(tokens, starts, end_id, pad_id):
    mask = torch.zeros_like(tokens).bool()
    for b in range(len(tokens)):
        t = int(starts[b])
        while t < tokens.shape[1] and tokens[b, t] not in (end_id, pad_id):
            mask[b, t] = True
            t += 1
    return mask


WRONG["label_mask"] = [
    (mask_without_the_end, "the end token was left out"),
    (
        lambda x, s, e, p: (_at(x) >= s.view(-1, 1)) * (x != p),
        "padding is recognised by its id alone",
    ),
    (lambda x, s, e, p: _at(x) >= s.unsqueeze(-1), "It looks as if padding counts"),
    (lambda x, s, e, p: mask_by_loop(x, s + 1, e, p), "one token too late"),
    (lambda x, s, e, p: mask_by_clone(x, s - 1, e, p), "one token too early"),
    (lambda x, s, e, p: ~mask_by_lengths(x, s, e, p), "reversed"),
    (lambda x, s, e, p: torch.full(x.shape, True), "the whole row counts"),
    (lambda x, s, e, p: mask_by_loop(x, s[0].repeat(len(s)), e, p), "the first row's start"),
    (lambda x, s, e, p: torch.tensor([[False] * 3 + [True] * 3]), "same answer for every input"),
]
TWO["label_mask"] = [
    (lambda x, s, e, p: (_at(x) > s[:, None]) & (x != p), "by its id alone|one token too late"),
    (lambda x, s, e, p: _at(x) >= s[0], "padding counts|the first row's start"),
    (lambda x, s, e, p: _at(x) + 1 >= s[:, None], "padding counts|one token too early"),
    (
        lambda x, s, e, p: mask_by_loop(x, s, 1, 0),
        "end_id is always 1|pad_id is always 0|by its id alone",
    ),
]

# ---- sequence_logprob ----------------------------------------------------------------------------


def logprob_by_loop(logits, tokens, mask):
    totals = []
    for b in range(tokens.shape[0]):
        total = torch.tensor(0.0)
        for t in range(1, tokens.shape[1]):
            if mask[b, t]:
                total = total + logits[b, t - 1].log_softmax(0)[tokens[b, t]]
        totals.append(total)
    return torch.stack(totals)


def logprob_by_cross_entropy(logits, tokens, mask):
    loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return -torch.where(mask[:, 1:], loss, torch.zeros_like(loss)).sum(1)


def logprob_by_ignored_targets(logits, tokens, mask):
    targets = tokens.masked_fill(~mask, -100)
    return torch.stack(
        [-F.cross_entropy(x[:-1], y[1:], reduction="sum") for x, y in zip(logits, targets)]
    )


def logprob_by_clone(logits, tokens, mask):
    each = torch.log_softmax(logits.double(), -1)[:, :-1]
    each = torch.gather(each, 2, tokens[:, 1:].unsqueeze(2))[..., 0].clone()
    each[~mask[:, 1:]] = 0
    return each.sum(dim=-1)


def logprob_by_index(logits, tokens, mask):
    b, t = mask.nonzero(as_tuple=True)
    b, t = b[t > 0], t[t > 0]
    each = logits[b, t - 1].log_softmax(-1)[torch.arange(len(b)), tokens[b, t]]
    return torch.zeros(len(tokens)).index_add(0, b, each)


RIGHT["sequence_logprob"] = [
    logprob_by_loop,
    logprob_by_cross_entropy,
    logprob_by_ignored_targets,
    logprob_by_clone,
    logprob_by_index,
    lambda logits, tokens, mask: torch.stack(
        [
            (x - x.logsumexp(-1, keepdim=True))[:-1][m[1:]].gather(1, y[1:][m[1:], None]).sum()
            for x, y, m in zip(logits, tokens, mask)
        ]
    ),
    lambda logits, tokens, mask: (
        torch.einsum(
            "btv,btv->bt",
            logits[:, :-1].masked_fill(~mask[:, 1:, None], 0).log_softmax(-1),
            F.one_hot(tokens[:, 1:], logits.shape[-1]).float(),
        )
        .masked_fill(~mask[:, 1:], 0)
        .sum(1)
    ),
]


def _each(logits, tokens):
    return torch.stack([x.log_softmax(-1)[torch.arange(len(y)), y] for x, y in zip(logits, tokens)])


WRONG["sequence_logprob"] = [
    (lambda x, y, m: torch.where(m, _each(x, y), 0).sum(1), "shift by one is missing"),
    (lambda x, y, m: torch.where(m[:, :-1], _each(x[:, 1:], y[:, :-1]), 0).sum(1), "wrong way"),
    (lambda x, y, m: torch.where(m[:, :-1], _each(x[:, :-1], y[:, 1:]), 0).sum(1), "the mask is n"),
    (lambda x, y, m: logprob_by_loop(x, y, m) / m.sum(1), "mean over the tokens"),
    (lambda x, y, m: -logprob_by_loop(x, y, m), "looks like the loss"),
    (lambda x, y, m: logprob_by_loop(x, y, m).exp(), "the probability"),
    (lambda x, y, m: logprob_by_loop(x, y, m | True), "the mask is missing"),
    (lambda x, y, m: (_each(x[:, :-1], y[:, 1:]) * m[:, 1:]).sum(1), "0 times nan is nan"),
    (lambda x, y, m: logprob_by_cross_entropy(x, y, m).sum(), "one sum over the whole batch"),
    (
        lambda x, y, m: (
            torch.gather(F.softmax(x[:, :-1], 2), 2, y[:, 1:, None])[..., 0]
            .masked_fill(~m[:, 1:], 0)
            .sum(1)
        ),
        "the log is missing",
    ),
    (
        lambda x, y, m: (
            torch.gather(F.softmax(x[:, :-1], 2).log(), 2, y[:, 1:, None])[..., 0]
            .masked_fill(~m[:, 1:], 0)
            .sum(1)
        ),
        "softmax gives 0",
    ),
]
TWO["sequence_logprob"] = [
    (lambda x, y, m: torch.where(m, _each(x, y), 0).sum(1) / m.sum(1), "shift by one|mean over"),
    (lambda x, y, m: -(_each(x[:, :-1], y[:, 1:]) * m[:, 1:]).sum(1), "the loss|0 times nan"),
    (lambda x, y, m: -logprob_by_loop(x, y, m) / m.sum(1), "the loss|mean over"),
]

# ---- preferred -----------------------------------------------------------------------------------


def preferred_by_loop(ranks):
    B, K = ranks.shape
    table = torch.zeros(B, K, K, dtype=torch.bool)
    for b, i, j in itertools.product(range(B), range(K), range(K)):
        if ranks[b, i] != 0:
            table[b, i, j] = ranks[b, j] == 0 or ranks[b, i] < ranks[b, j]
    return table


def preferred_by_infinity(ranks):
    r = torch.where(ranks == 0, 10**6, ranks)
    return r[:, :, None] < r[:, None, :]


RIGHT["preferred"] = [
    preferred_by_loop,
    preferred_by_infinity,
    lambda r: (
        r.float()
        .masked_fill(r == 0, math.inf)
        .unsqueeze(2)
        .lt(r.float().masked_fill(r == 0, math.inf).unsqueeze(1))
    ),
    lambda r: torch.stack([preferred_by_infinity(row[None])[0] for row in r]),
    lambda r: (1 / r)[:, :, None].nan_to_num(posinf=0) > (1 / r)[:, None].nan_to_num(posinf=0),
    lambda r: torch.logical_or(
        torch.logical_and(r[..., None] < r[:, None], r[..., None] > 0),
        torch.logical_and(r[:, None] == 0, r[..., None] > 0),
    ),
    lambda r: torch.tensor(
        [[[a > 0 and (b == 0 or a < b) for b in row] for a in row] for row in r.tolist()]
    ),
]
WRONG["preferred"] = [
    (lambda r: preferred_by_infinity(r).mT, "rows and columns are swapped"),
    (lambda r: torch.less(r[:, :, None], r[:, None, :]), "a rank better than 1"),
    (lambda r: (r[:, :, None] < r[:, None]) & (r > 0)[..., None] & (r > 0)[:, None], "left out"),
    (
        lambda r: (
            preferred_by_infinity(r)
            | ((r[:, :, None] == r[:, None]) & (r[:, :, None] > 0) & ~torch.eye(r.shape[1]).bool())
        ),
        "a tie counted as a win",
    ),
    (
        lambda r: (r[:, :, None] > 0) & ((r[:, :, None] <= r[:, None]) | (r[:, None] == 0)),
        "every response beat itself",
    ),
    (lambda r: preferred_by_infinity(r[:1]).repeat(len(r), 1, 1), "first ranking was used"),
    (lambda r: ~preferred_by_infinity(r), "reversed"),
]
TWO["preferred"] = [
    (
        lambda r: torch.greater(r[:, :, None], r[:, None, :]) & (r[:, None] > 0),
        "rows and|larger|left out",
    )
]

# ---- agreement -----------------------------------------------------------------------------------


def agreement_by_loop(first, second):
    points, pairs = 0.0, 0
    for a, b in zip(first.tolist(), second.tolist()):
        for i, j in itertools.combinations(range(len(a)), 2):
            one, other = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
            points += 1 if one == other else 0.5 if 0 in (one, other) else 0
            pairs += 1
    return points / pairs


def _signs(ranks):
    return (ranks[:, :, None] - ranks[:, None, :]).sign()


RIGHT["agreement"] = [
    agreement_by_loop,
    lambda a, b: (
        1 - (_signs(a) - _signs(b)).abs().float().sum() / 2 / (a.numel() * (a.shape[1] - 1))
    ),
    lambda a, b: (
        torch.where(_signs(a) == _signs(b), 1.0, torch.where(_signs(a) * _signs(b) == 0, 0.5, 0.0))[
            :, ~torch.eye(a.shape[1], dtype=torch.bool)
        ]
    ).mean(),
    lambda a, b: (
        (1 - (_signs(a) - _signs(b)).abs() / 2)
        .triu(1)
        .sum((1, 2))
        .div(a.shape[1] * (a.shape[1] - 1) / 2)
        .double()
        .mean()
    ),
    lambda a, b: (1 - (_signs(a) - _signs(b)).abs() / 2)[
        torch.ones_like(_signs(a)).tril(-1).bool()
    ].mean(),
    lambda a, b: np.mean(
        [
            1 - abs(np.sign(x[i] - x[j]) - np.sign(y[i] - y[j])) / 2
            for x, y in zip(a.numpy(), b.numpy())
            for i in range(len(x))
            for j in range(i)
        ]
    ),
    lambda a, b: torch.stack(
        [
            1 - (one.sign() - other.sign()).abs() / 2
            for x, y in zip(a, b)
            for one, other in zip(
                torch.combinations(x).diff(dim=1), torch.combinations(y).diff(dim=1)
            )
        ]
    ).mean(),
]


def _pairs(ranks):
    return torch.stack([torch.combinations(row).diff(dim=1).flatten() for row in ranks]).sign()


WRONG["agreement"] = [
    (lambda a, b: (_pairs(a) == _pairs(b)).double().mean(), "counted nothing"),
    (lambda a, b: (_pairs(a) * _pairs(b) != -1).float().mean(), "counted in full"),
    (
        lambda a, b: (
            sum(p == q for p, q in zip(_pairs(a).flatten(), _pairs(b).flatten()) if p * q != 0)
            / sum((_pairs(a) * _pairs(b)).flatten() != 0)
        ),
        "left out",
    ),
    (lambda a, b: (1 - (_signs(a) - _signs(b)).abs() / 2).mean(), "compared with itself"),
    (lambda a, b: sum((x == y).float().mean() for x, y in zip(a, b)) / len(a), "one by one"),
    (lambda a, b: (_pairs(a) - _pairs(b)).abs().float().mean() / 2, "on which they differ"),
    (lambda a, b: 2 * agreement_by_loop(a, b) - 1, "minus disagreements"),
    (lambda a, b: (1 - (_pairs(a) - _pairs(b)).abs() / 2).sum(), "a number of pairs: divide"),
    (
        lambda a, b: (1 - (a.diff(dim=1).sign() - b.diff(dim=1).sign()).abs() / 2).mean(),
        "only neighbours",
    ),
]
TWO["agreement"] = [
    (lambda a, b: (_signs(a) == _signs(b)).float().mean(), "counted nothing|with itself"),
    (lambda a, b: (_pairs(a) == _pairs(b)).sum(), "counted nothing|a number of pairs"),
    (lambda a, b: (a.diff(dim=1).sign() == b.diff(dim=1).sign()).float().mean(), "nothing|neighb"),
]

# ---- pair_loss -----------------------------------------------------------------------------------

RIGHT["pair_loss"] = [
    lambda c, r: F.softplus(r - c).mean(),
    lambda c, r: torch.logaddexp(torch.zeros_like(c), r - c).mean(),
    lambda c, r: -torch.stack([F.logsigmoid(a - b) for a, b in zip(c, r)]).mean(),
    lambda c, r: F.binary_cross_entropy_with_logits(c - r, torch.ones_like(c)),
    lambda c, r: F.cross_entropy(torch.stack([c, r], 1), torch.zeros(len(c), dtype=torch.long)),
    lambda c, r: -(c - torch.logsumexp(torch.stack([c, r]), 0)).double().mean(),
    lambda c, r: torch.where(
        c > r, torch.log1p((-(c - r).abs()).exp()), r - c + torch.log1p((-(c - r).abs()).exp())
    ).mean(),
    lambda c, r: sum(-F.logsigmoid(c[b] - r[b]) for b in range(len(c))) / len(c),
    lambda c, r: -torch.log_softmax(torch.stack((c, r), -1), -1)[:, 0].sum() / c.numel(),
]
WRONG["pair_loss"] = [
    (lambda c, r: torch.log(1 + torch.exp(r - c)).mean(), "It overflows"),
    (lambda c, r: -(c.exp() / (c.exp() + r.exp())).log().mean(), "exp of a score above 88"),
    (lambda c, r: F.softplus(c - r).mean(), "chosen and rejected are swapped"),
    (lambda c, r: F.softplus(r - c).sum(), "sum over the pairs"),
    (lambda c, r: -F.softplus(r - c).mean(), "the minus is missing"),
    (lambda c, r: F.softplus(r - c), "mean over the pairs is missing"),
    (lambda c, r: F.softplus(r.mean() - c.mean()), "before the sigmoid"),
    (lambda c, r: torch.sigmoid(r - c).mean(), "1 - sigmoid has almost no gradient"),
    (lambda c, r: (r - c).mean(), "the sigmoid is missing"),
    (lambda c, r: F.softplus(r[None, :] - c[:, None]).mean(), "every rejected one, (B, B)"),
    (lambda c, r: torch.relu(1 + r - c).mean(), "hinge loss"),
    (lambda c, r: F.softplus(-c).mean(), "the rejected response is missing"),
    (lambda c, r: 0.5877 + 0 * c.sum(), "same answer for every input"),
]
TWO["pair_loss"] = [
    (lambda c, r: -F.softplus(c - r).mean(), "are swapped|minus is missing"),
    (lambda c, r: F.softplus(c - r).sum(), "are swapped|sum over the pairs"),
    (lambda c, r: torch.log(1 + torch.exp(c - r)).mean(), "are swapped|overflows"),
    (lambda c, r: (1 + (r - c).exp()).log().sum(), "sum over the pairs|overflows"),
    (lambda c, r: F.softplus(r - c[:, None]).sum(), "(B, B)|sum over"),
]

# ---- kwise_loss ----------------------------------------------------------------------------------


def kwise_by_loop(scores, ranks):
    losses = []
    for s, r in zip(scores, ranks.tolist()):
        pairs = []
        for i in range(len(r)):
            for j in range(len(r)):
                if r[i] > 0 and (r[j] == 0 or r[i] < r[j]):
                    pairs.append(F.softplus(s[j] - s[i]))
        losses.append(sum(pairs) / len(pairs))
    return torch.stack(losses).mean()


def _leads(scores):
    return scores[:, :, None] - scores[:, None, :]


def kwise_by_index(scores, ranks):
    b, i, j = preferred_by_infinity(ranks).nonzero(as_tuple=True)
    losses = F.softplus(scores[b, j] - scores[b, i])
    counts = torch.bincount(b, minlength=len(scores))
    return (torch.zeros(len(scores)).index_add(0, b, losses) / counts).mean()


RIGHT["kwise_loss"] = [
    kwise_by_loop,
    kwise_by_index,
    lambda s, r: torch.stack(
        [
            -F.logsigmoid(_leads(x[None])[preferred_by_infinity(y[None])]).mean()
            for x, y in zip(s, r)
        ]
    ).mean(),
    lambda s, r: torch.einsum(
        "bij,bij,b->",
        F.softplus(-_leads(s)),
        preferred_by_infinity(r).float(),
        1 / preferred_by_infinity(r).sum((1, 2)) / len(s),
    ),
    lambda s, r: (
        torch.where(preferred_by_infinity(r), F.softplus(-_leads(s)).double(), torch.nan)
        .flatten(1)
        .nanmean(1)
        .mean()
    ),
    lambda s, r: (
        F.binary_cross_entropy_with_logits(
            _leads(s),
            torch.ones_like(_leads(s)),
            weight=preferred_by_infinity(r) / preferred_by_infinity(r).sum((1, 2), keepdim=True),
            reduction="sum",
        )
        / len(s)
    ),
]


def _kwise(scores, ranks, beats, total="prompts"):
    losses = F.softplus(scores[:, None, :] - scores[:, :, None]) * beats
    if total == "sum":
        return losses.sum()
    return torch.stack([row.sum() / b.sum() for row, b in zip(losses, beats)]).mean()


WRONG["kwise_loss"] = [
    (
        lambda s, r: F.softplus(-_leads(s))[preferred_by_infinity(r)].mean(),
        "one mean over the pairs of all prompts",
    ),
    (lambda s, r: _kwise(s, r, preferred_by_infinity(r), "sum") / len(s), "sum over a prompt's"),
    (lambda s, r: _kwise(s, r, preferred_by_infinity(r), "sum"), "all pairs of all prompts"),
    (lambda s, r: _kwise(s, r, r[:, :, None] < r[:, None]), "rank better than 1"),
    (lambda s, r: kwise_by_loop(-s, r), "reversed"),
    (lambda s, r: -kwise_by_loop(s, r), "minus is missing"),
    (
        lambda s, r: _kwise(
            s, r, (r[:, :, None] > 0) & (r[:, None] > 0) & (r[:, :, None] < r[:, None])
        ).nan_to_num(),
        "left out",
    ),
    (
        lambda s, r: (F.softplus(-_leads(s)) * preferred_by_infinity(r)).mean(),
        "whole table of K times K",
    ),
    (
        lambda s, r: (
            (torch.log1p(torch.exp(-_leads(s))) * preferred_by_infinity(r))
            .sum((1, 2))
            .div(preferred_by_infinity(r).sum((1, 2)))
            .mean()
        ),
        "It overflows",
    ),
    (
        lambda s, r: (
            -sum(x.log_softmax(0)[torch.where(y == 0, 99, y).argmin()] for x, y in zip(s, r))
            / len(s)
        ),
        "a choice of the best one",
    ),
]
TWO["kwise_loss"] = [
    (lambda s, r: _kwise(s, r, r[:, :, None] < r[:, None], "sum"), "better than 1|sum over all"),
    (lambda s, r: -_kwise(-s, r, preferred_by_infinity(r)), "reversed|minus is missing"),
    (lambda s, r: F.softplus(_leads(s))[preferred_by_infinity(r)].mean(), "reversed|one mean over"),
]

# ---- pair_accuracy -------------------------------------------------------------------------------


def accuracy_by_loop(scores, ranks):
    right = []
    for s, r in zip(scores.tolist(), ranks.tolist()):
        for i, j in itertools.permutations(range(len(r)), 2):
            if r[i] < r[j]:
                right.append(0.5 if s[i] == s[j] else float(s[i] > s[j]))
    return sum(right) / len(right)


def _lower(ranks):
    return ranks.unsqueeze(2) < ranks.unsqueeze(1)


RIGHT["pair_accuracy"] = [
    accuracy_by_loop,
    lambda s, r: ((_leads(s) > 0).float() + 0.5 * (_leads(s) == 0))[_lower(r)].mean(),
    lambda s, r: torch.heaviside(_leads(s), torch.tensor(0.5))[_lower(r)].double().mean(),
    lambda s, r: ((_leads(s).sign() + 1) / 2 * _lower(r)).sum() / _lower(r).sum(),
    lambda s, r: np.mean(accuracy_by_loop(s, r)),
    lambda s, r: (
        torch.einsum("bij,bij->", (_leads(s).sign() + 1) / 2, _lower(r).float()) / _lower(r).sum()
    ),
    lambda s, r: torch.cat(
        [((x[:, None] - x)[y[:, None] < y].sign() + 1) / 2 for x, y in zip(s, r)]
    ).mean(),
    lambda s, r: torch.tensor(
        [
            [0.0, 0.5, 1.0][int(torch.sign(s[b, i] - s[b, j])) + 1]
            for b, i, j in _lower(r).nonzero().tolist()
        ]
    ).mean(),
]
WRONG["pair_accuracy"] = [
    (lambda s, r: (_leads(s)[_lower(r)] > 0).double().mean(), "equal scores count as wrong"),
    (lambda s, r: (_leads(s)[_lower(r)] >= 0).float().mean(), "equal scores count as right"),
    (lambda s, r: 1 - accuracy_by_loop(s, r), "reversed"),
    (lambda s, r: sum(accuracy_by_loop(x[None], y[None]) for x, y in zip(s, r)) / len(s), "first"),
    (lambda s, r: _leads(s)[_lower(r)].sign().mean(), "minus wrong ones"),
    (
        lambda s, r: ((_leads(s).sign() + 1) / 2)[
            (r[:, :, None] <= r[:, None]) & ~torch.eye(r.shape[1], dtype=torch.bool)
        ].mean(),
        "tied responses count",
    ),
    (lambda s, r: ((_leads(s).sign() + 1) / 2)[r[:, :, None] <= r[:, None]].mean(), "with itself"),
    (lambda s, r: ((_leads(s).sign() + 1) / 2 * _lower(r)).mean(), "whole table"),
    (lambda s, r: ((_leads(s).sign() + 1) / 2 * _lower(r)).sum(), "a number of pairs"),
]
TWO["pair_accuracy"] = [
    (lambda s, r: (_leads(s)[_lower(r)] < 0).float().mean(), "count as wrong|reversed"),
    (lambda s, r: (_leads(s)[_lower(r)] > 0).sum(), "count as wrong|number of pairs"),
    (
        lambda s, r: (_leads(s)[r[:, :, None] <= r[:, None]] > 0).float().mean(),
        "count as wrong|itself",
    ),
]
