"""What is one more ranking worth? Reward models from more and more rankings, for notebook 07.

The prompts are picked at random, or actively: those for which the present reward model is least
sure how to order the responses. Both kinds are tested on rankings picked at random, since a test on
prompts that the model chose itself would not be fair. There is no PPO: the mark of the best of
eight responses, picked by a reward model, shows what the model is good for. All sizes are trained
with the settings that are best for few rankings (small batches), so the largest is not as good as
`rlhf-lab demo` would make it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from rlhf_lab import maths
from rlhf_lab.evaluate import Responses, respond, reward_accuracy, scores_of
from rlhf_lab.intervals import interval
from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Ranking
from rlhf_lab.reward import encode, score_groups, train_reward, uncertainty_of
from rlhf_lab.studies.ground import Ground
from rlhf_lab.studies.relearn import FEW_RANKINGS
from rlhf_lab.tasks.labellers import rank_all

SIZES = (10, 20, 40, 80, 160, 320, 640)
PICKED_FROM = 8


@dataclass(frozen=True)
class Arm:
    """active: whether the prompts are those for which the model is least sure. helps: whether we
    expected, before the run, a higher mark than with random prompts."""

    name: str
    active: bool
    helps: bool | None = None


ARMS = (Arm("at random", False), Arm("where unsure", True, helps=True))


def run_arm(ground: Ground, arm: Arm, seed: int, sizes: Sequence[int] = SIZES) -> dict:
    """Run one arm, unless it was run already, and return {"rows": one for each size}: the number of
    rankings, the accuracy on rankings picked at random, accuracy and correctness by the judge on
    held-out responses, and the mark of the best of eight with its 95 % interval."""
    return ground.once(arm.name, seed, lambda: (_learn(ground, arm, seed, sizes), {}))


def _learn(ground: Ground, arm: Arm, seed: int, sizes: Sequence[int]) -> dict:
    drawn = ground.drawn(seed)
    pool = ground.rankings(drawn, ground.prompts, seed)
    rest = slice(ground.ranked(0).start)  # the first tenth, from which nothing is picked
    test = rank_all(
        drawn.prompts[rest],
        drawn.texts[rest],
        ground.task.labellers,
        ground.task.judge,
        seed,
        ended=drawn.ended[rest].tolist(),
    )
    many = respond(
        ground.policy(seed),
        ground.tokenizer,
        ground.judged_prompts(),
        PICKED_FROM,
        seed,
        ground.task.judge,
    )
    chosen, rows, model = [], [], None
    for size in sizes:
        chosen += pick(ground, pool, chosen, size - len(chosen), model if arm.active else None)
        model = ScalarModel.from_policy(ground.policy(seed), seed)
        for _ in train_reward(model, ground.tokenizer, chosen, replace(FEW_RANKINGS, seed=seed)):
            pass
        rows.append({"rankings": size} | _tested(ground, model, test, many))
    return {"arm": asdict(arm), "seed": seed, "prompts": ground.judged, "rows": rows}


def pick(
    ground: Ground,
    pool: Sequence[Ranking],
    chosen: Sequence[Ranking],
    count: int,
    model: ScalarModel | None,
) -> list[Ranking]:
    """The next rankings of the pool: in its random order, or those the model is least sure of."""
    taken = {r.prompt.id for r in chosen}
    left = [r for r in pool if r.prompt.id not in taken]
    if model is not None:
        unsure = uncertainty_of(model, ground.tokenizer, [(r.prompt, r.responses) for r in left])
        left.sort(key=lambda r: -unsure[r.prompt.text])
    return left[:count]


@torch.no_grad()
def _tested(ground: Ground, model: ScalarModel, test: list[Ranking], many: Responses) -> dict:
    data, scores = encode(ground.tokenizer, test), scores_of(model, many)
    judged = reward_accuracy(many, scores, ground.task.truth, ground.task.manner)
    best = maths.best_of_n_value(scores, many.mark_table(), PICKED_FROM)
    return {
        "accuracy": float(maths.pair_accuracy(score_groups(model, data), data.ranks)),
        "judge_accuracy": judged["all"]["accuracy"],
        "correctness": judged["correctness"]["accuracy"],
        "best_of_8": interval(best[:, None]),
    }
