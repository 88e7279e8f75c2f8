"""The dashboard in JupyterLab, with a real run of PPO: it grows, the button stops it, the policy
can be used, and the saved notebook keeps a picture.

Set BROWSER_SHOTS to a folder to keep pictures.
"""

import os
import re
from pathlib import Path

import nbformat
import pytest

from .ranking_page import KERNEL, SAVE
from .test_notebooks_in_lab import CODE_CELLS, KERNEL_IDLE, LOAD_MS, RUN_ALL, errors

pytestmark = pytest.mark.browser

TRAIN = """\
from rlhf_lab import *
from rlhf_lab.show.widgets.dashboard import Dashboard
task, tokenizer = load_task("support_desk"), load_tokenizer(base_model())
policy = load_policy(shipped("sft"))
reward_model = ScalarModel.load(shipped("reward_model")).requires_grad_(False)
prompts = task.prompts(seed=5, count=500)
dashboard = Dashboard(policy, tokenizer, prompts[:2], every=2)
metrics = await dashboard.run(train_ppo(policy, reward_model, tokenizer, prompts,
                              PPOConfig(updates=500, batch_size=8), judge=task.judge))"""
THIRD = re.compile(r"Update ([3-9]|\d\d+) of 500")  # or later: not every update is drawn
AFTER = """\
print("updates:", len(metrics), dashboard.stopped)
print("answers:", len(answer(policy, tokenizer, prompts[:1], seed=1).texts))"""


def test_stop_stops_and_leaves_a_policy_and_a_picture(lab, browser):
    path = lab.course / "notebooks" / "live.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in (TRAIN, AFTER)]
    kernel = {"kernelspec": KERNEL}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    try:
        page.goto(lab.notebook_url(path.name), timeout=LOAD_MS)
        page.wait_for_function(KERNEL_IDLE, timeout=LOAD_MS)
        page.evaluate(RUN_ALL)
        page.get_by_text(THIRD).wait_for(timeout=LOAD_MS)
        assert page.locator("svg[role=img]").count() >= 6
        keep(page, "dashboard_live")
        page.locator("button:has-text('Stop')").click()
        page.get_by_text("Stopped after").first.wait_for(timeout=LOAD_MS)
        page.wait_for_function("() => window.runAll !== 'running'", timeout=LOAD_MS)
        keep(page, "dashboard_stopped")
        page.evaluate(SAVE)
        first, second = page.evaluate(CODE_CELLS)
    finally:
        page.close()
    assert errors([first, second]) == []
    said = "".join(output.get("text", "") for output in second["outputs"])
    updates = int(said.split()[1])
    assert 3 <= updates < 500 and "True" in said and "answers: 1" in said
    kept = [output["data"]["text/html"] for output in first["outputs"] if "data" in output]
    assert len(kept) == 1 and "data:image/png;base64," in "".join(kept[0])
    assert f"Stopped after {updates} of 500" in "".join(kept[0])


def keep(page, name: str) -> None:
    if folder := os.environ.get("BROWSER_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
