"""Notebook 14: its solutions are PPO, and its checks try steps as the package runs them."""

import copy
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch

from rlhf_lab import ppo
from rlhf_lab.course import tiny_models as tiny
from rlhf_lab.course.editions import exercises, instructor_edition
from rlhf_lab.course.exercises import check
from rlhf_lab.course.exercises.nb14_loop import METRICS, STEPS
from rlhf_lab.course.grading import only_exercises
from rlhf_lab.course.yours import side_by_side, yours
from rlhf_lab.models import ScalarModel, frozen_copy
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.training import Optimiser, make_accelerator, seed_of

NOTEBOOK = nbformat.read(
    Path(__file__).parents[2] / "notebooks/14_ppo_from_an_empty_cell.ipynb", as_version=4
)
PROMPTS = [Prompt(str(i), f"say {i}:") for i in range(12)]
RIGHT = SimpleNamespace(**{name: step for name, (_, step) in STEPS.items()})


def solutions():
    """The functions of the notebook's solutions, by name."""
    code = "\n".join(c.source for c in NOTEBOOK.cells if c.cell_type == "code")
    names = {}
    exec("\n".join(re.findall(r"^(?:import|from) .*", code, re.MULTILINE)), names)
    found = exercises(NOTEBOOK)
    for exercise in found:
        exec(exercise.solution, names)
    return {name: names[name] for name in STEPS}, found


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_the_solutions_drive_the_loop_to_the_packages_numbers(gpt2, tokenizer):
    """Every metric of three updates, and the weights at the end, with settings that are not the
    defaults."""
    said = []
    written, _ = solutions()
    steps = SimpleNamespace(**yours(said.append, **written))
    assert said == [f"{name}: yours" for name in STEPS]
    settings = {"temperature": 0.8, "gamma": 0.97, "lam": 0.9, "epochs": 3, "beta": 0.2}
    config = ppo.PPOConfig(updates=3, batch_size=5, max_new_tokens=7, seed=4, **settings)
    scorer = ScalarModel.from_policy(gpt2, 0).requires_grad_(False)
    mine, theirs = copy.deepcopy(gpt2), copy.deepcopy(gpt2)
    records = list(steps.my_ppo(mine, scorer, tokenizer, PROMPTS, config, steps))
    package = list(ppo.train_ppo(theirs, scorer, tokenizer, PROMPTS, config))
    names = [name for name in package[0] if "/" in name and name in records[0]]
    assert {"objective/kl", "objective/scores", "loss/policy_avg", "loss/value_avg"} < {*names}
    table = side_by_side(records, package, names)
    assert len(records) == 3 and table["difference"].abs().max() < 1e-4
    assert records[2]["objective/kl"] != 0
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        close(one, other)


def test_a_judge_watches_the_loop():
    def judge(prompt, text):
        return Mark(float(len(text)), {})

    config = ppo.PPOConfig(updates=1, batch_size=3, max_new_tokens=6)
    scorer = tiny.scalar_model(2).requires_grad_(False)
    given = scorer, tiny.tokenizer(), tiny.prompts(), config
    loop, _ = solutions()
    [mine] = loop["my_ppo"](tiny.policy(), *given, RIGHT, judge)
    [package] = ppo.train_ppo(tiny.policy(), *given, judge)
    assert mine["judge/mark"] == package["judge/mark"]


def test_without_solutions_the_notebook_uses_the_labs_steps_and_says_so():
    def stub(*given):
        raise NotImplementedError("your lines go here")

    said = []
    assert yours(said.append, **dict.fromkeys(STEPS, stub)) == vars(RIGHT)
    assert said == [f"{name}: the package, as yours is not written yet" for name in STEPS]


# ---- the right steps are the package's -----------------------------------------------------------


def test_the_right_rollout_is_the_packages():
    policy, tokenizer = tiny.policy(), tiny.tokenizer()
    others = tiny.policy(3), tiny.scalar_model(1), tiny.scalar_model(2)
    config = ppo.PPOConfig(temperature=0.7, max_new_tokens=6, seed=2)
    prompts = tiny.prompts()
    package = ppo.collect(policy, *others, tokenizer, prompts, config, update=3)
    seeds = [seed_of("ppo", 2, 3, row) for row in range(len(prompts))]
    rows, logprobs, ended, texts = RIGHT.draw(policy, tokenizer, prompts, seeds, config)
    assert texts == package.texts and torch.equal(ended, package.ended)
    assert torch.equal(rows.tokens, package.sequences.tokens)
    assert torch.equal(rows.mask, package.mask)
    close(logprobs, package.logprobs)
    close(RIGHT.token_logprobs(policy, rows, 0.7).detach(), package.logprobs)
    found = RIGHT.score_and_read(*others, rows, config, RIGHT)
    for mine, theirs in zip(found, (package.scores, package.ref_logprobs, package.values)):
        close(mine, theirs)


def test_the_right_loss_and_update_are_the_packages():
    config = ppo.PPOConfig(updates=4, epochs=3, temperature=1.3, learning_rate=0.01)
    models = [[tiny.policy(), tiny.scalar_model()] for _ in range(2)]
    loss, metrics = RIGHT.ppo_loss(*models[0], tiny.batch(), config, RIGHT)
    theirs, their_metrics = ppo.ppo_loss(*models[1], tiny.batch(), config)
    close(loss, theirs)
    for name, x in metrics.items():
        close(x, their_metrics[name].detach())

    mine, package = models
    adam = torch.optim.Adam([w for model in mine for w in model.parameters()], eps=1e-5)
    optimiser = Optimiser(make_accelerator(), package, 0.01, 12, eps=1e-5)
    for update in (1, 2):
        found = RIGHT.improve(*mine, tiny.batch(), adam, update, config, RIGHT)
        wanted = ppo.optimise(*package, tiny.batch(), optimiser, config, update)
        assert found == pytest.approx({name: wanted[name] for name in found}, abs=1e-4)
    for one, other in zip(mine, package):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            close(a, b)


# ---- the checks ----------------------------------------------------------------------------------


def test_a_step_that_lets_the_package_do_it_earns_nothing():
    def collected(reference, value_model, reward_model, sequences, config, steps):
        models = reference, reference, value_model, reward_model
        given = *models, tiny.tokenizer(), tiny.prompts(), config
        return (lambda whole: (whole.scores, whole.ref_logprobs, whole.values))(
            ppo.collect(*given, update=1)
        )

    def trained(policy, scorer, tokenizer, prompts, config, steps, judge=None):
        yield from ppo.train_ppo(policy, scorer, tokenizer, prompts, config)

    assert "It calls collect of the lab" in check.score_and_read(collected).text

    def mapped(*given):
        return map(dict, trained(*given))

    assert "It calls train_ppo of the lab" in check.my_ppo(trained).text
    assert "It calls train_ppo of the lab" in check.my_ppo(mapped).text


def test_a_loop_without_an_end_is_stopped():
    def endless(policy, scorer, tokenizer, prompts, config, steps, judge=None):
        while True:
            yield dict.fromkeys(METRICS, 0.0)

    assert "has shape (100,); it should be (3,)" in check.my_ppo(endless).text


def test_a_check_leaves_the_random_numbers_and_its_models_alone():
    before = torch.random.get_rng_state(), frozen_copy(tiny.policy())
    assert check.improve(solutions()[0]["improve"]).right
    assert torch.equal(torch.random.get_rng_state(), before[0])
    for a, b in zip(before[1].parameters(), tiny.policy().parameters(), strict=True):
        assert torch.equal(a, b)


def test_only_the_steps_and_their_checks_are_graded():
    graded = only_exercises(instructor_edition(NOTEBOOK))
    code = "\n".join(cell.source for cell in graded.cells)
    for name in STEPS:
        assert f"def {name}(" in code and f"check.{name}({name})" in code
    for left_out in ("load_policy(", "Dashboard(", "yours(", "train_ppo("):
        assert left_out not in code
