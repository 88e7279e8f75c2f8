"""What a response says, before anybody judges it: the steps it gives, the products it names, the
amounts it states and what it promises.

A step is an action near its object, with the detail that makes it work. The signs in world.toml
list each problem's actions, objects and, where it needs one, details. A negation before
the action turns it into advice against the step; words from other steps beside it garble the step.
"""

from dataclasses import dataclass, field

from rlhf_lab.tasks.english import ARTICLES, SMALL, is_garbled, is_near, is_reported, is_turned
from rlhf_lab.tasks.lexicon import NUMBERS, PAUSES, UNITS, Lexicon, Sentence, quantities, words_of
from rlhf_lab.tasks.support_desk.world import World

ACTION, OBJECT, DETAIL = range(3)  # the groups of a problem's signs
PART = 0.6  # what a step without its detail counts
PAST = frozenset(["old", "ago", "after"])  # beside an amount: it repeats what the customer told
POINTERS = frozenset("it one them this that there".split())
RULES = {  # problems whose amounts are rules of the shop, and the words that speak of the rule
    "return": frozenset(["return", "returns"]),
    "warranty": frozenset(["warranty", "guarantee"]),
}


@dataclass(frozen=True)
class Told:
    """A step that the response gives."""

    problem: str  # what it fixes
    places: frozenset[int]  # the sentence of its object, and that of its action if another
    whole: float  # 1, or PART without its detail


@dataclass(frozen=True)
class Named:
    """A product that the response names, real or not."""

    name: str  # lower case
    kind: str  # the next word if that is a kind of product
    place: int  # the sentence


@dataclass
class Reading:
    """What was found in a response. Problems go by their id."""

    sentences: list[Sentence]
    labels: set[str]  # of all phrases found
    garbled: bool
    told: list[Told] = field(default_factory=list)
    steps_in: dict[int, set[str]] = field(default_factory=dict)  # the steps given in a sentence
    symptoms: set[str] = field(default_factory=set)  # problems it says the product has
    denied: set[str] = field(default_factory=set)  # steps it advises against
    loose: set[str] = field(default_factory=set)  # objects of a step, without the step
    stray: list[str] = field(default_factory=list)  # words of other steps inside the right one
    muddle: bool = False  # whether those are more than one odd word
    odd: list[str] = field(default_factory=list)  # instructions that the shop does not know
    misquoted: list[str] = field(default_factory=list)  # amounts that are false
    false_rule: bool = False  # whether one of those is a rule of the shop
    named: list[Named] = field(default_factory=list)
    kinds: list[tuple[str, str]] = field(default_factory=list)  # ("your", "lamp"), ("the", "lamp")
    promises: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)  # sentences that do not keep to the point


class Reader:
    """Reads responses, knowing the words of a world."""

    def __init__(self, world: World):
        signs = world.phrases["signs"]
        self.names = {p.name.lower() for p in world.products}
        self.kinds = {p.kind for p in world.products}
        self.amounts = {
            id: {(q.measure, q.amount) for step in p.step for q in quantities(words_of(step))}
            for id, p in world.problems.items()
        }
        self.objects = {f"{id}/{OBJECT}": id for id in world.problems}
        self.simple = {id for id, p in world.problems.items() if len(p.signs) == DETAIL}
        self.strange = strange_words(world)
        courtesies = {f"courtesy/{sort}": listed for sort, listed in signs["courtesy"].items()}
        self.courtesies = list(courtesies)
        steps = {
            f"{id}/{group}": listed
            for id, p in world.problems.items()
            for group, listed in enumerate(p.signs)
        }
        manners = {label: listed for label, listed in signs.items() if label != "courtesy"}
        symptoms = {f"symptom/{id}": p.symptom for id, p in world.problems.items()}
        self.lexicon = Lexicon(courtesies | steps | manners | symptoms)

    def read(self, problem: str, response: str) -> Reading:
        """Read an answer to a customer who has this problem."""
        sentences = self.lexicon.sentences(response)
        labels = {label for s in sentences for label in s.hits}
        reading = Reading(sentences, labels, any(map(is_garbled, sentences)))
        reading.symptoms = {id for id in self.amounts if f"symptom/{id}" in labels}
        for place in range(len(sentences)):
            self._read_steps(reading, place)
        for place in range(len(sentences)):
            self._read_amounts(reading, place, problem)
            self._read_strays(reading, place, problem)
            self._read_products(reading, place)
            self._read_manner(reading, place, problem)
        return reading

    def _read_steps(self, reading: Reading, place: int) -> None:
        """The steps whose object is in this sentence."""
        sentence, left = reading.sentences[place], []
        for problem in self._objects_in(sentence):
            where, turned = self._action(reading.sentences, place, problem)
            if where is None:
                start = sentence.all(f"{problem}/{OBJECT}")[0][0]
                left += [] if is_turned(sentence, start) else [problem]
            elif turned:
                reading.denied.add(problem)
            else:
                whole = problem in self.simple or f"{problem}/{DETAIL}" in reading.labels
                places = frozenset([place, where])
                reading.told.append(Told(problem, places, 1.0 if whole else PART))
                for i in places:
                    reading.steps_in.setdefault(i, set()).add(problem)
        if place not in reading.steps_in:
            reading.loose.update(left)

    def _objects_in(self, sentence: Sentence) -> list[str]:
        """The problems whose step has its object in this sentence."""
        return [self.objects[label] for label in sentence.hits if label in self.objects]

    def _action(
        self, sentences: list[Sentence], place: int, problem: str
    ) -> tuple[int | None, bool]:
        """The sentence with the action on this sentence's object, and whether it is negated.

        It is the same sentence, or a neighbour that points back ("There is a child lock. Please
        unlock it.") and has no object of its own. (None, False) if there is none.
        """
        for i in (place, place + 1, place - 1):
            if not 0 <= i < len(sentences):
                continue
            s = sentences[i]
            if i != place and (POINTERS.isdisjoint(s.words) or self._objects_in(s)):
                continue
            spans = [
                span
                for span in s.all(f"{problem}/{ACTION}")
                if not is_reported(s, span[0])
                and (i != place or is_near(span, s.all(f"{problem}/{OBJECT}")))
            ]
            if spans:
                return i, all(is_turned(s, start) for start, _ in spans)
        return None, False

    def _read_amounts(self, reading: Reading, place: int, problem: str) -> None:
        """Amounts that belong to no step given here and to no rule mentioned here."""
        s, steps = reading.sentences[place], reading.steps_in.get(place, set())
        rules = [id for id, about in RULES.items() if id == problem or about.intersection(s.words)]
        if problem not in steps and not rules:
            return
        right = set().union(*(self.amounts[id] for id in [*steps, *rules]))
        for q in quantities(s.words):
            past = PAST.intersection(s.words[max(0, q.at - 1) : q.at + 4])
            if (q.measure, q.amount) in right or past or is_turned(s, q.at):
                continue
            said = " ".join(s.words[q.at : q.at + 2])
            if any(q.measure == measure for measure, _ in right):
                reading.misquoted.append(said)
            elif problem in steps and s.words[q.at] not in ("a", "an"):
                reading.stray.append(said)
                reading.muddle = True
        if problem in RULES and s.has("forever"):
            reading.misquoted.append("forever")
        reading.false_rule |= bool(rules and reading.misquoted)

    def _read_strays(self, reading: Reading, place: int, problem: str) -> None:
        """Words of other steps inside the right one: "start the self-test of the air vents"."""
        s = reading.sentences[place]
        if reading.steps_in.get(place) != {problem}:
            return
        excused = {
            i
            for label in ("gift", "favour", "rude", "reported", "no_negation")
            for start, end in s.all(label)
            for i in range(start, end)
        }
        stray = [
            word
            for i, word in enumerate(s.words)
            if word in self.strange[problem] and i not in excused and not is_turned(s, i)
        ]
        runs_on = any(
            ARTICLES.intersection(s.words[end : end + 1]) for _, end in s.all(f"{problem}/{OBJECT}")
        )
        reading.stray += stray
        several = len(stray) > 1 or (stray and set(self._objects_in(s)) - {problem})
        reading.muddle |= bool(several or runs_on)

    def _read_products(self, reading: Reading, place: int) -> None:
        """Products named, and kinds of product after "your" or "the"."""
        s = reading.sentences[place]
        for i, (word, cased) in enumerate(zip(s.words, s.cased)):
            name, capital = word.split("'")[0], cased[0].isupper()
            kind = next((w for w in s.words[i + 1 : i + 2] if w in self.kinds), "")
            invented = kind and i and capital and not cased.isupper() and name not in SMALL
            if invented or (name in self.names and (kind or capital)):
                reading.named.append(Named(name, kind, place))
            elif kind and word in ("your", "the"):
                reading.kinds.append((word, kind))

    def _read_manner(self, reading: Reading, place: int, problem: str) -> None:
        """Promises, sentences that are beside the point, and instructions unknown to the shop."""
        s = reading.sentences[place]
        if self._promises(s, problem):
            reading.promises.append(s.text)
            return
        step = place in reading.steps_in or self._objects_in(s)
        courtesies = [label for label in self.courtesies if s.has(label)]
        wandering = s.has("offtopic") or s.has("vague")
        named = any(n.place == place for n in reading.named)
        if wandering or not (step or courtesies or named or s.has("outcome") or s.has("rude")):
            reading.idle.append(s.text)
        known = (
            step
            or wandering
            or s.has("outcome")
            or s.has(f"{problem}/{ACTION}")
            or set(courtesies) - {"courtesy/please"}
        )
        if not known and any(start < 4 for start, _ in s.all("told")):
            reading.odd.append(s.text)

    def _promises(self, s: Sentence, problem: str) -> bool:
        """Whether a sentence promises what the shop does not give. A return does earn a refund."""
        gifts = [span for span in s.all("gift") if not is_turned(s, span[0], reach=8)]
        if s.has("giver"):
            acts = {span for id in self._objects_in(s) for span in s.all(f"{id}/{ACTION}")}
            gifts += [
                span
                for span in s.all("favour")
                if span not in acts and not is_turned(s, span[0], reach=8)
            ]
        if problem == "return" and not s.has("keep"):
            gifts = [span for span in gifts if span not in s.all("refund")]
        return bool(gifts)


def strange_words(world: World) -> dict[str, set[str]]:
    """For each problem, the words of other steps that do not belong beside its own."""
    steps = {id: {w for step in p.step for w in words_of(step)} for id, p in world.problems.items()}
    common = SMALL.union(PAUSES, NUMBERS, UNITS, world.phrases["signs"]["common"])
    strange = {}
    for id, p in world.problems.items():
        own = [*p.step, *p.asks, *p.apart, *p.symptom, *(w for group in p.signs for w in group)]
        others = set().union(*(steps[other] for other in steps if other != id))
        strange[id] = others - common - {w for phrase in own for w in words_of(phrase)}
    return strange
