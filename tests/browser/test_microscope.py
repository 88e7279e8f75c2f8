"""The token microscope in a real JupyterLab page: what it shows is what `recompute` says."""

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from rlhf_lab.disk.data import shipped
from rlhf_lab.show.microscope import (
    SavedRollout,
    load_rollout,
    name_of,
    recompute,
    save_rollout,
    token_table,
)
from rlhf_lab.show.widgets.quantities import QUANTITIES, number

from .conftest import Lab
from .ranking_page import CELLS, HIDE_SIDEBARS, KERNEL
from .test_notebooks_in_lab import KERNEL_IDLE, LOAD_MS, RUN_ALL

pytestmark = pytest.mark.browser

ROW = 7
USUAL = {"viewport": {"width": 1200, "height": 1700}}
CODE = """\
from rlhf_lab.show.microscope import load_rollout
from rlhf_lab.show.widgets.clip import ClippedObjective
from rlhf_lab.show.widgets.microscope_widget import Microscope
{widget}
"""
THEME = "name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})"
HOSTILE = (
    "<img src=x onerror='window.hacked=1'>",
    "<script>window.hacked=1</script>",
    "\x1b[31mred",
    "\u202egnp.exe",
    " \n",
    "</style>",
)


@dataclass
class MicroscopePage:
    """The page; `page` is Playwright's."""

    page: object

    def open(self, lab: Lab, name: str, widget: str) -> None:
        """Open a notebook whose only cell shows a widget, and run it."""
        cells = [nbformat.v4.new_code_cell(CODE.format(widget=widget))]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
        nbformat.write(notebook, lab.course / "notebooks" / f"{name}.ipynb")
        self.page.goto(lab.notebook_url(f"{name}.ipynb"), timeout=LOAD_MS)
        self.page.wait_for_function(KERNEL_IDLE, timeout=LOAD_MS)
        self.page.evaluate(RUN_ALL)
        self.page.wait_for_function("() => window.runAll !== 'running'", timeout=LOAD_MS)

    @property
    def widget(self):
        return self.page.locator(".rlhf-microscope")

    @property
    def tokens(self):
        return self.widget.locator(".token")

    @property
    def readout(self) -> dict[str, str]:
        """The token named above the numbers, and the numbers by their labels."""
        pairs = self.widget.locator(".readout dl > div").evaluate_all(
            "boxes => boxes.map(box => [box.children[0].textContent, box.children[1].textContent])"
        )
        return dict(pairs) | {"token": self.widget.locator(".readout .name").text_content()}

    @property
    def table(self) -> list[list[str]]:
        return self.widget.locator(".table-box tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
        )

    def slide(self, label: str, value: float) -> None:
        self.widget.get_by_label(label).fill(str(value))

    def keep_picture(self, name: str) -> None:
        """Save the page's widgets as a small PNG in $BROWSER_SHOTS, when that is set."""
        if folder := os.environ.get("BROWSER_SHOTS"):
            box = self.page.locator(".jp-OutputArea-output").first
            Path(folder).mkdir(parents=True, exist_ok=True)
            picture = Image.open(io.BytesIO(box.screenshot()))
            picture.quantize(48).save(Path(folder) / f"microscope_{name}.png", optimize=True)


@pytest.fixture
def rollout() -> SavedRollout:
    return load_rollout(shipped("rollout.safetensors"))


@pytest.fixture
def open_page(lab, browser, tmp_path):
    """open_page(rollout, widget, **browser options): the widget on a page of its own."""
    contexts = []

    def open_page(rollout: SavedRollout, widget: str, **options) -> MicroscopePage:
        path = tmp_path / "rollout.safetensors"
        save_rollout(rollout, path)
        contexts.append(browser.new_context(**USUAL | options))
        page = MicroscopePage(contexts[-1].new_page())
        page.page.set_default_timeout(30_000)
        loaded = f"load_rollout({str(path)!r})"
        page.open(lab, tmp_path.name, widget.format(rollout=loaded))
        return page

    yield open_page
    for context in contexts:
        context.close()


def numbers_of(rollout: SavedRollout, row: int, at: int, **settings) -> dict[str, str]:
    """What the readout must say about a token."""
    line = token_table(rollout, row, recompute(rollout, **settings)).iloc[at]
    said = {q.label: number(line[q.key]) for q in QUANTITIES}
    return said | {"clipped": "yes" if line["clipped"] else "no", "token": name_of(line["text"])}


def test_hover_focus_keys_and_table(open_page, rollout):
    page = open_page(rollout, f"Microscope({{rollout}}, row={ROW}, quantity='kl')")
    page.tokens.first.wait_for()
    before = page.page.evaluate(CELLS)
    assert page.readout == numbers_of(rollout, ROW, 0)
    page.keep_picture("kl")
    page.tokens.nth(14).hover()
    assert page.readout == numbers_of(rollout, ROW, 14)
    page.page.mouse.move(2, 2)
    assert page.readout == numbers_of(rollout, ROW, 0)

    page.tokens.nth(3).click()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "x", "a", "d", "d", "m", "Enter"):
        page.page.keyboard.press(key)  # the letters are JupyterLab's shortcuts
    assert page.readout == numbers_of(rollout, ROW, 4)
    page.page.keyboard.press("End")
    last = len(rollout.token_texts[ROW]) - 1
    assert page.readout == numbers_of(rollout, ROW, last)
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")  # no further
    focused = "() => document.activeElement.getAttribute('aria-label')"
    label = page.page.evaluate(focused)
    assert label.startswith(f"{last + 1} of {last + 1}, <|endoftext|>: KL")
    page.page.keyboard.press("Home")
    page.page.keyboard.press("ArrowLeft")
    assert page.readout == numbers_of(rollout, ROW, 0)
    assert page.page.evaluate(CELLS) == before

    page.widget.get_by_role("button", name="Show the table").click()
    for at, line in enumerate(page.table):
        wanted = numbers_of(rollout, ROW, at)
        assert line == [str(at + 1), wanted.pop("token"), *wanted.values()]
    assert len(page.table) == last + 1
    page.keep_picture("table")


def test_arrows_up_and_down_change_the_line(open_page, rollout):
    row = max(range(len(rollout.texts)), key=lambda i: len(rollout.token_texts[i]))
    page = open_page(
        rollout, f"Microscope({{rollout}}, row={row})", viewport={"width": 700, "height": 1700}
    )
    page.tokens.nth(2).click()
    top = "() => document.activeElement.getClientRects()[0].top"
    first = page.page.evaluate(top)
    page.page.keyboard.press("ArrowDown")
    assert page.page.evaluate(top) > first
    page.page.keyboard.press("ArrowUp")
    assert page.page.evaluate(top) == first


def test_sliders_recompute_and_go_back(open_page, rollout):
    page = open_page(rollout, "Microscope({rollout}, row=26, quantity='raw_advantage')")
    page.tokens.nth(5).click()
    paint = "el => getComputedStyle(el).backgroundColor"
    before = page.tokens.nth(5).evaluate(paint)
    assert page.readout == numbers_of(rollout, 26, 5)
    page.slide("λ, how far", 0)
    wanted = numbers_of(rollout, 26, 5, lam=0.0)
    page.widget.get_by_text(wanted["advantage"], exact=True).wait_for()
    assert page.readout == wanted
    assert page.tokens.nth(5).evaluate(paint) != before
    page.slide("β, price", 0.5)
    page.slide("ε, clip range", 0.05)
    page.slide("γ, discount", 0.95)
    now = recompute(rollout, beta=0.5, gamma=0.95, lam=0.0, epsilon=0.05)
    cells = page.widget.locator(".losses tbody td:first-of-type")
    page.widget.locator(".losses").get_by_text(f"{now.clip_share:.1%}", exact=True).wait_for()
    assert cells.all_text_contents()[:2] == [number(now.policy_loss), number(now.value_loss)]
    assert page.readout == numbers_of(rollout, 26, 5, beta=0.5, gamma=0.95, lam=0.0, epsilon=0.05)
    assert page.widget.get_by_text("would have led to other responses").is_visible()
    page.keep_picture("sliders")
    page.widget.get_by_role("button", name="Back to the run's settings").click()
    page.widget.get_by_text(numbers_of(rollout, 26, 5)["advantage"], exact=True).wait_for()
    assert page.readout == numbers_of(rollout, 26, 5)


def test_another_response_and_another_quantity(open_page, rollout):
    page = open_page(rollout, "Microscope({rollout}, row=26)")
    page.widget.get_by_role("combobox", name="Response").select_option("7")
    page.widget.get_by_text("own fault", exact=False).first.wait_for()
    page.widget.get_by_role("combobox", name="Colour by").select_option("ratio")
    page.widget.locator(".token.clipped").first.wait_for()
    clipped = page.widget.locator(".token.clipped").all_text_contents()
    table = token_table(rollout, 7)
    assert clipped == table["text"][table["clipped"]].tolist() == [" you", " own"]
    assert page.widget.locator(".token[data-sign='▼']").count() == 2
    assert "Most down: “␣own” × 0.02" in page.widget.locator(".moved").inner_text()
    page.keep_picture("ratio")


def test_hostile_text_is_text(open_page, rollout):
    texts = (HOSTILE + rollout.token_texts[0][len(HOSTILE) :], *rollout.token_texts[1:])
    bad = replace(
        rollout,
        token_texts=texts,
        prompts=(HOSTILE[0], *rollout.prompts[1:]),
        texts=(HOSTILE[1], *rollout.texts[1:]),
    )
    page = open_page(bad, "Microscope({rollout}, row=0)")
    page.tokens.first.wait_for()
    page.widget.get_by_role("button", name="Show the table").click()
    assert page.widget.locator("img, script").count() == 0
    assert page.page.evaluate("() => window.hacked") is None
    assert page.tokens.nth(0).inner_text() == HOSTILE[0]
    assert page.tokens.nth(2).text_content() == "U+001B[31mred"
    assert page.tokens.nth(4).text_content() == "␣↵\n"
    page.keep_picture("hostile")


def test_dark_page_and_phone(open_page, rollout):
    page = open_page(
        rollout,
        "Microscope({rollout}, row=31, quantity='ratio')",
        viewport={"width": 430, "height": 2400},
        has_touch=True,
    )
    page.page.evaluate(HIDE_SIDEBARS)
    page.tokens.nth(37).tap()
    assert page.readout == numbers_of(rollout, 31, 37)
    wide = page.widget.evaluate("el => el.scrollWidth - el.clientWidth")
    assert wide <= 1  # nothing sticks out
    page.keep_picture("phone")
    colour = "el => getComputedStyle(el).backgroundColor"
    light = page.tokens.nth(37).evaluate(colour)
    page.page.evaluate(THEME, "JupyterLab Dark")
    try:
        page.page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
        assert page.tokens.nth(37).evaluate(colour) != light
        assert page.widget.evaluate(colour) == "rgb(20, 23, 26)"
        page.keep_picture("dark")
    finally:
        page.page.evaluate(THEME, "JupyterLab Light")


def test_the_clipped_objective(open_page, rollout):
    page = open_page(rollout, "ClippedObjective({rollout})")
    picture = page.page.locator(".jp-OutputArea-output img")
    picture.wait_for()
    above = picture.get_attribute("alt")
    gone = recompute(rollout).clipped & (recompute(rollout).advantages > 0)
    assert f"{int(gone.sum())} whose gradient is gone" in above
    page.page.get_by_text(f"{int(gone.sum())} of ").wait_for()
    page.keep_picture("clip")
    page.page.get_by_text("advantage below 0").first.click()
    page.page.locator("img[alt*='Advantage below 0']").wait_for()
    assert picture.get_attribute("alt") != above
