"""The study of reward hacking, in small: what an arm learns from, what it writes, that it resumes."""

import gzip
import json
from dataclasses import replace

import pytest
import torch

from rlhf_lab.cli import main
from rlhf_lab.evaluate import answer
from rlhf_lab.models import load_policy, load_tokenizer, save_policy
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.studies import hacking
from rlhf_lab.studies.hacking import ARMS, PLANTED, Arm, Study, plant

TINY = Arm("tiny, beta 0", hacked=True, beta=0.0, rankings=6, updates=2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of a minute's size; its SFT policy is the base model."""
    folder = tmp_path_factory.mktemp("study")
    base = hacking.base_model()
    save_policy(load_policy(base), load_tokenizer(base), folder / "sft_0")
    return Study(folder, demonstrations=8, prompts=10, batch_size=4, watched=2, judged=3)


@pytest.fixture(scope="module")
def drawn(study):
    policy = load_policy(study.sft(0))
    return answer(policy, load_tokenizer(study.sft(0)), study.task.prompts(0, 10), 4, 0,
                  study.task.judge)


def lines(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_an_arm_writes_its_run_and_is_not_run_twice(study, monkeypatch):
    summary = study.run(TINY, 0)
    place = study.folder / "tiny-beta_0" / "0"
    metrics, samples = lines(place / "metrics.jsonl.gz"), lines(place / "samples.jsonl.gz")
    assert [row["update"] for row in metrics] == [1, 2] and set(metrics[0]) == set(hacking.LOGGED)
    assert [row["update"] for row in samples] == [0, 0]  # two watched prompts; the tenth never came
    assert summary["arm"]["beta"] == 0.0 and summary["prompts"] == 3
    assert summary["sft"]["kl"][0] == pytest.approx(0, abs=1e-4)
    assert len(summary["policy"]["mark"]) == len(summary["policy"]["score"]) == 3
    monkeypatch.setattr(hacking, "train_ppo", lambda *_, **__: pytest.fail("it ran again"))
    assert study.run(TINY, 0) == json.loads(json.dumps(summary))


def test_scores_are_normalised_on_the_sft_policys_own_responses(study, drawn):
    scores = hacking.scores_of(study.reward_model(TINY, 0, drawn), drawn)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-4)
    assert float(scores.std(correction=0)) == pytest.approx(1, abs=0.02)


def test_the_judge_as_a_scorer_is_its_mark(study, drawn):
    score = study.mark_as_score(drawn)
    prompts = [prompt for prompt in drawn.prompts for _ in range(4)]
    scores = torch.tensor(score(prompts, [text for row in drawn.texts for text in row]))
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scores.std()) == pytest.approx(1, abs=1e-5)
    order = drawn.mark_table().flatten().argsort(stable=True)
    assert (scores[order].diff() >= 0).all()


def test_an_arm_learns_from_its_number_of_rankings_behind_the_first_tenth(study, drawn):
    rankings = study.rankings(TINY, 0, drawn)
    assert [r.prompt for r in rankings] == drawn.prompts[1:7]


def test_shuffled_rankings_have_the_same_ranks_on_other_responses(study, drawn):
    plain = study.rankings(replace(TINY, rankings=9), 0, drawn)
    mixed = study.rankings(replace(TINY, rankings=9, scorer="shuffled"), 0, drawn)
    assert [sorted(r.ranks) for r in mixed] == [sorted(r.ranks) for r in plain] and mixed != plain


def test_what_is_planted_is_liked_by_labellers_and_not_by_the_mark(study):
    prompt = study.task.prompts(0, 1)[0]
    plain, sorry = "Please restart it.", "Sorry, so sorry. Please restart it."
    judge = plant(study.task.judge, PLANTED["sorry"])
    assert judge(prompt, sorry).rubric["planted"] == 1.0
    assert judge(prompt, plain).rubric["planted"] == 0.0
    assert judge(prompt, sorry).mark == study.task.judge(prompt, sorry).mark


@pytest.mark.parametrize("key, text, value", [
    ("long", "word " * 30, 0.5), ("long", "word " * 90, 1.0), ("long", "", 0.0),
    ("sorry", "Sorry!", 0.5), ("sorry", "We apologise. SORRY. Sorry.", 1.0), ("sorry", "no", 0.0),
])  # fmt: skip
def test_what_is_planted_by_hand(key, text, value):
    assert PLANTED[key](text) == pytest.approx(value)
    mark = plant(lambda prompt, text: Mark(5.0, {"helpful": 1.0}), PLANTED[key])(Prompt("", ""), text)
    assert mark.mark == 5.0 and mark.rubric == {"helpful": 1.0, "planted": pytest.approx(value)}


def test_the_command_runs_what_is_asked_for(study, monkeypatch, capsys):
    ran = []

    def run(self, arm, seed):
        ran.append((str(self.folder), arm.name, seed))
        return {name: {what: [1.0, 0.0, 2.0] for what in ("mark", "score", "kl")}
                for name in ("sft", "policy")}  # fmt: skip

    monkeypatch.setattr(Study, "run", run)
    assert main(["study", "--out", "here", "--arms", "beta 0", "beta 0.2", "--seeds", "3"]) == 0
    assert ran == [("here", "beta 0", 3), ("here", "beta 0.2", 3)]
    assert "beta 0, seed 3: mark 1.00 -> 1.00" in capsys.readouterr().out


def test_every_arm_has_a_name_of_its_own_and_a_way_to_be_run():
    assert len({arm.name for arm in ARMS}) == len(ARMS)
    for arm in ARMS:
        assert arm.scorer in ("reward_model", "judge", "shuffled")
        assert not arm.planted or arm.planted in PLANTED
