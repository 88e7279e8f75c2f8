"""Feedback from written rules instead of people (Constitutional AI, Bai et al. 2022; RLAIF, Lee et
al. 2023).

A rule is a sentence, a weight and a checker (`rules`, `checkers`, `manual`). A critique says which
rules a response breaks, where and why; a revision mends it by small edits, and the revised
responses are demonstrations (`critique`, `revise`). Weighed together the rules also rank responses,
as labellers do (`ranking`). Any causal language model can be the critic instead (`model_critic`).

    rules = read_rules()
    found = critique(prompt, response, rules)
    revised = revise(found, others=more_samples)
    rankings = rank_by_rules(prompts, texts, rules)
"""

from rlhf_lab.constitution.checkers import Finding
from rlhf_lab.constitution.critique import Critique, Critic, check, critique
from rlhf_lab.constitution.model_critic import ModelCritic
from rlhf_lab.constitution.ranking import (
    Conflict, broken_shares, conflicts, kept_table, rank_by_rules, weights_of,
)
from rlhf_lab.constitution.revise import Revision, demonstrations_from, revise, revise_all
from rlhf_lab.constitution.rules import Rule, read_rules, without

__all__ = [
    "Conflict", "Critic", "Critique", "Finding", "ModelCritic", "Revision", "Rule", "broken_shares",
    "check", "conflicts", "critique", "demonstrations_from", "kept_table", "rank_by_rules",
    "read_rules", "revise", "revise_all", "weights_of", "without",
]
