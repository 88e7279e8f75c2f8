"""What to rank next, which responses to show, and which prompts to hold out.

Chance depends on the seed, the labeller, the prompt and the number of answers alone, so a session
goes on after a restart as if there had been none.

Prompts that are common to all labellers are spread among the others, one item in every five by
default, in an order that is the same for all. So two people who stop early have still ranked the
same first few, agreement is not measured on beginners only, and each has ranked prompts that
nobody else has. Active choice never takes a common prompt away.
"""

import hashlib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.store import Entry, FeedbackStore
from rlhf_lab.records import Prompt, Ranking

MOST = 9  # responses on a screen; an imported ranking may have more
Pick = tuple[Prompt, str, tuple[str, ...] | None]  # prompt, how it was chosen, what to show again


@dataclass(frozen=True)
class Item:
    """A prompt and the responses to rank, in stored order; shown[place on screen] is an index into
    them. pick: how the prompt was chosen."""

    prompt: Prompt
    responses: tuple[str, ...]
    shown: tuple[int, ...]
    pick: str


@dataclass(frozen=True)
class Selection:
    """How a labeller's items are chosen.

    responses: K, how many to show, 2 to 9. common: share of the prompts, and of a labeller's items,
    that everybody gets. repeats: share of the items that show an earlier ranking's responses again,
    at least `gap` items later. active: take the others where uncertainty is highest, not at random.

    Raises UserError for a number out of range.
    """

    responses: int = 4
    common: float = 0.2
    repeats: float = 0.1
    gap: int = 8
    active: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.responses <= MOST:
            raise UserError(
                f"{self.responses} as the number of responses to show: choose from 2 to {MOST}"
            )
        for name in ("common", "repeats"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}: choose a share from 0 to 1")
        if self.gap < 1:
            raise UserError(f"a gap of {self.gap} items: choose 1 or more")

    def next_item(
        self, store: FeedbackStore, labeller: str, uncertainty: Mapping[str, float] | None = None
    ) -> Item | None:
        """What to show this labeller now; None when there is nothing left."""
        pick = next_pick(store, labeller, self, uncertainty)
        if pick is None:
            return None
        prompt, how, responses = pick
        if responses is None:
            texts = [sample.text for sample in store.samples(prompt)]
            responses = tuple(texts[i] for i in pick_responses(texts, self.responses))
        done = store.entries(labeller)
        earlier = [entry.shown for entry in done if entry.prompt.text == prompt.text]
        shown = shuffled(len(responses), earlier[-1:], self.seed, labeller, prompt.text, len(done))
        return Item(prompt, responses, shown, how)


def shuffled(count: int, avoid: Sequence[tuple[int, ...]], *key: object) -> tuple[int, ...]:
    """The numbers below `count` in an order that depends on the key, but is none of `avoid`."""
    for attempt in itertools.count():
        order = tuple(sorted(range(count), key=lambda i: _chance("order", *key, attempt, i)))
        if order not in avoid:
            return order
    raise AssertionError("unreachable: attempts never end")


# ---- the next prompt -----------------------------------------------------------------------------


def next_pick(
    store: FeedbackStore,
    labeller: str,
    selection: Selection,
    uncertainty: Mapping[str, float] | None = None,
) -> Pick | None:
    """The next prompt for a labeller: itself, how it was chosen ("repeat", "common", "active" or
    "random"), and for a repeat the responses to show again; None when there is nothing left.

    A prompt with fewer than two different responses is passed over. Raises UserError if the
    selection is active and there is no uncertainty.
    """
    if selection.active and uncertainty is None:
        raise UserError(
            "active choice needs the uncertainty of each prompt: compute it with "
            "reward.uncertainty_of, or choose at random"
        )
    done = store.entries(labeller)
    if again := _repeat(done, labeller, selection):
        return again.prompt, "repeat", again.responses
    new = [entry for entry in done if entry.pick != "repeat"]
    seen, prompts = {entry.prompt.text for entry in done}, store.prompts()
    queues = {"common": common_prompts(prompts, selection)}
    shared = {prompt.text for prompt in queues["common"]}
    own = "active" if selection.active else "random"
    queues[own] = _own(prompts, shared, labeller, selection, uncertainty or {})
    due = sum(entry.pick == "common" for entry in new) <= selection.common * len(new)
    for pick in ("common", own) if due else (own, "common"):
        for prompt in queues[pick]:
            if prompt.text not in seen and _can_be_ranked(store, prompt):
                return prompt, pick, None
    return None


def common_prompts(prompts: Sequence[Prompt], selection: Selection) -> list[Prompt]:
    """The prompts that everybody gets, in the order in which everybody gets them."""
    count = math.ceil(round(selection.common * len(prompts), 6))
    return sorted(prompts, key=lambda p: _chance("common", selection.seed, p.text))[:count]


def _own(
    prompts: Sequence[Prompt],
    shared: set[str],
    labeller: str,
    selection: Selection,
    uncertainty: Mapping[str, float],
) -> list[Prompt]:
    """The other prompts, in this labeller's order: the least certain first, then at random."""

    def place(prompt: Prompt) -> tuple[float, float]:
        nats = uncertainty.get(prompt.text, math.nan) if selection.active else math.nan
        return (
            math.inf if math.isnan(nats) else -nats,
            _chance("own", selection.seed, labeller, prompt.text),
        )

    return sorted((prompt for prompt in prompts if prompt.text not in shared), key=place)


def _repeat(done: Sequence[Entry], labeller: str, selection: Selection) -> Entry | None:
    """The earlier ranking whose responses to show again now, if a repeat is due."""
    repeated = {entry.prompt.text for entry in done if entry.pick == "repeat"}
    old_enough = done[: max(0, len(done) + 1 - selection.gap)]
    candidates = [
        entry
        for entry in old_enough
        if entry.kind == "ranking"
        and entry.prompt.text not in repeated
        and len(entry.responses) <= MOST
    ]
    if not candidates or len(repeated) + 1 > selection.repeats * (len(done) + 1):
        return None
    return min(
        candidates,
        key=lambda entry: _chance("repeat", selection.seed, labeller, len(done), entry.prompt.text),
    )


def _can_be_ranked(store: FeedbackStore, prompt: Prompt) -> bool:
    return len(distinct([sample.text for sample in store.samples(prompt)])) > 1


# ---- the responses to show -----------------------------------------------------------------------


def pick_responses(texts: Sequence[str], k: int) -> list[int]:
    """Which at most `k` of the responses to show, in stored order: no two alike, and different.

    Greedy: the first, then each time the one that is farthest from all that are taken, by the
    share of words that only one of two has (the farthest-first rule of Gonzalez, 1985). Texts that
    differ in outer blanks alone are alike.
    """
    left = distinct(texts)
    words = {i: set(re.findall(r"\w+", texts[i].lower())) for i in left}
    taken = [left.pop(0)] if left else []
    while left and len(taken) < k:
        farthest = max(left, key=lambda i: min(_distance(words[i], words[j]) for j in taken))
        left.remove(farthest)
        taken.append(farthest)
    return sorted(taken)


def distinct(texts: Sequence[str]) -> list[int]:
    """The first of each group of texts that look alike."""
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        first.setdefault(text.strip(), i)
    return list(first.values())


def _distance(a: set[str], b: set[str]) -> float:
    """Jaccard's: the share of the words that only one of the two has."""
    return len(a ^ b) / max(1, len(a | b))


# ---- what to hold out ----------------------------------------------------------------------------


def split_by_prompt(
    rankings: Sequence[Ranking], held_out: float = 0.2, seed: int = 0
) -> tuple[list[Ranking], list[Ranking]]:
    """Rankings to train on, and about a share `held_out` of the prompts to test on.

    A prompt's side depends on its text alone, so that a repeat or another labeller's ranking never
    crosses, nor does a prompt when more rankings come in. With two prompts or more, neither side is
    empty (the one exception: it takes the prompt that is nearest); `held_out` 0 holds out none.
    """
    place = {r.prompt.text: _chance("held out", seed, r.prompt.text) for r in rankings}
    below = sum(chance < held_out for chance in place.values())
    count = min(max(below, 1), len(place) - 1) if held_out else 0
    apart = set(sorted(place, key=lambda text: place[text])[:count])
    return (
        [r for r in rankings if r.prompt.text not in apart],
        [r for r in rankings if r.prompt.text in apart],
    )


def _chance(*key: object) -> float:
    """A number from 0 to 1 that depends on the key alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
