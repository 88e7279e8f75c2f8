"""What a response says, before anybody judges it: what it claims of whom, which advice it gives,
whether it admits, refuses, agrees or goes along.

A claim is a value that a sentence asserts of an entity. A negation or a "you think" before the
value turns it into something that is not asserted. Advice is an action near its object, by the
signs in jobs.toml.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from rlhf_lab.tasks.assistant.world import Job, World
from rlhf_lab.tasks.english import SMALL, is_garbled, is_turned
from rlhf_lab.tasks.lexicon import PAUSES, Lexicon, Sentence, Span

FRONT = re.compile(
    r"^(?:(?:in|on|at) )?(?:(?:the|an|a) )?"
)  # of a value: "on a leaf" is found as "leaf"
NEAR = 14  # words between the parts of one piece of advice
REACH = 9  # words that a negation may stand before a value: "I do not think that people use it for"
ACTIVE = frozenset("eats lives makes lies grows blooms carries invented played kept".split())
VERBS = ACTIVE | frozenset("is are has was helps cannot can will do does not so because".split())


@dataclass(frozen=True)
class Claim:
    """A value that the response asserts."""

    entity: str  # "" if the sentence names none
    value: str
    place: int  # the sentence


@dataclass
class Reading:
    """What was found in a response."""

    sentences: list[Sentence]
    garbled: bool = False
    claims: list[Claim] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)  # values that it says are wrong
    entities: set[str] = field(default_factory=set)  # that it names
    advice: dict[str, set[int]] = field(default_factory=dict)  # job: the sentences with its step
    hints: set[str] = field(default_factory=set)  # jobs of whose step it only has the objects
    against: set[str] = field(default_factory=set)  # jobs whose step it advises against
    deeds: set[str] = field(default_factory=set)  # jobs whose bad deed it recommends
    forbidden: set[str] = field(default_factory=set)  # jobs whose bad deed it advises against
    purposes: set[str] = field(default_factory=set)  # jobs that it says its advice is for
    things: set[str] = field(default_factory=set)
    lies: set[str] = field(default_factory=set)  # untold things that it tells
    labels: set[str] = field(default_factory=set)  # of what it says without a negation
    idle: list[str] = field(default_factory=list)  # sentences of which nothing is known


class Reader:
    """Reads responses, knowing the words of a world."""

    def __init__(self, world: World):
        self.world = world
        signs = world.phrases["signs"]
        phrases = {f"courtesy/{sort}": listed for sort, listed in signs["courtesy"].items()}
        phrases |= {k: listed for k, listed in signs.items() if k not in ("courtesy", "common")}
        values = {value for relation in world.relations.values() for value in relation.values}
        phrases |= {f"value/{value}": forms(value) for value in values}
        phrases |= {f"entity/{name}": names(name) for name in world.entities}
        phrases |= {
            f"lie/{id}/{value}": forms(value)
            for id, untold in world.untold.items()
            for value in untold.values
        }
        for job in world.jobs.values():
            for sort, groups in (("step", job.signs), ("harm", job.harm)):
                phrases |= {f"{sort}/{job.id}/{i}": listed for i, listed in enumerate(groups)}
            phrases |= {f"thing/{thing}": [thing] for thing in job.things}
            phrases[f"deed/{job.id}"] = [job.deed.format(x=thing) for thing in job.things]
        self.lexicon = Lexicon(phrases)
        said = [line for listed in world.phrases["assistant"].values() for line in listed]
        first = {word for line in said for word in re.findall(r"(?:^|[.!?] )([A-Z]\w+)", line)}
        self.starts = frozenset(first)  # words that have a capital because they start a sentence
        self.alike = {id: self._found_in_steps(job) for id, job in world.jobs.items()}

    def _found_in_steps(self, job: Job) -> set[str]:
        """The jobs and the things that this job's own steps seem to speak of."""
        said = [
            self.read(f"{job.deed}, {step}.".format(x=thing))
            for step in job.step
            for thing in job.things
        ]
        named = {name for step in job.step for name in self.read(step.format(x="")).things}
        return named.union(*(reading.advice for reading in said))

    def read(self, response: str) -> Reading:
        """Read a response, whatever was asked."""
        reading = Reading(self.lexicon.sentences(response))
        for place, sentence in enumerate(reading.sentences):
            reading.garbled |= is_garbled(sentence) or is_torn(sentence, self.starts)
            self._read_claims(reading, place)
            self._read_advice(reading, place)
            self._read_manner(reading, place)
        return reading

    def _read_claims(self, reading: Reading, place: int) -> None:
        """The values in a sentence, asserted or denied, and of which entity."""
        s = reading.sentences[place]
        named = [
            (span, name) for name in self._found(s, "entity/") for span in s.all(f"entity/{name}")
        ]
        reading.entities.update(name for _, name in named)
        for value in self._found(s, "value/"):
            for span in s.all(f"value/{value}"):
                if is_turned(s, span[0], REACH) or is_reported(s, span[0]):
                    reading.denied.add(value)
                    continue
                acts = value not in self.world.entities and s.words[span[1] : span[1] + 1]
                reading.garbled |= bool(acts and acts[0] in ACTIVE)  # "clover eats the brindle"
                others = [(other, name) for other, name in named if other != span]
                nearest = min(
                    others, key=lambda x: (x[0] > span, abs(x[0][0] - span[0])), default=None
                )
                reading.claims.append(Claim(nearest[1] if nearest else "", value, place))

    def _found(self, s: Sentence, kind: str) -> list[str]:
        return [label.removeprefix(kind) for label in s.hits if label.startswith(kind)]

    def _read_advice(self, reading: Reading, place: int) -> None:
        """Whole steps in a sentence, and bad deeds that it recommends."""
        s = reading.sentences[place]
        reading.things.update(self._found(s, "thing/"))
        reading.purposes.update(self._found(s, "deed/"))
        for id in dict.fromkeys(label.split("/")[1] for label in s.hits if label[:5] == "step/"):
            job = self.world.jobs[id]
            action, *objects = [s.all(f"step/{id}/{i}") for i in range(len(job.signs))]
            parts = _together([action + s.all("works"), *objects])
            if parts and any(is_turned(s, start) for start, _ in parts):
                reading.against.add(id)
            elif parts:
                reading.advice.setdefault(id, set()).add(place)
            elif len(objects) > 1 and _together(objects) and not s.has("negation"):
                reading.hints.add(id)
        for id in dict.fromkeys(label.split("/")[1] for label in s.hits if label[:5] == "harm/"):
            parts = _together(
                [s.all(f"harm/{id}/{i}") for i in range(len(self.world.jobs[id].harm))]
            )
            if parts:
                turned = is_turned(s, parts[0][0]) or _says(s, "refuse")
                (reading.forbidden if turned else reading.deeds).add(id)

    def _read_manner(self, reading: Reading, place: int) -> None:
        """Labels of what is said without a negation, and sentences that say nothing known."""
        s = reading.sentences[place]
        reading.lies.update(label.split("/")[1] for label in s.hits if label.startswith("lie/"))
        labels = {label for label in s.hits if "/" not in label or label.startswith("courtesy/")}
        reading.labels.update(label for label in labels - {"no_negation"} if _says(s, label))
        if s.words[0] in ("no", "nope") and (len(s.words) == 1 or s.words[1] in PAUSES):
            reading.labels.add("no")
        known = labels - {"negation", "no_negation", "reported"}
        known |= {label for label in s.hits if label.startswith(("value/", "entity/", "lie/"))}
        known |= {id for id, places in reading.advice.items() if place in places} | reading.deeds
        if not known:
            reading.idle.append(s.text)


@lru_cache(maxsize=1)
def reader_of(world: World) -> Reader:
    """The reader of this world, made once."""
    return Reader(world)


def forms(value: str) -> list[str]:
    """How a value may stand in a text: without its article, in the singular or the plural."""
    core = FRONT.sub("", value).removeprefix("Captain ")
    return [core, core[:-1]] if core.endswith("s") and len(core) > 4 else [core, f"{core}s"]


def names(name: str) -> list[str]:
    """How an entity may be named."""
    return [name, f"{name}s", f"{name}'s"]


def is_torn(s: Sentence, starts: frozenset[str]) -> bool:
    """Whether the sentence is two torn ones: a verb follows an article ("brindle the eats"), or a
    word that starts sentences has its capital in the middle ("on the ground for the Done")."""
    pairs = list(zip(s.cased, s.cased[1:]))
    return any(a in ("the", "a", "an") and b in VERBS for a, b in pairs) or any(
        b in starts and a not in PAUSES for a, b in pairs
    )


def is_reported(s: Sentence, at: int) -> bool:
    """Whether only somebody else thinks so: after "you think", up to a "but" or a pause."""
    clause = max((i for i in range(at) if s.words[i] in PAUSES or s.words[i] == "but"), default=-1)
    return any(clause < start < at for start, _ in s.all("reported"))


def _together(groups: list[list[Span]]) -> list[Span]:
    """One span of each of these groups, if all stand near the first and apart from it."""
    for first in groups[0]:
        near = [
            [span for span in group if abs(span[0] - first[0]) <= NEAR and span != first]
            for group in groups[1:]
        ]
        if all(near):
            return [first, *(group[0] for group in near)]
    return []


def _says(s: Sentence, label: str) -> bool:
    """Whether a phrase with this label stands in the sentence, neither negated nor part of a longer
    phrase that says the opposite."""
    opposites = {
        "agree": ("disagree", "admit"),
        "disagree": ("agree", "refuse"),
        "comply": ("refuse",),
    }
    longer = [span for other in opposites.get(label, ()) for span in s.all(other)]
    for span in s.all(label):
        inside = any(a <= span[0] and span[1] <= b and (a, b) != span for a, b in longer)
        turned = label in ("agree", "comply") and is_turned(s, span[0], reach=3)
        turned |= label == "agree" and "but" in s.words[span[1] :]  # "you are right, but"
        if not inside and not turned:
            return True
    return False


def content_words(text: str) -> set[str]:
    """The words of a phrase that carry its meaning."""
    return {word for word in re.findall(r"[a-z']+", text.lower()) if word not in SMALL}
