"""One ranking from many: by plain vote, or by a fit that weighs each labeller by reliability."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from rlhf_lab.feedback.pairs import comparisons
from rlhf_lab.feedback.reliability import Contests, fit, follows, reliability_interval
from rlhf_lab.records import Ranking
from rlhf_lab.tasks.labellers import ranks_of

POOLED = "pooled"  # the labeller of a pooled ranking
ROUNDING = 1e-9, 1e-3  # vote shares, and fitted scores, closer than this are equal


@dataclass(frozen=True)
class Pooled:
    """What `fit_labellers` found.

    rankings: one a prompt. scores: in the same order, the expected quality of each response, in
    standard deviations. labellers: a DataFrame with labeller, rankings, shared (those of prompts
    that others ranked too), reliability (a in `reliability.py`: 0 is chance), low and high (two
    standard deviations either way, see there), and follows, the share of random pairs that they
    would put in the order of quality.
    """

    rankings: list[Ranking]
    scores: list[tuple[float, ...]]
    labellers: pd.DataFrame


def pool_by_vote(rankings: Iterable[Ranking]) -> list[Ranking]:
    """One ranking a prompt, by the share of its comparisons that each response won, ties half.

    Every labeller has one vote a prompt, shared out among all the rankings they made of it. Equal
    shares tie. What nobody ranked stays unranked; what was compared with nothing is left out, and a
    prompt of which nothing is left as well.
    """
    return [_pooled(group, _vote(group), ROUNDING[0]) for group in _by_prompt(rankings)]


def fit_labellers(rankings: Iterable[Ranking], draws: int = 0, seed: int = 0) -> Pooled:
    """How reliable each labeller is and how good each response (the model: `reliability.py`).

    The reliabilities come from prompts that two labellers or more ranked: of one's own prompts,
    nobody knows how others would have ranked them. Where no prompt is shared, everybody is as
    reliable as everybody else. All prompts then get scores with these reliabilities.

    draws: fits with prompts drawn again, for low and high, which are nan without; 20 or more.
    """
    groups = _by_prompt(rankings)
    names = sorted({ranking.labeller for group in groups for ranking in group})
    shared = [group for group in groups if len({r.labeller for r in group}) > 1]
    a = torch.ones(len(names), dtype=torch.float64)
    ends = torch.full((2, len(names)), torch.nan)
    if shared:
        contests = _contests(shared, names)
        found = fit(contests)
        a = found.reliability
        ends = reliability_interval(contests, found, draws, seed) if draws else ends
    scores = [
        dict(zip(_texts(group), row))
        for group, row in zip(groups, fit(_contests(groups, names), a).mean.tolist())
    ]
    pooled = [_pooled(group, score, ROUNDING[1]) for group, score in zip(groups, scores)]
    table = pd.DataFrame(
        {
            "labeller": names,
            "rankings": _counts(groups, names),
            "shared": _counts(shared, names),
            "reliability": a,
            "low": ends[0],
            "high": ends[1],
            "follows": follows(a),
        }
    )
    return Pooled(
        pooled,
        [
            tuple(score[text] for text in ranking.responses)
            for ranking, score in zip(pooled, scores)
        ],
        table,
    )


def _by_prompt(rankings: Iterable[Ranking]) -> list[list[Ranking]]:
    """The rankings of each prompt, in the order in which prompts first come; only those in which
    something was compared."""
    groups: dict[str, list[Ranking]] = defaultdict(list)
    for ranking in rankings:
        if comparisons(ranking):
            groups[ranking.prompt.text].append(ranking)
    return list(groups.values())


def _texts(group: Sequence[Ranking]) -> list[str]:
    """Every response that was compared, once, in the order in which they first come."""
    compared = {text for ranking in group for pair in comparisons(ranking) for text in pair}
    texts = dict.fromkeys(text for ranking in group for text in ranking.responses)
    return [text for text in texts if text in compared]


def _vote(group: Sequence[Ranking]) -> dict[str, float]:
    """The share of its comparisons that each response won."""
    won: dict[str, float] = defaultdict(float)
    compared: dict[str, float] = defaultdict(float)
    made = Counter(ranking.labeller for ranking in group)
    for ranking in group:
        vote = 1 / made[ranking.labeller]
        for (first, second), sign in comparisons(ranking).items():
            won[first] += vote * (1 + sign) / 2
            won[second] += vote * (1 - sign) / 2
            compared[first] += vote
            compared[second] += vote
    return {text: won[text] / compared[text] for text in compared}


def _pooled(group: Sequence[Ranking], values: dict[str, float], tie: float) -> Ranking:
    """The responses ranked by their values, unranked where nobody ranked them."""
    ranked = {
        text
        for ranking in group
        for text, rank in zip(ranking.responses, ranking.ranks)
        if rank is not None
    }
    texts = _texts(group)
    ranks = ranks_of([values[text] for text in texts], tie)
    kept = (rank if text in ranked else None for text, rank in zip(texts, ranks))
    cut = [one for one in group if isinstance(one, Ranking) and one.ended]  # entries do not say
    ended = {text for one in group if one not in cut for text in one.responses}
    ended |= {text for one in cut for _, text, end in one.written() if end}
    return Ranking(
        group[0].prompt, tuple(texts), tuple(kept), POOLED, tuple(text in ended for text in texts)
    )


def _contests(groups: Sequence[Sequence[Ranking]], names: Sequence[str]) -> Contests:
    """The comparisons in all rankings as tensors; a tie is half a win for either side."""
    number = {name: i for i, name in enumerate(names)}
    rows = []
    for g, group in enumerate(groups):
        place = {text: i for i, text in enumerate(_texts(group))}
        for ranking in group:
            for (first, second), sign in comparisons(ranking).items():
                i, j, who = place[first], place[second], number[ranking.labeller]
                rows += [(g, i, j, who, (1 + sign) / 2), (g, j, i, who, (1 - sign) / 2)]
    table = torch.tensor([row for row in rows if row[-1]], dtype=torch.float64).reshape(-1, 5)
    shape = (len(groups), max(map(len, map(_texts, groups)), default=0), len(names))
    prompt, winner, loser, labeller = table[:, :4].long().T
    return Contests(prompt, winner, loser, labeller, table[:, 4], shape)


def _counts(groups: Sequence[Sequence[Ranking]], names: Sequence[str]) -> list[int]:
    """How many rankings each labeller made of these prompts."""
    counts = Counter(ranking.labeller for group in groups for ranking in group)
    return [counts[name] for name in names]
