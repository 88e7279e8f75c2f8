"""A critique: which rules a response breaks, where, and why, in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlhf_lab.constitution.checkers import CHECKERS, Finding
from rlhf_lab.constitution.rules import Rule
from rlhf_lab.records import Prompt

# Checks whether responses keep a rule, each as the answer to the prompt at the same index: `check`,
# or a model (`model_critic`). It gets many at once, since a model reads them in batches.
Critic = Callable[[Rule, Sequence[str], Sequence[str]], list[Finding]]


def check(rule: Rule, prompts: Sequence[str], responses: Sequence[str]) -> list[Finding]:
    """The critic that needs no model: the rule's own checker."""
    checker = CHECKERS[rule.check]
    return [
        checker(prompt, response, **rule.settings)
        for prompt, response in zip(prompts, responses, strict=True)
    ]


@dataclass(frozen=True)
class Critique:
    """What each of the rules found in a response; findings[i] belongs to rules[i]."""

    prompt: Prompt
    response: str
    rules: tuple[Rule, ...]
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> list[tuple[Rule, Finding]]:
        """The rules that are broken, with what was found, in the rules' order."""
        return [(rule, found) for rule, found in zip(self.rules, self.findings) if found.broken]

    @property
    def weight(self) -> float:
        """How much is broken in all: the sum of each rule's weight times (1 - kept)."""
        return sum(rule.weight * (1 - found.kept) for rule, found in zip(self.rules, self.findings))

    def lines(self) -> list[str]:
        """The critique as a person reads it, a line for each broken rule."""
        return [f"{rule.name}: {found.reason}. ({rule.says})" for rule, found in self.broken]


def critique(
    prompt: Prompt, response: str, rules: Sequence[Rule], critic: Critic = check
) -> Critique:
    """Check a response against each of the rules."""
    return critiques(prompt, [response], rules, critic)[0]


def critiques(
    prompt: Prompt, responses: Sequence[str], rules: Sequence[Rule], critic: Critic = check
) -> list[Critique]:
    """The critiques of several responses to one prompt."""
    by_rule = [critic(rule, [prompt.text] * len(responses), responses) for rule in rules]
    return [
        Critique(prompt, response, tuple(rules), tuple(findings))
        for response, *findings in zip(responses, *by_rule)
    ]
