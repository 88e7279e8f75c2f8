"""Rankings by a task's simulated labellers."""

from collections.abc import Sequence

from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.tasks.labellers import Judge, Labeller


def rank_all(prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], labellers: Sequence[Labeller],
             judge: Judge, seed: int = 0, noisy: bool = True) -> list[Ranking]:
    """One ranking for each prompt; the labellers take turns. texts[i] are the responses to rank."""
    return [labellers[i % len(labellers)].rank(judge, prompt, responses, seed, noisy)
            for i, (prompt, responses) in enumerate(zip(prompts, texts, strict=True))]
