"""Reading the studies of rounds, labels and roads: tables by hand, and what the pictures draw."""

import gzip
import json
from dataclasses import replace

import pandas as pd
import pytest

from rlhf_lab.cli.study import STUDIES, _other_than_study, arms_of
from rlhf_lab.compare.blind.comparison import BlindComparison
from rlhf_lab.disk.data import data_folder
from rlhf_lab.errors import UserError
from rlhf_lab.studies import constitution_reading, roads_reading, rounds_reading
from rlhf_lab.studies.results import made_by, place_of


def write(folder, arm, seed, **summary):
    place = place_of(folder, arm["name"], seed)
    place.mkdir(parents=True)
    (place / "summary.json").write_text(json.dumps({"arm": arm, "seed": seed, **summary}))


def found(mark, kl=4.0, **more):
    return {"mark": [mark, mark - 1, mark + 1], "kl": [kl, 0, 9]} | more


@pytest.fixture
def rounds(tmp_path):
    for arm, seed, marks in (
        ("at once", 0, [5, 7]),
        ("at once", 1, [6, 6]),
        ("in rounds", 0, [6, 9]),
    ):
        write(
            tmp_path,
            {"name": arm},
            seed,
            sft=found(5),
            after=[found(6), found(7)],
            policy=found(7, marks=marks),
            liked={"patient": [0.5 + seed / 4, 0, 1]},
        )
    return tmp_path


def test_rounds_have_a_row_each(rounds):
    rows = rounds_reading.after_rounds(rounds)
    assert rows[["arm", "seed", "round", "mark"]].values.tolist()[:2] == [
        ["at once", 0, 1, 6],
        ["at once", 0, 2, 7],
    ]
    assert len(rows) == 6 and (rows["high"] - rows["low"] == 2).all()


def test_differences_are_paired_by_seed_and_prompt(rounds):
    (row,) = rounds_reading.differences(rounds, "at once", "in rounds").to_dict("records")
    assert row["seed"] == 0 and row["difference"] == pytest.approx(1.5)  # 6 - 5 and 9 - 7
    assert row["high"] - row["low"] == pytest.approx(2 * 12.7062 * 0.5, abs=1e-4)


def test_liking_is_a_mean_over_seeds(rounds):
    table = rounds_reading.liking(rounds, ["at once"])
    assert table.loc["at once", "patient"] == pytest.approx(0.625)


def test_answers_are_read_for_people_to_compare(rounds):
    rows = [{"prompt": f"prompt {i}", "policy": f"<b>{i}</b>"} for i in range(3)]
    path = place_of(rounds, "at once", 1) / "answers.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    answers = rounds_reading.answers_of(rounds, "at once", 1)
    assert answers.texts == [["<b>0</b>"], ["<b>1</b>"], ["<b>2</b>"]]
    blind = BlindComparison(answers, replace(answers, texts=[["x"], ["<b>1</b>"], ["y"]]), count=3)
    assert len(blind.pairs) == 2  # equal responses are passed over
    with pytest.raises(UserError, match="no run of 'at once' with seed 7"):
        rounds_reading.answers_of(rounds, "at once", 7)


def test_progress_draws_every_run_and_where_rounds_begin():
    metrics = pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "round": 1 + (arm == "b" and u > 2),
                "update": u,
                "judge/mark": u,
            }
            for arm in "ab"
            for seed in (0, 1)
            for u in (1, 2, 3)
        ]
    )
    (axes,) = rounds_reading.progress(metrics, {"60": {"a": "black", "b": "red"}}, window=1).axes
    assert len(axes.lines) == 5 and axes.lines[-1].get_xdata() == [3, 3]


def test_what_a_doubling_adds_by_hand():
    rows = pd.DataFrame(
        {
            "arm": "x",
            "seed": 0,
            "rankings": [10, 20, 40],
            "accuracy": [0.6, 0.65, 0.7],
            "mark": [6, 7, 8],
        }
    )
    assert rounds_reading.doubling(rows) == pytest.approx(0.05)
    left, right = rounds_reading.worth(rows).axes
    assert left.lines[0].get_ydata().tolist() == [0.6, 0.65, 0.7]
    assert right.lines[0].get_ydata().tolist() == [6, 7, 8]


@pytest.fixture
def roads(tmp_path):
    spent = {
        "samples": 64,
        "steps": 2,
        "seconds": 10.0,
        "reward_seconds": 5.0,
        "peak_memory_mb": 1e3,
    }
    cheap = spent | {"samples": 0, "seconds": 6.0, "reward_seconds": 0.0}
    for i, marks in enumerate(((6.0, 9.0), (8.0, 8.0))):
        trial = {
            "name": f"ppo 0.1 trial {i}",
            "road": "ppo",
            "strength": 0.1,
            "trial": i,
            "settings": {"learning_rate": 1e-4},
        }
        for seed, mark in zip((3, 4), marks):
            write(tmp_path, trial, seed, spent=spent, policy=found(mark))
    for road, cost in (("ppo", spent), ("dpo", cheap)):
        write(
            tmp_path,
            {"name": f"{road} 0.1", "road": road, "strength": 0.1, "trial": None, "settings": {}},
            0,
            spent=cost,
            sft=found(6),
            policy=found(8, wins=[0.7, 0, 1], length=20, distinct=0.9),
        )
    return tmp_path


def test_the_chosen_trial_is_the_best(roads):
    table = roads_reading.trials(roads)
    assert table["mark"].tolist() == [7.5, 8.0] and table["seeds"].tolist() == [2, 2]
    assert table["chosen"].tolist() == [False, True]
    assert table["settings"][0] == "learning_rate 0.0001"


@pytest.mark.parametrize("marks, inside", [([6, 8, 7, 9], True), ([8, 7, 6, 9], False)])
def test_a_best_rate_at_the_edge_of_the_grid_is_told(marks, inside):
    trials = pd.DataFrame({"road": "ppo", "trial": range(4), "mark": marks})
    assert roads_reading.bracketed(trials).to_dict() == {"ppo": inside}


def test_roads_are_compared_prompt_by_prompt(tmp_path):
    for road, marks in (("ppo", [9.0, 7.0, 8.0]), ("rloo", [8.0, 7.0, 7.0])):
        arm = {"name": f"{road} 0.1", "road": road, "strength": 0.1, "trial": None}
        policy = found(8, marks=marks, wins=[0.7, 0, 1], length=20, distinct=0.9)
        write(tmp_path, arm, 0, spent={}, sft=found(6), policy=policy)
    runs = roads_reading.ends(tmp_path)
    row = roads_reading.ahead(runs, ("ppo", 0.1, ""), ("rloo", 0.1, "")).loc[0]
    half = 4.302653 * (1 / 3) ** 0.5 / 3**0.5  # sd of 1, 0, 1; Student's t with two degrees
    assert row[["ahead", "low", "high"]].tolist() == pytest.approx(
        [2 / 3, 2 / 3 - half, 2 / 3 + half], abs=1e-5
    )


def test_what_is_spent_by_hand(roads):
    runs = roads_reading.ends(roads)
    assert sorted(runs["road"]) == ["dpo", "ppo"]  # trials are apart
    taken = {"reward model": (5.0, 900.0), "ppo": (10.0, 700.0), "dpo": (6.0, 800.0)}
    costs = roads_reading.spent(
        runs, {road: {"seconds": s, "peak_memory_mb": mb} for road, (s, mb) in taken.items()}
    )
    assert (
        costs.loc["DPO", "of PPO's time"] == pytest.approx(6 / 15)
        and costs.loc["PPO", "samples"] == 64
    )
    assert costs["peak memory, MB"].to_dict() == {
        "PPO": 900,
        "DPO": 800,
    }  # DPO needs no reward model
    bon = pd.DataFrame({"seed": [0, 0], "objective/kl": [0.0, 1.0], "judge/mark": [6, 7]})
    (axes,) = roads_reading.frontiers(runs, bon).axes
    assert axes.lines[-1].get_xdata().tolist() == [0, 1] and len(axes.lines) == 3


@pytest.fixture
def constitution(tmp_path):
    def told(mark, polite, broken):
        return found(
            mark,
            wins=[0.8, 0, 1],
            flaws={"invented promises": 0.1},
            length=20,
            rubric={"polite": polite},
            broken=broken,
        )

    for arm, seed, broken in (("rules", 0, 0.0), ("rules", 1, 0.2), ("labellers", 0, 0.6)):
        write(
            tmp_path,
            {"name": arm},
            seed,
            sft=told(6, 0.5, {"short": 0.4, "kind": 1.0}),
            supervised=told(7, 0.6, {}) if arm == "rules" else None,
            policy=told(8, 0.9, {"short": broken, "kind": 0.0}),
            conflicts=[{"first": "short", "second": "kind", "share": seed / 2, "wins": 1.0}],
        )
    return tmp_path


def test_arms_of_the_constitution_by_the_judge(constitution):
    rows = constitution_reading.by_the_judge(constitution).set_index(["arm", "seed"])
    assert rows.loc[("rules", 0), "supervised"] == 7 and pd.isna(
        rows.loc[("labellers", 0), "supervised"]
    )
    assert rows["polite"].tolist() == [0.9] * 3 and rows["promises"].tolist() == [0.1] * 3


def test_arms_rule_by_rule(constitution):
    table = constitution_reading.by_rule(constitution, ["labellers", "rules"])
    assert table.loc["short"].tolist() == pytest.approx([0.4, 0.6, 0.1])
    (axes,) = constitution_reading.rule_picture(
        constitution, {"SFT policy": "blue", "rules": "green"}
    ).axes
    assert len(axes.lines) == 2 + 2  # two seeds, each with its SFT policy
    assert list(axes.lines[-1].get_xdata()) == [0.2, 0.0]


def test_conflicts_are_means_over_seeds(constitution):
    (row,) = constitution_reading.conflict_table(constitution, "rules").to_dict("records")
    assert row == {"first": "short", "second": "kind", "share": 0.25, "wins": 1.0}


CARD = (data_folder() / "README.md").read_text("utf-8")


TO_COME = {"assistant", "code", "stories"}  # named, and not run yet


@pytest.mark.parametrize("study", [study for study in STUDIES if study not in TO_COME])
def test_a_shipped_study_can_be_gone_on_with_and_the_card_names_its_version(study):
    folder = data_folder() / study
    assert arms_of(study) and _other_than_study(folder) == ""
    (row,) = [line for line in CARD.splitlines() if line.startswith(f"| {study} |")]
    assert set(made_by(folder).values()) == {row.split("|")[2].strip()}


def test_a_folder_of_something_else_is_not_a_study(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert _other_than_study(tmp_path) == "holds 'notes.txt', which is not part of a study"
