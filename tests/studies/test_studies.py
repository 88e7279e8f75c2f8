"""The studies of rounds, labels and roads, in small: what an arm learns from, and what it
writes."""

import gzip
import json
from dataclasses import replace

import pytest
import torch

from rlhf_lab.cli import study as command
from rlhf_lab.disk.data import base_model
from rlhf_lab.models import load_policy, load_tokenizer, save_policy
from rlhf_lab.records import Mark
from rlhf_lab.studies import labels, roads, rounds
from rlhf_lab.studies.ground import Ground
from rlhf_lab.tasks.labellers import Labeller

ROUNDS = rounds.Arm("tiny", rankings=4, rounds=2, updates=2)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A study of a minute's size; its SFT policy is the base model, for two seeds."""
    folder = tmp_path_factory.mktemp("study")
    for seed in (0, roads.TUNING_SEEDS[0]):
        save_policy(load_policy(base_model()), load_tokenizer(base_model()), folder / f"sft_{seed}")
    return Ground(folder, demonstrations=8, prompts=20, batch_size=4, watched=2, judged=3)


def lines(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


# ---- rounds --------------------------------------------------------------------------------------


def test_rounds_go_on_from_the_policy_and_add_rankings(ground, monkeypatch):
    learned, references = [], []
    reward_model, train = Ground.reward_model, rounds.train_ppo

    def watched(self, rankings, drawn, seed, member=0):
        learned.append([r.prompt.id for r in rankings])
        return reward_model(self, rankings, drawn, seed, member)

    def training(policy, *args, **kwargs):
        references.append((policy, kwargs["reference"]))
        return train(policy, *args, **kwargs)

    monkeypatch.setattr(Ground, "reward_model", watched)
    monkeypatch.setattr(rounds, "train_ppo", training)
    summary = rounds.run_arm(ground, ROUNDS, 0)
    prompts = [p.id for p in ground.task.prompts(0, 20)]
    assert learned == [prompts[2:4], prompts[2:6]]
    assert references[0][0] is references[1][0] and references[0][1] is references[1][1]
    metrics = lines(ground.folder / "tiny" / "0" / "metrics.jsonl.gz")
    assert [(row["round"], row["update"]) for row in metrics] == [(1, 1), (2, 2)]
    assert metrics[0]["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert abs(metrics[1]["objective/kl"]) > 1e-4  # paid for from the SFT policy, in round 2 too
    assert len(summary["after"]) == 2 and summary["policy"] == summary["after"][1]
    assert set(summary["liked"]) == {one.name for one in ground.task.labellers}


def test_a_moving_reference_begins_each_round_at_zero(ground):
    rounds.run_arm(ground, replace(ROUNDS, name="moving", moving=True), 0)
    metrics = lines(ground.folder / "moving" / "0" / "metrics.jsonl.gz")
    assert [row["objective/kl"] for row in metrics] == pytest.approx([0, 0], abs=1e-4)


def test_one_labeller_alone_ranks(ground):
    policy = ground.policy(0)
    one = rounds.ranked_in(ground, replace(ROUNDS, labeller="hurried"), policy, 0, 0)
    assert [r.labeller for r in one] == ["hurried", "hurried"]
    every = rounds.ranked_in(ground, replace(ROUNDS, rounds=1, rankings=6), policy, 0, 0)
    assert [r.labeller for r in every] == [one.name for one in ground.task.labellers] + ["patient"]


def test_liked_by_hand():
    class Responses:
        def __init__(self, marks):
            self.judged = [[Mark(0.0, {"kind": m})] for m in marks]
            self.texts = [["a few words"] for _ in marks]

    labeller = Labeller("kind", {"kind": 1.0}, noise=5.0)
    rate, _, _ = rounds.liked(labeller, Responses([1, 0, 1, 0.5]), Responses([0, 1, 0, 0.5]))
    assert rate == pytest.approx(2.5 / 4)  # noise plays no part


# ---- labels --------------------------------------------------------------------------------------


def test_rankings_grow_and_are_tested_on_others(ground, monkeypatch):
    seen = []

    def train(model, tokenizer, rankings, config):
        seen.append([r.prompt.id for r in rankings])
        return []

    monkeypatch.setattr(labels, "train_reward", train)
    found = labels.run_arm(ground, labels.ARMS[0], 0, sizes=(2, 5))
    prompts = [p.id for p in ground.task.prompts(0, 20)]
    assert seen == [prompts[2:4], prompts[2:7]]
    assert [row["rankings"] for row in found["rows"]] == [2, 5]
    best = found["rows"][0]["best_of_8"]
    assert best[1] <= best[0] <= best[2]


def test_the_least_sure_are_chosen_and_none_twice(ground, monkeypatch):
    pool = ground.rankings(ground.drawn(0), 6, 0)
    doubt = {r.prompt.text: float(i) for i, r in enumerate(pool)}
    monkeypatch.setattr(labels, "uncertainty_of", lambda *_: doubt)
    assert labels.pick(ground, pool, pool[5:], 2, model="some") == [pool[4], pool[3]]
    assert labels.pick(ground, pool, pool[:1], 2, model=None) == [pool[1], pool[2]]


# ---- roads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("road", roads.ROADS)
def test_every_road_runs_and_says_what_it_spent(ground, road, monkeypatch):
    monkeypatch.setattr(roads, "UPDATES", 1)
    arm = roads.Arm(road, 0.1, {"epochs": 2})
    summary = roads.run_arm(ground, arm, 0)
    spent, rows = summary["spent"], lines(ground.folder / f"{road}_0.1" / "0" / "metrics.jsonl.gz")
    if road == "dpo":  # 18 rankings in batches of 8, twice; some may compare nothing
        assert spent["samples"] == spent["reward_seconds"] == 0 and len(rows) == spent["steps"]
        assert rows[-1]["objective/kl"] > 0 and rows[0]["loss/dpo"] == pytest.approx(
            0.693, abs=1e-3
        )
    else:
        assert (spent["samples"], spent["steps"], len(rows)) == (4, 2, 1)
        assert spent["reward_seconds"] > 0
    assert summary["sft"]["kl"][0] == pytest.approx(0, abs=1e-4)
    assert summary["arm"]["name"] == f"{road} 0.1" and spent["seconds"] > 0


def test_the_best_trial_is_the_one_with_the_highest_mean_mark(monkeypatch):
    marks = {  # the best single mark is another trial's
        0: (7.0, 7.0, 7.0),
        1: (9.0, 9.0, 8.0),
        2: (9.5, 8.0, 7.0),
        3: (1.0, 1.0, 1.0),
        4: (0.0, 0.0, 9.9),
        5: (8.5, 8.5, 8.5),
    }
    ran = []

    def run_arm(ground, arm, seed):
        ran.append((arm.road, arm.trial, seed))
        return {"policy": {"mark": [marks[arm.trial][roads.TUNING_SEEDS.index(seed)], 0, 10]}}

    monkeypatch.setattr(roads, "run_arm", run_arm)
    assert roads.best_trial(None, "grpo") == 1
    assert ran == [("grpo", i, seed) for i in range(6) for seed in roads.TUNING_SEEDS]


def test_every_road_has_as_many_trials_and_strengths():
    assert {len(trials) for trials in roads.TRIALS.values()} == {6}
    assert {len(set(map(str, trials))) for trials in roads.TRIALS.values()} == {6}
    assert {len(set(strengths)) for strengths in roads.STRENGTHS.values()} == {3}


def test_trials_are_judged_on_prompts_of_the_training_side(ground, monkeypatch):
    asked, respond = [], roads.respond
    monkeypatch.setattr(
        roads,
        "respond",
        lambda policy, tokenizer, prompts, *rest: (
            asked.extend(prompts),
            respond(policy, tokenizer, prompts, *rest),
        )[1],
    )
    seed = roads.TUNING_SEEDS[0]
    found = roads.tried(ground, ground.policy(seed), seed)
    assert found["kl"][0] == pytest.approx(0, abs=1e-4) and len(asked) == 3
    held_out = {p.text for group in ground.task.held_out().values() for p in group}
    assert not held_out & {p.text for p in asked}


def test_arms_share_what_they_have_in_common(ground, monkeypatch):
    drawn = ground.drawn(0)
    first = ground.learn(ground.rankings(drawn, 4, 0), drawn, 0)
    again = ground.learn(ground.rankings(drawn, 4, 0), drawn, 0)
    assert again.model is first.model and again.seconds == first.seconds > 0
    assert ground.learn(ground.rankings(drawn, 5, 0), drawn, 0).model is not first.model
    assert ground.learn(ground.rankings(drawn, 4, 0), drawn, 0, member=1).model is not first.model
    monkeypatch.setattr(Ground, "answers", lambda *_: pytest.fail("the SFT policy answered again"))
    assert ground.judge_sft(0, first.model)["wins"][0] == 0.5


@pytest.mark.parametrize(
    "study", ["hacking", "rounds", "labels", "roads", "constitution", "ratings"]
)
def test_a_study_names_its_arms(study):
    arms = command.arms_of(study)
    assert arms and all(callable(run) for run in arms.values())


def test_a_run_is_written_once(tmp_path):
    ground = Ground(tmp_path)
    first = ground.once("an arm, beta 0", 1, lambda: ({"mark": 1}, {"rows": [{"a": "ü"}]}))
    assert ground.once("an arm, beta 0", 1, lambda: pytest.fail("it ran again")) == first
    assert lines(tmp_path / "an_arm-beta_0" / "1" / "rows.jsonl.gz") == [{"a": "ü"}]
    assert torch.tensor(first["mark"]) == 1
