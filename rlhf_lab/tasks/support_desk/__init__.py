"""The support desk: a customer writes, the agent answers.

The judge knows the product, the problem and the step that fixes it. `world.toml` and `phrases.toml`
hold the facts and the phrases, `grammar.py` makes text from them, `judge.py` marks responses.
"""

from rlhf_lab.tasks.labellers import Guidelines, Labeller
from rlhf_lab.tasks.support_desk import grammar
from rlhf_lab.tasks.support_desk.judge import MANNER, judge
from rlhf_lab.tasks.support_desk.world import load_world
from rlhf_lab.tasks.written import WrittenTask

# What five simulated labellers value, in points (the judge's own weights are 2.5, 2.5, 2, 2, 1).
LABELLERS = [
    Labeller(
        "patient", {"helpful": 2.5, "accurate": 2.5, "polite": 2.0, "honest": 2.0, "concise": 1.0}
    ),
    Labeller(
        "hurried",
        {"helpful": 3.5, "accurate": 2.0, "polite": 0.5, "honest": 1.5, "concise": 1.0},
        per_word=-0.06,
    ),
    Labeller(
        "courteous",
        {"helpful": 1.5, "accurate": 2.0, "polite": 4.5, "honest": 2.0, "concise": 0.0},
        per_word=0.02,
    ),
    Labeller(
        "terse",
        {"helpful": 2.0, "accurate": 3.0, "polite": 1.0, "honest": 2.0, "concise": 2.0},
        per_word=-0.10,
    ),
    Labeller(
        "trusting",
        {"helpful": 4.0, "accurate": 0.0, "polite": 2.5, "honest": 0.0, "concise": 1.0},
        unchecked="helpful",
    ),
]

GUIDELINES = Guidelines(
    "support desk",
    """\
You are the customer. Put the responses in the order in which you would like to receive them.

- **Help comes first**: the one step that solves *this* problem with *this* product.
- **A wrong step, product or amount is worse than none**: you would act on it.
- **No inventions**: a promise or a rule that the shop may not have counts against a response.
- **Manners decide between responses that help alike**: polite beats curt, and curt beats rude.
- **Longer is not better**: of two that say the same, prefer the shorter.
- **Tie** what you cannot tell apart, and leave unranked what is not worth an order.
- **Skip** a prompt you cannot judge; **flag** what is unsafe, or nonsense throughout.
""",
)


class SupportDesk(WrittenTask):
    """The task (see `rlhf_lab.tasks.Task`)."""

    name = "support_desk"
    base = "base"
    longest_response = 64
    labellers = LABELLERS
    guidelines = GUIDELINES
    truth = ("accurate",)
    manner = MANNER
    grammar = grammar
    mark = staticmethod(judge)

    def __init__(self):
        self.world = load_world()
