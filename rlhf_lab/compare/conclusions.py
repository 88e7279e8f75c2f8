"""The outcome of a comparison in plain words, and warnings."""

from rlhf_lab.compare.measure import Comparison
from rlhf_lab.disk.jsonl import plain

FEW = 30  # with fewer prompts, a normal interval is too narrow
MOST = 4  # groups that get a sentence of their own
WAYS = {1: "higher", -1: "lower"}


def clearly(row: dict) -> int | None:
    """1 if a model is above its rival by more than chance explains, -1 if below, 0 if neither; None
    for a model without a rival or an interval."""
    value = row["difference"]
    if not value or None in value:
        return None
    _, low, high = value
    return (low > 0) - (high < 0)


def headline(comparison: Comparison, unit: str) -> str:
    """The outcome as one short line."""
    rows = plain(comparison.rows)
    found = [row for row in rows if clearly(row) is not None]
    if not found:
        return f"{len(rows)} models on the same prompts" if len(rows) > 1 else rows[0]["model"]
    ways = [known for row in found if (known := clearly(row)) is not None]
    first = "the first model" if len({row["rival"] for row in found}) > 1 else found[0]["rival"]
    if len(found) == 1:
        way = WAYS.get(ways[0])
        return (
            f"{found[0]['model']} has a clearly {way} {unit} than {first}"
            if way
            else f"No clear difference between {found[0]['model']} and {first}"
        )
    counts = [
        f"{ways.count(sign)} clearly {word}" for sign, word in WAYS.items() if ways.count(sign)
    ] + [f"{ways.count(0)} not clearly different"] * (0 in ways)
    return f"Against {first}, of {len(found)} models: {', '.join(counts)}"


def sentences(comparison: Comparison, unit: str) -> list[str]:
    """One sentence for each group that has a rival; it covers all seeds of the group."""
    rows = {row["model"]: row for row in plain(comparison.rows)}
    groups = [
        [rows[name] for name in g["models"] if clearly(rows[name]) is not None]
        for g in comparison.groups
    ]
    said = [
        _of_seeds(group, unit) if len(group) > 1 else _of_one(group[0], unit)
        for group in groups
        if group
    ]
    return said[:MOST]


def pairing(comparison: Comparison) -> str:
    """How pairing by prompt changed the width of the differences' intervals; "" if nothing is
    compared. It may widen them, if one model does well on the prompts that are hard for the other.
    """
    rows = [row for row in plain(comparison.rows) if clearly(row) is not None]
    widths = [
        (row["difference"][2] - row["difference"][1]) / 2 / row["unpaired_half"]
        for row in rows
        if row["unpaired_half"]
    ]
    if not widths:
        return ""
    few, most = (f"{width:.2f}" for width in (min(widths), max(widths)))
    times = few if few == most else f"{few} to {most}"
    return (
        f"Because of pairing by prompt, the differences have intervals {times} times as wide as "
        "those from separate prompts for each model."
    )


def cautions(comparison: Comparison, prompts: int, unit: str) -> list[str]:
    """Warnings for the reader, one sentence each."""
    rows = plain(comparison.rows)
    checks = [
        (
            prompts < FEW,
            f"Only {prompts} prompts: intervals from so few are too narrow, so believe only a "
            "large difference.",
        ),
        (
            unit == "score",
            "There was no judge. The scores are a reward model's: they are evidence only "
            "if it was trained on rankings that no model here was trained on.",
        ),
        (
            len(rows) > 1 and all(len(g["models"]) == 1 for g in comparison.groups),
            "One seed of each: the intervals cover other prompts, but not another training run.",
        ),
        (
            any(row["kl"] is None for row in rows),
            "Where the KL is missing, the two models have "
            "different vocabularies, so it is not defined.",
        ),
        (
            any(_hacked(row) for row in rows),
            "A model has a clearly higher score than the first but no clearly higher mark: it "
            "satisfies the reward model but not the judge (over-optimisation).",
        ),
    ]
    worse = [
        f"{row['model']} shows this flaw clearly more often: {flaw}."
        for row in rows
        for flaw, value in row["flaws_difference"].items()
        if None not in value and value[1] > 0
    ]
    return [text for holds, text in checks if holds] + worse


def _of_one(row: dict, unit: str) -> str:
    difference, low, high = row["difference"]
    points = "points " if unit == "mark" else ""
    rate, worst, best = (100 * share for share in row["win_rate"])
    more = "more"
    if difference < 0:
        difference, low, high, more = -difference, -high, -low, "less"
    return (
        f"On the same prompts {row['model']} gets {difference:.2f} {points}{more} than "
        f"{row['rival']} (95 % interval {low:.2f} to {high:.2f}, paired by prompt), "
        f"and wins {rate:.0f} % of pairs, ties counted half ({worst:.0f} to {best:.0f} %)."
    )


def _of_seeds(rows: list[dict], unit: str) -> str:
    ways, found = [clearly(row) for row in rows], [row["difference"][0] for row in rows]
    counts = [f"{ways.count(sign)} clearly {word}" for sign, word in WAYS.items() if sign in ways]
    counts += [f"{ways.count(0)} not clearly different"] * (0 in ways)
    return (
        f"Of the {len(rows)} seeds of {rows[0]['model']}, against the first model: "
        f"{', '.join(counts)}; differences in {unit} from {min(found):+.2f} to "
        f"{max(found):+.2f}."
    )


def _hacked(row: dict) -> bool:
    score = row["score_difference"]
    return bool(score) and None not in score and score[1] > 0 and clearly(row) != 1
