"""What a labeller's own rankings tell: do they repeat themselves, does the first response shown win
too often, and how long do they take.

The functions take a store or a list of its entries and give a row for each labeller; intervals are
95 %, by bootstrap over prompts.
"""

from collections.abc import Iterable

import pandas as pd

from rlhf_lab.feedback.entry import Entry
from rlhf_lab.feedback.pairs import Pair, agreed, comparisons, rankings_in
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.intervals import median_interval, share_interval

EVERYBODY = "everybody"


def consistency(source: FeedbackStore | Iterable[Entry], seed: int = 0) -> pd.DataFrame:
    """How far labellers order responses as they did when they last ranked them: labeller, repeats,
    pairs, agreement, low, high. Somebody without repeats has no row."""
    latest: dict[tuple[str, str], dict[Pair, int]] = {}
    rows = []
    for entry in rankings_in(source):
        key, said = (entry.labeller, entry.prompt.text), comparisons(entry)
        if entry.pick == "repeat" and key in latest:
            rows.append((*key, *agreed(latest[key], said)))
        latest[key] = said
    seen = pd.DataFrame(rows, columns=["labeller", "prompt", "agreed", "pairs"])
    seen = seen[seen["pairs"] > 0]
    table = [
        (name, len(group), group["pairs"].sum(), *_share(group, "agreed", "pairs", seed))
        for name, group in seen.groupby("labeller")
    ]
    return pd.DataFrame(table, columns=["labeller", "repeats", "pairs", "agreement", "low", "high"])


def position_bias(source: FeedbackStore | Iterable[Entry], seed: int = 0) -> pd.DataFrame:
    """How often the response shown first is ranked best, and how often chance would have it so:
    labeller, rankings, first_best, low, high, chance; the last row is of everybody together.

    Where m responses share the best rank, each is best by 1/m. The order on screen is drawn at
    random, so that the expected share of the first of K is 1/K for a labeller whom the place does
    not sway, ties or not. Every pick counts, repeats too: each had an order of its own. Imported
    rankings, whose order on screen nobody knows, do not.
    """
    rows = [
        (entry.labeller, entry.prompt.text, _win_of_first(entry), 1 / len(entry.ranks), 1)
        for entry in rankings_in(source)
        if entry.shown
    ]
    seen = pd.DataFrame(rows, columns=["labeller", "prompt", "win", "chance", "rankings"])
    groups = [*seen.groupby("labeller"), (EVERYBODY, seen)] if rows else []
    table = [
        (name, len(group), *_share(group, "win", "rankings", seed), group["chance"].mean())
        for name, group in groups
    ]
    return pd.DataFrame(
        table, columns=["labeller", "rankings", "first_best", "low", "high", "chance"]
    )


def pace(source: FeedbackStore | Iterable[Entry], seed: int = 0) -> pd.DataFrame:
    """How much each labeller did, and the median seconds a ranking took: labeller, rankings, skips,
    flags, seconds, low, high. Rankings without a time, such as imported ones, are not timed."""
    entries = source.entries() if isinstance(source, FeedbackStore) else list(source)
    counts = pd.DataFrame(
        [(entry.labeller, entry.kind) for entry in entries], columns=["labeller", "kind"]
    )
    rows = []
    for name, kinds in counts.groupby("labeller")["kind"]:
        timed = [e for e in rankings_in(entries) if e.labeller == name and e.seconds > 0]
        seconds = median_interval([e.seconds for e in timed], [e.prompt.text for e in timed], seed)
        done = [(kinds == kind).sum() for kind in ("ranking", "skip", "flag")]
        rows.append((name, *done, *seconds))
    return pd.DataFrame(
        rows, columns=["labeller", "rankings", "skips", "flags", "seconds", "low", "high"]
    )


def _win_of_first(entry: Entry) -> float:
    """What part of the win the response shown first has."""
    best = min(rank for rank in entry.ranks if rank is not None)
    return (entry.ranks[entry.shown[0]] == best) / entry.ranks.count(best)


def _share(rows: pd.DataFrame, part: str, whole: str, seed: int) -> tuple[float, float, float]:
    sums = rows.groupby("prompt")[[part, whole]].sum()
    return share_interval(sums[part], sums[whole], seed)
