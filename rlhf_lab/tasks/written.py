"""What tasks do alike whose text a grammar writes: prompts, demonstrations, raw text and held-out
prompts come from the grammar of a world of facts.

Such a task is a folder with its facts (`world.py` and TOML files), its `grammar.py` and its
`judge.py`. Its class names them, its labellers and its guidelines (see `rlhf_lab.tasks.Task`).
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from rlhf_lab.errors import UserError
from rlhf_lab.records import Demonstration, Mark, Prompt

HELD_OUT, APART = 500, 150  # prompts in the two held-out sets


class WrittenTask:
    """world: the facts. grammar: a module with PROMPT, `prompts`, `demonstrations` and `raw_text`,
    whose functions take the world first. mark: the judge's function of the world, a prompt's facts
    and a response."""

    name: str
    world: Any
    grammar: ModuleType
    mark: Callable[[Any, dict, str], Mark]

    def prompt_of(self, message: str) -> str:
        return self.grammar.PROMPT.format(message=message)

    def raw_text(self, seed: int, count: int, late: bool = False) -> list[str]:
        return self.grammar.raw_text(self.world, seed, count, late)

    def demonstrations(self, seed: int, count: int) -> list[Demonstration]:
        return self.grammar.demonstrations(self.world, seed, count)

    def prompts(self, seed: int, count: int) -> list[Prompt]:
        return self.grammar.prompts(self.world, seed, count)

    def held_out(self) -> dict[str, list[Prompt]]:
        """Prompts on combinations that no training text asks about; and, "apart", prompts on such
        combinations in phrasings written separately, which no training text has either."""
        draw, world = self.grammar.prompts, self.world
        return {
            "held-out": draw(world, 0, HELD_OUT, held_out=True, name="held-out"),
            "apart": draw(world, 0, APART, held_out=True, apart=True, name="apart"),
        }

    def judge(self, prompt: Prompt, response: str) -> Mark:
        """The mark of one response. Raises UserError for a prompt that does not carry the facts of
        this task, such as one that a person typed."""
        try:
            return self.mark(self.world, prompt.facts, response)
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"the judge of the task {self.name} cannot mark a response to "
                f"{prompt.text[:80]!r}: the prompt's facts are not those of a prompt of this task "
                f"({type(error).__name__}: {error}); take prompts that the task has drawn"
            ) from error
