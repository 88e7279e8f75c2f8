"""The live dashboard: a stage's curves, alarms and answers while it trains, and a stop button.

    dashboard = Dashboard(policy, tokenizer, prompts[:3])
    metrics = await dashboard.run(train_ppo(policy, ...))

Training runs in its own thread, so that the kernel can receive the click on the button; it cannot
while an ordinary cell computes. `follow` is for a plain loop: there, interrupt the kernel to stop.
Outside a notebook both print lines.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ipywidgets
from IPython import get_ipython
from IPython.display import display

from rlhf_lab.evaluate import respond
from rlhf_lab.records import Prompt
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.show.alarms import Alarm, alarms
from rlhf_lab.show.markup import Html, tag
from rlhf_lab.show.panels import panels_of
from rlhf_lab.show.plots import training_curves
from rlhf_lab.show.widgets.curves import curve
from rlhf_lab.training import Record

# The path from a notebook: in a clone, and in a folder that `rlhf-lab course` wrote.
ALARMS = ("../docs/alarms.md", "linked/docs/alarms.md")
SHOWN = ("loss/sft", "loss/reward", "objective/scores", "judge/mark", "objective/kl")  # in print


class Dashboard:
    """Watches one stage.

    policy, tokenizer, prompts: every `every` updates the policy answers these prompts, always with
    the same random numbers, so that only the policy changes the answers; without prompts none are
    shown. seconds: the shortest time between two drawings. sampling: how the policy answers. only:
    the metrics whose panels are drawn; by default all that there are.

    records: what the stage has yielded so far. answers: {update: [text, ...]}. stopped: whether
    a person stopped it.
    """

    def __init__(
        self,
        policy=None,
        tokenizer=None,
        prompts: Sequence[Prompt] = (),
        every: int = 5,
        seconds: float = 0.3,
        sampling: SamplingConfig = SamplingConfig(),
        only: Sequence[str] = (),
    ):
        self.policy, self.tokenizer, self.prompts = policy, tokenizer, list(prompts)
        self.sampling, self.only = sampling, only
        self.every, self.seconds = every, seconds
        self.records: list[Record] = []
        self.answers: dict[int, list[str]] = {}
        self.own_seconds = 0.0  # spent on the dashboard and not on training
        self._wish = threading.Event()
        self._began = self._drawn = time.perf_counter()
        self._ended: float | None = None  # when the stage finished, stopped or failed
        self._view = _View(self.stop) if _in_notebook() else None

    @property
    def stopped(self) -> bool:
        return self._wish.is_set()

    def stop(self) -> None:
        """Stop after the current update; the policy stays as that update leaves it."""
        self._wish.set()

    async def run(self, records: Iterator[Record]) -> list[Record]:
        """Train to the end, or until the button is pressed or the kernel is interrupted; returns
        the records. Use it as `await dashboard.run(...)`. Errors of the stage are raised again."""
        self._open()
        training = asyncio.ensure_future(asyncio.to_thread(self._exhaust, records))
        try:
            await asyncio.shield(training)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.stop()
            await training
        return self.records

    def start(self, records: Iterator[Record]) -> threading.Thread:
        """Train in the background and return at once: for a Voila page, where no cell waits."""
        self._open()  # not in the thread: its output after the end of the cell would be lost
        thread = threading.Thread(target=self._exhaust, args=(records,), daemon=True)
        thread.start()
        return thread

    def follow(self, records: Iterator[Record]) -> Iterator[Record]:
        """Yield the same records and draw them: `for record in dashboard.follow(train_ppo(...))`.

        Interrupting the kernel (Ctrl-C) ends the loop without an error.
        """
        self._open()
        yield from self._watch(records)

    def html(self) -> Html:
        """The current page: progress, alarms, curves, answers."""
        updates = self.records[-1]["updates"] if self.records else None
        curves = [
            curve(panel, self.records, updates) for panel in panels_of(self.records, self.only)
        ]
        row = tag("div", *curves, style="display: flex; flex-wrap: wrap; gap: 0.6em")
        return self._page(row)

    def _repr_html_(self) -> Html:
        """The same with the curves as a picture, which any viewer of a saved notebook can show."""
        return self._page(training_curves(self.records, columns=3, only=self.only).page())

    def _page(self, curves: Html) -> Html:
        return tag(
            "div",
            tag("p", self._progress()),
            _alarms(alarms(self.records)),
            curves,
            self._answers(),
            style="font-family: sans-serif; line-height: 1.4",
        )

    # ---- on the way --------------------------------------------------------------------------

    def _open(self) -> None:
        self._began, self._ended = time.perf_counter(), None
        if self._view:
            with self._own_time():
                self._view.open(self.html())

    def _exhaust(self, records: Iterator[Record]) -> None:
        for _ in self._watch(records):
            pass

    def _watch(self, records: Iterator[Record]) -> Iterator[Record]:
        with self._own_time():
            self._ask(0)
        try:
            for record in records:
                self._see(record)
                yield record
                if self.stopped:
                    break
        except KeyboardInterrupt:
            self.stop()
        finally:
            self._end()

    def _see(self, record: Record) -> None:
        """Add a record; sample answers if they are due; draw if the last drawing is old enough."""
        with self._own_time():
            self.records.append(record)
            if record["update"] % self.every == 0 or record["update"] == record["updates"]:
                self._ask(record["update"])
            if self._view is None:
                _print(record, self.every)
            elif time.perf_counter() - self._drawn >= self.seconds:
                self._view.show(self.html())
                self._drawn = time.perf_counter()

    def _end(self) -> None:
        self._ended = time.perf_counter()
        if self._view:
            with self._own_time():
                self._view.close(self.html(), self)
        else:
            for alarm in alarms(self.records):
                print(f"! {alarm.text}")

    @contextmanager
    def _own_time(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.own_seconds += time.perf_counter() - started

    def _ask(self, update: int) -> None:
        if self.prompts:
            answers = respond(self.policy, self.tokenizer, self.prompts, config=self.sampling)
            self.answers[update] = [row[0] for row in answers.texts]

    # ---- what is shown -----------------------------------------------------------------------

    def _progress(self) -> str:
        spent = (self._ended or time.perf_counter()) - self._began
        if not self.records:
            ended = f"Stopped in the first update, after {_clock(spent)}."
            return ended if self._ended else "The first update is running."
        done, total = self.records[-1]["update"], self.records[-1]["updates"]
        if self._ended:
            how = "Stopped" if done < total else "Finished"
            return f"{how} after {done} of {total} updates and {_clock(spent)}."
        left = spent / (done - self.records[0]["update"] + 1) * (total - done)
        return f"Update {done} of {total}, {_clock(spent)} so far, {_clock(left)} to go."

    def _answers(self) -> Html | None:
        """The same prompts at the start, half way and now."""
        if not self.answers:
            return None
        updates = sorted(self.answers)
        chosen = sorted({updates[0], updates[len(updates) // 2], updates[-1]})
        rows = [
            tag(
                "tr",
                _cell("th", f"update {u}", scope="row"),
                *(_cell("td", text.strip()) for text in self.answers[u]),
            )
            for u in chosen
        ]
        heads = tag(
            "tr", tag("td"), *(_cell("th", p.text.strip(), scope="col") for p in self.prompts)
        )
        table = tag("table", heads, *rows, style="border-collapse: collapse")
        return tag("div", table, style="overflow-x: auto")


class _View:
    """The dashboard on screen: a button and a page; at the end, the output the notebook saves."""

    def __init__(self, stop: Callable[[], None]):
        self.button = ipywidgets.Button(
            description="Stop", icon="stop", tooltip="Stop after the current update"
        )
        self.button.on_click(lambda _: self._pressed(stop))
        self.page = ipywidgets.HTML()
        self.box = ipywidgets.VBox([self.button, self.page])

    def open(self, page: Html) -> None:
        self.page.value = page
        self.handle = display(self.box, display_id=True)

    def show(self, page: Html) -> None:
        self.page.value = page

    def close(self, page: Html, kept) -> None:
        self.page.value = page
        stopped = self.button.description != "Stop"
        self.button.disabled, self.button.description = True, "Stopped" if stopped else "Finished"
        self.handle.update(kept)

    def _pressed(self, stop: Callable[[], None]) -> None:
        self.button.disabled, self.button.description = True, "Stopping ..."
        stop()


def _alarms(found: Sequence[Alarm]) -> Html | None:
    if not found:
        return None
    page = ALARMS[Path(ALARMS[1]).exists()]
    items = [
        tag(
            "li",
            f"{alarm.text} ",
            tag("a", "What it means and what to try", href=f"{page}#{alarm.name}"),
        )
        for alarm in found
    ]
    return tag(
        "ul",
        *items,
        role="alert",
        style="border-left: 4px solid #D55E00; margin: 0.4em 0; padding: 0.4em 0.4em 0.4em 1.8em",
    )


def _cell(element: str, text: str, **attributes) -> Html:
    look = (
        "padding: 0.3em 0.8em; border-top: 1px solid #808080; vertical-align: top; "
        "text-align: left; white-space: pre-wrap; max-width: 24em; overflow-wrap: anywhere"
    )
    return tag(element, tag("bdi", text), style=look, **attributes)


def _print(record: Record, every: int) -> None:
    if record["update"] % every in (0, 1) or record["update"] == record["updates"]:
        numbers = "  ".join(
            f"{name.partition('/')[2]} {record[name]:.2f}"
            for name in SHOWN
            if record.get(name) is not None
        )
        print(f"{record['stage']} {record['update']:4d} of {record['updates']}  {numbers}")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _in_notebook() -> bool:
    return hasattr(get_ipython(), "kernel")
