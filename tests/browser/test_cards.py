"""Answers as cards in JupyterLab: readable in light and in dark, side by side or below each other,
lines that break between words; and pictures whose alternative text a screen reader finds."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from .test_notebooks_in_lab import KERNEL_IDLE, LOAD_MS, RUN_ALL, RUN_MS

pytestmark = pytest.mark.browser

LONG = "Hello and thank you for writing, please clean the charging contacts. " * 6
CELLS = (
    f"""from rlhf_lab.records import Mark
from rlhf_lab.show.cards import Card, Cards
mark = Mark(6.5, {{}}, reasons=("is long", "repeats itself"))
Cards([("It costs $20 or $30?", [Card({LONG!r}, name, mark) for name in ("base", "SFT")]),
       ("And a word without an end?", [Card("x" * 300, "policy")])])""",
    """from rlhf_lab.show.plots import blank
axes = blank(4, 3, "Growth")
axes.plot([1, 2], [3, 5])
axes.figure""",
)
THEME = """theme => window.jupyterapp.commands.execute(
    "apputils:change-theme", { theme: `JupyterLab ${theme}` })"""
# The lightness of what a card's text is written in, and of the page below it, from 0 to 1.
LIGHTNESS = """() => {
    const lightness = colour => colour.match(/[0-9.]+/g).slice(0, 3)
        .reduce((sum, x) => sum + Number(x), 0) / 765;
    const card = document.querySelector("[role=listitem]");
    let page = card;
    while (getComputedStyle(page).backgroundColor.match(/, 0(\\.[0-9]+)?\\)$/))
        page = page.parentElement;
    return [lightness(getComputedStyle(card).color),
            lightness(getComputedStyle(page).backgroundColor)];
}"""
# Words of the first card that stand on two lines: their boxes are two.
BROKEN = """() => {
    const text = document.querySelectorAll("[role=listitem] div[dir]")[0].firstChild;
    const broken = [];
    for (const word of text.data.matchAll(/\\S+/g)) {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        if (range.getClientRects().length > 1) broken.push(word[0]);
    }
    return broken;
}"""
BOXES = """() => [...document.querySelectorAll("[role=listitem]")]
    .map(card => card.getBoundingClientRect())
    .map(({ left, right, top, width }) => ({ left, right, top, width }))"""
WIDER_THAN_ITS_CARD = """() => [...document.querySelectorAll("[role=listitem]")]
    .filter(card => card.scrollWidth > card.clientWidth + 1).length"""


@pytest.fixture
def page(lab, browser):
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.course / "notebooks" / "cards.ipynb")
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(lab.notebook_url("cards.ipynb"), timeout=LOAD_MS)
    page.wait_for_function(KERNEL_IDLE, timeout=LOAD_MS)
    page.evaluate(RUN_ALL)
    page.wait_for_function("() => window.runAll !== 'running'", timeout=RUN_MS)
    page.wait_for_selector(".jp-OutputArea-output img", timeout=LOAD_MS)
    yield page
    page.close()


def test_cards_and_pictures_in_lab(page):
    for theme, dark in (("Light", False), ("Dark", True)):
        page.evaluate(THEME, theme)
        page.wait_for_function(
            f"""() => document.body.dataset.jpThemeLight === "{not dark}"
            .toLowerCase()""",
            timeout=LOAD_MS,
        )
        page.wait_for_timeout(500)
        ink, ground = page.evaluate(LIGHTNESS)
        assert (ink > ground) is dark and abs(ink - ground) > 0.5, (theme, ink, ground)

    first, second, _ = page.evaluate(BOXES)
    assert first["top"] == second["top"] and first["right"] <= second["left"]
    assert page.evaluate(BROKEN) == [] and page.evaluate(WIDER_THAN_ITS_CARD) == 0
    assert page.locator(".jp-OutputArea mjx-container").count() == 0  # a price is no formula

    page.set_viewport_size({"width": 700, "height": 1000})
    page.wait_for_timeout(500)
    first, second, _ = page.evaluate(BOXES)
    assert first["left"] == second["left"] and first["top"] < second["top"]
    assert page.evaluate(BROKEN) == [] and page.evaluate(WIDER_THAN_ITS_CARD) == 0

    picture = page.get_by_role("img", name="Growth. line: 3 at 1, 5 at 2.")
    assert picture.count() == 1
