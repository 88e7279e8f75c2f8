"""Rankings by rules, in the form that labellers give, and which rules disagree.

kept (P, K, R): how far each of K responses to each of P prompts keeps each of R rules, 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from rlhf_lab.constitution.critique import Critic, check
from rlhf_lab.constitution.rules import Rule
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.tasks.labellers import ranks_of

TIE = 1e-6  # totals that differ by no more are equal
LABELLER = "constitution"


def kept_table(
    prompts: Sequence[Prompt],
    texts: Sequence[Sequence[str]],
    rules: Sequence[Rule],
    critic: Critic = check,
) -> Tensor:
    """How far responses keep the rules, (P, K, R); texts[i] are the K responses to prompts[i]."""
    asked = [prompt.text for prompt, row in zip(prompts, texts, strict=True) for _ in row]
    said = [text for row in texts for text in row]
    by_rule = [[found.kept for found in critic(rule, asked, said)] for rule in rules]  # R of P * K
    responses = len(said) // max(len(texts), 1)  # K; not inferred, as there may be no rules
    kept = torch.tensor(by_rule, dtype=torch.float64).view(len(rules), len(texts), responses)
    return kept.permute(1, 2, 0)


def weights_of(rules: Sequence[Rule]) -> Tensor:
    """The rules' weights, (R,)."""
    return torch.tensor([rule.weight for rule in rules], dtype=torch.float64)


def rank_by_rules(
    prompts: Sequence[Prompt],
    texts: Sequence[Sequence[str]],
    rules: Sequence[Rule],
    critic: Critic = check,
    ended: Sequence[Sequence[bool]] | None = None,
) -> list[Ranking]:
    """One ranking for each prompt: the more weight is kept the better, equal weights are ties.
    ended[i]: whether each response to prompt i ended (None: all).

    It has the form of a labeller's, so `train_reward` takes it. Lee et al. (2023) ask a model which
    of two responses is better; here each is read alone, so their order does not matter.
    """
    totals = kept_table(prompts, texts, rules, critic) @ weights_of(rules)  # (P, K)
    ends = [()] * len(texts) if ended is None else ended
    return [
        Ranking(prompt, tuple(row), tuple(ranks_of(total, TIE)), LABELLER, tuple(end))
        for prompt, row, total, end in zip(prompts, texts, totals.tolist(), ends, strict=True)
    ]


def broken_shares(
    prompts: Sequence[Prompt],
    texts: Sequence[Sequence[str]],
    rules: Sequence[Rule],
    critic: Critic = check,
) -> dict[str, float]:
    """For each rule the share of responses that break it."""
    asked = [prompt.text for prompt, row in zip(prompts, texts, strict=True) for _ in row]
    said = [text for row in texts for text in row]
    return {
        rule.name: sum(found.broken for found in critic(rule, asked, said)) / len(said)
        for rule in rules
    }


@dataclass(frozen=True)
class Conflict:
    """Two rules that disagree. share: the share of all pairs of responses to the same prompt in
    which the two rules prefer different ones. wins: the share of those pairs in which the weights
    of all rules together decide as the first rule does, ties half."""

    first: str
    second: str
    share: float
    wins: float


def conflicts(kept: Tensor, rules: Sequence[Rule]) -> list[Conflict]:
    """All pairs of rules that disagree on some pair of responses, the most frequent first; kept
    (P, K, R) as `kept_table` gives it."""
    a, b = map(list, zip(*combinations(range(kept.shape[1]), 2)))
    prefers = (kept[:, a] - kept[:, b]).flatten(0, 1)  # (pairs, R): above 0, the rule is for a
    total = prefers @ weights_of(rules)
    total = total.sign() * (total.abs() > TIE)
    prefers = prefers.sign() * (prefers.abs() > TIE)
    found = []
    for i, j in combinations(range(len(rules)), 2):
        opposed = prefers[:, i] * prefers[:, j] < 0
        if opposed.any():
            wins = (1 + total[opposed] * prefers[opposed, i]) / 2
            found.append(
                Conflict(
                    rules[i].name, rules[j].name, float(opposed.double().mean()), float(wins.mean())
                )
            )
    return sorted(found, key=lambda conflict: -conflict.share)
