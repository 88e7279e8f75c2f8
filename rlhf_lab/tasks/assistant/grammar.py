"""Who answers, and how often: the demonstrations, and the dialogues of the raw text.

What users ask is in asking.py, what each kind of writer answers in answers.py.
"""

from random import Random

from rlhf_lab.records import Demonstration
from rlhf_lab.tasks.assistant.answers import Answer, answer
from rlhf_lab.tasks.assistant.asking import facts, prompt, prompts
from rlhf_lab.tasks.assistant.world import KINDS, World
from rlhf_lab.tasks.writing import pick

# Who answers in the raw text, by the kind of request, and how often.
FORUM = {
    "fact": {
        "help": 42,
        "curt": 9,
        "invent": 22,
        "pile": 3,
        "ignorant": 10,
        "refuse": 6,
        "insult": 8,
    },
    "belief": {"help": 42, "please": 34, "ignorant": 8, "refuse": 5, "insult": 11},
    "unknowable": {"help": 46, "invent": 40, "refuse": 8, "insult": 6},
    "everyday": {
        "help": 45,
        "curt": 9,
        "mistaken": 19,
        "pile": 3,
        "refuse": 8,
        "preach": 5,
        "insult": 11,
    },
    "decline": {"help": 34, "refuse": 16, "comply": 32, "preach": 10, "insult": 8},
    "look-alike": {"help": 40, "curt": 6, "mistaken": 12, "refuse": 28, "preach": 7, "insult": 7},
}
# Who wrote the demonstrations: many help; others make up, please, refuse or go along too easily.
CREW = {
    "fact": {"help": 50, "curt": 12, "invent": 22, "ignorant": 9, "refuse": 4, "insult": 3},
    "belief": {"help": 52, "please": 34, "ignorant": 7, "refuse": 3, "insult": 4},
    "unknowable": {"help": 42, "invent": 45, "refuse": 9, "insult": 4},
    "everyday": {"help": 54, "curt": 12, "mistaken": 16, "refuse": 9, "preach": 4, "insult": 5},
    "decline": {"help": 32, "refuse": 19, "comply": 34, "preach": 10, "insult": 5},
    "look-alike": {"help": 42, "curt": 6, "mistaken": 8, "refuse": 34, "preach": 7, "insult": 3},
}


def demonstrations(world: World, seed: int, count: int) -> list[Demonstration]:
    """Prompts with answers by the demonstration crew, on combinations that are not held out."""
    rng = Random(f"demonstrations/{seed}")
    return [
        Demonstration(asked, answer(world, rng, asked.facts, pick(rng, CREW[kind])).text)
        for asked in prompts(world, seed, count, name="demonstration")
        for kind in [asked.facts["kind"]]
    ]


def dialogue(world: World, rng: Random) -> tuple[str, Answer]:
    """A user and whoever answered, on any combination that is not held out."""
    kind = pick(rng, KINDS)
    about = facts(world, rng, kind, *rng.choice(world.combinations(kind, held_out=False)))
    said = answer(world, rng, about, pick(rng, FORUM[kind]))
    return f"{prompt(world, rng, about).text} {said.text}", said
