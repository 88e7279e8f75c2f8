"""A prediction in JupyterLab: typed, kept over a restart of the kernel, shown beside the result.

Set BROWSER_SHOTS to a folder to keep pictures.
"""

import json

import nbformat
import pytest

from .ranking_page import CELLS, KERNEL, RESTART
from .test_dashboard import keep
from .test_notebooks_in_lab import CODE_CELLS, KERNEL_IDLE, LOAD_MS, RUN_ALL, errors

pytestmark = pytest.mark.browser

IMPORT = "from rlhf_lab.course.predictions import predict, your_prediction"
BOX = 'predict("99 baseline", "What does a baseline change?")'
BACK = 'your_prediction("99 baseline")'
TYPED = "ab dd xx m: <b>it shakes less</b>"  # the keys that JupyterLab takes for commands
SHOWN = f"You wrote: {TYPED}"


def run_all(page) -> None:
    page.evaluate(RUN_ALL)
    page.wait_for_function("() => window.runAll === 'done'", timeout=LOAD_MS)
    page.wait_for_function(KERNEL_IDLE, timeout=LOAD_MS)


def test_what_is_typed_survives_a_restart_and_is_shown_beside_the_result(lab, browser):
    path = lab.course / "notebooks" / "prediction.ipynb"
    sources = [f"{IMPORT}\n{BOX}", "print(0.14)", BACK]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        page.goto(lab.notebook_url(path.name), timeout=LOAD_MS)
        page.wait_for_function(KERNEL_IDLE, timeout=LOAD_MS)
        run_all(page)
        page.get_by_text("You wrote no prediction for this.").wait_for(timeout=LOAD_MS)
        box = page.get_by_label("I predict")
        box.click()
        page.keyboard.type(TYPED, delay=20)
        page.get_by_text("Saved in predictions.json").wait_for(timeout=LOAD_MS)
        page.wait_for_timeout(500)  # the last key is on its way
        keep(page, "prediction_typed")
        assert page.evaluate(CELLS) == sources

        page.evaluate(RESTART)
        page.wait_for_function(KERNEL_IDLE, timeout=LOAD_MS)
        run_all(page)
        page.get_by_text(SHOWN).wait_for(timeout=LOAD_MS)
        assert page.get_by_label("I predict").input_value() == TYPED
        keep(page, "prediction_again")
        assert errors(page.evaluate(CODE_CELLS)) == []
    finally:
        page.close()
    stored = json.loads((path.parent / "predictions.json").read_text("utf-8"))
    assert stored["99 baseline"]["text"] == TYPED
