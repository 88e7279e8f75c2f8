"""Notebooks run in a real JupyterLab page: no error, and the plots are there to be seen.

Set BROWSER_SHOTS to a folder to keep a picture of every notebook after its run.
"""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

NOTEBOOKS = (
    "00_tour.ipynb",
    "04_policy_gradients_and_ppo.ipynb",
    "06_reward_hacking.ipynb",
    "06b_fits_ensembles_and_noise.ipynb",
    "07_round_two.ipynb",
    "08_other_roads.ipynb",
    "09_a_constitution.ipynb",
    "10_scaling_up.ipynb",
)
LOAD_MS = 300_000  # the page and its kernel; generous, for machines that are busy
RUN_MS = 600_000  # all cells of one notebook
TALLEST_SHOT = 16_000  # pixels

KERNEL_IDLE = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.context?.isReady
        && panel.sessionContext?.session?.kernel?.status === "idle";
}"""
RUN_ALL = """() => {
    window.runAll = "running";
    window.jupyterapp.commands.execute("notebook:run-all-cells").then(
        () => { window.runAll = "done"; },
        error => { window.runAll = "failed: " + error; });
}"""
CODE_CELLS = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
    .filter(cell => cell.cell_type === "code")"""
VISIBLE_PLOTS = """() => [...document.querySelectorAll(
        ".jp-OutputArea-output img, .jp-OutputArea-output svg")]
    .filter(plot => plot.tagName !== "IMG" || (plot.complete && plot.naturalWidth > 0))
    .map(plot => plot.getBoundingClientRect())
    .filter(box => box.width > 100 && box.height > 50).length"""
CONTENT_HEIGHT = """() => Math.max(...[...document.querySelectorAll(
    ".jp-NotebookPanel .jp-WindowedPanel-outer")].map(outer => outer.scrollHeight))"""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_and_draws(lab, browser, name):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    try:
        page.goto(lab.notebook_url(name), timeout=LOAD_MS)
        page.wait_for_function(KERNEL_IDLE, timeout=LOAD_MS)
        page.evaluate(RUN_ALL)
        page.wait_for_function("() => window.runAll !== 'running'", timeout=RUN_MS)
        page.wait_for_function(KERNEL_IDLE, timeout=LOAD_MS)
        keep_picture(page, name)

        assert page.evaluate("() => window.runAll") == "done"
        cells = page.evaluate(CODE_CELLS)
        assert errors(cells) == []
        never_run = [source(c) for c in cells if source(c).strip() and not c["execution_count"]]
        assert never_run == []
        assert page.evaluate(VISIBLE_PLOTS) >= 1
        assert page.get_by_text("Error displaying widget").count() == 0
    finally:
        page.close()


def errors(cells: list[dict]) -> list[str]:
    """What went wrong, one line for each error output, with the first line of its cell."""
    return [
        f"{source(cell).splitlines()[0]!r}: {output['ename']}: {output['evalue']}"
        for cell in cells
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]


def source(cell: dict) -> str:
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


def keep_picture(page, name: str) -> None:
    """Save the whole notebook as one PNG in $BROWSER_SHOTS, when that is set."""
    if folder := os.environ.get("BROWSER_SHOTS"):
        height = min(page.evaluate(CONTENT_HEIGHT) + 200, TALLEST_SHOT)
        page.set_viewport_size({"width": 1280, "height": max(height, 1000)})
        page.wait_for_timeout(500)
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{Path(name).stem}.png")
