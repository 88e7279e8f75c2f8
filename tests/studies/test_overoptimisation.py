"""Reading a study of many runs: peaks and falls by hand, and what the picture draws."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
import torch

from rlhf_lab.errors import UserError
from rlhf_lab.maths import overoptimisation_bon, overoptimisation_rl
from rlhf_lab.studies.overoptimisation import (
    at_distance,
    beside_best_of_n,
    falls,
    fit,
    load_best_of_n,
    load_fresh,
    load_metrics,
    load_samples,
    load_summaries,
    overoptimisation,
)
from rlhf_lab.studies.overoptimisation_plots import (
    UPDATE,
    best_of_n,
    fitted,
    kl_over_updates,
    marks,
    score_and_mark,
)


def run(marks, arm="a", seed=0, kl=None):
    count = len(marks)
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": seed,
            "update": range(1, count + 1),
            "judge/mark": marks,
            "objective/kl": np.arange(count) ** 2.0 if kl is None else kl,
            "objective/scores": np.arange(count) / 10,
        }
    )


def test_a_fall_by_hand():
    (row,) = overoptimisation(run([6.0, 8.0, 10.0, 9.0, 7.0]), window=1).to_dict("records")
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
        assert len(axes.lines) == 3  # one for each of three seeds
    scores, marks = figure.axes[0].lines[0], figure.axes[2].lines[0]
    assert scores.get_xdata().tolist() == [0, 1] and scores.get_ydata().tolist() == [0, 0.1]
    assert marks.get_ydata().tolist() == [5, 6]


def test_a_kl_below_zero_is_no_distance():
    figure = score_and_mark(run([5.0, 6.0], kl=[-0.2, 4.0]), ["a"], window=1)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 2]


def test_marks_are_compared_where_each_run_first_comes_as_far():
    far = run([5.0, 6.0, 8.0, 7.0, 9.0], kl=[0, 1, 9, 4, 16])  # distances 0, 1, 3, 2, 4
    near = run([5.0, 6.0], "b", kl=[0, 1])
    rows = at_distance(pd.concat([far, near]), (0.0, 2.0, 4.0), window=1).to_dict("records")
    assert rows[0][2.0] == pytest.approx(7.0)  # halfway from 6 to 8, not the 7 of the way back
    assert rows[0][4.0] == 9 and np.isnan(rows[0][0.0]) and np.isnan(rows[1][2.0])


@pytest.mark.parametrize(
    "form, curve", [("rl", overoptimisation_rl), ("bon", overoptimisation_bon)]
)
def test_a_fit_finds_the_curve_it_was_drawn_from(form, curve):
    d = torch.linspace(0.1, 6, 40, dtype=torch.float64)
    found = fit(d.numpy(), curve(d, 1.2, 0.3).numpy(), form)
    assert (found.gain, found.penalty, found.explained) == pytest.approx((1.2, 0.3, 1.0))
    np.testing.assert_allclose(found(d.numpy()), curve(d, 1.2, 0.3).numpy(), atol=1e-9)


def test_a_fit_leaves_out_what_is_near_the_start_and_says_how_bad_it_is():
    d = np.array([0.5, 1.0, 2.0, 3.0, 4.0])
    gained = overoptimisation_rl(torch.tensor(d), 1.2, 0.3).numpy()
    gained[0] += 100
    assert fit(d, gained, "rl").gain == pytest.approx(1.2)
    assert fit(d, np.array([0.0, 1, -1, 1, -1]), "rl").explained < 0.5
    with pytest.raises(UserError, match="2 points"):
        fit(d[:3], gained[:3], "rl")


def test_pictures_have_a_line_for_every_run():
    metrics = pd.concat([run([5.0, 6.0, 7.0, 5.0], arm, seed) for arm in "ab" for seed in (0, 1)])
    (axes,) = marks(metrics, {"a": "black", "b": "red"}, window=1).axes
    assert len(axes.lines) == 4 and [t.get_text() for t in axes.get_legend().texts] == ["a", "b"]
    signs = {line.get_color(): line.get_marker() for line in axes.lines}
    assert len(signs) == len(set(signs.values())) == 2  # nobody has to tell colours apart
    frontier = pd.DataFrame(
        {
            "arm": "a",
            "seed": 0,
            "n": [1, 2],
            "objective/kl": [0, 0.15],
            "objective/kl_bound": [0, 0.19],
            "objective/scores": [0, 0.5],
            "judge/mark": [5, 6],
        }
    )
    figure = best_of_n(frontier, metrics, ["a"], window=1)
    bound, estimated = figure.axes[0].lines[-2:]
    assert bound.get_xdata().tolist() == pytest.approx([0, 0.19**0.5])
    assert estimated.get_xdata().tolist() == pytest.approx([0, 0.15**0.5])
    short = best_of_n(frontier, metrics, ["a"], window=1, farthest=1.5).axes[0].lines
    assert short[0].get_xdata().tolist() == [0, 1] and len(short) == 4  # cut off, so no dot
    found = {"a": fit([1, 2, 3], [1, 2, 0], "rl")}
    assert fitted(metrics, found, {"a": 5.0}, window=1).axes[0].lines[0].get_ydata().tolist() == [
        0,
        1,
        2,
        0,
    ]


def test_the_same_runs_over_their_updates():
    metrics = pd.concat([run([5.0, 6.0, 7.0, 5.0], arm, seed) for arm in "ab" for seed in (0, 1)])
    figure = score_and_mark(metrics, ["a", "b"], window=1, over=UPDATE)
    line = figure.axes[2].lines[0]  # below the score of the first arm
    assert line.get_xdata().tolist() == metrics["update"].iloc[:4].tolist()
    assert line.get_ydata().tolist() == [5, 6, 7, 5]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", UPDATE, UPDATE]
    (axes,) = kl_over_updates(metrics, {"a": "black"}, window=1).axes
    kl = metrics[(metrics["arm"] == "a") & (metrics["seed"] == 0)]["objective/kl"]
    assert axes.lines[0].get_ydata().tolist() == pytest.approx(kl.tolist())
    assert axes.get_yscale() == "log" and axes.get_xlabel() == UPDATE


def judged(mark, spread=0.0, update=0):
    """A summary's entry of four prompts."""
    marks = [mark - spread, mark + spread, mark, mark]
    return {"mark": [mark, 0, 10], "kl": [update / 10, 0, 1], "marks": marks, "update": update}


def written(folder, arm, seed, sft, peak, end, fresh=()):
    place = folder / arm / str(seed)
    place.mkdir(parents=True)
    lines = "".join(json.dumps(dict(zip(("update", "mark", "kl"), r))) + "\n" for r in fresh)
    (place / "fresh.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    summary = {"arm": {"name": arm, "hacked": True}, "seed": seed}
    summary |= {"sft": sft, "peak": peak, "policy": end}
    (place / "summary.json").write_text(json.dumps(summary))


def test_a_fall_on_fresh_responses_is_paired_by_prompt(tmp_path):
    sft = judged(6.0)
    written(tmp_path, "fell", 0, sft, judged(9.0, 1.0, 40), judged(8.0, 1.0, 100))
    written(tmp_path, "little", 0, sft, judged(9.0, 0.0, 40), judged(8.5, 0.0, 100))
    written(tmp_path, "noisy", 0, sft, judged(9.0, 2.0, 40), judged(8.0, -2.0, 100))
    written(tmp_path, "won_nothing", 0, sft, judged(5.9, 0.0, 10), judged(5.0, 0.0, 100))
    rows = falls(tmp_path).set_index("arm")
    assert rows["fall"].round(6).to_dict() == pytest.approx(
        {"fell": 1.0, "little": 0.5, "noisy": 1.0, "won_nothing": 0.9}
    )
    # Lost: 1 of 3; .5 of 3, too little; 1, but chance could do it; .9 where nothing was won.
    assert rows["hacked"].to_dict() == {
        "fell": True,
        "little": False,
        "noisy": False,
        "won_nothing": True,
    }
    assert rows.loc["fell", ["peak_update", "peak_kl", "end_kl"]].tolist() == [40, 4, 10]


def test_ppo_and_best_of_n_are_compared_at_the_same_kl(tmp_path):
    fresh = [(0, 6.0, 0.0), (10, 8.0, 4.0), (20, 9.0, 16.0)]
    written(tmp_path, "a", 0, judged(6.0), judged(9.0), judged(9.0), fresh)
    columns = ["arm", "seed", "n", "objective/kl", "judge/mark"]
    frontier = pd.DataFrame([("a", 0, 1, 0.0, 6.0), ("a", 0, 64, 2.25, 9.5)], columns=columns)
    (row,) = beside_best_of_n(load_fresh(tmp_path), frontier).to_dict("records")
    assert (row["kl"], row["best_of_n"]) == (2.25, 9.5)
    assert row["ppo"] == pytest.approx(7.5)  # three quarters of the way from 0 to 2 in sqrt(KL)


@pytest.fixture
def folder(tmp_path):
    for arm, seed in (("x", 0), ("y z, b", 1)):
        place = tmp_path / arm.replace(", ", "-").replace(" ", "_") / str(seed)
        place.mkdir(parents=True)
        lines = "".join(json.dumps({"update": u, "judge/mark": u}) + "\n" for u in (1, 2))
        (place / "metrics.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        (place / "samples.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        found = {"mark": [seed + 5, 4, 8], "score": [1, 0, 2], "kl": [9, 8, 10]}
        (place / "summary.json").write_text(
            json.dumps(
                {"arm": {"name": arm, "hacked": True}, "seed": seed, "sft": found, "policy": found}
            )
        )
    return tmp_path


def test_runs_are_read_with_their_arm_and_seed(folder):
    metrics = load_metrics(folder)
    assert metrics[["arm", "seed", "update"]].values.tolist() == [
        ["x", 0, 1],
        ["x", 0, 2],
        ["y z, b", 1, 1],
        ["y z, b", 1, 2],
    ]
    assert load_summaries(folder)["mark"].tolist() == [5, 6]
    assert load_samples(folder, "y z, b", 1)["update"].tolist() == [1, 2]
    with pytest.raises(UserError, match="no run of 'x' with seed 3"):
        load_samples(folder, "x", 3)
    with pytest.raises(UserError, match="rlhf-lab study nothing --out"):
        load_metrics(folder / "nothing")


def test_best_of_n_is_read_by_arm_and_seed(tmp_path):
    for seed in (0, 1):
        place = tmp_path / "best_of_n" / str(seed)
        place.mkdir(parents=True)
        (place / "summary.json").write_text(
            json.dumps({"seed": seed, "frontier": {"x": [{"n": 1}, {"n": 2}], "y": [{"n": 1}]}})
        )
    rows = load_best_of_n(tmp_path)
    assert rows[["arm", "seed", "n"]].values.tolist() == [
        ["x", 0, 1],
        ["x", 0, 2],
        ["y", 0, 1],
        ["x", 1, 1],
        ["x", 1, 2],
        ["y", 1, 1],
    ]
