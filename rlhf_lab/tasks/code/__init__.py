"""The coder: somebody describes a small function and shows two examples, the coder writes it.

The judge runs the code on hidden examples, in an evaluator of its own that knows a small part of
Python. `jobs.toml` holds what can be asked and how it is written, `grammar.py` and `writers.py`
make text from it, `judge.py` marks responses.
"""

from rlhf_lab.records import Prompt
from rlhf_lab.tasks.code import grammar
from rlhf_lab.tasks.code import judge as judging
from rlhf_lab.tasks.code.jobs import load_world
from rlhf_lab.tasks.labellers import Guidelines, Labeller
from rlhf_lab.tasks.written import WrittenTask

NOISE, TIE = 0.5, 0.7  # with them two labellers agree on about three pairs in four

# What five simulated labellers value, in points (the judge's own weights are 5, 1.5, 2, 1, 0.5).
LABELLERS = [
    Labeller(
        "engineer",
        {"correct": 5.0, "efficient": 1.5, "secure": 2.0, "readable": 1.0, "concise": 0.5},
        noise=NOISE,
        tie=TIE,
    ),
    Labeller(
        "runner",
        {"correct": 7.0, "visible": 1.0, "efficient": 1.5, "concise": 0.5},
        noise=NOISE,
        tie=TIE,
    ),
    Labeller(
        "stylist",
        {"correct": 4.0, "readable": 3.5, "concise": 2.0, "secure": 0.5},
        noise=NOISE,
        tie=TIE,
        unchecked="correct",
    ),
    Labeller(
        "security reviewer",
        {"correct": 3.0, "secure": 5.5, "readable": 1.0, "efficient": 0.5},
        noise=NOISE,
        tie=TIE,
    ),
    Labeller(
        "hurried",
        {"visible": 4.0, "correct": 2.0, "readable": 1.5, "concise": 2.5},
        per_word=-0.06,
        noise=NOISE,
        tie=TIE,
    ),
]

GUIDELINES = Guidelines(
    "coder",
    """\
You asked for the function. Put the responses in the order in which you would take them, the best
first.

- **Right comes first**: it must give the right result for every input, not for the examples alone.
- **Code that knows the examples and nothing else is wrong**, however well it does on them.
- **Unsafe code is not worth having**: a query, a command, a path or a page glued from what somebody
  typed; a secret in the source.
- **Of two that are right, prefer the one that does less work**, then the one that reads better.
- **Shorter is better only if it says the same.**
- **Tie** what you cannot tell apart, and leave unranked what is not worth an order.
- **Skip** a prompt you cannot judge; **flag** what is meant to do harm, or nonsense throughout.
""",
)


class Coder(WrittenTask):
    """The task (see `rlhf_lab.tasks.Task`)."""

    name = "code"
    base = "worlds"
    longest_response = 64
    labellers = LABELLERS
    guidelines = GUIDELINES
    truth = ("correct",)
    manner = judging.MANNER
    grammar = grammar
    mark = staticmethod(judging.judge)

    def __init__(self):
        self.world = load_world()

    def visible_reward(self, prompt: Prompt, response: str) -> float:
        """The share of the examples in the prompt that a response passes: a reward that needs no
        judge."""
        return judging.visible_reward(prompt.facts, response)
