"""A session of ranking, without any front end: what is shown, what is stored, what comes next.

The widget, the terminal and `rank_headless` are three faces of it. Everything that matters is in
the store: a new session on the same store goes on where the last one stopped, with the same item
in the same order on screen.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.selection import Item, Selection
from rlhf_lab.feedback.store import Entry, FeedbackStore
from rlhf_lab.tasks.labellers import GENERAL, Guidelines, Judge, Labeller


class Clock:
    """Seconds spent on an item; it stands still while paused."""

    def __init__(self, now: Callable[[], float]):
        self.now, self.paused = now, False
        self.restart()

    def restart(self, seconds: float = 0.0) -> None:
        """Begin again, with so many seconds spent already."""
        self._spent, self._since = seconds, self.now()

    def pause(self) -> None:
        self._spent, self.paused = self.seconds, True

    def resume(self) -> None:
        self._spent, self._since, self.paused = self.seconds, self.now(), False

    @property
    def seconds(self) -> float:
        return self._spent if self.paused else self._spent + self.now() - self._since


class RankingSession:
    """One labeller's way through the prompts of a store.

    selection: decides what to show next. goal: stop after so many answers (rankings, skips and
    flags of this labeller in the store, those of earlier sessions too). uncertainty: by prompt
    text, for an active selection. now: a clock in seconds.

    current: the item to rank, None when finished. restored: the ranks, in stored order, that an
    item brought back by `undo` had; None for any other. Every answer is in the store before
    `current` changes; if it cannot be written, the error goes to the caller and nothing changes. If
    it was written and what comes next cannot be read, the next call reads that and writes no more.

    Raises UserError for a name that the store refuses, a goal below 1, and, at an answer, for the
    name of a simulated labeller.
    """

    def __init__(
        self,
        store: FeedbackStore,
        labeller: str,
        selection: Selection = Selection(),
        goal: int | None = None,
        uncertainty: Mapping[str, float] | None = None,
        guidelines: Guidelines = GENERAL,
        now: Callable[[], float] = time.monotonic,
    ):
        if goal is not None and goal < 1:
            raise UserError(f"a goal of {goal} rankings: set 1 or more, or none for all prompts")
        store.add_labeller(labeller)
        self.store, self.labeller, self.selection = store, labeller, selection
        programs = {*store.labellers(simulated=True)} - {*store.labellers()}
        self._refused = labeller in programs  # unless a program answers: see `rank_headless`
        self.goal, self.uncertainty, self.guidelines = goal, uncertainty, guidelines
        self.current: Item | None = None
        self.restored: tuple[int | None, ...] | None = None
        self._clock = Clock(now)
        self._stored = False  # whether `current` has been answered
        self._go_on(taken_back=self._left_taken_back())

    @property
    def progress(self) -> tuple[int, int]:
        """How many answers there are, and how many there will be: the goal, or as many as there are
        prompts; a repeat is one more."""
        return self._progress

    @property
    def paused(self) -> bool:
        """Whether the clock stands still."""
        return self._clock.paused

    def pause(self) -> None:
        """Stop the clock."""
        self._clock.pause()

    def resume(self) -> None:
        """Let the clock go on."""
        self._clock.resume()

    def submit(self, ranks: Sequence[int | None]) -> None:
        """Store the ranks of the current responses, in stored order, then go on.

        Raises UserError if they do not fit the responses or rank none of them.
        """
        self._write("ranking", ranks=tuple(ranks))

    def skip(self) -> None:
        """Go on without an answer."""
        self._write("skip")

    def flag(self, reason: str) -> None:
        """Report the responses as "unsafe" or "nonsense", then go on."""
        self._write("flag", flag=reason)

    def undo(self) -> Item | None:
        """Take the last answer back and show its item again; None if there is no answer."""
        taken_back = self.store.undo(self.labeller)
        if taken_back is None:
            return None
        self._go_on(taken_back)
        return self.current

    def _write(self, kind: str, **answer: Any) -> None:
        item = self.current
        if item is None:
            raise UserError("there is nothing left to rank: add prompts, or set a higher goal")
        if self._stored:
            self._go_on()
            return
        if self._refused:
            raise UserError(
                f"{self.labeller!r} is the name of a simulated labeller in {self.store.path}: "
                "choose another name"
            )
        self.store.write(
            Entry(
                id="",
                kind=kind,
                labeller=self.labeller,
                prompt=item.prompt,
                responses=item.responses,
                shown=item.shown,
                seconds=round(self._clock.seconds, 3),
                pick=item.pick,
                guidelines=self.guidelines.version,
                **answer,
            )
        )
        self._stored = True
        self._go_on()

    def _left_taken_back(self) -> Entry | None:
        """The answer that was taken back last, if no other has been given since."""
        history = self.store.entries(self.labeller, undone=True)
        if not history or history[-1].kind != "undo":
            return None
        return next(entry for entry in history if entry.id == history[-1].undoes)

    def _go_on(self, taken_back: Entry | None = None) -> None:
        """Show what was taken back, or else the next item; its clock starts."""
        done = self.store.entries(self.labeller)
        if taken_back:
            item = _item_of(taken_back)
        elif self.goal and len(done) >= self.goal:
            item = None
        else:
            item = self.selection.next_item(self.store, self.labeller, self.uncertainty)
        self.current, self._progress = item, (len(done), self._outlook(done, item))
        self._stored = False
        self.restored = (taken_back and taken_back.ranks) or None
        self._clock.restart(taken_back.seconds if taken_back else 0.0)

    def _outlook(self, done: list[Entry], item: Item | None) -> int:
        """How many answers there will be in the end, as far as one can tell."""
        if item is None:
            return len(done)
        left = {p.text for p in self.store.prompts()} - {entry.prompt.text for entry in done}
        total = len(done) + len(left | {item.prompt.text})
        return min(self.goal or total, total)


def _item_of(entry: Entry) -> Item:
    """The item that was answered so; an imported ranking was on no screen."""
    shown = entry.shown or tuple(range(len(entry.responses)))
    return Item(entry.prompt, entry.responses, shown, entry.pick)


def ranks_from_order(groups: Sequence[Sequence[int]], count: int) -> list[int | None]:
    """Ranks of `count` responses from groups of their numbers, best first; a group is a tie.

    A rank counts all that are before it (1, 1, 3); whoever is in no group is unranked (None).
    Raises UserError for a number that stands twice or belongs to no response.
    """
    ranks: list[int | None] = [None] * count
    before = 0
    for group in groups:
        for response in group:
            if not 0 <= response < count or ranks[response] is not None:
                raise UserError(
                    f"response {response} is unknown or named twice: name each of the "
                    f"{count} responses at most once"
                )
            ranks[response] = before + 1
        before += len(group)
    return ranks


def rank_headless(session: RankingSession, simulated: Labeller, judge: Judge, seed: int = 0) -> int:
    """Let a simulated labeller answer until the session is finished; returns how many answers.

    A repeat is ranked with fresh noise, as a person would who has forgotten the first time. The
    store marks the labeller as simulated; raises UserError if a person of this name has ranked.
    """
    count = 0
    if session.current:
        session.store.add_labeller(session.labeller, simulated=True)
        session._refused = False
    while item := session.current:
        luck = seed + (item.pick == "repeat")
        session.submit(simulated.rank(judge, item.prompt, item.responses, luck).ranks)
        count += 1
    return count
