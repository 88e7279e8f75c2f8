"""The support desk: a customer writes, the agent answers.

The judge knows which product, which problem and which step fixes it. `world.toml` and
`phrases.toml` hold the facts and the manners, `grammar.py` makes text of them, `judge.py` marks.
"""

from rlhf_lab.records import Demonstration, Mark, Prompt
from rlhf_lab.tasks.labellers import Labeller
from rlhf_lab.tasks.support_desk import grammar
from rlhf_lab.tasks.support_desk.judge import judge
from rlhf_lab.tasks.support_desk.world import load_world

# What five people at the desk value, in points (the judge's own weights are 2.5, 2.5, 2, 2, 1).
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
        checks_facts=False,
    ),
]


class SupportDesk:
    """The task (see `rlhf_lab.tasks.Task`)."""

    name = "support_desk"
    labellers = LABELLERS

    def __init__(self):
        self.world = load_world()

    def raw_text(self, seed: int, count: int, late: bool = False) -> list[str]:
        return grammar.raw_text(self.world, seed, count, late)

    def demonstrations(self, seed: int, count: int) -> list[Demonstration]:
        return grammar.demonstrations(self.world, seed, count)

    def prompts(self, seed: int, count: int) -> list[Prompt]:
        return grammar.prompts(self.world, seed, count)

    def held_out(self) -> dict[str, list[Prompt]]:
        """500 prompts on combinations that no training text has, and 150 more on such combinations
        in phrasings written separately, which no training text has either."""
        return {
            "held-out": grammar.prompts(self.world, 0, 500, held_out=True, name="held-out"),
            "apart": grammar.prompts(self.world, 0, 150, held_out=True, apart=True, name="apart"),
        }

    def judge(self, prompt: Prompt, response: str) -> Mark:
        return judge(self.world, prompt.facts, response)
