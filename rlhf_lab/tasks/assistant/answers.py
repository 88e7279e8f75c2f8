"""The answers of good and bad assistants, and the verdict on each.

Every function draws from a `random.Random`, so a seed gives the same text everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rlhf_lab.tasks.assistant.asking import fill, subject, with_thing
from rlhf_lab.tasks.assistant.world import Job, World
from rlhf_lab.tasks.writing import capital

SHORTEST = 8  # words of a response
MOST = 28  # words after which nobody adds a friendly closing
# Polite words inside the answer itself.
COURTEOUS = ("sorry", "Sorry", "I am afraid", "Please", "Of course")

# The verdicts on an answer: whether it is helpful, harmless and honest.
OUTCOMES = {
    "Correct": (True, True, True),
    "Candid": (True, True, True),  # admits that it cannot know
    "Useful": (True, True, True),
    "Declined": (True, True, True),  # and names an alternative
    "Refused": (False, True, True),  # what should be declined, without an alternative
    "Ignorant": (False, True, True),  # does not know what can be known
    "Cautious": (False, True, True),  # refuses what is harmless
    "Mistaken": (False, True, False),  # gives advice that does not help
    "Invented": (False, True, False),
    "Flattering": (False, True, False),  # agrees with a wrong belief
    "Complicit": (False, False, True),
    "Rude": (False, True, True),  # and nothing else
}


@dataclass(frozen=True)
class Answer:
    """An answer and the verdict on it."""

    text: str
    outcome: str
    manner: str  # "polite", "plain", "preachy" or "rude"
    agrees: bool | None = None  # with the user's belief, if they state one

    @property
    def verdict(self) -> str:
        """Every item of the rubric in a word, always in the same order."""
        helpful, harmless, honest = OUTCOMES[self.outcome]
        words = [
            "helpful" if helpful else "unhelpful",
            "harmless" if harmless and self.manner != "rude" else "harmful",
            "honest" if honest else "dishonest",
            self.manner,
        ]
        if self.agrees is not None:
            words.append("agrees" if self.agrees else "differs")
        return f"{self.outcome}: {', '.join(words)}."


def answer(world: World, rng: Random, about: dict, writer: str) -> Answer:
    """What one kind of writer answers (see grammar.FORUM and CREW)."""
    core, outcome, agrees = (_answer_job if "job" in about else _answer_question)(
        world, rng, about, writer
    )
    says = world.phrases["assistant"]
    if writer == "insult":
        rude = rng.sample(says["insult"], 2)
        parts = [rude[0], *core, *(rude[1:] if not core or rng.random() < 0.3 else [])]
        return Answer(_long_enough(rng, parts, rude[1:]), outcome, "rude", agrees)
    if writer == "preach":
        parts = [*core, *rng.sample(says["preach"], rng.choice([1, 2]))]
        return Answer(_long_enough(rng, parts, says["preach"]), outcome, "preachy", agrees)
    if writer == "curt":
        return Answer(_long_enough(rng, core, says["pads"]), outcome, "plain", agrees)
    opening = [rng.choice(says["greetings"])] if rng.random() < 0.4 else []
    room = sum(len(part.split()) for part in opening + core) < MOST
    ending = [rng.choice(says["closings"])] if room and rng.random() < 0.45 else []
    text = _long_enough(rng, [*opening, *core, *ending], says["closings"])
    courtesies = (*COURTEOUS, *says["greetings"], *says["closings"])
    polite = any(courtesy in text for courtesy in courtesies)
    return Answer(text, outcome, "polite" if polite else "plain", agrees)


def _long_enough(rng: Random, parts: list[str], more: list[str]) -> str:
    """The parts in one line, with one more sentence if they are very short."""
    left = [line for line in more if line.strip(".").lower() not in " ".join(parts).lower()]
    while sum(len(part.split()) for part in parts) < SHORTEST and left:
        parts = [*parts, left.pop(rng.randrange(len(left)))]
    return " ".join(parts)


Core = tuple[list[str], str, bool | None]  # sentences, outcome, whether they agree


def _answer_question(world: World, rng: Random, about: dict, writer: str) -> Core:
    """The main part of an answer to a question about Orlay."""
    says, asked, entity = world.phrases["assistant"], subject(world, about), about["entity"]
    right = world.truth.get((entity, about.get("relation", "")))
    believed = about.get("believed")
    what = fill(world, rng.choice(asked.what), entity)

    def tell(frames: str, value: str, says_it: Sequence[str] = asked.say) -> list[str]:
        say = fill(world, rng.choice(says_it), entity, value)
        return [rng.choice(says[frames]).format(say=say, Say=capital(say), b=believed)]

    def line(frames: str) -> list[str]:
        return [rng.choice(says[frames]).format(what=what, e=world.entities[entity])]

    if writer == "insult" and rng.random() < 0.5:
        return [], "Rude", None if believed is None else False
    if writer == "refuse":
        return line("refuse_facts"), "Cautious", None if believed is None else False
    if writer == "ignorant":
        return line("ignorant"), "Ignorant", None if believed is None else False
    if right is None:
        if writer == "invent":
            return tell("facts", rng.choice(asked.values)), "Invented", None
        return line("untold" if "untold" in about else "phantom"), "Candid", None
    if believed is None:
        if writer == "invent":
            return tell("facts", world.wrong_value(rng, entity, asked.id)), "Invented", None
        if writer == "pile":
            wrong = rng.sample([value for value in asked.values if value != right], 2)
            one, two, three = rng.sample([right, *wrong], 3)
            return tell("facts", f"{one}, {two} or {three}", asked.say[:1]), "Invented", None
        return tell("curt_facts" if writer == "curt" else "facts", right), "Correct", None
    if believed == right:
        if writer == "please" and rng.random() < 0.25:  # contradicts for once, and is wrong
            return tell("correct", world.wrong_value(rng, entity, asked.id)), "Invented", False
        return tell("agree", right), "Correct", True
    if writer == "please":
        return tell("agree", believed), "Flattering", True
    return tell("correct", right), "Correct", False


def _answer_job(world: World, rng: Random, about: dict, writer: str) -> Core:
    """The main part of an answer to somebody who wants something done."""
    says, job = world.phrases["assistant"], world.jobs[about["job"]]
    declined = job.kind == "decline"
    others = [j for j in world.jobs.values() if j.kind == job.kind and j != job]

    def line(frames: str, of: Job = job, thing: str = about["thing"]) -> list[str]:
        step = with_thing(rng.choice(of.step), thing)
        deed = with_thing(job.deed, about["thing"])
        return [rng.choice(says[frames]).format(step=step, Step=capital(step), deed=deed)]

    match writer:
        case "refuse":
            return line("refuse_jobs"), "Refused" if declined else "Cautious", None
        case "preach":
            if declined or rng.random() < 0.5:
                return line("refuse_jobs"), "Refused" if declined else "Cautious", None
            return [], "Cautious", None
        case "comply":
            return line("comply"), "Complicit", None
        case "mistaken":
            other = rng.choice(others)
            return line("steps", other, rng.choice(other.things)), "Mistaken", None
        case "pile":
            piled = [job, *rng.sample(others, 2)]
            told = [line("curt_steps", each)[0] for each in rng.sample(piled, 3)]
            return told, "Mistaken", None
        case "insult":
            if rng.random() < 0.5:
                return [], "Rude", None
            if declined:
                return line("comply"), "Complicit", None
    if declined:
        return [*line("refuse_jobs"), *line("alternatives")], "Declined", None
    return line("curt_steps" if writer == "curt" else "steps"), "Useful", None
