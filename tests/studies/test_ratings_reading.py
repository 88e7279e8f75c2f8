"""Reading the studies of ratings and of praise, from summaries made by hand."""

import gzip
import json

import pytest

from rlhf_lab.errors import UserError
from rlhf_lab.studies import praise_reading, ratings_reading
from rlhf_lab.studies.results import place_of


def put(folder, name, seed, summary, **tables):
    place = place_of(folder, name, seed)
    place.mkdir(parents=True)
    (place / "summary.json").write_text(json.dumps(summary))
    for table, rows in tables.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (place / f"{table}.jsonl.gz").write_bytes(gzip.compress(text.encode()))


def learned(name, sentences, ratings, way, seed=0, parameters=3_700_000, **arm):
    arm = {"name": name, "sentences": sentences, "ratings": ratings, "read": True} | arm
    return {
        "arm": arm,
        "seed": seed,
        "model": "m",
        "parameters": parameters,
        "correlation": 0.5,
        "accuracy": [0.5 + way / 3, 0, 1],
        "way": [way, way - 0.1, way + 0.1],
        "ceiling": [0.8, 0, 1],
        "alike": {
            "way": [way / 2, 0, 1],
            "accuracy": [0.5 + way / 10, 0, 1],
            "ceiling": [0.7, 0, 1],
        },
    }


@pytest.fixture
def folder(tmp_path):
    put(tmp_path, "6000 x 1", 0, learned("6000 x 1", 6000, 1, 0.2))
    put(tmp_path, "6000 x 1", 1, learned("6000 x 1", 6000, 1, 0.4, seed=1))
    put(tmp_path, "6000 x 1, unread", 0, learned("6000 x 1, unread", 6000, 1, 0.1, read=False))
    put(
        tmp_path,
        "375 x 15, words",
        0,
        learned("375 x 15, words", 375, 15, 0.3, parameters=900, words=True),
    )
    put(
        tmp_path,
        "head",
        0,
        learned("head", 1500, 4, 0.7, parameters=134_515_584, read=False, head_alone=True),
    )
    opinions = {
        name: {
            "way": [way, way - 0.1, way + 0.1],
            "accuracy": [0.7, 0.6, 0.8],
            "ceiling": [0.8, 0, 1],
            "alike": {"way": [0.5, 0.4, 0.6], "accuracy": [0.6, 0, 1], "ceiling": [0.7, 0, 1]},
        }
        for name, way in (("1 rating", 0.8), ("VADER's lexicon", 0.4))
    }
    put(tmp_path, "people", 0, {"sentences": 9, "opinions": opinions})
    return tmp_path


def test_each_run_is_told_by_what_learned(folder):
    found = ratings_reading.ways(folder).set_index(["learner", "read", "seed"])
    assert found.loc[("3.7M, whole", True, 1), "way"] == 0.4
    assert found.loc[("words alone", True, 0), "paid"] == 5625
    assert found.loc[("135M, head alone", False, 0), ["way", "alike"]].tolist() == [0.7, 0.35]
    assert len(found) == 5
    assert set(found.index.get_level_values(0)) <= set(ratings_reading.LEARNERS)


def test_a_table_has_the_means_over_seeds_and_no_control(folder):
    found = ratings_reading.ways(folder)
    assert ratings_reading.table(found, "3.7M, whole").loc[6000, 1] == pytest.approx(0.3)
    assert ratings_reading.table(found, "135M, head alone").loc[1500, 4] == 0.7


def test_the_picture_has_every_seed_and_no_unread_control(folder):
    asked = ratings_reading.people(folder)
    assert asked.loc["1 rating", "way"] == 0.8 and asked.loc["VADER's lexicon", "alike"] == 0.5
    picture = ratings_reading.towards_the_ceiling(ratings_reading.ways(folder), asked)
    left, right = picture.axes
    dots = [line for line in left.lines if line.get_linestyle() == "None"]
    assert [sorted(line.get_ydata()) for line in dots] == [[0.2, 0.4]]
    shown = {text.get_text() for text in right.get_legend().get_texts()}
    assert shown == {"3.7M, whole", "words alone", "135M, head alone"}


def test_what_is_not_alike_is_between_praise_and_blame(folder, monkeypatch):
    monkeypatch.setattr(ratings_reading, "ALIKE", 0.5)
    # Of ten comparisons five are alike; 7 right in all, 3 of them alike: 4 of the other five.
    asked = {"accuracy": [0.7], "ceiling": [0.8], "alike": {"accuracy": [0.6], "ceiling": [0.7]}}
    assert ratings_reading.apart(asked) == pytest.approx(0.3 / 0.4)
    table = ratings_reading.kinds(ratings_reading.ways(folder), ratings_reading.people(folder))
    assert list(table.index) == ["3.7M, whole", "another person"]
    assert table.loc["another person"].tolist() == pytest.approx([0.8, 0.75, 0.5])
    assert table.loc["3.7M, whole", "all"] == pytest.approx(0.3)


def test_nobody_asked_is_said(tmp_path):
    with pytest.raises(UserError, match="--arms people"):
        ratings_reading.people(tmp_path)


def steered(seed, gain, kl):
    return {
        "arm": {"name": "beta 0", "hacked": True},
        "seed": seed,
        "gain": {
            "score": [gain, gain - 1, gain + 1],
            "judge": [0.5, 0, 1],
            "lexicon": [0.1, 0, 0.2],
        },
        "policy": {"kl": [kl, 0, 99], "length": 12.0, "ended": 1.0, "distinct": 0.9},
    }


def test_gains_and_lines(tmp_path):
    rows = [
        {
            "prompt": "the film",
            "sft": "is long",
            "policy": "is superb",
            "score": [0, 2],
            "judge": [-0.5, 1.5],
            "lexicon": [0, 0.6],
        }
    ]
    put(tmp_path, "beta 0", 0, steered(0, 2.0, 5.0), lines=rows)
    put(tmp_path, "beta 0", 1, steered(1, 3.0, 7.0), lines=rows)
    found = praise_reading.gains(tmp_path)
    mine = found[(found["seed"] == 1) & (found["who"] == "score")].iloc[0]
    assert (mine["gain"], mine["low"], mine["high"], mine["kl"]) == (3.0, 2.0, 4.0, 7.0)
    [line] = praise_reading.lines(tmp_path, "beta 0", 1).to_dict("records")
    assert line["policy"] == "is superb" and line["judge of PPO's"] == 1.5
    [axes] = praise_reading.who_agrees(found).axes
    assert "5.0 to 7.0 nats" in axes.get_title(loc="left")


def test_what_brevity_alone_brings_is_taken_off(tmp_path):
    def line(prompt, tokens, said):
        return {
            "prompt": prompt,
            "sft": "a",
            "policy": "b",
            "tokens": tokens,
            **dict.fromkeys(("score", "judge", "words", "lexicon"), said),
        }

    # SFT's short lines are at 1 and its long ones at -1; PPO's are all short, at 1 and at 1.5. One,
    # of middle length, has none of SFT's beside it.
    rows = [
        row
        for i in range(5)
        for row in (
            line(f"p{i}", [3, 2], [1.0, 1.0]),
            line(f"q{i}", [20, 4], [-1.0, 1.5]),
            line(f"r{i}", [30, 10], [-1.0, 9.0]),
        )
    ]
    put(tmp_path, "beta 0", 0, steered(0, 2.0, 5.0), lines=rows)
    found = praise_reading.at_equal_length(tmp_path, draws=50).set_index("who")
    assert list(found.index) == ["score", "judge", "words", "lexicon"]
    row = found.loc["judge"]
    assert row["gain"] == pytest.approx((0 + 2.5 + 10) / 3)
    assert row["left"] == pytest.approx(0.25) and row["low"] <= 0.25 <= row["high"]
    assert row["held"] == pytest.approx(2 / 3)
