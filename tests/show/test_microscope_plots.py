"""Figures of a saved rollout: what they draw is what `recompute` says."""

from dataclasses import replace

import pytest
from helpers import refusal

from rlhf_lab.disk.data import shipped
from rlhf_lab.show.microscope import load_rollout, recompute, token_table
from rlhf_lab.show.microscope_plots import advantages_by_lambda, kl_share, pushes, values_along
from rlhf_lab.show.plots import to_bytes


@pytest.fixture(scope="module")
def rollout():
    return load_rollout(shipped("rollout.safetensors"))


def drawn(axes) -> list[list[float]]:
    return [[float(y) for y in line.get_ydata()] for line in axes.lines]


def test_the_share_of_the_kl_grows_to_all_of_it(rollout):
    left, right = kl_share(rollout).axes
    share = drawn(left)[0]
    sizes = sorted(recompute(rollout).kl[rollout.mask].abs().tolist(), reverse=True)
    tenth = len(sizes) // 10
    assert share[tenth - 1] == pytest.approx(100 * sum(sizes[:tenth]) / sum(sizes), abs=1e-3)
    assert share == sorted(share) and share[-1] == pytest.approx(100)
    assert any(
        f"10 % of the tokens hold {share[tenth - 1]:.0f} %" in t.get_text() for t in left.texts
    )
    assert len(drawn(right)[0]) == int(rollout.mask.sum())


def test_advantages_under_each_lambda(rollout):
    [axes] = advantages_by_lambda(rollout, 3, lams=(0.0, 1.0)).axes
    for line, lam in zip(drawn(axes), (0.0, 1.0)):
        wanted = token_table(rollout, 3, recompute(rollout, lam=lam))["raw_advantage"]
        assert line == pytest.approx(wanted.tolist())
    assert "a row from 0 to 31" in refusal(advantages_by_lambda, rollout, 32)


def test_values_beside_what_came(rollout):
    values, came = drawn(values_along(rollout, 3).axes[0])
    table = token_table(rollout, 3)
    assert values == pytest.approx(table["value"].tolist())
    assert came[0] == pytest.approx(table["reward"].sum(), abs=1e-5)
    assert came[-1] == pytest.approx(table["reward"].iloc[-1], abs=1e-5)


def test_every_token_is_one_dot_of_the_pushes(rollout):
    dots = drawn(pushes(rollout).axes[0])[:2]
    ratio = recompute(rollout).ratio[rollout.mask].tolist()
    assert sorted(dots[0] + dots[1]) == pytest.approx(sorted(ratio))


def test_token_texts_are_no_formulas(rollout):
    texts = ("$x^", "\x1b", "\n") + rollout.token_texts[3][3:]
    odd = replace(rollout, token_texts=(*rollout.token_texts[:3], texts, *rollout.token_texts[4:]))
    figure = values_along(odd, 3)
    assert to_bytes(figure, "png").startswith(b"\x89PNG")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[:3] == ["$x^", "⟨U+001B⟩", "↵"]
