"""Reading a study of many runs: peaks and falls by hand, and what the picture draws."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from rlhf_lab.errors import UserError
from rlhf_lab.studies.overoptimisation import load_metrics, overoptimisation, score_and_mark


def run(marks, arm="a", seed=0, kl=None):
    count = len(marks)
    return pd.DataFrame({
        "arm": arm, "seed": seed, "update": range(1, count + 1), "judge/mark": marks,
        "objective/kl": np.arange(count) ** 2.0 if kl is None else kl,
        "objective/scores": np.arange(count) / 10})  # fmt: skip


def test_a_fall_by_hand():
    row, = overoptimisation(run([6.0, 8.0, 10.0, 9.0, 7.0]), window=1).to_dict("records")
    assert row["start"] == 6 and row["peak"] == 10 and row["end"] == 7
    assert row["peak_update"] == 3 and row["peak_kl"] == 4 and row["end_kl"] == 16
    assert row["fell"] == pytest.approx(3 / 4)


def test_a_running_mean_keeps_one_lucky_batch_from_being_the_peak():
    marks = [5.0, 9.0, 5.0, 6.0, 6.0, 6.0]
    assert overoptimisation(run(marks), window=1)["peak"][0] == 9
    smooth = overoptimisation(run(marks), window=3).iloc[0]
    assert smooth["peak"] == pytest.approx(7) and smooth["end"] == pytest.approx(6)


def test_who_never_falls_and_who_never_wins():
    both = pd.concat([run([5.0, 6.0, 7.0]), run([5.0, 4.0, 3.0], "b")])
    up, down = overoptimisation(both, window=1).to_dict("records")
    assert up["fell"] == 0 and np.isnan(down["fell"]) and down["peak_update"] == 1


def test_every_seed_has_a_row_and_a_line():
    metrics = pd.concat([run([5.0, 6.0], arm, seed) for arm in "ab" for seed in (0, 1, 2)])
    assert len(overoptimisation(metrics, 1)) == 6
    figure = score_and_mark(metrics, ["a", "b"], window=1)
    assert len(figure.axes) == 4
    for axes in figure.axes:
        assert len(axes.lines) == 6  # a line and a dot for each of three seeds
    scores, marks = figure.axes[0].lines[0], figure.axes[2].lines[0]
    assert scores.get_xdata().tolist() == [0, 1] and scores.get_ydata().tolist() == [0, 0.1]
    assert marks.get_ydata().tolist() == [5, 6]


def test_a_kl_below_zero_is_no_distance():
    figure = score_and_mark(run([5.0, 6.0], kl=[-0.2, 4.0]), ["a"], window=1)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 2]


def test_runs_are_read_with_their_arm_and_seed(tmp_path):
    for arm, seed in (("x", 0), ("y z", 1)):
        place = tmp_path / arm.replace(" ", "_") / str(seed)
        place.mkdir(parents=True)
        lines = "".join(json.dumps({"update": u, "judge/mark": u}) + "\n" for u in (1, 2))
        (place / "metrics.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        (place / "summary.json").write_text(json.dumps({"arm": {"name": arm}, "seed": seed}))
    metrics = load_metrics(tmp_path)
    assert metrics[["arm", "seed", "update"]].values.tolist() == [
        ["x", 0, 1], ["x", 0, 2], ["y z", 1, 1], ["y z", 1, 2]]
    with pytest.raises(UserError, match="rlhf-lab study hacking --out"):
        load_metrics(tmp_path / "nothing")
