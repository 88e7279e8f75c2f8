"""A learner's functions drive the stages to the package's numbers, and a planted bug is caught."""

import copy

import answers_00_to_03
import answers_04
import answers_05_to_10
import pytest
import torch
from helpers import refusal

from rlhf_lab import maths
from rlhf_lab.alternatives.dpo import DPOConfig, train_dpo
from rlhf_lab.alternatives.rloo import RLOOConfig, train_rloo
from rlhf_lab.course.exercises.examine import judge
from rlhf_lab.course.yours import BUGS, FORMULAS, planted, side_by_side, yours
from rlhf_lab.models import ScalarModel
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig, train_reward
from rlhf_lab.sft import SFTConfig, train_sft

WRITTEN = {
    name: functions[0]
    for file in (answers_00_to_03, answers_04, answers_05_to_10)
    for name, functions in file.RIGHT.items()
    if name in FORMULAS
}
PPO = ("kl_rewards", "gae", "whiten", "clipped_policy_loss", "clipped_value_loss")
PROMPTS = [Prompt(str(i), f"say {i}:") for i in range(12)]
RANKED = [Ranking(p, (" yes, it is", " no", " a b c", " d"), (1, 2, 2, 4), "ann") for p in PROMPTS]
SHOWN = [Demonstration(p, f" it is {p.id}.") for p in PROMPTS]


def sft(policy, tokenizer, **formulas):
    return train_sft(policy, tokenizer, SHOWN, SFTConfig(1, 4), **formulas)


def reward(policy, tokenizer, **formulas):
    model = ScalarModel.from_policy(policy, 0)
    return train_reward(model, tokenizer, RANKED, RewardConfig(1, 4), **formulas)


def ppo(policy, tokenizer, **formulas):
    model = ScalarModel.from_policy(policy, 0).requires_grad_(False)
    config = PPOConfig(updates=3, batch_size=4, max_new_tokens=8)
    return train_ppo(policy, model, tokenizer, PROMPTS, config, **formulas)


def rloo(policy, tokenizer, **formulas):
    model = ScalarModel.from_policy(policy, 0).requires_grad_(False)
    config = RLOOConfig(updates=3, batch_size=8, max_new_tokens=8)
    return train_rloo(policy, model, tokenizer, PROMPTS, config, **formulas)


def dpo(policy, tokenizer, **formulas):
    return train_dpo(policy, tokenizer, RANKED, DPOConfig(1, 4), **formulas)


STAGES = {
    "sft": (sft, ("label_mask",), "loss/sft"),
    "reward, pairs": (reward, ("pair_loss",), "loss/reward"),
    "reward, groups": (reward, ("kwise_loss",), "loss/reward"),
    "ppo": (ppo, PPO, "loss/policy_avg"),
    "rloo": (rloo, ("rloo_advantages",), "objective/scores"),
    "dpo": (dpo, ("dpo_loss",), "loss/dpo"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_learners_functions_drive_the_stage_to_the_packages_numbers(gpt2, tokenizer, stage):
    """Not a few metrics alone: the weights at the end are the same."""
    train, names, metric = STAGES[stage]
    said = []
    formulas = yours(said.append, **{name: WRITTEN[name] for name in names})
    assert said == [f"{name}: yours" for name in names]
    runs = []
    for some in (formulas, {}):
        policy = copy.deepcopy(gpt2)
        runs.append((list(train(policy, tokenizer, **some)), policy))
    (mine, one), (package, other) = runs
    table = side_by_side(mine, package, [metric])
    assert len(table) == len(mine) >= 3
    assert table["difference"].abs().max() < 1e-4
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_the_package_stands_in_for_what_is_not_written_wrong_or_borrowed():
    def gae(rewards, values, mask, gamma, lam):
        raise NotImplementedError("your lines go here")

    said = []
    wrong, _ = answers_04.WRONG["whiten"][0]
    chosen = yours(said.append, gae=gae, whiten=wrong, kl_rewards=lambda *x: maths.kl_rewards(*x))
    assert chosen == {name: getattr(maths, name) for name in ("gae", "whiten", "kl_rewards")}
    assert said == [
        "gae: the package, as yours is not written yet",
        "whiten: the package, as yours does not pass its check yet",
        "kl_rewards: the package, as yours does not pass its check yet",
    ]
    assert "no stage takes 'agreement'" in refusal(yours, agreement=gae)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_trains_and_its_check_names_it(gpt2, tokenizer, bug):
    [(name, function)] = planted(bug).items()
    sentence = BUGS[bug][1]
    exercise, package = FORMULAS[name]
    assert exercise.name == name and package is getattr(maths, name)
    assert sentence in judge(exercise, function).text
    records = list(ppo(copy.deepcopy(gpt2), tokenizer, **planted(bug)))
    assert len(records) == 3


def test_an_unknown_bug_is_refused_with_those_there_are():
    message = refusal(planted, "a typing mistake")
    assert "no bug 'a typing mistake'" in message and "'beta is missing'" in message
