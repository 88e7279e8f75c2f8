"""A tone, kept; and whose taste? The runs behind notebook 13.

Three questions, each with the arms that answer it; every arm has three seeds.

    two groups of readers who want opposite things    quiet, lively, both alike, one quiet in five
    is the tone that is asked for the tone that is given?    every arm: a table of tones
    what becomes of diversity as the score rises             several values of beta

All arms start from the SFT policy of their seed and from the same four stories to each prompt; only
who ranked them, or beta, differs. The SFT policy is also sampled at lower temperatures: is that the
same as what PPO does? All arms were named before any of them was run.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from transformers import PreTrainedModel

from rlhf_lab.compare.diversity import diversity
from rlhf_lab.evaluate import Responses, respond
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.studies.ground import Ground, Rows
from rlhf_lab.studies.rounds import liked
from rlhf_lab.tasks.labellers import Labeller

RANKINGS = 900
MANY, PROMPTS = 8, 60  # stories to each of so many prompts, to measure how different they are
TEMPERATURES = (0.5, 0.7, 1.0)


@dataclass(frozen=True)
class Arm:
    """turns: the groups whose readers rank, one after another; (): the task's labellers in turn."""

    name: str
    turns: tuple[str, ...] = ()
    beta: float = 0.05


ARMS = (
    Arm("default"),
    Arm("quiet", ("quiet",)),
    Arm("lively", ("lively",)),
    Arm("both alike", ("quiet", "lively")),
    Arm("one quiet in five", ("lively", "lively", "quiet", "lively", "lively")),
    Arm("beta 0.2", beta=0.2),
    Arm("beta 0.0125", beta=0.0125),
    Arm("beta 0", beta=0.0),
)


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Run one arm, unless it was run already, and return its summary.

    "sft" and "policy" are what `Ground.judge` finds, each with "tones" (see `tones`) and
    "diversity". "liked": how often each labeller, without noise, likes the policy's story better
    than SFT's. "by_temperature": mark and diversity of the SFT policy at each temperature. Writes
    metrics.jsonl.gz and answers.jsonl.gz.
    """
    return ground.once(arm.name, seed, lambda: _run(ground, arm, seed))


def _run(ground: Ground, arm: Arm, seed: int) -> tuple[dict, dict[str, Rows]]:
    drawn, sft, task = ground.drawn(seed), ground.policy(seed), ground.task
    rankings = ground.rankings(drawn, RANKINGS, seed, readers(task.groups, arm.turns))
    score = ground.reward_model(rankings, drawn, seed)
    policy, metrics = ground.optimise(score, seed, arm.beta)
    answers, before = ground.answers(policy, seed), ground.rivals(seed)
    summary = {
        "arm": asdict(arm),
        "seed": seed,
        "sft": ground.judge_sft(seed, score) | {"tones": tones(ground, before)},
        "policy": ground.judge(policy, answers, seed, score)
        | {"tones": tones(ground, answers), "diversity": variety(ground, policy, seed)},
        "liked": {one.name: liked(one, answers, before) for one in task.labellers},
        "by_temperature": {f"{t:g}": variety(ground, sft, seed, t) for t in TEMPERATURES},
    }
    rows = [
        {"prompt": p.text, "sft": old[0], "policy": new[0]}
        for p, old, new in zip(answers.prompts, before.texts, answers.texts)
    ]
    return summary, {"metrics": metrics, "answers": rows}


def readers(groups: dict[str, list[Labeller]], turns: Sequence[str]) -> list[Labeller] | None:
    """The labellers in the order in which they take turns: the next of the named group each time,
    until everybody has ranked equally often within their group. None: the task's own order."""
    if not turns:
        return None
    rounds = len(groups["quiet"]) * len(groups["lively"])
    given: Counter[str] = Counter()
    order = []
    for group in [*turns] * rounds:
        order.append(groups[group][given[group] % len(groups[group])])
        given[group] += 1
    return order


def tones(ground: Ground, answers: Responses) -> dict[str, dict[str, int]]:
    """How many stories were told in each tone, for each tone that was asked for."""
    found: dict[str, Counter[str]] = {}
    for prompt, row in zip(answers.prompts, answers.texts):
        counts = found.setdefault(prompt.facts["tone"], Counter())
        counts.update(ground.task.tone_of(text) for text in row)
    return {asked: dict(sorted(counts.items())) for asked, counts in sorted(found.items())}


def variety(
    ground: Ground, policy: PreTrainedModel, seed: int, temperature: float = 1.0
) -> dict[str, float]:
    """Mark and diversity of MANY stories to each of PROMPTS held-out prompts."""
    prompts = ground.judged_prompts()[:PROMPTS]
    config = SamplingConfig(ground.task.longest_response, temperature)
    many = respond(policy, ground.tokenizer, prompts, MANY, seed, ground.task.judge, config)
    return {"mark": float(many.mark_table().mean())} | diversity(many.texts)
