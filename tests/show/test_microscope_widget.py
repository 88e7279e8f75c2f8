"""The microscope on screen: what the page is told, what a message may do, the clip's picture."""

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import refusal

from rlhf_lab.disk.data import shipped
from rlhf_lab.show.microscope import load_rollout, name_of, recompute, token_table
from rlhf_lab.show.widgets.clip import ClippedObjective, clip_picture, clipping, objective
from rlhf_lab.show.widgets.microscope_widget import RANGES, Microscope, moved
from rlhf_lab.show.widgets.quantities import (
    BY_KEY,
    COLOURS,
    INK,
    QUANTITIES,
    blend,
    ends,
    level,
    number,
    sign,
)

HOSTILE = ("<script>alert(1)</script>", "\x1b[31mred", "\u202egnp.exe", "</style>", " \n\t")


@pytest.fixture(scope="module")
def rollout():
    return load_rollout(shipped("rollout.safetensors"))


@pytest.fixture
def widget(rollout) -> Microscope:
    return Microscope(rollout)


def wish(widget: Microscope, **changes) -> dict:
    """What the page sends: the view shown, with changes."""
    return {"id": "page-1"} | widget.state["view"] | changes


def send(widget: Microscope, message) -> dict:
    widget._handle_custom_msg(message, [])
    return widget.state


def test_the_page_shows_the_numbers_of_the_table(widget, rollout):
    state = send(widget, wish(widget, row=widget.rows[4], lam=0.5, beta=0.3))
    table = token_table(rollout, widget.rows[4], recompute(rollout, lam=0.5, beta=0.3))
    assert [token["name"] for token in state["tokens"]] == [name_of(text) for text in table["text"]]
    assert list(state["cells"]) == [q.key for q in QUANTITIES]
    for key, cells in state["cells"].items():
        assert [float(cell) for cell in cells] == pytest.approx(table[key].tolist(), abs=6e-5)
    assert state["clipped"] == table["clipped"].tolist()
    assert (state["heard"], state["problem"]) == ("page-1", "")
    assert widget.table.equals(table)


def test_sliders_move_the_numbers_and_not_the_scale(widget):
    before = widget.state
    after = send(widget, wish(widget, lam=0.0))
    assert after["cells"]["raw_advantage"] != before["cells"]["raw_advantage"]
    for key in ("logprob", "value", "ratio", "kl", "reward"):
        assert after["cells"][key] == before["cells"][key]
    assert [q["ends"] for q in after["quantities"]] == [q["ends"] for q in before["quantities"]]
    assert all(loss["now"] == loss["saved"] for loss in before["losses"])
    assert any(loss["now"] != loss["saved"] for loss in after["losses"])
    back = send(widget, wish(widget, **after["saved"]))
    assert back["cells"] == before["cells"] and back["losses"] == before["losses"]


def test_twelve_rows_by_score_or_those_asked_for(rollout):
    widget = Microscope(rollout)
    assert len(widget.state["rows"]) == 12
    scores = [rollout.scores[row] for row in widget.rows]
    assert scores == sorted(scores) and widget.state["view"]["row"] == widget.rows[0]
    few = Microscope(rollout, row=5, rows=[2, 3], quantity="kl")
    assert [row["row"] for row in few.state["rows"]] == [2, 3, 5]
    assert (few.state["view"]["row"], few.state["view"]["quantity"]) == (5, "kl")
    assert "a row from 0 to 31" in refusal(Microscope, rollout, rows=[32])
    assert "logprob" in refusal(Microscope, rollout, quantity="gold")


BAD = [
    None,
    5,
    [],
    "set",
    {},
    {"id": "x"},
    {"row": 0},
    {"id": 3},
    {"id": "x" * 41},
    {"row": 99},
    {"row": -1},
    {"row": True},
    {"row": 1.0},
    {"row": "0"},
    {"quantity": "gold"},
    {"quantity": []},
    {"beta": -0.1},
    {"beta": 1.01},
    {"beta": math.nan},
    {"beta": math.inf},
    {"beta": "0.1"},
    {"beta": None},
    {"beta": True},
    {"lam": 1.5},
    {"gamma": 0.5},
    {"epsilon": 0},
    {"epsilon": [0.2]},
    {"more": 1},
    {"__class__": "x"},
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_message_that_makes_no_sense_changes_nothing(widget, bad):
    before = widget.state
    partial = isinstance(bad, dict) and bad and bad not in ({"id": "x"}, {"row": 0})
    after = send(widget, wish(widget) | bad if partial else bad)
    assert "nothing was changed" in after["problem"]
    assert after | {"problem": "", "heard": ""} == before


def test_a_state_that_the_page_made_up_is_not_believed(widget):
    true = widget.state
    widget.set_state({"state": true | {"cells": {}, "saved": {"beta": 5}}})
    assert send(widget, wish(widget)) == true | {"heard": "page-1"}


def test_settings_beyond_the_sliders_can_be_kept(rollout):
    odd = replace(rollout, settings=replace(rollout.settings, gamma=0.5, epsilon=0.9))
    widget = Microscope(odd)
    assert widget.state["ranges"]["gamma"] == (0.5, 1.0)
    assert widget.state["ranges"]["epsilon"] == (0.05, 0.9)
    assert send(widget, wish(widget))["problem"] == ""
    assert Microscope(rollout).state["ranges"] == RANGES


def test_show_changes_the_view_from_python(widget, rollout):
    assert widget.show(quantity="ratio", lam=0.3) is widget
    assert widget.state["view"] | {"quantity": "ratio", "lam": 0.3} == widget.state["view"]
    for bad in ({"row": 99}, {"lam": 2}, {"colour": "red"}):
        assert refusal(widget.show, **bad)


def hostile(rollout):
    n = len(HOSTILE)
    texts = (HOSTILE + rollout.token_texts[0][n:], *rollout.token_texts[1:])
    return replace(
        rollout,
        token_texts=texts,
        prompts=("<b>x</b>\x1b" + rollout.prompts[0], *rollout.prompts[1:]),
        texts=("<img src=x onerror=alert(1)>" + rollout.texts[0], *rollout.texts[1:]),
    )


def test_hostile_text_reaches_the_page_as_data_with_all_of_it_visible(rollout):
    widget = Microscope(hostile(rollout), row=0)
    texts = [token["text"] for token in widget.state["tokens"]]
    assert texts[:4] == [
        "<script>alert(1)</script>",
        "⟨U+001B⟩[31mred",
        "⟨U+202E⟩gnp.exe",
        "</style>",
    ]
    assert widget.state["tokens"][4] == {"text": "␣↵\n⇥", "name": "␣↵⇥"}
    json.dumps(widget.state, allow_nan=False)  # plain data, or this raises
    page = widget._repr_mimebundle_()[0]["text/html"]
    for part in ("<script", "<img", "<b>x", "</style", "\x1b", "\u202e"):
        assert part not in page
    assert "&lt;script&gt;" in page


def test_the_fallback_holds_tokens_legend_and_table(widget, rollout):
    data, _ = widget.show(quantity="ratio")._repr_mimebundle_()
    page, state = data["text/html"], widget.state
    assert "application/vnd.jupyter.widget-view+json" in data
    assert page.count("background-color") == len(state["tokens"]) + 5
    assert page.count("<tr>") == len(state["tokens"]) + 1
    for text in (*state["quantities"][10]["ends"], state["moved"], state["summary"], "Microscope"):
        assert str(text) in page
    assert len(page) < 30_000


def test_what_moved_is_said_in_words():
    table = token_table_like(["a", " b", "c"], [1.5, 0.5, 1.001])
    said = moved(table)
    assert "pushed 1 of these 3 tokens up, 1 down and left 1" in said
    assert "Most up: “a” × 1.50." in said and "Most down: “␣b” × 0.50." in said
    assert "Most" not in moved(token_table_like(["a"], [1.001]))
    still = moved(token_table_like(["a", "b"], [1.0, 1.0]))
    assert still == "No update was made: every ratio is 1."


def token_table_like(texts, ratios):
    import pandas as pd

    return pd.DataFrame({"text": texts, "ratio": ratios})


# ------------------------------------------------------------------------------ colours


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", COLOURS)
def test_text_is_readable_on_every_colour(name):
    light, dark = COLOURS[name]
    assert contrast(INK, light) > 4.5  # WCAG 2, AA
    assert contrast("#e8eaed", dark) > 4.5


def test_levels_signs_and_ends():
    ratio, logprob = BY_KEY["ratio"], BY_KEY["logprob"]
    assert [level(ratio, x, 0.5) for x in (0.0, 0.75, 1.0, 1.25, 9.0)] == [-1, -0.5, 0, 0.5, 1]
    assert [level(logprob, x, 4.0) for x in (0.0, -1.0, -8.0)] == [0.0, 0.25, 1.0]
    assert [sign(ratio, x) for x in (-1.0, -0.1, 0.0, 0.1, 1.0)] == ["▼", "", "", "", "▲"]
    assert sign(logprob, 1.0) == ""
    assert ends(ratio, 0.3) == ["0.7 or less", "1", "1.3 or more"]
    assert ends(logprob, 5.0) == ["0", "-5 or less"]
    assert (blend("up", 0.0), blend("up", 1.0)) == ("#ffffff", COLOURS["up"][0])
    assert [number(x) for x in (-0.00001, 0.00004, -1.23456)] == ["0.0000", "0.0000", "-1.2346"]


# ------------------------------------------------------------------------------ the clip


def test_the_clipped_objective_by_hand():
    """Schulman et al. 2017, figure 1: flat above 1 + epsilon where A > 0, below 1 - epsilon where
    A < 0, and nowhere else."""
    ratios = torch.tensor([0.5, 0.8, 1.0, 1.2, 1.5])
    above = torch.tensor([0.5, 0.8, 1.0, 1.2, 1.2])
    torch.testing.assert_close(objective(ratios, 1, 0.2), above)
    below = torch.tensor([-0.8, -0.8, -1.0, -1.2, -1.5])
    torch.testing.assert_close(objective(ratios, -1, 0.2), below)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_dots_are_the_rollout_s_tokens(rollout, sign):
    numbers = recompute(rollout, epsilon=0.1)
    chosen = rollout.mask & (numbers.advantages * sign > 0)
    shown = clipping(rollout, sign, 0.1)
    assert torch.equal(shown.token_ratios, numbers.ratio[chosen])
    gone = numbers.ratio[chosen] > 1.1 if sign > 0 else numbers.ratio[chosen] < 0.9
    assert torch.equal(shown.clipped, gone) and gone.any()
    assert f"{int(gone.sum())} of {len(gone)} tokens" in shown.says


def test_the_clip_s_controls_redraw_and_a_picture_is_kept(rollout):
    widget = ClippedObjective(rollout)
    first = widget.page.value
    widget.epsilon.value = 0.1
    second = widget.page.value
    widget.sign.value = -1
    assert len({first, second, widget.page.value}) == 3
    data = widget._repr_mimebundle_()
    assert "data:image/png;base64,iVBOR" in data["text/html"] and "widget-view" in str(list(data))
    assert "clipped: min(…): from" in data["text/plain"]
    assert [axes.get_title(loc="left") for axes in clip_picture(rollout, 0.3).axes] == [
        "Advantage above 0, ε = 0.3",
        "Advantage below 0, ε = 0.3",
    ]
