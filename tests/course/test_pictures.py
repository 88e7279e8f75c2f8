"""The figures of the lessons show the numbers they are given."""

import re

import pytest
import torch

from rlhf_lab.course import pictures

SURE = torch.tensor([0.55, 0.95])


def lines(axes, label: str):
    return next(line for line in axes.lines if line.get_label() == label)


def test_the_loss_table_shows_each_token_whether_it_counts_and_its_loss():
    table = pictures.loss_table(
        ["Hi", "\n", "<b>", "no"], torch.tensor([0.5, 3.9, 0.0]), 2, width=3
    )
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    cells = [re.findall(r">([^<]*)<", row.replace("<b>", "").replace("</b>", "")) for row in rows]
    assert [[c for c in row if c] for row in cells] == [
        ["token", "Hi", "↵", "&lt;b&gt;"],
        ["counts", "no", "no", "yes"],
        ["loss", "–", "0.50", "3.90"],
        ["token", "no"],
        ["counts", "yes"],
        ["loss", "0.00"],
    ]


@pytest.mark.parametrize("loss", [0.0, 1.0, 2.0, 2.5, 3.0, 4.0, 9.0])
@pytest.mark.parametrize("start", [0, 2])
def test_the_loss_can_be_read_on_its_colour(loss, start):
    table = pictures.loss_table(["a", "b"], torch.tensor([loss]), start)
    ground, ink = re.findall(r"background: rgb\(([\d, ]+)\); color: (\w+)", table)[0]
    assert contrast(luminance(ground), 1.0 if ink == "white" else 0.0) >= 4.5  # W3C's level AA


def luminance(rgb: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(x) / 255 for x in rgb.split(",")]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_a_bar_is_the_mean_of_its_kind_with_its_interval():
    axes = pictures.likelier({"rude": torch.tensor([1.0, 3.0]), "kind": torch.zeros(4)}).axes[0]
    bars = axes.containers[-1]
    assert list(bars.datavalues) == [2.0, 0.0]
    ends = bars.errorbar.lines[2][0].get_segments()[0][:, 1]
    assert ends == pytest.approx([2 - 12.706, 2 + 12.706], rel=1e-4)  # Student's t, one degree
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    assert names == ["rude\n(2 demonstrations)", "kind\n(4 demonstrations)"]


def test_a_share_is_a_dot_with_its_percentage_and_a_line_from_one_half():
    axes = pictures.shares({"a": 0.4, "b": 0.75}, "Who?", "share", {"b": "score"}, (0.3, 1)).axes[0]
    assert [text.get_text() for text in axes.texts] == ["40%", "75%"]
    stems = [c.get_segments()[0][:, 0].tolist() for c in axes.collections]
    assert stems == [[0.5, 0.4], [0.5, 0.75]]


def test_calibration_shows_observed_over_predicted_with_wilson_s_interval():
    found = (SURE, torch.tensor([0.5, 1.0]), torch.tensor([10, 20]))
    axes = pictures.calibration({"mine": found}).axes[0]
    line, _, [bars] = axes.containers[0].lines
    assert line.get_xdata().tolist() == pytest.approx([0.55, 0.95])
    assert line.get_ydata().tolist() == [0.5, 1.0]
    half = 1.96 / (2 * (10 + 1.96**2) ** 0.5)  # of Wilson's interval at one half of ten
    assert bars.get_segments()[0][:, 1] == pytest.approx([0.5 - half, 0.5 + half], abs=1e-3)


def test_by_kind_has_two_models_and_a_dash_for_each_person():
    kinds = {"all": {"accuracy": 0.9, "pairs": 100}, "style": {"accuracy": 0.6, "pairs": 30}}
    axes = pictures.by_kind({"900": kinds, "300": kinds}, [kinds] * 5).axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert sorted(labels) == ["300", "900", "the 5 labellers"]
    assert list(lines(axes, "the 5 labellers").get_ydata()) == [0.9, 0.6] * 5
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    assert names == ["all\n(100 pairs)", "style\n(30 pairs)"]


def test_estimates_are_counted_in_bins_beside_the_exact_value():
    kinds = {"without": torch.tensor([0.0, 1.0, 2.0]), "with": torch.tensor([0.5, 0.5, 0.5])}
    axes = pictures.estimates(kinds, 0.33, xlabel="gradient", title="Both").axes[0]
    assert [sum(bars.datavalues) for bars in axes.containers] == [3, 3]
    assert axes.get_ylabel() == "estimates (of 3)"
    assert lines(axes, "exact").get_xdata()[0] == 0.33


def test_each_seed_is_a_line_and_one_of_a_kind_is_labelled():
    given = {"without": [[1.0, 2.0], [1.0, 3.0]], "with": [[1.0, 4.0]]}
    axes = pictures.seeds(given, 5.0, title="Seeds", xlabel="step", ylabel="value").axes[0]
    assert [line.get_ydata()[-1] for line in axes.lines] == [2.0, 3.0, 4.0, 5.0]
    assert axes.get_legend_handles_labels()[1] == ["without", "with", "the best there is"]


def test_implicit_scores_are_those_of_the_records():
    records = [{"update": u, "dpo/chosen": u, "dpo/rejected": -u} for u in (1, 2)]
    axes = pictures.implicit_scores(records).axes[0]
    assert lines(axes, "chosen").get_xydata().tolist() == [[1, 1], [2, 2]]
    assert lines(axes, "rejected").get_xydata().tolist() == [[1, -1], [2, -2]]
