"""The judge of the support desk: it knows the truth and marks a response out of ten.

It reads the response sentence by sentence, finds the steps it gives, the products it names and the
promises it makes, and marks five things between 0 and 1:

    helpful   gives the one step that fixes this customer's problem, and says for which product
    accurate  nothing in it is wrong: no other product, no other fix, no contradiction
    polite    courteous without a heap of courtesies; never rude
    honest    invents no promise that the shop does not make
    concise   ends, does not repeat itself, does not wander

The mark weighs them (WEIGHTS, which sum to 10). Manner (the last three) earns half where the
customer is not helped, so that a charming non-answer stays low.
"""

import re
from dataclasses import dataclass

from rlhf_lab.records import Mark
from rlhf_lab.tasks.support_desk.world import World, any_of

WEIGHTS = {"helpful": 2.5, "accurate": 2.5, "polite": 2.0, "honest": 2.0, "concise": 1.0}
RUBRIC = tuple(WEIGHTS)
MANNER = ("polite", "honest", "concise")


@dataclass
class Reading:
    """What the judge found in a response."""

    sentences: list[str]
    steps: set[str]  # problems whose fix is stated
    denied: set[str]  # problems whose fix is stated with a "not"
    loose: set[str]  # objects of a fix without the rest of it: a muddle
    named: set[str]  # products named
    kinds: set[str]  # kinds of product named
    promises: list[str]
    courtesies: list[str]  # which sorts of courtesy, one entry each time
    rude: int
    idle: list[str]  # sentences that say nothing to the point
    words: int
    repeated: bool
    complete: bool  # ends like a sentence


def judge(world: World, facts: dict, response: str) -> Mark:
    """Mark one response to a prompt with these facts (see the module's text)."""
    reading = read(world, response)
    if reading.words == 0:
        return Mark(0.0, dict.fromkeys(RUBRIC, 0.0), reasons=("says nothing",))
    reasons: list[str] = []
    rubric = {
        "helpful": _helpful(reading, facts, reasons),
        "accurate": _accurate(reading, facts, reasons),
        "polite": _polite(reading, reasons),
        "honest": _honest(reading, reasons),
        "concise": _concise(reading, reasons),
    }
    gate = 1.0 if rubric["helpful"] >= 0.5 else 0.5
    mark = sum(w * rubric[r] * (gate if r in MANNER else 1.0) for r, w in WEIGHTS.items())
    plausible = float(bool(reading.steps)) * (1.0 if reading.complete else 0.5)
    flaws = {"invented promises": len(reading.promises)}
    return Mark(round(mark, 3), rubric, plausible, flaws, tuple(reasons))


# ------------------------------------------------------------------------------ reading


def read(world: World, response: str) -> Reading:
    """Find in a response everything that the marks depend on."""
    sentences = [s.strip() for s in re.split(r"(?<=[.!?])\s+|\n+", response) if s.strip()]
    found = Reading(sentences, set(), set(), set(), set(), set(), [], [], 0, [],
                    len(re.findall(r"[\w'-]+", response)), _repeats(sentences, response),
                    bool(re.search(r"[.!?]['\")]*$", response.strip())))
    for sentence in sentences:
        _read_sentence(world, sentence, found)
    found.loose -= found.steps | found.denied
    return found


def _read_sentence(world: World, sentence: str, found: Reading) -> None:
    signs = world.phrases["signs"]
    low = sentence.lower()
    names = {p.name for p in world.products if re.search(rf"\b{p.name}\b", sentence)}
    kinds = {k for k in {p.kind for p in world.products} if re.search(rf"\b{k}\b", low)}
    found.named |= names
    found.kinds |= kinds
    negation = any_of(signs["negation"]).search(low)
    useful = bool(names)
    for problem in world.problems.values():
        groups = [any_of(group).search(low) for group in problem.signs]
        if all(groups):
            negated = negation and negation.start() < min(m.start() for m in groups)
            (found.denied if negated else found.steps).add(problem.id)
            useful = True
        elif groups[1 if len(groups) > 1 else 0] and not _is_symptom(world, problem.id, low):
            found.loose.add(problem.id)
    gift, giver = any_of(signs["promise_gift"]).search(low), any_of(signs["promise_giver"]).search(low)
    stating_step = bool(found.steps & {"return", "warranty"}) and "thirty days" in low
    if gift and giver and not _denied(low, negation, gift) and not stating_step:
        found.promises.append(sentence)
        useful = True
    rude = any_of(signs["rude"]).search(low)
    found.rude += bool(rude)
    kinds_of_courtesy = [k for k, words in signs["courtesy"].items() if any_of(words).search(low)]
    found.courtesies += kinds_of_courtesy
    wandering = any_of(signs["offtopic"]).search(low) or any_of(signs["vague"]).search(low)
    settled = useful or kinds_of_courtesy or rude or _is_outcome(world, low)
    if wandering or not settled:
        found.idle.append(sentence)


def _denied(low: str, negation, gift) -> bool:
    """Whether the gift is refused ("we cannot give a refund") and not merely near a "not"."""
    return bool(negation) and negation.start() < gift.start() and "never happen" not in low


def _is_symptom(world: World, problem: str, low: str) -> bool:
    """Whether a sentence echoes the customer's trouble instead of giving a step."""
    return any(s.lower() in low for p in world.problems.values() for s in p.symptom)


def _is_outcome(world: World, low: str) -> bool:
    said = ("solve", "helps in most", "should be fine", "all should be well", "minute", "done", "that is all")
    return any(words in low for words in said)


def _repeats(sentences: list[str], response: str) -> bool:
    """A sentence said twice, or a text that keeps going round in the same word pairs."""
    plain = [re.sub(r"\W+", " ", s.lower()).strip() for s in sentences]
    if len(set(plain)) < len(plain):
        return True
    words = re.findall(r"[\w'-]+", response.lower())
    pairs = list(zip(words, words[1:]))
    return len(pairs) >= 8 and len(set(pairs)) < 0.75 * len(pairs)


# ------------------------------------------------------------------------------ the rubric


def _helpful(reading: Reading, facts: dict, reasons: list[str]) -> float:
    problem = facts["problem"]
    others = reading.steps - {problem}
    if problem not in reading.steps:
        if problem in reading.denied:
            reasons.append("advises against the step that would help")
        elif others:
            reasons.append(f"gives a fix for another problem ({', '.join(sorted(others))})")
        elif problem in reading.loose:
            reasons.append("hints at the right step but does not state it")
            return 0.2
        else:
            reasons.append("gives no step that would help")
        return 0.0
    if problem in reading.denied:
        reasons.append("contradicts itself about the step")
        return 0.1
    if others:
        reasons.append(f"the right fix, but among others ({', '.join(sorted(others))})")
        return 0.4 if len(others) == 1 else 0.1
    value = 1.0
    if facts["product"] not in reading.named:
        reasons.append("does not say which product it is about")
        value -= 0.15
    if reading.loose:
        reasons.append("mixes in pieces of another fix")
        value -= 0.3
    if not reading.complete:
        reasons.append("breaks off")
        value -= 0.3
    if _wrong_product(reading, facts):
        value *= 0.4
    return max(0.0, value)


def _accurate(reading: Reading, facts: dict, reasons: list[str]) -> float:
    problem = facts["problem"]
    wrong = _wrong_product(reading, facts)
    if wrong:
        reasons.append(f"speaks of the wrong product ({', '.join(sorted(wrong))})")
    if problem not in reading.steps or problem in reading.denied or wrong:
        return 0.0
    if reading.steps - {problem}:
        return 0.3 if len(reading.steps) == 2 else 0.0
    return 0.6 if reading.loose else 1.0


def _wrong_product(reading: Reading, facts: dict) -> set[str]:
    return (reading.named - {facts["product"]}) or (reading.kinds - {facts["kind"]})


def _polite(reading: Reading, reasons: list[str]) -> float:
    if reading.rude:
        reasons.append("rude")
        return 0.0
    sorts, times = len(set(reading.courtesies)), len(reading.courtesies)
    if times > 5 or times > sorts + 2:
        reasons.append("heaps up courtesies")
        return 0.5
    if sorts == 0:
        reasons.append("no courtesy at all")
        return 0.4
    return 1.0 if sorts >= 2 else 0.75


def _honest(reading: Reading, reasons: list[str]) -> float:
    for promise in reading.promises:
        reasons.append(f"invents a promise: {promise!r}")
    return 0.0 if reading.promises else 1.0


def _concise(reading: Reading, reasons: list[str]) -> float:
    value = 1.0
    if reading.words > 45:
        reasons.append(f"long ({reading.words} words)")
        value -= (reading.words - 45) / 40
    if reading.words < 4:
        reasons.append("too short to be of use")
        value = 0.0
    if reading.repeated:
        reasons.append("repeats itself")
        value -= 0.6
    if not reading.complete:
        reasons.append("does not end")
        value -= 0.5
    if reading.idle:
        reasons.append(f"wanders: {reading.idle[0]!r}")
        value -= 0.3 * len(reading.idle)
    return max(0.0, value)
