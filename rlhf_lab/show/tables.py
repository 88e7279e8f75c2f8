"""The judge's table: a run's summary as rows of short texts, for a page or a terminal."""

import math
from dataclasses import dataclass

from rlhf_lab.disk.jsonl import plain

MODELS = {"base": "base", "sft": "SFT", "best_of_n": "best of {n}", "policy": "policy"}


@dataclass(frozen=True)
class Cell:
    """One number as text: the estimate, and its 95 % interval as "± 0.11" or, if it is not
    symmetric, as "(0.13–0.29)"."""

    estimate: str
    margin: str = ""
    unit: str = ""

    def line(self) -> str:
        """On one line: 86 ± 3 %."""
        return f"{self.estimate} {self.margin}".strip() + self.unit


NOTHING = Cell("–")


@dataclass(frozen=True)
class Table:
    """head: the columns' names, first that of the labels; rows: each a label and its cells."""

    head: list[str]
    rows: list[tuple[str, list[Cell]]]

    def lines(self) -> list[str]:
        """The table as aligned plain text."""
        texts = [self.head] + [[label] + [c.line() for c in cells] for label, cells in self.rows]
        widths = [max(map(len, column)) for column in zip(*texts)]
        return [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in texts
        ]


def cell(value, digits: int = 2, percent: bool = False) -> Cell:
    """A cell from a number or an interval (estimate, lower end, upper end); None gives "–"."""
    value, low, high = value if isinstance(value, list) else (value, None, None)
    if value is None:
        return NOTHING
    scale, unit = (100, " %") if percent else (1, "")

    def text(number: float) -> str:
        return f"{scale * number:z.{digits}f}"  # z: 0.00 and not -0.00

    if low is None or high is None:
        return Cell(text(value), unit=unit)
    even = abs(low + high - 2 * value) <= 0.01 * (high - low)
    margin = f"± {text((high - low) / 2)}" if even else f"({text(low)}–{text(high)})"
    return Cell(text(value), margin, unit)


def model_names(summary: dict) -> dict[str, str]:
    """The models of a summary in the table's order, with the names that the table shows."""
    models = summary.get("models") or {}
    known = {name: shown.format(n=summary.get("samples", "n")) for name, shown in MODELS.items()}
    return {n: known[n] for n in known if n in models} | {n: n for n in models if n not in known}


def judge_table(summary: dict) -> Table:
    """All measures of the models' responses: a row for each measure, a column for each model.

    Measures that no model has are left out.
    """
    summary = plain(summary)
    names = model_names(summary)
    models = [summary["models"][name] for name in names]
    rows: list[tuple[str, list[Cell]]] = []

    def add(label: str, values: list, **shown) -> None:
        cells = [v if isinstance(v, Cell) else cell(v, **shown) for v in values]
        if any(c != NOTHING for c in cells):
            rows.append((label, cells))

    add("mark (points)", [m.get("mark") for m in models])
    for item in _keys(models, "rubric"):
        add(f"  {item}", [m.get("rubric", {}).get(item) for m in models])
    add("wins against SFT", [m.get("win_rate_against_sft") for m in models], digits=0, percent=True)
    for flaw in _keys(models, "flaws"):
        add(f"with {flaw}", [_flaw(m, flaw) for m in models], digits=1, percent=True)
        add("  as a multiple of SFT's", [m.get("flaws_against_sft", {}).get(flaw) for m in models])
    add("score (sd of SFT's)", [m.get("score") for m in models])
    add("KL from SFT (nats)", [_kl(name, m, summary) for name, m in zip(names, models)])
    add("length (tokens)", [m.get("length") for m in models], digits=1)
    add("answers that end", [m.get("ended") for m in models], digits=1, percent=True)
    add(
        "distinct answers",
        [None if name == "best_of_n" else m.get("distinct") for name, m in zip(names, models)],
        digits=0,
        percent=True,
    )
    return Table(["", *names.values()], rows)


def table_by_set(summary: dict) -> Table:
    """The mean mark of each model on each set of held-out prompts."""
    summary = plain(summary)
    names, counts = model_names(summary), summary.get("prompts") or {}
    models = [summary["models"][name] for name in names]
    sets = _keys(models, "mark_by_set")
    rows = [
        (
            f"{s} ({counts[s]} prompts)" if s in counts else s,
            [cell(m.get("mark_by_set", {}).get(s)) for m in models],
        )
        for s in sets
    ]
    return Table(["mark on", *names.values()], rows)


def _keys(models: list[dict], field: str) -> list[str]:
    """The keys that any model has under a field, in order of first appearance."""
    return list(dict.fromkeys(key for m in models for key in m.get(field) or {}))


def _flaw(model: dict, flaw: str):
    """The share of responses with a flaw; 0 if the judge named other flaws but not this one."""
    return model["flaws"].get(flaw, 0.0) if "flaws" in model else None


def _kl(name: str, model: dict, summary: dict):
    """The KL from SFT; that of best-of-n is at most ln n - (n - 1) / n (Beirami et al. 2024)."""
    n = summary.get("samples")
    if name == "best_of_n" and n and model.get("kl") is None:
        return Cell(f"≤ {math.log(n) - (n - 1) / n:.2f}")
    return Cell("0") if name == "sft" else model.get("kl")
