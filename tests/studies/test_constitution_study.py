"""The study of written rules, in small: what each arm learns from, and what it writes."""

import gzip
import json
from dataclasses import replace

import pytest

from rlhf_lab.cli import study as command
from rlhf_lab.constitution.critique import critique
from rlhf_lab.constitution.rules import read_rules
from rlhf_lab.disk.data import base_model
from rlhf_lab.models import load_policy, load_tokenizer, save_policy
from rlhf_lab.studies import constitution
from rlhf_lab.studies.constitution import (
    ARMS,
    CURT,
    MANUAL,
    PROMISES,
    rankings_of,
    rules_of,
    run_arm,
)
from rlhf_lab.studies.ground import Ground

TINY = {arm.name: replace(arm, rankings=6, updates=2) for arm in ARMS}
EVERY = {rule.name for rule in read_rules(also=[MANUAL])} | {CURT.name}


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A study of a minute's size; its SFT policy is the base model. So few revisions teach in a few
    updates, so they are larger ones."""
    folder = tmp_path_factory.mktemp("study")
    save_policy(load_policy(base_model()), load_tokenizer(base_model()), folder / "sft_0")
    with pytest.MonkeyPatch.context() as patch:
        quick = replace(constitution.SUPERVISED, warmup=0, batch_size=2, learning_rate=2e-3)
        patch.setattr(constitution, "SUPERVISED", quick)
        yield Ground(folder, demonstrations=8, prompts=10, batch_size=4, watched=2, judged=3)


@pytest.fixture(scope="module")
def run(ground):
    return run_arm(ground, TINY["rules in conflict"], 0)


def lines(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_an_arm_by_rules_writes_its_stages_and_is_not_run_twice(ground, run, monkeypatch):
    place = ground.folder / "rules_in_conflict" / "0"
    assert [row["update"] for row in lines(place / "metrics.jsonl.gz")] == [1, 2]
    stages = [row["stage"] for row in lines(place / "samples.jsonl.gz")]
    assert stages == ["sft", "sft", "supervised", "supervised", "policy", "policy"]
    for stage in ("sft", "supervised", "policy"):
        assert set(run[stage]["broken"]) == EVERY and len(run[stage]["marks"]) == 3
        assert all(0 <= share <= 1 for share in run[stage]["broken"].values())
    assert run["sft"]["kl"][0] == pytest.approx(0, abs=1e-4)
    assert run["supervised"]["kl"][0] > 1e-3  # it learned from the revisions before PPO began
    assert run["policy"]["kl"][0] != run["supervised"]["kl"][0]
    assert [rule["name"] for rule in run["rules"]][-1] == CURT.name
    monkeypatch.setattr(constitution, "train_ppo", lambda *_, **__: pytest.fail("it ran again"))
    assert run_arm(ground, TINY["rules in conflict"], 0) == json.loads(json.dumps(run))


def test_revisions_are_of_the_ranked_prompts_and_break_less(ground, run):
    rows = lines(ground.folder / "rules_in_conflict" / "0" / "revisions.jsonl.gz")
    drawn, revised = ground.drawn(0), run["revised"]
    assert [row["prompt"] for row in rows] == [prompt.text for prompt in drawn.prompts[1:7]]
    assert [row["response"] for row in rows] == [texts[0] for texts in drawn.texts[1:7]]
    assert revised["count"] == 6 and revised["weight_after"] <= revised["weight_before"]
    rules = rules_of(TINY["rules in conflict"])
    weights = [
        critique(prompt, row["revision"], rules).weight
        for prompt, row in zip(drawn.prompts[1:7], rows)
    ]
    assert sum(weights) / 6 == pytest.approx(revised["weight_after"])


def test_the_supervised_phase_learns_from_revisions_and_ppo_goes_on_from_it(ground, monkeypatch):
    learned, ranked = [], []
    train, rank = constitution.train_sft, constitution.rank_by_rules

    def watch(policy, tokenizer, shown, config):
        learned.extend(d.response for d in shown)
        return train(policy, tokenizer, shown, config)

    def watch_rank(prompts, texts, rules, ended):
        ranked.append(texts)
        return rank(prompts, texts, rules, ended=ended)

    monkeypatch.setattr(constitution, "train_sft", watch)
    monkeypatch.setattr(constitution, "rank_by_rules", watch_rank)
    with_it = run_arm(ground, TINY["rules"], 0)
    rows = lines(ground.folder / "rules" / "0" / "revisions.jsonl.gz")
    assert learned == [row["revision"] for row in rows if row["revision"]]
    metrics = lines(ground.folder / "rules" / "0" / "metrics.jsonl.gz")
    assert metrics[0]["objective/kl"] == pytest.approx(0, abs=1e-4)  # paid from where PPO begins
    assert with_it["policy"]["kl"][0] > 1e-3  # and reported from the SFT policy
    learned.clear()
    without_it = run_arm(ground, TINY["rules, no supervised phase"], 0)
    assert learned == [] and without_it["supervised"] is None and without_it["revised"] is None
    first, second = ranked
    assert second == ground.drawn(0).texts[1:7]  # the SFT policy's
    assert first != second  # those of the policy that the revisions made of it


def test_who_ranks(ground):
    drawn = ground.drawn(0)
    by_people = rankings_of(ground, drawn, TINY["labellers"], rules_of(TINY["labellers"]), 0)
    assert by_people == ground.rankings(drawn, 6, 0)
    rules = rules_of(TINY["rules"])
    by_rules = rankings_of(ground, drawn, TINY["rules"], rules, 0)
    assert [r.prompt for r in by_rules] == [r.prompt for r in by_people] == drawn.prompts[1:7]
    assert {r.labeller for r in by_rules} == {"constitution"}
    for ranking in by_rules:
        broken = [critique(ranking.prompt, text, rules).weight for text in ranking.responses]
        assert ranking.ranks == tuple(1 + sum(w < one - 1e-6 for w in broken) for one in broken)


def test_the_labellers_arm_has_no_rules_and_is_read_by_all_of_them(ground):
    run = run_arm(ground, TINY["labellers"], 0)
    assert (run["rules"], run["conflicts"], run["revised"], run["supervised"]) == (
        [],
        [],
        None,
        None,
    )
    assert set(run["policy"]["broken"]) == EVERY


def test_the_arms_rules():
    names = {arm.name: {rule.name for rule in rules_of(arm)} for arm in ARMS}
    usual = {rule.name for rule in read_rules()}
    assert names["rules"] == usual == names["rules, no supervised phase"]
    assert names["rules without promises"] == usual - {PROMISES}
    assert names["rules with the manual"] == usual | {MANUAL}
    assert names["rules in conflict"] == usual | {CURT.name}
    assert CURT.weight > sum(rule.weight for rule in read_rules())  # heavier than all the rest
    assert len(names) == len(ARMS) and all(arm.expected for arm in ARMS)


def test_the_command_knows_the_study():
    assert set(command.arms_of("constitution")) == {arm.name for arm in ARMS}
