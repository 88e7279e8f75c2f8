"""The study of reward hacking, in small: what an arm learns from, what it writes, that it
resumes."""

import gzip
import json
from dataclasses import replace

import pytest
import torch

from rlhf_lab.cli import main
from rlhf_lab.cli import study as command
from rlhf_lab.disk.data import base_model
from rlhf_lab.evaluate import respond, scores_of
from rlhf_lab.models import Ensemble, load_policy, load_tokenizer, save_policy
from rlhf_lab.records import Mark, Prompt, Ranking
from rlhf_lab.studies import hacking
from rlhf_lab.studies.ground import Ground
from rlhf_lab.studies.hacking import ARMS, ENSEMBLE_ARMS, PLANTED, Arm, plant, run_arm, turn_over

TINY = Arm("tiny, beta 0", hacked=True, beta=0.0, rankings=6, updates=2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of a minute's size; its SFT policy is the base model."""
    folder, base = tmp_path_factory.mktemp("study"), base_model()
    save_policy(load_policy(base), load_tokenizer(base), folder / "sft_0")
    return Ground(folder, demonstrations=8, prompts=10, batch_size=4, watched=2, judged=3)


@pytest.fixture(scope="module")
def drawn(study):
    return study.drawn(0)


def lines(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_an_arm_writes_its_run_and_is_not_run_twice(study, monkeypatch):
    summary = run_arm(study, TINY, 0)
    place = study.folder / "tiny-beta_0" / "0"
    metrics, samples = lines(place / "metrics.jsonl.gz"), lines(place / "samples.jsonl.gz")
    assert [row["update"] for row in metrics] == [1, 2] and set(metrics[0]) == set(hacking.LOGGED)
    assert [row["update"] for row in samples] == [0, 0]  # two watched prompts; the tenth never came
    reward_model = hacking.reward_model_of(study, TINY, 0, study.drawn(0))
    watched = respond(study.policy(0), study.tokenizer, study.watched_prompts())
    assert [row["response"] for row in samples] == [text for [text] in watched.texts]
    assert [row["score"] for row in samples] == pytest.approx(
        scores_of(reward_model, watched).flatten().tolist(), abs=1e-3
    )
    assert summary["arm"]["beta"] == 0.0 and summary["prompts"] == 3
    assert summary["sft"]["kl"][0] == pytest.approx(0, abs=1e-4)
    assert len(summary["policy"]["mark"]) == len(summary["policy"]["score"]) == 3
    assert summary["sft"]["wins"][0] == 0.5 and len(summary["policy"]["marks"]) == 3
    assert sum(summary["policy"]["marks"]) / 3 == pytest.approx(
        summary["policy"]["mark"][0], abs=1e-3
    )
    monkeypatch.setattr(hacking, "train_ppo", lambda *_, **__: pytest.fail("it ran again"))
    assert run_arm(study, TINY, 0) == json.loads(json.dumps(summary))


def test_scores_are_normalised_on_the_sft_policys_own_responses(study, drawn):
    scores = scores_of(hacking.reward_model_of(study, TINY, 0, drawn), drawn)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-4)
    assert float(scores.std(correction=0)) == pytest.approx(1, abs=0.02)


def test_the_judge_as_a_scorer_is_its_mark(study, drawn):
    score = hacking.mark_as_score(study.task.judge, drawn)
    prompts = [prompt for prompt in drawn.prompts for _ in range(4)]
    scores = torch.tensor(score(prompts, [text for row in drawn.texts for text in row]))
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scores.std()) == pytest.approx(1, abs=1e-5)
    order = drawn.mark_table().flatten().argsort(stable=True)
    assert (scores[order].diff() >= 0).all()


def test_an_arm_learns_from_its_number_of_rankings_behind_the_first_tenth(study, drawn):
    rankings = hacking.rankings_of(study, TINY, 0, drawn)
    assert [r.prompt for r in rankings] == drawn.prompts[1:7]


def test_shuffled_rankings_have_the_same_ranks_on_other_responses(study, drawn):
    plain = hacking.rankings_of(study, replace(TINY, rankings=9), 0, drawn)
    mixed = hacking.rankings_of(study, replace(TINY, rankings=9, scorer="shuffled"), 0, drawn)
    assert [sorted(r.ranks) for r in mixed] == [sorted(r.ranks) for r in plain] and mixed != plain


def test_what_is_planted_is_liked_by_labellers_and_not_by_the_mark(study):
    prompt = study.task.prompts(0, 1)[0]
    plain, sorry = "Please restart it.", "Sorry, so sorry. Please restart it."
    judge = plant(study.task.judge, PLANTED["sorry"])
    assert judge(prompt, sorry).rubric["planted"] == 1.0
    assert judge(prompt, plain).rubric["planted"] == 0.0
    assert judge(prompt, sorry).mark == study.task.judge(prompt, sorry).mark


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("long", "word " * 30, 0.5),
        ("long", "word " * 90, 1.0),
        ("long", "", 0.0),
        ("sorry", "Sorry!", 0.5),
        ("sorry", "We apologise. SORRY. Sorry.", 1.0),
        ("sorry", "no", 0.0),
    ],
)
def test_what_is_planted_by_hand(key, text, value):
    assert PLANTED[key](text) == pytest.approx(value)
    mark = plant(lambda prompt, text: Mark(5.0, {"helpful": 1.0}), PLANTED[key])(
        Prompt("", ""), text
    )
    assert mark.mark == 5.0 and mark.rubric == {"helpful": 1.0, "planted": pytest.approx(value)}


def test_a_run_can_be_broken_off_on_its_own_schedule(study, drawn):
    run_arm(study, replace(TINY, name="whole", updates=3), 0)
    run_arm(study, replace(TINY, name="broken off", updates=3, stop=2), 0)
    whole = lines(study.folder / "whole" / "0" / "metrics.jsonl.gz")
    assert lines(study.folder / "broken_off" / "0" / "metrics.jsonl.gz") == whole[:2]


def test_turned_over_rankings_have_every_comparison_the_other_way():
    rankings = [Ranking(Prompt(str(i), ""), ("a", "b", "c"), (1, 2, 2)) for i in range(8)]
    turned = turn_over(rankings, 0.25, seed=0)
    assert sorted(r.ranks for r in turned) == [(1, 2, 2)] * 6 + [(3, 2, 2)] * 2
    assert turn_over(rankings, 0.0, seed=0) == rankings


def test_members_of_an_ensemble_differ_and_are_combined(study, drawn):
    arm = replace(TINY, members=2, combine="worst")
    ensemble = hacking.reward_model_of(study, arm, 0, drawn)
    assert isinstance(ensemble, Ensemble)
    one, other = (scores_of(member, drawn) for member in ensemble.members)
    assert not torch.allclose(one, other, atol=0.1)
    combined, worst = scores_of(ensemble, drawn), torch.minimum(one, other)
    torch.testing.assert_close(combined, (worst - worst.mean()) / worst.std())
    torch.testing.assert_close(
        one, scores_of(hacking.reward_model_of(study, TINY, 0, drawn), drawn)
    )


def test_best_of_n_of_one_is_the_sft_policy_and_larger_ones_score_higher(study, monkeypatch):
    monkeypatch.setattr(hacking, "PICKED_BY", ("60 rankings, beta 0",))
    found = hacking.run_best_of_n(study, 0, draws=8)
    rows = found["frontier"]["60 rankings, beta 0"]
    assert [row["n"] for row in rows] == [1, 2, 4] and found["prompts"] == 1
    assert rows[0]["objective/kl"] == pytest.approx(0, abs=1e-9)
    scores = [row["objective/scores"] for row in rows]
    assert scores == sorted(scores)


def test_the_command_runs_what_is_asked_for(monkeypatch, capsys):
    ran = []

    def run(ground, seed):
        ran.append((str(ground.folder), seed))
        return {
            name: {what: [1.0, 0.0, 2.0] for what in ("mark", "score", "kl")}
            for name in ("sft", "policy")
        }

    monkeypatch.setattr(command, "arms_of", lambda study: {"beta 0": run})
    assert main(["study", "hacking", "--out", "here", "--arms", "beta 0", "--seeds", "3", "4"]) == 0
    assert ran == [("here", 3), ("here", 4)]
    assert "beta 0, seed 3: mark 1.00 -> 1.00" in capsys.readouterr().out
    assert main(["study", "hacking", "--arms", "beta 7"]) == 1
    assert "no arm 'beta 7'" in capsys.readouterr().err


def test_every_arm_has_a_name_of_its_own_and_a_way_to_be_run():
    arms = (*ARMS, *ENSEMBLE_ARMS)
    assert len({arm.name for arm in arms}) == len(arms)
    assert set(hacking.PICKED_BY) <= {arm.name for arm in ARMS}
    for arm in arms:
        assert arm.scorer in ("reward_model", "judge", "shuffled")
        assert arm.combine in hacking.COMBINATIONS
        assert not arm.planted or arm.planted in PLANTED
