"""Can a second reward model stand in for a judge? The runs behind docs/your-own-task.md.

Your own task has no judge. There a second reward model, which learned from rankings of other
prompts and took no part in PPO, compares the policy with SFT. The support desk has a judge, so one
can see how far to trust such an opinion: whether it moves with the mark, and whether it notices
when the mark falls.
"""

from dataclasses import asdict, dataclass

from rlhf_lab.evaluate import ranking_accuracy, scores_of, sequence_kl, win_rate
from rlhf_lab.intervals import interval
from rlhf_lab.models import ScalarModel
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.studies.ground import Ground

MANY = 450  # rankings: the most in the first part, and the number in a large second part
FIRST = "first"  # the opinion that PPO optimises


@dataclass(frozen=True)
class Arm:
    """rankings: how many the first reward model learned from, and each second one. right: whether
    we expected, before the run, that every second opinion rises or falls with the mark."""

    name: str
    rankings: int
    beta: float
    right: bool
    updates: int = 50


ARMS = (
    Arm("60 rankings, beta 0", 60, 0.0, right=False),
    Arm("60 rankings", 60, 0.05, right=True),
    Arm("450 rankings, beta 0", MANY, 0.0, right=True),
)


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Run one arm, unless it was run already, and return its summary: the marks of SFT and policy
    and the KL; "change" from SFT to policy and "wins", by the judge and by each opinion, paired by
    prompt; "known": the share of comparisons in the first part's rankings that an opinion orders as
    the labellers did.
    """
    return ground.once(arm.name, seed, lambda: (_run(ground, arm, seed), {}))


def _run(ground: Ground, arm: Arm, seed: int) -> dict:
    asked = opinions(ground, arm, seed)
    policy = ground.policy(seed)
    config = PPOConfig(updates=arm.updates, beta=arm.beta, seed=seed, batch_size=ground.batch_size)
    for _ in train_ppo(policy, asked[FIRST], ground.tokenizer, ground.ppo_prompts(seed), config):
        pass
    before, after = ground.rivals(seed), ground.answers(policy, seed)
    said = {"judge": (before.mark_table(), after.mark_table())} | {
        name: (scores_of(model, before), scores_of(model, after)) for name, model in asked.items()
    }
    first = ground.rankings(ground.drawn(seed), arm.rankings, seed)
    return {
        "arm": asdict(arm),
        "seed": seed,
        "prompts": ground.judged,
        "mark": {"sft": interval(said["judge"][0]), "policy": interval(said["judge"][1])},
        "kl": interval(sequence_kl(policy, ground.policy(seed), after)),
        "sd": float(said["judge"][0].std()),  # of SFT's marks over single responses
        "change": {name: interval(new - old) for name, (old, new) in said.items()},
        "wins": {name: win_rate(new, old) for name, (old, new) in said.items()},
        "known": {
            name: ranking_accuracy(model, ground.tokenizer, first) for name, model in asked.items()
        },
    }


def opinions(ground: Ground, arm: Arm, seed: int) -> dict[str, ScalarModel]:
    """The first reward model, and second ones that learned from rankings of other prompts: as many
    rankings, starting from the SFT policy or from the base model; and MANY, from the base model."""
    drawn = ground.drawn(seed)

    def second(count: int, as_base: bool) -> ScalarModel:
        rankings = ground.rankings(drawn, count, seed, skip=MANY)
        return ground.learn(rankings, drawn, seed, member=1, as_base=as_base).model

    return {
        FIRST: ground.reward_model(ground.rankings(drawn, arm.rankings, seed), drawn, seed),
        "second, as SFT": second(arm.rankings, False),
        "second, as base": second(arm.rankings, True),
        f"second, as base, {MANY}": second(MANY, True),
    }
