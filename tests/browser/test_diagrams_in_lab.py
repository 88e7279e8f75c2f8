"""The drawn diagrams show in JupyterLab, light and dark, in a clone and in a copied course.

Set BROWSER_SHOTS to a folder to keep a picture of each.
"""

import os
from pathlib import Path

import pytest

from rlhf_lab.course.editions import write_edition

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
LOAD_MS = 300_000
READY = "() => window.jupyterapp?.shell.currentWidget?.context?.isReady"
DRAWN = """() => [...document.querySelectorAll('.jp-MarkdownOutput img[alt^="Diagram"]')]
    .some((image) => image.complete && image.naturalWidth === 1000)"""
THEME = "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"


@pytest.mark.parametrize(
    ("folder", "name", "theme"),
    [
        ("notebooks", "00_tour", "JupyterLab Light"),
        ("copied", "00_tour", "JupyterLab Dark"),
        ("notebooks", "04_policy_gradients_and_ppo", "JupyterLab Dark"),
        ("copied", "04_policy_gradients_and_ppo", "JupyterLab Light"),
    ],
)
def test_the_diagram_shows(lab, browser, folder, name, theme):
    if folder == "copied" and not (lab.course / folder / f"{name}.ipynb").exists():
        write_edition("notebooks", [ROOT / "notebooks" / f"{name}.ipynb"], lab.course / folder)
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    try:
        page.goto(f"{lab.url}/lab/tree/{folder}/{name}.ipynb?token={lab.token}&reset")
        page.wait_for_function(READY, timeout=LOAD_MS)
        page.evaluate(THEME, theme)
        page.wait_for_function(DRAWN, timeout=LOAD_MS)
        image = page.locator('.jp-MarkdownOutput img[alt^="Diagram"]').first
        image.scroll_into_view_if_needed()
        box = image.bounding_box()
        assert 500 < box["width"] <= 1000 and box["width"] / box["height"] == pytest.approx(
            1000 / 550, rel=0.05
        )
        if shots := os.environ.get("BROWSER_SHOTS"):
            page.wait_for_timeout(1000)
            page.screenshot(path=Path(shots) / f"{folder}-{name}.png")
    finally:
        page.close()
