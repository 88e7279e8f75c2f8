"""Every figure has an alternative text that tells its series and values, and no figure tells its
series apart by colour alone."""

import ast
import html
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from all_pictures import PICTURES
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer

from rlhf_lab.show import plots
from rlhf_lab.show.alt_text import LONGEST, alt_text
from rlhf_lab.show.read_figure import flat_of, groups, names_of

PACKAGE = Path(__file__).resolve().parents[2] / "rlhf_lab"
every = pytest.mark.parametrize("name", PICTURES)


@pytest.fixture(scope="module")
def drawn():
    """Each picture, drawn once."""
    made: dict[str, plots.Picture] = {}
    return lambda name: made.setdefault(name, PICTURES[name]())


def test_no_picture_of_the_package_is_missing_here():
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    functions = [n for s in sources for n in ast.walk(ast.parse(s)) if type(n) is ast.FunctionDef]
    drawing = {f.name for f in functions if f.returns and ast.unparse(f.returns) == "Picture"}
    assert {name for name in drawing if name[0] != "_"} - set(PICTURES) == set()


def one_line(text: str) -> str:
    return " ".join(text.split())


def legends(figure) -> list[str]:
    found = [axes.get_legend_handles_labels()[1] for axes in figure.axes]
    return [one_line(label) for labels in found for label in labels]


@every
def test_it_names_titles_axes_series_and_places(drawn, name):
    figure = drawn(name)
    text = alt_text(figure)
    assert 40 < len(text) <= LONGEST and "\n" not in text
    for axes in figure.axes:
        if axes.get_label() != "<colorbar>":
            words = [axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel()]
            assert [w for w in words if one_line(w) not in text] == []
            places = [*names_of(axes.xaxis).values(), *names_of(axes.yaxis).values()]
            assert len(places) > 24 or [place for place in places if place not in text] == []
    assert [label for label in legends(figure) if label not in text] == []


def told(value, text: str) -> bool:
    """Whether a number stands in a text, with three digits, or four as in a wide range."""
    written = {f"{value:.3g}", f"{value:.4g}", f"{value:,.0f}"} if abs(value) > 1e-6 else {"0"}
    return any(re.search(rf"(?<![\d.]){re.escape(some)}(?![\d.]\d)", text) for some in written)


@every
def test_it_tells_values_of_every_series(drawn, name):
    """Behind the label of each series where every line begins and ends, or the range of its
    dots."""
    figure = drawn(name)
    text = alt_text(figure)
    for axes in figure.axes:
        for group in groups(axes):
            behind = text[text.index(group.label) :] if group.label else text
            every = [np.concatenate(group.members)] if group.dots else group.members
            for values in (points[:, 1] for points in every):
                ends = (values.min(), values.max()) if group.dots else (values[0], values[-1])
                assert [x for x in ends if not told(x, behind)] == [], (group.label, behind)
        for bars in axes.containers:
            if isinstance(bars, BarContainer) and len(bars.patches) < 10:
                assert [v for v in bars.datavalues if f"{v:.3g}" not in text] == []


@every
def test_series_are_told_apart_by_more_than_colour(drawn, name):
    for axes in drawn(name).axes:
        assert alike_but_for_colour(axes) == []


def alike_but_for_colour(axes) -> list:
    """Looks that several series of other colours share, unless each has a name of its own beside
    it on the axis."""
    looks = Counter()
    for look, members in by_look(axes).items():
        looks[look[1:]] += 1
        assert members
    bars = [c for c in axes.containers if isinstance(c, BarContainer)]
    looks.update(("bars", c.patches[0].get_hatch() or "") for c in bars if c.patches)
    return [look for look, count in looks.items() if count > 1]


def by_look(axes) -> dict:
    """The places of the series of each look; those that have a named place to themselves are left
    out."""
    names = names_of(axes.yaxis if flat_of(axes) else axes.xaxis)
    found = groups(axes)
    at = [{round(float(p)) for m in g.members for p in m[:, 0]} for g in found]
    shared = [
        any(a & b for j, b in enumerate(at) if j != i) if names else True for i, a in enumerate(at)
    ]
    return {g.look: places for g, places, both in zip(found, at, shared) if both}


def test_the_check_sees_two_series_that_differ_in_colour_alone():
    axes = plots.blank(3, 2)
    axes.plot([1, 2], [1, 2], color="red", label="a")
    axes.plot([1, 2], [2, 3], color="blue", label="b")
    assert alike_but_for_colour(axes) != []
    axes.lines[1].set_linestyle("--")
    assert alike_but_for_colour(axes) == []


# ---- worked by hand ------------------------------------------------------------------------------


def test_lines_levels_dots_and_intervals_in_words():
    axes = plots.blank(3, 2, "Growth", "week", "height (cm)")
    axes.plot(range(1, 11), [2, 3, 5, 4, 6, 7, 9, 12, 8, 8], label="bean")
    axes.plot([2, 4], [1, 2000.4], "o", color="red", label="weed")
    axes.axhline(3, color="grey", label="pot")
    assert alt_text(axes.figure) == (
        "Growth. x axis: week; y axis: height (cm). bean: from 2 at 1 to 8 at 10, highest 12 at 8. "
        "weed: 1 at 2, 2,000 at 4. pot: horizontal line at 3."
    )


def test_named_places_have_their_names_and_intervals():
    axes = plots.blank(3, 2)
    axes.errorbar([0, 1], [0.5, 0.25], [[0.1, 0.05], [0.2, 0.05]], fmt="o", label="mine")
    axes.set_xticks([0, 1], ["ann\nlee", "bob"])
    assert alt_text(axes.figure) == "mine: ann lee 0.5 (0.4 to 0.7); bob 0.25 (0.2 to 0.3)."


def test_bars_lying_and_standing_and_a_lollipop():
    axes = plots.blank(3, 2)
    axes.barh(["x", "y"], [1, 2], label="cost")
    assert alt_text(axes.figure) == "cost: x 1; y 2."
    axes = plots.blank(3, 2)
    axes.hlines(0, 0.5, 0.8)
    axes.plot(0.8, 0, "o")
    axes.text(0.81, 0, "80%")
    axes.set_yticks([0], ["ann"])
    assert alt_text(axes.figure) == "ann 0.8."


def test_what_is_not_finite_is_left_out():
    axes = plots.blank(3, 2)
    axes.bar([0, 1], [1, np.nan], yerr=[0.5, np.nan], label="cost")
    axes.plot([0, 1, 2], [np.nan, 4, 5], label="value")
    assert alt_text(axes.figure) == "cost: 1 (0.5 to 1.5) at 0. value: 4 at 1, 5 at 2."


def test_seeds_of_one_look_are_lines_of_one_series():
    axes = plots.blank(3, 2)
    axes.plot([1, 2], [0, 5], color="red", label="beta 0")
    axes.plot([1, 2], [0, 7], color="red")
    assert alt_text(axes.figure) == "beta 0, 2 lines: from 0 at 1 to 5 at 2; from 0 at 1 to 7 at 2."


def test_many_dots_are_a_cloud_and_many_bars_a_histogram():
    axes = plots.blank(3, 2)
    axes.plot(range(9), [2 * x for x in range(9)], "o", label="runs")
    cloud = "runs: 9 dots, x from 0 to 8, y from 0 to 16, mean 8, correlation 1.00."
    assert alt_text(axes.figure) == cloud
    axes = plots.blank(3, 2)
    axes.hist([2.5] * 3 + [3.5], range(20), label="draws")
    assert alt_text(axes.figure) == (
        "draws: a histogram of 4, mean 2.75, standard deviation 0.433, most (3) between 2 and 3."
    )


def test_a_notebook_gets_an_image_with_the_text_and_the_text_alone():
    axes = plots.blank(3, 2, 'a < b & "c" \x1b\u202e')
    bundle = axes.figure._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    [alt] = re.findall(r'<img [^>]*?alt="([^"]*)"', bundle["text/html"])
    assert html.unescape(alt) == bundle["text/plain"] == 'a < b & "c" ⟨U+001B⟩⟨U+202E⟩.'
    assert 'src="data:image/png;base64,iVBOR' in bundle["text/html"]


def test_odd_figures_have_a_text_too():
    axes = [plots.blank(3, 2) for _ in range(5)]
    axes[0].imshow(np.arange(6).reshape(3, 2))
    axes[1].imshow(np.zeros((2, 2, 3)))
    axes[2].scatter([1, 2], [3, 4], facecolors="none", edgecolors="red")
    axes[3].bar([], [])
    axes[4].hist([], 20)
    told = [alt_text(some.figure) for some in axes]
    assert "5" in told[0] and "3" in told[2] and "4" in told[2]
    assert not any("nan" in text for text in told)


def test_a_long_text_is_cut():
    axes = plots.blank(3, 2, "word " * 2000)
    text = alt_text(axes.figure)
    assert len(text) <= LONGEST and text.endswith("word …")


def test_a_look_is_the_colour_first():
    axes = plots.blank(3, 2)
    axes.plot([1, 2], [3, 4], "s--", color="red")
    [group] = groups(axes)
    assert group.look == (to_hex("red"), "--", "s")
