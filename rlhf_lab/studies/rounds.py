"""Does it help to rank again? The runs behind notebook 07.

A reward model has seen responses of the SFT policy. PPO moves the policy to responses of a kind
that nobody has ranked, and there the reward model guesses. In a second round the policy's new
responses are ranked, a reward model learns again from all rankings so far, and PPO continues with
the policy (Christiano et al. 2017; Stiennon et al. 2020; Bai et al. 2022). An arm in rounds is
compared with one that uses the same number of rankings and of updates all at once.

In every round the KL is measured from the SFT policy, unless the arm says otherwise; the reward
model starts from the SFT policy and its scores have mean 0 and standard deviation 1 on the SFT
policy's responses; the learning rate falls to 0 within the round.
"""

from dataclasses import asdict, dataclass

import torch

from rlhf_lab.evaluate import Responses, respond, win_rate
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Ranking
from rlhf_lab.studies.ground import Ground, Rows
from rlhf_lab.tasks.labellers import Labeller, rank_all

LOGGED = ("objective/kl", "objective/scores", "judge/mark", "response/length")


@dataclass(frozen=True)
class Arm:
    """rankings, updates: in all, divided evenly among the rounds. moving: the KL is measured from
    the policy with which the round began. labeller: the only one who ranks; "": all take turns.
    helps: for an arm in rounds, whether we expected before the run a higher mark than for the same
    at once."""

    name: str
    rankings: int
    rounds: int = 1
    updates: int = 60
    moving: bool = False
    labeller: str = ""
    helps: bool | None = None


ARMS = (
    Arm("60 at once", 60),
    Arm("3 rounds of 20", 60, rounds=3, helps=True),
    Arm("3 rounds of 20, moving reference", 60, rounds=3, moving=True, helps=True),
    Arm("900 at once", 900),
    Arm("3 rounds of 300", 900, rounds=3, helps=False),
    Arm("patient alone", 900, updates=40, labeller="patient"),
    Arm("hurried alone", 900, updates=40, labeller="hurried"),
)


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Run one arm, unless it was run already, and return its summary: "sft", "policy" and, for each
    round, "after" hold what `Ground.judge` finds with that round's reward model; "liked": how often
    each labeller, without noise, likes the policy's response better than the SFT policy's.

    Writes metrics.jsonl.gz (every update, with its round) and answers.jsonl.gz (one response to
    each of the judged prompts).
    """
    return ground.once(arm.name, seed, lambda: _train(ground, arm, seed))


def _train(ground: Ground, arm: Arm, seed: int) -> tuple[dict, dict[str, Rows]]:
    policy, sft, drawn = ground.policy(seed), ground.policy(seed), ground.drawn(seed)
    rankings: list[Ranking] = []
    metrics, stages = [], []
    for turn in range(arm.rounds):
        # 1. The present policy answers new prompts, and its responses are ranked.
        rankings += ranked_in(ground, arm, policy, turn, seed)
        # 2. A reward model learns from all the rankings so far.
        reward_model = ground.reward_model(rankings, drawn, seed)
        # 3. PPO continues against it.
        config = PPOConfig(
            updates=arm.updates // arm.rounds, batch_size=ground.batch_size, seed=seed + 100 * turn
        )
        prompts = ground.ppo_prompts(seed)
        for record in train_ppo(
            policy,
            reward_model,
            ground.tokenizer,
            prompts,
            config,
            judge=ground.task.judge,
            reference=None if arm.moving else sft,
        ):
            update = record["update"] + turn * config.updates
            metrics.append(
                {"round": turn + 1, "update": update} | {name: record[name] for name in LOGGED}
            )
        answers = ground.answers(policy, seed)
        stages.append(ground.judge(policy, answers, seed, reward_model))
    before = ground.rivals(seed)
    summary = {
        "arm": asdict(arm),
        "seed": seed,
        "prompts": ground.judged,
        "sft": ground.judge_sft(seed, reward_model),
        "policy": stages[-1],
        "after": stages,
        "liked": {one.name: liked(one, answers, before) for one in ground.task.labellers},
    }
    rows = [
        {
            "prompt": p.text,
            "sft": old[0],
            "policy": new[0],
            "mark_sft": m[0].mark,
            "mark_policy": n[0].mark,
        }
        for p, old, new, m, n in zip(
            answers.prompts, before.texts, answers.texts, before.judged, answers.judged
        )
    ]
    return summary, {"metrics": metrics, "answers": rows}


def ranked_in(ground: Ground, arm: Arm, policy, turn: int, seed: int) -> list[Ranking]:
    """The rankings of one round: prompts that no earlier round used, with four responses each."""
    count = arm.rankings // arm.rounds
    prompts = ground.task.prompts(seed, ground.prompts)[ground.ranked(count, turn * count)]
    answers = respond(policy, ground.tokenizer, prompts, 4, seed)
    labellers = [one for one in ground.task.labellers if arm.labeller in ("", one.name)]
    ended = answers.ended.tolist()
    return rank_all(prompts, answers.texts, labellers, ground.task.judge, seed, ended=ended)


def liked(labeller: Labeller, answers: Responses, rivals: Responses) -> tuple[float, float, float]:
    """How often the labeller, without noise, likes a response better than the rival's to the same
    prompt; ties count half. With its 95 % interval over prompts."""
    return win_rate(_taste(labeller, answers), _taste(labeller, rivals))


def _taste(labeller: Labeller, answers: Responses) -> torch.Tensor:
    return torch.tensor(
        [
            [labeller.taste(mark, text) for mark, text in zip(marks, texts)]
            for marks, texts in zip(answers.judged, answers.texts)
        ]
    )  # (P, S)
