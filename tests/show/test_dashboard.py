"""The dashboard without a browser: what it draws, that it changes nothing, that stop stops."""

import asyncio
import copy
import math
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rlhf_lab.cli import main
from rlhf_lab.errors import UserError
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.show.markup import Html
from rlhf_lab.show.panels import PANELS, Line, Panel
from rlhf_lab.show.plots import training_curves
from rlhf_lab.show.widgets import dashboard as module
from rlhf_lab.show.widgets.curves import curve
from rlhf_lab.show.widgets.dashboard import Dashboard

SHORT = SamplingConfig(max_new_tokens=5)
SCRIPT = "<script>alert(1)</script>"


def record(update, updates=4, **more):
    return {
        "stage": "ppo",
        "update": update,
        "updates": updates,
        "objective/kl": 0.1 * update,
        "objective/kl_se": 0.1,
        "objective/scores": 0.5,
        "objective/rlhf_reward": 0.1 * update,
        "response/ended": 1.0,
    } | more


def records(count=4, on_update=lambda update: None):
    for update in range(1, count + 1):
        on_update(update)
        yield record(update, count)


# ---- curves --------------------------------------------------------------------------------------

PANEL = Panel("ppo", "PPO: height", "metres", (Line("h", "kl", error="h_se"),), (0.0, "the sea"))


def points(svg, element):
    return [
        [tuple(map(float, pair.split(","))) for pair in found.split()]
        for found in re.findall(f'<{element} points="(.+?)"', svg)
    ]


def test_a_curve_goes_through_its_points():
    rows = [{"stage": "ppo", "update": u, "h": h, "h_se": 0.0} for u, h in ((1, 0), (2, 1), (3, 2))]
    line = points(curve(PANEL, rows, updates=5), "polyline")[-1]
    # The axis goes from 0 to 2 (150 high, 22 above and below) and from 1 to 5 (46 to 272).
    assert line == [(46.0, 128.0), (102.5, 75.0), (159.0, 22.0)]


def test_a_band_is_two_standard_errors_either_way():
    rows = [{"stage": "ppo", "update": u, "h": 1.0, "h_se": 0.5 / 1.96} for u in (1, 2)]
    (band,) = points(curve(PANEL, rows), "polygon")
    # From 0.5 to 1.5 on an axis from 0 (the level is drawn too) to 1.5.
    low = pytest.approx(128 - 106 / 3, abs=0.1)
    assert [y for _, y in band] == [low, low, 22.0, 22.0]


def test_gaps_strangers_and_nothing_at_all():
    assert curve(PANEL, []) == ""
    assert curve(PANEL, [{"stage": "sft", "update": 1, "h": 1.0}]) == ""
    rows = [
        {"stage": "ppo", "update": u, "h": h} for u, h in enumerate((1.0, math.nan, None, 2.0), 1)
    ]
    line = points(curve(PANEL, rows), "polyline")[-1]
    assert len(line) == 2 and "nan" not in curve(PANEL, rows)
    flat = curve(PANEL, [{"stage": "ppo", "update": 1, "h": 0.0, "h_se": 0.0}])
    assert "<circle" in flat and "nan" not in flat and "inf" not in flat


@pytest.mark.parametrize("low, high", [(0.0, 1e-6), (-3e5, 2.0), (5.0, 5.0), (-1e-9, 0.0)])
def test_every_point_is_inside_its_frame(low, high):
    rows = [{"stage": "ppo", "update": u, "h": h, "h_se": 0.0} for u, h in ((1, low), (2, high))]
    for x, y in points(curve(PANEL, rows), "polyline")[-1]:
        assert 0 <= x <= 280 and 21.9 <= y <= 128.1


# ---- it changes nothing --------------------------------------------------------------------------


def test_a_run_in_a_thread_is_the_run(gpt2, tokenizer):
    """The same records, bit for bit, with the dashboard asking the policy in between."""
    prompts = [Prompt(f"p{i}", f"ask {i}:") for i in range(4)]
    config = PPOConfig(updates=3, batch_size=4, max_new_tokens=5)
    stage = lambda policy: train_ppo(  # noqa: E731
        policy,
        lambda batch, texts: [float(len(text)) for text in texts],
        tokenizer,
        prompts,
        config,
    )
    plain = list(stage(copy.deepcopy(gpt2)))
    policy = copy.deepcopy(gpt2)
    dashboard = Dashboard(policy, tokenizer, prompts[:2], every=2, sampling=SHORT)
    assert asyncio.run(dashboard.run(stage(policy))) == plain == dashboard.records
    assert sorted(dashboard.answers) == [0, 2, 3]
    assert all(len(texts) == 2 for texts in dashboard.answers.values())
    assert dashboard.own_seconds > 0 and not dashboard.stopped


def test_the_same_prompts_are_answered_with_the_same_luck(gpt2, tokenizer):
    dashboard = Dashboard(gpt2, tokenizer, [Prompt("p", "ask:")], every=1, sampling=SHORT)
    asyncio.run(dashboard.run(records(2)))
    assert dashboard.answers[0] == dashboard.answers[1] == dashboard.answers[2]


# ---- stopping ------------------------------------------------------------------------------------


def test_stop_lets_the_update_under_way_finish_and_begins_no_other():
    dashboard, begun = Dashboard(), []

    def on_update(update):
        begun.append(update)
        if update == 2:
            dashboard.stop()

    assert [r["update"] for r in asyncio.run(dashboard.run(records(9, on_update)))] == [1, 2]
    assert begun == [1, 2] and dashboard.stopped
    assert "Stopped after 2 of 9 updates" in dashboard.html()


def test_an_interrupt_of_the_kernel_stops_in_the_same_way():
    """ipykernel cancels the cell's task; the thread must have ended when the cell does."""
    dashboard, second, go = Dashboard(), threading.Event(), threading.Event()

    def on_update(update):
        if update == 2:
            second.set()
            go.wait(10)

    async def cell():
        running = asyncio.ensure_future(dashboard.run(records(9, on_update)))
        while not second.is_set():
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.sleep(0.01)
        go.set()
        return await running

    assert [r["update"] for r in asyncio.run(cell())] == [1, 2]


def test_an_interrupted_loop_ends_without_an_error():
    dashboard = Dashboard()

    def on_update(update):
        if update == 3:
            raise KeyboardInterrupt

    assert [r["update"] for r in dashboard.follow(records(9, on_update))] == [1, 2]
    assert dashboard.stopped


def test_in_the_background_it_returns_at_once():
    dashboard, go = Dashboard(), threading.Event()
    thread = dashboard.start(records(2, lambda update: go.wait(10)))
    assert thread.is_alive() and dashboard.records == []
    go.set()
    thread.join(10)
    assert len(dashboard.records) == 2


def test_it_opens_in_the_cell_and_not_in_the_thread():
    """What a thread displays once its cell has ended is seen nowhere (Voila)."""
    dashboard, opened = Dashboard(), []
    dashboard._view = view = View()
    view.open = lambda page: opened.append(threading.current_thread())
    dashboard.start(records(2)).join(10)
    assert opened == [threading.current_thread()] and len(dashboard.records) == 2


def test_what_the_stage_raises_reaches_the_cell():
    def on_update(update):
        if update == 2:
            raise UserError("the loss is nan")

    dashboard = Dashboard()
    with pytest.raises(UserError, match="the loss is nan"):
        asyncio.run(dashboard.run(records(4, on_update)))
    assert len(dashboard.records) == 1
    assert "Stopped after 1 of 4 updates" in dashboard.html()  # and not so many seconds to go


def test_what_fails_at_once_is_no_update_under_way():
    def on_update(update):
        raise UserError("no")

    dashboard = Dashboard()
    with pytest.raises(UserError, match="no"):
        asyncio.run(dashboard.run(records(4, on_update)))
    assert "Stopped in the first update" in dashboard.html()


def test_the_time_a_run_took_stays_when_the_page_is_shown_again_later(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    dashboard = Dashboard()
    asyncio.run(dashboard.run(records(4, lambda update: now.__setitem__(0, now[0] + 5))))
    now[0] += 3600
    assert "Finished after 4 of 4 updates and 0:20" in dashboard.html()


# ---- what is shown -------------------------------------------------------------------------------


def test_without_a_notebook_lines_are_printed(capsys):
    asyncio.run(Dashboard(every=2).run(records(4)))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1", "2", "3", "4"]
    assert "scores 0.50" in lines[0] and "kl 0.40" in lines[-1]


def test_the_page_holds_progress_alarms_curves_and_answers():
    dashboard = Dashboard()
    dashboard.prompts = [Prompt("p", f"{SCRIPT}:")]
    dashboard.records = [record(u, 9, **{"response/ended": 0.5}) for u in (1, 2, 3)]
    dashboard.answers = {u: [f"{SCRIPT} {u}"] for u in range(7)}
    page = dashboard.html()
    assert "Update 3 of 9" in page and page.count("<svg") == 2
    assert "Only 50%" in page and "../docs/alarms.md#responses-never-end" in page
    assert [n for n in range(7) if f"<bdi>update {n}<" in page] == [0, 3, 6]  # first, half way, now
    assert "<script" not in page and "&lt;script&gt;" in page


def test_only_the_panels_asked_for_are_drawn():
    every, one = Dashboard(), Dashboard(only=["objective/kl"])
    every.records = one.records = [record(u, 9, **{"judge/mark": 5.0}) for u in (1, 2)]
    assert every.html().count("<svg") == 3 and one.html().count("<svg") == 1
    assert "KL to the reference" in one.html()
    titles = [
        axes.get_title(loc="left") for axes in training_curves(one.records, only=one.only).axes
    ]
    assert titles == ["PPO: KL to the reference"]


def test_in_a_written_course_alarms_are_explained_beside_the_notebooks(tmp_path, monkeypatch):
    assert main(["course", "notebooks", str(tmp_path)]) == 0
    monkeypatch.chdir(tmp_path)
    dashboard = Dashboard()
    dashboard.records = [record(u, 9, **{"response/ended": 0.5}) for u in (1, 2, 3)]
    (link,) = set(re.findall(r'href="([^"#]+)#', dashboard.html()))
    assert "responses-never-end" in Path(link).read_text(encoding="utf-8")


def test_what_the_notebook_keeps_is_a_picture():
    dashboard = Dashboard()
    asyncio.run(dashboard.run(records(4)))
    kept = dashboard._repr_html_()
    assert "data:image/png;base64," in kept and "<svg" not in kept
    assert "Finished after 4 of 4 updates" in kept


class View:
    """Stands in for the screen."""

    def __init__(self):
        self.pages, self.kept = [], None

    def open(self, page):
        self.pages.append(page)

    show = open

    def close(self, page, kept):
        self.pages.append(page)
        self.kept = kept


@pytest.mark.parametrize("seconds, drawn", [(0.0, 6), (1000.0, 2)])
def test_it_draws_no_more_often_than_asked(seconds, drawn, capsys):
    dashboard = Dashboard(seconds=seconds)
    dashboard._view = view = View()
    asyncio.run(dashboard.run(records(4)))
    assert len(view.pages) == drawn  # the start, the updates, the end
    assert view.kept is dashboard and "Finished" in view.pages[-1]
    assert capsys.readouterr().out == ""


def test_the_button_stops_and_says_so():
    pressed = threading.Event()
    view = module._View(pressed.set)
    view.button.click()
    assert pressed.is_set() and view.button.disabled and view.button.description == "Stopping ..."
    view.handle = SimpleNamespace(update=lambda kept: None)
    view.close(Html(""), None)
    assert view.button.description == "Stopped" and view.button.disabled
    view = module._View(pressed.set)
    view.handle = SimpleNamespace(update=lambda kept: None)
    view.close(Html(""), None)
    assert view.button.description == "Finished" and view.button.disabled


def test_all_that_ppo_logs_of_a_panel_is_in_its_records(gpt2, tokenizer):
    prompts = [Prompt("p", "ask:")]
    config = PPOConfig(updates=1, batch_size=2, max_new_tokens=3)
    (row,) = train_ppo(
        gpt2,
        lambda batch, texts: [1.0, 0.0],
        tokenizer,
        prompts,
        config,
        judge=lambda prompt, text: Mark(1.0, {}),
    )
    wanted = {line.metric for panel in PANELS if panel.stage == "ppo" for line in panel.lines}
    assert wanted <= set(row) and torch.tensor(row["val/explained_variance"]) <= 1


def test_a_kl_that_is_0_but_for_rounding_is_shown_as_0():
    rounding = ({"objective/kl": kl, "objective/kl_se": 2e-6} for kl in (3e-7, -3e-7))
    rows = [record(update, **kl) for update, kl in enumerate(rounding, 1)]
    [panel] = [p for p in PANELS if p.title == "PPO: KL to the reference"]
    svg = curve(panel, rows)
    assert "KL to the reference  0<" in svg and "e-0" not in svg
    rows[-1] |= {"objective/kl": 3e-4}
    assert "KL to the reference  0.0003<" in curve(panel, rows)
