"""Revisions: a response is repaired until it breaks no rule, or fewer or lighter ones.

In Constitutional AI (Bai et al. 2022, section 3) the model itself is asked to rewrite its response
in the light of a critique, for one rule drawn at random, several times over. The compact model
cannot follow such a request. Here a revision is made by edits that anyone can check:

1. strike a sentence that a critique quotes;
2. put in the sentence that a rule has for it (`add` in the file);
3. if that is not enough, do the same to other samples of the policy, and take the best.

All rules are checked, the heaviest first, and an edit is kept only if less is broken after it.
Every word of a revision comes from the policy, from the file of rules, or (the product's name) from
the prompt: no fact is invented.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlhf_lab.constitution.checkers import Finding, products
from rlhf_lab.constitution.critique import Critic, Critique, check, critique
from rlhf_lab.constitution.rules import Rule
from rlhf_lab.records import Demonstration, Prompt
from rlhf_lab.tasks.phrases import find, sentences

LESS = 1e-9  # weights that differ by no more are equal


@dataclass(frozen=True)
class Revision:
    """before, after: the critiques of the response and of its revision. edits: what was done, in
    words. sample: which of the policy's other samples was taken instead, from 1; 0 for none."""

    before: Critique
    after: Critique
    edits: tuple[str, ...] = ()
    sample: int = 0

    @property
    def prompt(self) -> Prompt:
        return self.before.prompt

    @property
    def text(self) -> str:
        return self.after.response


def revise(found: Critique, others: Sequence[str] = (), critic: Critic = check) -> Revision:
    """Revise a response in the light of its critique. others: further samples of the policy for the
    same prompt, tried if edits are not enough.

    A revision never breaks more weight than the response did; a response that keeps every rule is
    returned unchanged.
    """
    best = edited(found, critic)
    revision = Revision(found, *best)
    for number, other in enumerate(others, 1):
        if not revision.after.broken:
            break
        start = critique(found.prompt, other, found.rules, critic)
        after, edits = edited(start, critic)
        if other.strip() and after.weight < revision.after.weight - LESS:
            taken = f"took another sample of the policy: {other!r}"
            revision = Revision(found, after, (taken, *edits), number)
    return revision


def edited(found: Critique, critic: Critic = check) -> tuple[Critique, tuple[str, ...]]:
    """The critique of the response after every edit that helps, and those edits in words."""
    done: list[str] = []
    while True:
        for text, what in _edits(found):
            after = critique(found.prompt, text, found.rules, critic)
            if text and after.weight < found.weight - LESS:
                found = after
                done.append(what)
                break  # other rules may be broken now: start again from the heaviest
        else:
            return found, tuple(done)


def _edits(found: Critique) -> Iterator[tuple[str, str]]:
    """Every edit that a broken rule asks for, the heaviest rule's first: the text after the edit,
    and what the edit does."""
    for rule, finding in sorted(found.broken, key=lambda row: -row[0].weight):
        for quote in finding.quotes:
            yield from strike(found.response, quote)
        yield from put_in(found, rule, finding)


def strike(response: str, quote: str) -> Iterator[tuple[str, str]]:
    """The response without a sentence that holds the quote, for each such sentence."""
    spans = sentences(response)
    for start, end in spans:
        if quote in response[start:end]:
            rest = [response[a:b] for a, b in spans if (a, b) != (start, end)]
            yield " ".join(rest), f"struck {response[start:end]!r}"


def put_in(found: Critique, rule: Rule, finding: Finding) -> Iterator[tuple[str, str]]:
    """The response with the rule's own sentence, if it has one that can be filled in."""
    sentence = rule.add
    if "{product}" in sentence:
        product = named_in_prompt(found)
        if product is None:
            return
        sentence = sentence.replace("{product}", product)
    if sentence:
        said = [found.response[start:end] for start, end in sentences(found.response)]
        said.insert(len(said) if rule.at == "end" else _greetings(said, found, rule), sentence)
        yield " ".join(said), f"put in {sentence!r}"


def _greetings(said: Sequence[str], found: Critique, rule: Rule) -> int:
    """How many sentences stay before what is put in at the front: 1 where the first one already
    says what a lighter rule would put there ("Hello!")."""
    later = [
        other
        for other in found.rules
        if other.check == "say" and other.add and other.at == "front" and other.weight < rule.weight
    ]
    return int(bool(said) and any(find(said[0], other.settings["phrases"]) for other in later))


def named_in_prompt(found: Critique) -> str | None:
    """The product as the prompt names it, by the settings of the first rule about products."""
    for rule in found.rules:
        if rule.check == "product":
            return next(iter(products(found.prompt.text, **rule.settings)), None)
    return None


# ---- many ----------------------------------------------------------------------------------------


def revise_all(
    prompts: Sequence[Prompt],
    texts: Sequence[Sequence[str]],
    rules: Sequence[Rule],
    critic: Critic = check,
) -> list[Revision]:
    """Critique and revise the first response to each prompt; the rest of texts[i] are the policy's
    further samples."""
    return [
        revise(critique(prompt, first, rules, critic), others, critic)
        for prompt, (first, *others) in zip(prompts, texts, strict=True)
    ]


def demonstrations_from(revisions: Sequence[Revision]) -> list[Demonstration]:
    """What the supervised phase imitates: the revisions, with their prompts."""
    return [
        Demonstration(revision.prompt, revision.text) for revision in revisions if revision.text
    ]
