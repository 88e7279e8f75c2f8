"""The study that steers a policy towards praise, in small."""

import json

import numpy as np
import pytest

from rlhf_lab.cli import study as command
from rlhf_lab.disk.data import base_model
from rlhf_lab.models import load_policy
from rlhf_lab.studies import praise
from rlhf_lab.studies.ground import Ground
from rlhf_lab.studies.results import lines
from rlhf_lab.tasks.film_reviews import draw
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence


def rated(count=240, per_sheet=6):
    rng = np.random.default_rng(5)
    firsts = ["the film", "a story", "it 's", "this movie", "an actor", "no plot"]
    return [
        Sentence(
            i,
            f"{firsts[int(rng.integers(6))]} number {i} is seen again",
            tuple(rng.integers(-4, 5, 15).tolist()),
            i // per_sheet,
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(praise, "LONGEST", 6)
    patch.setattr(praise, "ROUNDS", 1)
    patch.setattr(praise, "lexicon_scores", lambda texts: [float(len(text)) for text in texts])
    fitted = []
    fit = praise.probe.fit_head

    def fitting(features, ranked, place, *ridge):
        fitted.append({text for one in ranked for text in one.responses})
        return fit(features, ranked, place, *ridge)

    patch.setattr(praise.probe, "fit_head", fitting)
    ground = Ground(tmp_path_factory.mktemp("praise"), demonstrations=8, judged=5, watched=2)
    arm = praise.Arm("beta 0.1", 0.1, hacked=False, updates=2, batch_size=4)
    yield ground, praise.run_arm(ground, arm, 0, rated()), fitted
    patch.undo()


def test_the_reward_model_and_those_who_judge_learn_from_sides_of_their_own(run):
    _, _, fitted = run
    sides = draw.split(rated())
    train, judge = ({one.text for one in side} for side in (sides.train, sides.judge))
    assert fitted == [train, judge, judge]  # reward model, judge, words
    assert not train & judge


def test_the_last_layers_alone_are_trained(monkeypatch):
    monkeypatch.setattr(praise, "TRAINED", 1)
    policy = praise.train_top(load_policy(base_model()))
    moved = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert moved and all(name.startswith("transformer.h.3.") for name in moved)


def test_a_run_says_what_it_was_told(run):
    ground, summary, _ = run
    assert {"score", "judge", "words", "lexicon"} == set(summary["gain"])
    assert {"score", "judge", "words"} == set(summary["known"])
    for name, (gain, low, high) in summary["gain"].items():
        assert low <= gain <= high
        assert gain == pytest.approx(summary["policy"][name][0] - summary["sft"][name][0], abs=1e-3)
    # Scores are in standard deviations of the SFT policy's own lines.
    assert summary["sft"]["score"][0] == pytest.approx(0, abs=1e-3)
    assert summary["policy"]["kl"][0] >= 0 and summary["model"] == "compact"
    rows = lines(ground.folder / "beta_0.1" / "0" / "lines.jsonl.gz")
    assert len(rows) == 5 and {
        "prompt",
        "sft",
        "policy",
        "tokens",
        "score",
        "judge",
        "words",
        "lexicon",
    } == set(rows[0])
    assert np.mean([row["tokens"][1] for row in rows]) == pytest.approx(summary["policy"]["length"])
    assert len(lines(ground.folder / "beta_0.1" / "0" / "metrics.jsonl.gz")) == 2


def test_those_who_are_asked_hear_beginnings_of_the_test_side(run):
    ground, _, _ = run
    rows = lines(ground.folder / "beta_0.1" / "0" / "lines.jsonl.gz")
    heard = {p.text for p in praise.prompts_of(draw.split(rated()).test)}
    assert {row["prompt"] for row in rows} <= heard


def test_where_ending_alone_is_paid_the_score_is_not(run, monkeypatch):
    ground, summary, _ = run
    paid = []

    def watched(policy, scorer, tokenizer, prompts, config, **others):
        paid.append(scorer(prompts[:3], ["a", "b", "c"]))
        return iter(())

    monkeypatch.setattr(praise, "train_ppo", watched)
    arm = praise.Arm("ending alone", 0.0, hacked=False, praised=False)
    told = praise.run_arm(ground, arm, 0, rated())
    assert paid == [[0.0, 0.0, 0.0]] and told["sft"] == summary["sft"]  # the same lines before
    assert told["gain"]["score"][0] == pytest.approx(0, abs=1e-6)  # nobody trained it


def test_the_policy_begins_as_the_writer_and_the_model_before_is_kept(run):
    ground, summary, _ = run
    before = (ground.folder / "writer" / "model.safetensors").stat().st_mtime_ns
    assert praise.writer(ground, "not read again") == ground.folder / "writer"
    assert (ground.folder / "writer" / "model.safetensors").stat().st_mtime_ns == before
    arm = praise.Arm("beta 0.1", 0.1, hacked=False)
    assert praise.run_arm(ground, arm, 0, "not read again") == json.loads(json.dumps(summary))


def test_the_command_knows_the_arms_and_says_what_was_gained():
    assert list(command.arms_of("praise")) == [arm.name for arm in praise.ARMS]
    gain = {"score": (1.5, 1, 2), "judge": (0.5, 0, 1), "lexicon": (0.25, 0.1, 0.4)}
    said = command.line("beta 0", 1, {"gain": gain, "policy": {"kl": (9.0, 8, 10)}})
    assert said == "beta 0, seed 1: gained score 1.50, judge 0.50, lexicon 0.25 at 9.0 nats"
