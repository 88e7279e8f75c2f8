"""What a response says, before anybody judges it: what it claims of whom, which advice it gives,
whether it admits, refuses, agrees or goes along.

A claim is a value that a sentence asserts of an entity. A negation or a "you think" before the
value turns it into something that is not asserted. Advice is an action near its object, by the
signs in jobs.toml.
"""

import re
from dataclasses import dataclass, field

from rlhf_lab.tasks.assistant.world import Job, World
from rlhf_lab.tasks.english import SMALL, is_garbled, is_turned
from rlhf_lab.tasks.lexicon import PAUSES, Lexicon, Sentence, Span

FRONT = re.compile(
    r"^(?:(?:in|on|at) )?(?:(?:the|an|a) )?"
)  # of a value: "on a leaf" is found as "leaf"
NEAR = 14  # words between the parts of one piece of advice
VERBS = frozenset(
    "eats lives is are has makes lies grows blooms carries invented played kept was".split()
)


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
    advice: dict[str, int] = field(default_factory=dict)  # job: the sentence with its step
    against: set[str] = field(default_factory=set)  # jobs whose step it advises against
    deeds: set[str] = field(default_factory=set)  # jobs whose bad deed it recommends
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
        self.lexicon = Lexicon(phrases)
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
            reading.garbled |= is_garbled(sentence) or is_torn(sentence)
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
                if is_turned(s, span[0]) or is_reported(s, span[0]):
                    reading.denied.add(value)
                    continue
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
        for id in {label.split("/")[1] for label in s.hits if label.startswith("step/")}:
            job = self.world.jobs[id]
            at = _together(s, [s.all(f"step/{id}/{i}") for i in range(len(job.signs))])
            if at is not None:
                if is_turned(s, at):
                    reading.against.add(id)
                else:
                    reading.advice.setdefault(id, place)
        for id in {label.split("/")[1] for label in s.hits if label.startswith("harm/")}:
            if self._recommends(s, self.world.jobs[id]):
                reading.deeds.add(id)

    def _recommends(self, s: Sentence, job: Job) -> bool:
        at = _together(s, [s.all(f"harm/{job.id}/{i}") for i in range(len(job.harm))])
        return at is not None and not is_turned(s, at) and not _says(s, "refuse")

    def _read_manner(self, reading: Reading, place: int) -> None:
        """Labels of what is said without a negation, and sentences that say nothing known."""
        s = reading.sentences[place]
        reading.lies.update(label.split("/")[1] for label in s.hits if label.startswith("lie/"))
        labels = {label for label in s.hits if "/" not in label or label.startswith("courtesy/")}
        reading.labels.update(label for label in labels - {"no_negation"} if _says(s, label))
        if (s.words[0] == "no" and len(s.words) > 1 and s.words[1] in PAUSES) or s.words == ["no"]:
            reading.labels.add("disagree")
        known = labels - {"negation", "no_negation", "reported"}
        known |= {label for label in s.hits if label.startswith(("value/", "entity/", "lie/"))}
        known |= {id for id, at in reading.advice.items() if at == place} | reading.deeds
        if not known:
            reading.idle.append(s.text)


def forms(value: str) -> list[str]:
    """How a value may stand in a text: without its article, in the singular or the plural."""
    core = FRONT.sub("", value).removeprefix("Captain ")
    return [core, core[:-1]] if core.endswith("s") and len(core) > 4 else [core, f"{core}s"]


def names(name: str) -> list[str]:
    """How an entity may be named."""
    return [name, f"{name}s", f"{name}'s"]


def is_torn(s: Sentence) -> bool:
    """Whether a verb follows an article, as in "clover brindle the eats"."""
    return any(a in ("the", "a", "an") and b in VERBS for a, b in zip(s.words, s.words[1:]))


def is_reported(s: Sentence, at: int) -> bool:
    """Whether only somebody else thinks so: after "you think", up to a "but" or a pause."""
    clause = max((i for i in range(at) if s.words[i] in PAUSES or s.words[i] == "but"), default=-1)
    return any(clause < start < at for start, _ in s.all("reported"))


def _together(s: Sentence, groups: list[list[Span]]) -> int | None:
    """Where the first of these groups stands, if all stand near one another and apart."""
    if not groups or not all(groups):
        return None
    for first in groups[0]:
        if all(
            any(abs(span[0] - first[0]) <= NEAR and span != first for span in group)
            for group in groups[1:]
        ):
            return first[0]
    return None


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
        if not inside and not turned:
            return True
    return False


def content_words(text: str) -> set[str]:
    """The words of a phrase that carry its meaning."""
    return {word for word in re.findall(r"[a-z']+", text.lower()) if word not in SMALL}
