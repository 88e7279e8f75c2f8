"""A notebook with one ranking widget in a browser: what a person can do there, and the store."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import nbformat
from PIL import Image

from rlhf_lab.feedback.store import Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt

from .conftest import Lab
from .test_notebooks_in_lab import KERNEL_IDLE, LOAD_MS, RUN_ALL

PRODUCTS = ("lamp", "kettle", "router", "watch", "speaker", "scale")
ASK = "My new {} stopped working after the update. What can I do?"
ANSWERS = {
    "best": "I am sorry about that. Hold the button of the {} for ten seconds: it starts afresh "
    "and keeps your settings. If it does not, write to us again and we look into it.",
    "fair": "Please reset the {}, that usually helps.",
    "curt": "Read the manual of the {}.",
    "wrong": "Put the {} in the freezer overnight. We guarantee it works, or you get 500 euros!",
}
COLOURS = 48  # of a picture, which keeps it small
CODE = """\
from rlhf_lab import load_task
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.show.widgets.ranking_widget import RankingWidget
guidelines = load_task("support_desk").guidelines
RankingWidget(FeedbackStore({path!r}), {who!r}, responses={responses}, guidelines=guidelines)
"""
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
CELLS = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
    .map(cell => cell.source)"""
RESTART = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
HIDE_SIDEBARS = """() => {
    window.jupyterapp.shell.collapseLeft();
    for (const side of ["left", "right"]) {
        window.jupyterapp.commands.execute("application:toggle-side-tabbar", {side});
    }
}"""
SAVE = "() => window.jupyterapp.commands.execute('docmanager:save')"
CLEAR = "() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')"


def make_store(path: Path) -> FeedbackStore:
    """Six prompts, each with the four kinds of answer."""
    store = FeedbackStore(path)
    for product in PRODUCTS:
        samples = [Sample(text.format(product), "sft") for text in ANSWERS.values()]
        facts = {"product": product, "what_fixes_it": "hold the button for ten seconds"}
        store.add(Prompt(product, ASK.format(product), facts), samples)
    return store


def ranks_of(entry: Entry) -> dict[str, int | None]:
    """The rank that each kind of answer got."""
    product = entry.prompt.id
    kinds = {text.format(product): kind for kind, text in ANSWERS.items()}
    return dict(zip((kinds[text] for text in entry.responses), entry.ranks, strict=True))


@dataclass
class RankingPage:
    """The page; `page` is Playwright's."""

    page: object
    store: FeedbackStore

    def open(
        self, lab: Lab, responses: int, who: str | None = "ann", then: str | None = None
    ) -> None:
        """Open a notebook that shows the widget, and run it. then: the code of one more cell, which
        is not waited for."""
        code = CODE.format(path=str(self.store.path), responses=responses, who=who)
        cells = [nbformat.v4.new_code_cell(text) for text in (code, then) if text]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
        name = f"{self.store.path.parent.name}.ipynb"
        nbformat.write(notebook, lab.course / "notebooks" / name)
        self.page.goto(lab.notebook_url(name), timeout=LOAD_MS)
        self.run(to_the_end=not then)

    def run(self, to_the_end: bool = True) -> None:
        """Run the notebook once its kernel is ready, and wait for the widget."""
        self.page.wait_for_function(KERNEL_IDLE, timeout=LOAD_MS)
        self.page.evaluate(RUN_ALL)
        if to_the_end:
            self.page.wait_for_function("() => window.runAll !== 'running'", timeout=LOAD_MS)
        self.widget.wait_for(timeout=LOAD_MS)

    def restart(self) -> None:
        """Restart the kernel; what it had shown stays on the page."""
        self.page.evaluate(RESTART)
        self.page.wait_for_function(KERNEL_IDLE)

    def clear(self) -> None:
        """Clear all that the notebook shows."""
        self.page.evaluate(CLEAR)
        self.widget.wait_for(state="detached")

    def reload(self) -> None:
        """Save the notebook and load the page again; the kernel stays."""
        self.page.evaluate(SAVE)
        self.page.reload()
        self.widget.wait_for()

    def hide_sidebars(self) -> None:
        """Leave the width of a phone to the notebook."""
        self.page.evaluate(HIDE_SIDEBARS)

    @property
    def widget(self):
        return self.page.locator(".rlhf-ranking")

    @property
    def prompt(self) -> str:
        return self.widget.locator(".prompt .text").inner_text()

    @property
    def cells(self) -> list[str]:
        """The sources of the notebook's cells."""
        return self.page.evaluate(CELLS)

    def card(self, kind: str):
        """The card with this kind of answer."""
        return self.widget.locator(".card").filter(has_text=ANSWERS[kind].split("{}")[0])

    def button(self, name: str):
        return self.widget.get_by_role("button", name=name)

    def rank(self, *kinds: str) -> None:
        """Press the button that gives the best free rank on each of these in turn."""
        for kind in kinds:
            self.card(kind).get_by_role("button", name="Rank").click()

    def wait_for_count(self, done: int) -> None:
        """Until the page says that so many are done."""
        self.widget.get_by_text(f"{done} of {len(PRODUCTS)}", exact=True).wait_for()

    def key(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, kind: str) -> None:
        """Press Tab until the card has the focus."""
        card = self.card(kind)
        for _ in range(100):
            if card.evaluate("card => card === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach the {kind} card")

    def keep_picture(self, name: str) -> None:
        """Save the widget as a small PNG in $BROWSER_SHOTS, when that is set."""
        if folder := os.environ.get("BROWSER_SHOTS"):
            picture = Image.open(io.BytesIO(self.widget.screenshot()))
            Path(folder).mkdir(parents=True, exist_ok=True)
            picture.quantize(COLOURS).save(Path(folder) / f"{name}.png", optimize=True)
