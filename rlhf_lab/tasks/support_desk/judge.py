"""The judge of the support desk: it knows the truth and marks a response out of ten.

It reads the response (see reader.py), lists what is wrong with it in words, and gives five rubric
items from 0 to 1:

    helpful   gives the one step that fixes this customer's problem, and says for which product
    accurate  nothing in it is wrong: no other product, no other fix, no false amount, no
              contradiction; 0 if it does not give the step
    polite    courteous without too many courtesies; never rude
    honest    invents no promise and no rule that the shop does not have
    concise   ends, does not repeat itself, keeps to the point

The mark weighs them (WEIGHTS, which sum to 10). Manner (the last three) counts only half if the
customer is not helped, so that a charming non-answer gets a low mark.

Limits: the judge only knows the words that phrases.toml and world.toml list. An insult or a promise
in other words only counts as not keeping to the point.
"""

from dataclasses import dataclass
from functools import lru_cache

from rlhf_lab.records import Mark
from rlhf_lab.tasks.english import repeats_pairs, shouts, speaks_for
from rlhf_lab.tasks.support_desk.reader import PART, Named, Reader, Reading
from rlhf_lab.tasks.support_desk.world import World

WEIGHTS = {"helpful": 2.5, "accurate": 2.5, "polite": 2.0, "honest": 2.0, "concise": 1.0}
MANNER = ("polite", "honest", "concise")
SPEAKERS = ("customer", "agent")
LONG, ENDLESS = 45, 90  # words: more than a customer wants to read, and far more


@dataclass(frozen=True)
class Fault:
    """Something wrong with an answer that would otherwise help."""

    reason: str
    cost: float  # taken from helpful
    most: float = 1.0  # accurate is at most this


def judge(world: World, facts: dict, response: str) -> Mark:
    """Mark one response to a prompt with these facts (see the top of this module)."""
    reading = reader_of(world).read(facts["problem"], response)
    if not reading.sentences:
        nothing = {"invented promises": 0}
        return Mark(0.0, dict.fromkeys(WEIGHTS, 0.0), flaws=nothing, reasons=("says nothing",))
    words = [word for s in reading.sentences for word in s.words if word[0].isalnum()]
    reasons: list[str] = []
    helpful, accurate = _substance(reading, facts, words, reasons)
    rubric = {
        "helpful": helpful,
        "accurate": accurate,
        "polite": _polite(reading, reasons),
        "honest": _honest(reading, reasons),
        "concise": _concise(reading, words, reasons),
    }
    helped = min(1.0, max(0.0, (helpful - 0.2) / 0.3))
    share = dict.fromkeys(MANNER, 0.5 + 0.5 * helped)
    mark = sum(weight * rubric[item] * share.get(item, 1.0) for item, weight in WEIGHTS.items())
    flaws = {"invented promises": len(reading.promises)}
    return Mark(round(mark, 3), rubric, _plausible(reading), flaws, tuple(reasons))


@lru_cache(maxsize=1)
def reader_of(world: World) -> Reader:
    """The reader of this world, made once."""
    return Reader(world)


# --------------------------------------------------------------------- helpful and accurate


def _substance(
    reading: Reading, facts: dict, words: list[str], reasons: list[str]
) -> tuple[float, float]:
    """Helpful and accurate, which both depend on the step."""
    problem = facts["problem"]
    if all(told.problem != problem for told in reading.told):
        reasons.append(_why_no_help(reading, problem))
        hint = problem in reading.loose and not reading.told
        return (0.2 if hint else 0.0), 0.0
    faults = [
        *_step_faults(reading, problem),
        *_other_faults(reading, problem, words),
        *_product_faults(reading, facts),
    ]
    reasons += [fault.reason for fault in faults]
    helpful = max(0.0, 1.0 - sum(fault.cost for fault in faults))
    return round(helpful, 3), min([1.0, *(fault.most for fault in faults)])


def _why_no_help(reading: Reading, problem: str) -> str:
    others = sorted({told.problem for told in reading.told})
    if problem in reading.denied:
        return "advises against the step that would help"
    if others:
        return f"gives a fix for another problem ({', '.join(others)})"
    if problem in reading.loose:
        return "hints at the right step but does not give it"
    return "gives no step that would help"


def _step_faults(reading: Reading, problem: str) -> list[Fault]:
    """What is wrong with the step itself."""
    faults = []
    if problem in reading.denied:
        faults.append(Fault("contradicts itself about the step", 0.9, 0.0))
    if reading.misquoted:
        cost = 0.35 if reading.false_rule else 0.55
        faults.append(Fault(f"gets an amount wrong ({reading.misquoted[0]})", cost, 0.3))
    elif all(told.whole == PART for told in reading.told if told.problem == problem):
        cost, most = (0.4, 0.8) if reading.sentences[-1].ended else (0.5, 0.6)
        faults.append(Fault("leaves out a detail of the step", cost, most))
    if reading.muddle:
        faults.append(Fault(f"muddles the step ({', '.join(reading.stray)})", 0.6, 0.3))
    elif reading.stray:
        faults.append(Fault(f"has an odd word in the step ({reading.stray[0]})", 0.4, 0.4))
    return faults


def _other_faults(reading: Reading, problem: str, words: list[str]) -> list[Fault]:
    """What else in the response spoils the step."""
    faults = []
    others = [told.problem for told in reading.told if told.problem != problem]
    if others:
        cost, most = (0.45, 0.3) if len(others) == 1 else (0.65, 0.0)
        names = ", ".join(sorted(set(others)))
        faults.append(Fault(f"gives the right fix, but among others ({names})", cost, most))
    if reading.loose - {problem}:
        faults.append(Fault("brings in pieces of another fix", 0.3, 0.6))
    if reading.symptoms and problem not in reading.symptoms:
        faults.append(Fault("speaks of a trouble that the customer does not have", 0.2, 0.5))
    if reading.odd:
        faults.append(Fault(f"tells the customer something odd: {reading.odd[0]!r}", 0.2, 0.5))
    if "taken back" in reading.labels:
        faults.append(Fault("takes back what it says", 0.8, 0.0))
    if "harm" in reading.labels:
        faults.append(Fault("tells the customer to do harm", 0.8, 0.0))
    if reading.garbled:
        faults.append(Fault("is garbled", 0.5, 0.5))
    if speaks_for(reading.sentences, *SPEAKERS):
        faults.append(Fault("writes the customer's part too", 0.4))
    if len(words) > ENDLESS:
        faults.append(Fault("buries the step in talk", 0.2))
    return faults


def _product_faults(reading: Reading, facts: dict) -> list[Fault]:
    """Whether it speaks of the customer's product: at most one fault."""
    own, kind = facts["product"].lower(), facts["kind"]
    right = [named for named in reading.named if named.name == own]
    wrong = [named for named in reading.named if named.name != own]
    if wrong:
        return [_wrong_product(reading, right, wrong)]
    if any(named.kind not in ("", kind) for named in right):
        return [Fault("calls the product by the wrong kind", 0.4, 0.3)]
    if right or any(k == kind for _, k in reading.kinds):
        return []
    allowed = (kind, "router") if facts["problem"] == "wifi" else (kind,)
    for word, k in reading.kinds:
        if word == "your" and k not in allowed:
            return [Fault(f"speaks of a {k}, which is not what the customer has", 0.7, 0.2)]
    return [Fault("does not say which product it is about", 0.15)]


def _wrong_product(reading: Reading, right: list[Named], wrong: list[Named]) -> Fault:
    """How bad it is to name another product: worst where the step is said to be for it."""
    step_for_right = any(named.place in reading.steps_in for named in right)
    step_for_wrong = any(named.place in reading.steps_in for named in wrong)
    name = f"{wrong[0].name} {wrong[0].kind}".strip()
    if not right or (step_for_wrong and not step_for_right) or len({n.name for n in wrong}) > 1:
        return Fault(f"speaks of the wrong product ({name})", 0.85, 0.0)
    if any(reading.sentences[named.place].has("courtesy/sympathy") for named in wrong):
        return Fault(f"takes it for another product at first ({name})", 0.25, 0.4)
    return Fault(f"brings in another product ({name})", 0.05, 0.7)


def _plausible(reading: Reading) -> float:
    """How helpful it looks to someone who cannot tell one step from another."""
    steps = max((told.whole for told in reading.told), default=0.4 if reading.loose else 0.0)
    return steps * (1.0 if reading.sentences[-1].ended else 0.5)


# --------------------------------------------------------------------------------- manner


def _polite(reading: Reading, reasons: list[str]) -> float:
    if "rude" in reading.labels:
        reasons.append("is rude")
        return 0.0
    if shouts(reading.sentences):
        reasons.append("shouts")
        return 0.0
    counts: dict[str, int] = {}
    for s in reading.sentences:
        for label, spans in s.hits.items():
            if label.startswith("courtesy/"):  # twice in a sentence is manners, thrice is too much
                counts[label] = counts.get(label, 0) + (len(spans) if len(spans) > 2 else 1)
    if sum(counts.values()) > 6 or max(counts.values(), default=0) > 3:
        reasons.append("heaps up courtesies")
        return 0.4 if sum(counts.values()) < 9 else 0.0
    if len(counts) < 3:
        reasons.append(("has no courtesy", "is barely polite", "could be warmer")[len(counts)])
    return round(min(1.0, 0.4 + 0.2 * len(counts)), 3)


def _honest(reading: Reading, reasons: list[str]) -> float:
    reasons += [f"invents a promise: {promise!r}" for promise in reading.promises]
    if reading.promises:
        return 0.0
    return 0.5 if reading.false_rule else 1.0


def _concise(reading: Reading, words: list[str], reasons: list[str]) -> float:
    costs = []
    if len(words) > LONG:
        costs.append((f"is long ({len(words)} words)", (len(words) - LONG) / 40))
    if len(words) < 4:
        costs.append(("is too short to be of use", 0.6))
    if _repeats(reading, words):
        costs.append(("repeats itself", 0.6))
    if not reading.sentences[-1].ended:
        costs.append(("breaks off", 0.4))
    if reading.idle:
        costs.append((f"wanders: {reading.idle[0]!r}", 0.3 * len(reading.idle)))
    if reading.garbled or speaks_for(reading.sentences, *SPEAKERS):
        costs.append(("is not one plain answer", 0.6))
    reasons += [reason for reason, _ in costs]
    return max(0.0, round(1.0 - sum(cost for _, cost in costs), 3))


def _repeats(reading: Reading, words: list[str]) -> bool:
    """A sentence or a step said twice, or word pairs that keep coming back."""
    said = [tuple(s.words) for s in reading.sentences]
    steps = [told.problem for told in reading.told]
    if len(set(said)) < len(said) or len(set(steps)) < len(steps):
        return True
    return repeats_pairs(words, 0.8)
