"""The storyteller: a wish for a story, and a story told in the tone that was asked for.

The judge knows the tone, the hero, the place and the object. Beyond that, taste is not truth: the
labellers are two groups of readers who want opposite things, and no judge says which is right.
`facts.toml`, `tales.toml` and `signs.toml` hold the words, `tellers.py` tells the stories,
`grammar.py` makes text of them, `judge.py` marks stories.
"""

from typing import ClassVar

from rlhf_lab.tasks.labellers import Guidelines, Labeller
from rlhf_lab.tasks.stories import grammar
from rlhf_lab.tasks.stories.judge import MANNER, judge, reader_of
from rlhf_lab.tasks.stories.reader import tone_of
from rlhf_lab.tasks.stories.world import load_world
from rlhf_lab.tasks.written import WrittenTask

# What five simulated labellers value, in points. All of them want the asked tone and a story that
# holds together; the quiet ones like it dark, slow and long, the lively ones bright, quick and
# short.
QUIET = [
    Labeller(
        "evening",
        {
            "tone": 2.7,
            "coherent": 3.0,
            "ending": 1.0,
            "fresh": 1.0,
            "dark": 1.9,
            "lively": -1.3,
            "long": 1.0,
        },
        noise=0.9,
    ),
    Labeller(
        "moor",
        {
            "tone": 2.3,
            "coherent": 3.4,
            "ending": 1.0,
            "fresh": 0.5,
            "dark": 1.3,
            "lively": -1.9,
            "long": 1.3,
        },
        noise=0.9,
    ),
]
LIVELY = [
    Labeller(
        "noon",
        {
            "tone": 2.7,
            "coherent": 3.0,
            "ending": 1.0,
            "fresh": 1.0,
            "dark": -1.3,
            "lively": 1.9,
            "long": -1.0,
        },
        noise=0.85,
    ),
    Labeller(
        "spark",
        {
            "tone": 2.3,
            "coherent": 3.3,
            "ending": 0.8,
            "fresh": 1.2,
            "dark": -1.6,
            "lively": 1.6,
            "long": -1.1,
        },
        noise=0.85,
    ),
    Labeller(
        "holiday",
        {
            "tone": 2.2,
            "coherent": 3.3,
            "ending": 1.0,
            "fresh": 1.0,
            "dark": -1.3,
            "lively": 1.9,
            "long": -0.8,
        },
        noise=0.2,
        unchecked="tone",
    ),
]

GUIDELINES = Guidelines(
    "stories",
    """\
You asked for a story. Put the responses in the order in which you would like to read them.

- **The tone you asked for comes first**, from the first sentence to the last.
- **It holds together**: the hero, the place and the object stay what they are.
- **It ends**, and says nothing that you have read a hundred times.
- **It fits its reader**: nothing grim for a child.
- **Between good stories, follow your own taste**: dark or bright, slow or quick.
- **Tie** what you cannot tell apart, and leave unranked what is not worth an order.
- **Skip** a prompt you cannot judge; **flag** what is unsafe, or nonsense throughout.
""",
)


class Storyteller(WrittenTask):
    """The task (see `rlhf_lab.tasks.Task`)."""

    name = "stories"
    base = "worlds"
    longest_response = 64
    groups: ClassVar = {"quiet": QUIET, "lively": LIVELY}  # labellers who want opposite things
    labellers = QUIET + LIVELY
    guidelines = GUIDELINES
    truth = ("tone", "coherent")
    manner = MANNER
    grammar = grammar
    mark = staticmethod(judge)

    def __init__(self):
        self.world = load_world()

    def tone_of(self, response: str) -> str:
        """The tone of a story, whatever was asked: "gentle", "eerie", "funny", "solemn", "mixed",
        or "none"."""
        return tone_of(reader_of(self.world).read(response))
