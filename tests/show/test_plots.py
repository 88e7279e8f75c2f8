"""Figures show the numbers they are given, in the colours that stand for them."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.colors import to_hex

from rlhf_lab.show import plots
from rlhf_lab.show.panels import PANELS, panels_of
from rlhf_lab.show.plots import SERIES


def ppo_record(update: int, **changes) -> dict:
    return {
        "stage": "ppo",
        "update": update,
        "objective/scores": 0.1 * update,
        "judge/mark": 6 + update,
        "objective/kl": 0.5 * update,
        "objective/kl_se": 0.1,
        "policy/entropy_avg": 1.0,
        "policy/clipfrac_avg": 0.1,
        "loss/value_avg": 0.2,
        "response/length": 20.0,
    } | changes


PPO = [ppo_record(u) for u in (1, 2, 3)]
SUMMARY = {
    "samples": 4,
    "models": {
        "base": {
            "mark": [2.0, 1.5, 2.5],
            "rubric": {"kind": [0.2, 0.1, 0.3], "true": [0.3, 0.2, 0.4]},
        },
        "sft": {
            "mark": [5.0, 4.0, 6.0],
            "rubric": {"kind": [0.5, 0.4, 0.6], "true": [0.6, 0.5, 0.7]},
        },
        "policy": {
            "mark": [8.0, 7.8, 8.2],
            "rubric": {"kind": [0.9, 0.8, 1], "true": [0.8, 0.7, 0.9]},
        },
    },
}


def drawn(axes, number: int = 0) -> tuple[list, list]:
    line = axes.lines[number]
    return list(line.get_xdata()), list(line.get_ydata())


def colour(artist) -> str:
    return to_hex(artist.get_color()).upper()


def test_reward_and_kl_shows_each_in_a_panel_of_its_own():
    figure = plots.reward_and_kl([record | {"lr": 3e-4} for record in PPO])
    score, mark, kl, rate = figure.axes
    assert len({axes.get_position().y0 for axes in figure.axes}) == 4  # none lies over another
    assert drawn(rate) == ([1, 2, 3], [3e-4] * 3)
    assert drawn(score) == ([1, 2, 3], pytest.approx([0.1, 0.2, 0.3]))
    assert drawn(mark) == ([1, 2, 3], [7, 8, 9])
    assert drawn(kl) == ([1, 2, 3], [0.5, 1.0, 1.5])
    assert [colour(a.lines[0]) for a in (score, mark, kl)] == [
        SERIES["score"],
        SERIES["mark"],
        SERIES["kl"],
    ]
    assert "nats" in kl.get_ylabel() and "points" in mark.get_ylabel()


def test_the_band_of_the_kl_is_1_96_standard_errors_either_way():
    band = plots.reward_and_kl(PPO).axes[2].collections[0].get_paths()[0].vertices
    at_two = band[band[:, 0] == 2, 1]
    assert (at_two.min(), at_two.max()) == pytest.approx((1.0 - 0.196, 1.0 + 0.196))


def test_without_a_judge_reward_and_kl_has_no_axis_for_marks():
    records = [{k: v for k, v in r.items() if k != "judge/mark"} for r in PPO]
    figure = plots.reward_and_kl(records)
    assert len(figure.axes) == 2
    assert "judge" not in "".join(a.get_title() + a.get_ylabel() for a in figure.axes)


def test_a_number_that_was_not_finite_is_a_gap():
    figure = plots.reward_and_kl([PPO[0], ppo_record(2, **{"objective/kl": None}), PPO[2]])
    assert np.isnan(drawn(figure.axes[2])[1]).tolist() == [False, True, False]


def test_each_stage_gets_the_panels_that_it_logged():
    sft = {"stage": "sft", "update": 1, "loss/sft": 2.0}
    assert [p.stage for p in panels_of([sft])] == ["sft"]
    assert len(plots.training_curves([sft]).axes) == 1
    assert len(plots.training_curves([sft, *PPO]).axes) == 1 + 7
    assert panels_of([{"stage": "cost", "of": "sft", "seconds": 3.0}]) == []


def test_every_panel_names_its_unit_and_a_known_colour():
    for panel in PANELS:
        assert panel.unit and all(line.colour in SERIES for line in panel.lines)


def test_what_is_logged_at_some_updates_only_is_drawn_there():
    records = [{"stage": "sft", "update": u, "loss/sft": 3.0 - u} for u in (1, 2)]
    records[1]["loss/held_out"] = 1.5
    axes = plots.training_curves(records).axes[0]
    assert drawn(axes, 0) == ([1, 2], [2.0, 1.0])
    assert drawn(axes, 1) == ([2], [1.5])
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["training batch", "held out"]


def test_the_reward_models_panels_show_what_guessing_would_give():
    records = [{"stage": "reward", "update": 1, "loss/reward": 0.6, "reward/accuracy": 0.7}]
    loss, accuracy = plots.training_curves(records).axes
    assert loss.lines[-1].get_ydata()[0] == pytest.approx(math.log(2))
    assert accuracy.lines[-1].get_ydata()[0] == 0.5


def test_a_long_curve_has_its_running_mean_over_it():
    records = [{"stage": "sft", "update": u, "loss/sft": float(u % 2)} for u in range(100)]
    axes = plots.training_curves(records).axes[0]
    raw, mean = drawn(axes, 0)[1], drawn(axes, 1)[1]
    assert raw == [0.0, 1.0] * 50
    assert set(np.round(mean[2:-2], 6)) == {0.4, 0.6}  # of five neighbours, two or three are 1


def test_a_running_mean_by_hand():
    values = np.array([1.0, 2.0, math.nan, 6.0])
    assert plots.running_mean(values, 3) == pytest.approx([1.5, 1.5, 4.0, 6.0])
    assert plots.running_mean(values[:2], 1) == pytest.approx([1.0, 2.0])
    assert np.isnan(plots.running_mean(np.array([math.nan]), 3)).all()


def test_bars_are_as_high_as_the_summary_says_with_its_intervals():
    mark, rubric = plots.marks_by_rubric(SUMMARY).axes
    bars = {b.get_label(): b for b in mark.containers if hasattr(b, "patches")}
    assert {name: b.patches[0].get_height() for name, b in bars.items()} == {
        "base": 2.0,
        "SFT": 5.0,
        "policy": 8.0,
    }
    assert to_hex(bars["policy"].patches[0].get_facecolor()).upper() == SERIES["policy"]
    low, high = bars["SFT"].errorbar.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == (4.0, 6.0)
    assert [t.get_text() for t in rubric.get_xticklabels()] == ["kind", "true"]


def test_bars_without_an_interval_or_a_rubric():
    one_prompt = {"models": {"sft": {"mark": [5.0, None, None]}}}
    figure = plots.marks_by_rubric(one_prompt)
    assert len(figure.axes) == 1
    assert b"<svg" in plots.to_bytes(figure)


def test_score_against_mark_joins_the_updates_in_order():
    unmarked = ppo_record(4, **{"judge/mark": None})
    axes = plots.score_against_mark([*PPO, unmarked]).axes[0]
    assert drawn(axes) == (pytest.approx([0.1, 0.2, 0.3]), [7, 8, 9])
    assert [t.get_text() for t in axes.texts] == ["first", "last"]


@pytest.mark.parametrize(
    "picture",
    [
        lambda: plots.training_curves([]),
        lambda: plots.reward_and_kl([]),
        lambda: plots.score_against_mark([]),
        lambda: plots.marks_by_rubric({}),
    ],
)
def test_nothing_to_draw_is_said(picture):
    figure = picture()
    assert not figure.axes and len(figure.texts) == 1 and figure.texts[0].get_text()


def test_svg_is_whole_white_and_the_same_every_time():
    first, second = (plots.to_bytes(plots.reward_and_kl(PPO)) for _ in range(2))
    assert first == second
    assert ET.fromstring(first).tag.endswith("svg")
    assert b"<script" not in first
    assert re.search(rb"fill: ?#ffffff", first)


def test_a_figure_shows_itself_in_a_notebook_without_pyplot():
    code = (
        "import sys; from rlhf_lab.show import plots; p = plots.reward_and_kl([]);"
        "assert 'data:image/png;base64,iVBOR' in p._repr_mimebundle_()['text/html'];"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_style_of_others_is_left_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.to_bytes(plots.curve(PANELS[0], [{"stage": "sft", "update": 1, "loss/sft": 1.0}]))
    assert dict(matplotlib.rcParams) == before


def test_a_figure_of_ones_own_has_the_style():
    axes = plots.blank(3, 2, "Mine", "time (s)", "height (m)")
    assert axes.get_title(loc="left") == "Mine" and axes.get_xlabel() == "time (s)"
    assert isinstance(axes.figure, plots.Picture) and tuple(axes.figure.get_size_inches()) == (3, 2)
    assert not axes.spines["top"].get_visible() and "iVBOR" in axes.figure.page()


HOSTILE = r"$\frac{1}{$ $x^$ \begin"


def test_dollar_signs_in_names_are_dollar_signs():
    """Rubric items and models are named by strangers; half a formula used to stop the drawing."""
    models = {
        name: SUMMARY["models"]["sft"] | {"rubric": {HOSTILE: [0.5, 0.4, 0.6]}}
        for name in SUMMARY["models"]
    }
    figure = plots.marks_by_rubric(SUMMARY | {"models": models})
    assert plots.to_bytes(figure, "svg") and plots.to_bytes(figure, "png")
    labels = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert any("frac" in label for label in labels)
    axes = plots.blank(4, 3, HOSTILE, HOSTILE, HOSTILE)
    assert plots.to_bytes(axes.figure, "png") and axes.get_title(loc="left") == HOSTILE
