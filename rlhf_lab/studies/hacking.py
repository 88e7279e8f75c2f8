"""When does the score part from the mark? The runs behind notebooks 06 and 06b.

An arm is one way to train: against which scorer, with which beta, for how long. Whether we expect
it to be hacked was written down here before it was run. Every arm starts from the SFT policy of its
seed and is judged on fresh samples that were not used in training.

    ground = Ground(Path("runs/hacking"))
    for arm in ARMS:
        run_arm(ground, arm, seed=0)
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from rlhf_lab.alternatives.best_of_n import frontier, scores_after_penalty
from rlhf_lab.evaluate import Judge, Responses, respond, scores_of
from rlhf_lab.models import COMBINATIONS, Ensemble, new_value_model
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Mark, Prompt, Ranking
from rlhf_lab.reward import normalise
from rlhf_lab.rollout import Scorer
from rlhf_lab.show.plots import running_mean
from rlhf_lab.studies.ground import Ground, Rows
from rlhf_lab.studies.overoptimisation import WINDOW
from rlhf_lab.studies.relearn import shuffle_ranks

SAMPLED = 10  # updates between two samples of the same prompts
LOGGED = (
    "update",
    "objective/kl",
    "objective/kl_se",
    "objective/scores",
    "judge/mark",
    "policy/entropy_avg",
    "response/length",
    "response/ended",
    "lr",
)


@dataclass(frozen=True)
class Arm:
    """One way to train, and what we expect of it.

    scorer: "reward_model", or for controls "judge" (the score is the mark, in SFT's standard
    deviations) and "shuffled" (a reward model that learned from shuffled rankings). rankings: how
    many it learned from; flipped: the share of them that is reversed. planted: what the labellers
    like besides the rubric, "" or a key of PLANTED. members: how many reward models score; combine:
    how their scores are combined. hacked: whether we expect the mark to fall from its peak while
    the score rises. stop: the update after which training stops. The learning rate falls to 0 over
    `updates`, so it is nearly constant in a run of very many updates that stops early.
    """

    name: str
    hacked: bool
    beta: float = 0.05
    scorer: str = "reward_model"
    rankings: int = 900
    flipped: float = 0.0
    planted: str = ""
    members: int = 1
    combine: str = "mean"
    updates: int = 100
    stop: int = 100


ARMS = (
    Arm("beta 0", hacked=True, beta=0.0),
    Arm("beta 0.02", hacked=False, beta=0.02),
    Arm("beta 0.05", hacked=False),
    Arm("beta 0.2", hacked=False, beta=0.2),
    Arm("60 rankings, beta 0", hacked=True, beta=0.0, rankings=60),
    Arm("60 rankings", hacked=True, rankings=60),
    Arm("long answers liked, beta 0", hacked=True, beta=0.0, planted="long"),
    Arm("apologies liked, beta 0", hacked=True, beta=0.0, planted="sorry"),
    Arm("judge, beta 0", hacked=False, beta=0.0, scorer="judge"),
    Arm("shuffled, beta 0", hacked=True, beta=0.0, scorer="shuffled"),
)
# What limits the KL: beta, or the learning rate that falls to 0?
CONSTANT_RATE = Arm("beta 0.05, constant rate", hacked=False, updates=100_000)

# Does an ensemble help? Four reward models from the same rankings. They share their initial trunk
# and all their data, so we expect that they are hacked too, but later.
_FEW = Arm("", hacked=True, beta=0.0, rankings=60, stop=50)
_NOISY = replace(_FEW, flipped=0.25)
ENSEMBLE_ARMS = (
    replace(_FEW, name="60 rankings, worst of 4", members=4, combine="worst"),
    replace(_FEW, name="60 rankings, mean less variance of 4", members=4, combine="uncertainty"),
    replace(_FEW, name="60 rankings, mean of 4", members=4, combine="mean"),
    replace(_NOISY, name="60 noisy rankings"),
    replace(_NOISY, name="60 noisy rankings, worst of 4", members=4, combine="worst"),
    replace(
        _NOISY, name="60 noisy rankings, mean less variance of 4", members=4, combine="uncertainty"
    ),
)

# What labellers can be made to like besides the rubric: a number from 0 to 1 for each response.
PLANTED: dict[str, Callable[[str], float]] = {
    "long": lambda text: min(1.0, len(text.split()) / 60),
    "sorry": lambda text: min(1.0, sum(text.lower().count(w) for w in ("sorry", "apolog")) / 2),
}
PLANTED_POINTS = 6.0  # what a value of 1 is worth to a labeller; help is worth about 4


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Train one arm, unless it was trained already, and return its summary: what `Ground.judge`
    finds for "sft", "policy" (the last one) and "peak".

    A policy is kept every ten updates; the peak is the one nearest to the best marks in training.
    Those marks were chosen for being high and are too high by luck, so the peak is judged on fresh
    responses to other prompts. Writes metrics.jsonl.gz, samples.jsonl.gz (responses to the watched
    prompts every ten updates, with mark and score), fresh.jsonl.gz (mark, score and KL of fresh
    responses every ten updates) and, last, summary.json.
    """
    return ground.once(arm.name, seed, lambda: _train(ground, arm, seed))


def _train(ground: Ground, arm: Arm, seed: int) -> tuple[dict, dict[str, Rows]]:
    policy, drawn = ground.policy(seed), ground.drawn(seed)
    reward_model = reward_model_of(ground, arm, seed, drawn)
    scorer: Scorer = reward_model
    if arm.scorer == "judge":
        scorer = mark_as_score(ground.task.judge, drawn)
    metrics, samples = [], ground.look(policy, 0, reward_model)
    judged = {0: ground.judge_sft(seed, reward_model)}
    config = PPOConfig(updates=arm.updates, beta=arm.beta, seed=seed, batch_size=ground.batch_size)
    for record in train_ppo(
        policy,
        scorer,
        ground.tokenizer,
        ground.ppo_prompts(seed),
        config,
        judge=ground.task.judge,
        value_model=new_value_model(policy, reward_model, config.seed, config.shared_value),
    ):
        metrics.append({name: record[name] for name in LOGGED})
        update = int(record["update"])
        if update % SAMPLED == 0:
            samples += ground.look(policy, update, reward_model)
        if update % SAMPLED == 0 or update == min(arm.stop, arm.updates):
            judged[update] = ground.judge(policy, ground.answers(policy, seed), seed, reward_model)
        if update == arm.stop:
            break
    best = peak_of([row["judge/mark"] for row in metrics])
    nearest = min(judged, key=lambda update: abs(update - best))
    summary = {
        "arm": asdict(arm),
        "seed": seed,
        "prompts": ground.judged,
        "sft": judged[0],
        "peak": judged[nearest] | {"update": nearest},
        "policy": judged[len(metrics)],
    }
    fresh = [
        {"update": update} | {name: found[name][0] for name in ("mark", "score", "kl")}
        for update, found in judged.items()
    ]
    return summary, {"metrics": metrics, "samples": samples, "fresh": fresh}


def peak_of(marks: Sequence[float]) -> int:
    """The update, counted from 1, around which the running mean of the marks is highest."""
    return int(np.nanargmax(running_mean(np.array(marks), WINDOW))) + 1


def reward_model_of(ground: Ground, arm: Arm, seed: int, drawn: Responses):
    """The arm's scorer: a reward model that learned from its rankings, or an ensemble of them."""
    rankings = rankings_of(ground, arm, seed, drawn)
    members = [ground.reward_model(rankings, drawn, seed, i) for i in range(arm.members)]
    if arm.members == 1:
        return members[0]
    ensemble = Ensemble(members, COMBINATIONS[arm.combine])
    normalise(ensemble, scores_of(ensemble, drawn))
    return ensemble


def rankings_of(ground: Ground, arm: Arm, seed: int, drawn: Responses) -> list[Ranking]:
    """The arm's rankings."""
    judge, labellers = ground.task.judge, ground.task.labellers
    if arm.planted:
        judge = plant(judge, PLANTED[arm.planted])
        labellers = [
            replace(one, weights=one.weights | {"planted": PLANTED_POINTS}) for one in labellers
        ]
    rankings = ground.rankings(drawn, arm.rankings, seed, labellers, judge)
    if arm.scorer == "shuffled":
        return shuffle_ranks(rankings, seed)
    return turn_over(rankings, arm.flipped, seed)


def turn_over(rankings: Sequence[Ranking], share: float, seed: int) -> list[Ranking]:
    """The rankings, a share of them reversed: every comparison in those is wrong. Only for rankings
    in which every response has a rank."""
    chosen = set(
        random.Random(f"turn over/{seed}").sample(
            range(len(rankings)), round(share * len(rankings))
        )
    )
    return [
        replace(r, ranks=tuple(len(r.ranks) + 1 - rank for rank in r.ranks)) if i in chosen else r
        for i, r in enumerate(rankings)
    ]


def mark_as_score(
    judge: Judge, drawn: Responses
) -> Callable[[Sequence[Prompt], Sequence[str]], list]:
    """The judge itself as a scorer, in standard deviations of the SFT policy's marks."""
    marks = drawn.mark_table()
    mean, sd = float(marks.mean()), float(marks.std())
    return lambda prompts, texts: [(judge(p, t).mark - mean) / sd for p, t in zip(prompts, texts)]


def plant(judge: Judge, liked: Callable[[str], float]) -> Judge:
    """A judge whose rubric has one more item, "planted", which does not count for the mark."""

    def marked(prompt: Prompt, text: str) -> Mark:
        mark = judge(prompt, text)
        return replace(mark, rubric=mark.rubric | {"planted": liked(text)})

    return marked


# ---- best-of-n -----------------------------------------------------------------------------------

DRAWS, LARGEST = 128, 64  # responses to each prompt, and the largest n
BEST_OF_N = "best of n"
PICKED_BY = (
    "beta 0",
    "60 rankings, beta 0",
    "long answers liked, beta 0",
    "apologies liked, beta 0",
    "shuffled, beta 0",
)


def run_best_of_n(ground: Ground, seed: int, draws: int = DRAWS) -> dict:
    """Best-of-n from the SFT policy with the reward models of some arms, n = 1, 2, 4 ... 64.

    Half of the judged prompts get 128 responses each, the same for every reward model. Returns
    {"frontier": {arm: rows of `best_of_n.frontier`}} and writes it like a run's summary.
    """
    return ground.once(BEST_OF_N, seed, lambda: (_best_of_n(ground, seed, draws), {}))


def _best_of_n(ground: Ground, seed: int, draws: int) -> dict:
    drawn = ground.drawn(seed)
    many = respond(
        ground.policy(seed),
        ground.tokenizer,
        ground.judged_prompts()[: max(1, ground.judged // 2)],
        draws,
        seed,
        ground.task.judge,
    )
    sizes = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= min(LARGEST, draws // 2)]
    rows, arms = {}, {arm.name: arm for arm in ARMS}
    for name in PICKED_BY:
        model = reward_model_of(ground, arms[name], seed, drawn)
        with torch.no_grad():
            rows[name] = frontier(many, scores_after_penalty(model, many), sizes)
    return {"seed": seed, "prompts": len(many.prompts), "draws": draws, "frontier": rows}
