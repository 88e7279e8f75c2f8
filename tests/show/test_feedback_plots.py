"""Figures of rankings show the numbers of their tables; people's names are only text."""

import numpy as np
import pandas as pd
import pytest

from rlhf_lab.show import feedback_plots, plots

NAMES = ["ann", "bob"]
SHARES = pd.DataFrame(
    {"labeller": NAMES, "agreement": [0.8, 0.7], "low": [0.7, 0.5], "high": [0.9, 0.8]}
)
PAIRS = pd.DataFrame({"first": ["ann", "ann"], "second": ["bob", "cat"], "agreement": [0.9, 0.6]})


def table(value: str) -> pd.DataFrame:
    return SHARES.rename(columns={"agreement": value}).assign(chance=[0.25, 0.5])


@pytest.mark.parametrize(
    ("draw", "value"),
    [
        (feedback_plots.agreement_by_labeller, "agreement"),
        (feedback_plots.consistency, "agreement"),
        (feedback_plots.position_bias, "first_best"),
        (feedback_plots.pace, "seconds"),
        (feedback_plots.reliability, "reliability"),
    ],
)
def test_each_labeller_is_a_dot_on_its_interval(draw, value):
    (axes,) = draw(table(value)).axes
    dots = next(line for line in axes.lines if line.get_marker() == "o")
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([0.8, 0.7], [0, 1])
    ends = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
    assert ends == [[0.7, 0.9], [0.5, 0.8]]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == NAMES
    assert axes.get_xlabel() and axes.get_title(loc="left")


def test_without_rankings_the_figure_says_so():
    (axes,) = feedback_plots.position_bias(table("first_best")[:0]).axes
    assert [text.get_text() for text in axes.texts] == ["nothing to show yet"]


def test_position_bias_shows_what_chance_gives_each():
    (axes,) = feedback_plots.position_bias(table("first_best")).axes
    assert [0.25, 0.5] in [list(line.get_xdata()) for line in axes.lines]


def test_every_two_labellers_are_a_square_and_its_mirror():
    axes, _ = feedback_plots.agreement_by_pair(PAIRS).axes
    grid = axes.images[0].get_array().filled(np.nan)
    expected = [[np.nan, 0.9, 0.6], [0.9, np.nan, np.nan], [0.6, np.nan, np.nan]]
    np.testing.assert_array_equal(grid, expected)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["ann", "bob", "cat"]
    assert sorted(text.get_text() for text in axes.texts) == ["60", "60", "90", "90"]


def test_a_name_is_drawn_as_text_whatever_it_holds():
    names = [r"$\frac{1}{0}$", "\u202ebob\x1b[31m"]
    figure = feedback_plots.agreement_by_labeller(SHARES.assign(labeller=names))
    content = plots.to_bytes(figure)  # a formula that matplotlib cannot read would raise
    assert content == plots.to_bytes(figure)
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels[1] == "⟨U+202E⟩bob⟨U+001B⟩[31m"
