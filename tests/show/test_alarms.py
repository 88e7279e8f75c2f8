"""Each alarm: raised by the fault it is for, silent one step short of it, silent on a real run."""

import gzip
import json
import re
from pathlib import Path

import pytest

from rlhf_lab.disk.data import data_folder, shipped
from rlhf_lab.show.alarms import RULES, alarms

ROOT = Path(__file__).resolve().parents[2]


def run(updates=20, **changes):
    """Records of a run in which all is well, but for `changes`: {metric: f(update)}."""
    well = {
        "objective/kl": lambda u: 0.2 * (u - 1),
        "objective/kl_se": lambda u: 0.1,
        "objective/scores": lambda u: 0.1 * u + 0.01 * (u % 2),
        "objective/rlhf_reward": lambda u: 0.08 * u + 0.01 * (u % 2),
        "policy/entropy_avg": lambda u: 0.5 - 0.01 * u,
        "response/ended": lambda u: 0.99,
        "val/ratio_first": lambda u: 1.0 + 1e-6,
        "judge/mark": lambda u: 6 + 0.1 * u + 0.01 * (u % 2),
    }
    named = {name.replace("_per_", "/"): f for name, f in changes.items()}
    return [
        {"stage": "ppo", "update": u, "updates": updates}
        | {name: f(u) for name, f in (well | named).items()}
        for u in range(1, updates + 1)
    ]


def raised(*records):
    return [alarm.name for alarm in alarms(*records)]


def test_a_healthy_run_raises_none_at_any_point():
    assert all(raised(run()[:n]) == [] for n in range(21))


def test_the_shipped_run_raises_none_at_any_point():
    rows = [json.loads(line) for line in shipped("metrics.jsonl").read_text().splitlines()]
    ppo = [row for row in rows if row["stage"] == "ppo"]
    assert len(ppo) == 50
    assert all(raised(rows[:n]) == [] for n in range(len(rows) - 50, len(rows) + 1))


def test_a_real_run_that_games_its_reward_model_is_told_of_before_half_is_lost():
    """Sixty rankings and no price on the KL: the mark rises from 6.6 to 8.5 and falls to 2."""
    path = data_folder() / "hacking/60_rankings-beta_0/0/metrics.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    rows = [r | {"stage": "ppo", "objective/rlhf_reward": r["objective/scores"]} for r in rows]
    first = next(n for n in range(len(rows)) if "score-up-mark-down" in raised(rows[:n]))
    marks = [row["judge/mark"] for row in rows]
    assert min(marks[:first]) > (max(marks) + min(marks)) / 2


@pytest.mark.parametrize(
    "name, metric, fault, short_of_it",
    [
        ("ratio-not-one", "val/ratio_first", lambda u: 1.01, lambda u: 1.0005),
        (
            "kl-negative",
            "objective/kl",
            lambda u: -0.3,
            lambda u: -0.19,
        ),  # the standard error is 0.1
        ("kl-negative", "objective/kl", lambda u: -0.3, lambda u: -0.3 if u == 20 else 0.1),
        ("kl-runaway", "objective/kl", lambda u: 1.15**u, lambda u: 0.45 * u),
        ("kl-runaway", "objective/kl", lambda u: 21.0, lambda u: 19.0),
        ("responses-never-end", "response/ended", lambda u: 0.79, lambda u: 0.81),
        (
            "entropy-collapse",
            "policy/entropy_avg",
            lambda u: 0.5 if u == 1 else 0.07,
            lambda u: 0.5 if u == 1 else 0.08,
        ),
        (
            "score-up-mark-down",
            "judge/mark",
            lambda u: 6 + 0.1 * min(u, 20 - u),
            lambda u: 6 + 0.1 * min(u, 10),
        ),
        ("reward-flat", "objective/rlhf_reward", lambda u: 0.1 * (u % 2), lambda u: 0.02 * u),
    ],
)
def test_a_fault_raises_its_alarm_and_a_smaller_one_does_not(name, metric, fault, short_of_it):
    assert raised(run(**{metric.replace("/", "_per_"): fault})) == [name]
    assert raised(run(**{metric.replace("/", "_per_"): short_of_it})) == []


def test_a_falling_mark_is_no_alarm_while_the_score_falls_too():
    there_and_back = lambda u: 6 + 0.1 * min(u, 20 - u)  # noqa: E731
    both = run(judge_per_mark=there_and_back, objective_per_scores=there_and_back)
    assert "score-up-mark-down" not in raised(both)


def test_without_a_judge_and_in_other_stages_nothing_is_said_of_marks():
    records = run(judge_per_mark=lambda u: 9 - 0.1 * u)
    assert raised([{k: v for k, v in r.items() if k != "judge/mark"} for r in records]) == []
    assert raised([{"stage": "sft", "update": 1, "updates": 1, "loss/sft": 2.0}]) == []


@pytest.mark.parametrize("stage", ["rloo", "grpo"])
def test_other_policy_gradients_raise_the_same_alarms(stage):
    records = [r | {"stage": stage} for r in run(objective_per_kl=lambda u: -0.3)]
    assert raised(records) == ["kl-negative"]


def test_the_words_hold_the_figures():
    text = alarms(run(objective_per_kl=lambda u: -0.3))[0].text
    assert "-0.30 nats" in text
    text = alarms(run(judge_per_mark=lambda u: 6 + 0.1 * min(u, 20 - u)))[0].text
    # The windows of updates 8 to 12 and 16 to 20: marks 6.88 and 6.2, scores 1.0 and 1.8.
    assert "Since update 12" in text and "risen by 0.80" in text and "fell by 0.68" in text


def test_every_alarm_has_its_paragraph():
    page = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
    assert re.findall(r'<a id="(.+?)">', page) == list(RULES)
    assert re.findall(r"\]\(#(.+?)\)", page) == list(RULES)
