"""A comparison's figures as rows of short texts, for a terminal or a page: one row for each model
and, below several seeds of the same settings, one row for all of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlhf_lab.compare.measure import Comparison
from rlhf_lab.disk.jsonl import plain
from rlhf_lab.show.tables import NOTHING, Cell, Table, cell

ALL_SEEDS = "  all {n} seeds"
LONGEST = 34  # characters of a name on the terminal; longer names show their end


@dataclass(frozen=True)
class Column:
    """One measure: its key in a row, its title, and how its numbers are written. sign: write + or
    −, as for differences; differences of shares are in percentage points (pp). brief: for several
    seeds, show only the mean."""

    measure: str
    title: str
    digits: int = 2
    percent: bool = False
    sign: bool = False
    brief: bool = False

    def cell(self, value) -> Cell:
        """A number, or an estimate with its interval, as text."""
        shown = cell(value, self.digits, self.percent)
        estimate = value[0] if isinstance(value, list) else value
        if not self.sign or estimate is None:
            return shown
        number = f"{estimate * (100 if self.percent else 1):+z.{self.digits}f}".replace("-", "−")
        return Cell(number, shown.margin.replace("-", "−"), " pp" if self.percent else "")

    def with_range(self, value) -> Cell:
        """The mean over several seeds, with the lowest and the highest value."""
        if value is None:
            return NOTHING
        mean, low, high = (self.cell(number).estimate for number in value)
        return Cell(mean, "" if self.brief else f"[{low}, {high}]", " %" if self.percent else "")


def columns_of(comparison: Comparison, unit: str) -> list[Column]:
    """The columns of the main table: those in which any model has a figure."""
    known = [
        Column("value", unit),
        Column("difference", "difference", sign=True),
        Column("win_rate", "wins", 0, True),
        Column("score", "score"),
        Column("kl", "KL (nats)"),
        Column("length", "tokens", 1, brief=True),
        Column("distinct", "distinct", 0, True, brief=True),
    ]
    return [c for c in known if any(row[c.measure] is not None for row in comparison.rows)]


def rows_of(comparison: Comparison) -> Iterator[tuple[str, dict, bool]]:
    """Every row of the main table as its label, its figures, and whether it stands for all seeds of
    a group; such a row follows the rows of its seeds."""
    rows = {row["model"]: row for row in plain(comparison.rows)}
    for group in plain(comparison.groups):
        for name in group["models"]:
            yield name, rows[name], False
        if len(group["models"]) > 1:
            yield ALL_SEEDS.format(n=len(group["models"])), group, True


def main_table(comparison: Comparison, unit: str = "mark") -> Table:
    """The main table: one row for each model."""
    columns = columns_of(comparison, unit)
    rows = [
        (
            label,
            [
                c.with_range(row.get(c.measure)) if many else c.cell(row.get(c.measure))
                for c in columns
            ],
        )
        for label, row, many in rows_of(comparison)
    ]
    return Table(["", *(c.title for c in columns)], rows)


def rubric_table(comparison: Comparison) -> Table:
    """The mean of each rubric item, from 0 to 1, and the share of responses with each flaw."""
    return _by_item(comparison, lambda row, kind: row[kind], sign=False)


def rubric_differences(comparison: Comparison) -> Table:
    """The same as paired differences from the rival, for models that have a rival."""
    return _by_item(comparison, lambda row, kind: row[f"{kind}_difference"], sign=True)


def terminal_lines(comparison: Comparison, unit: str = "mark") -> list[str]:
    """The main table as aligned text; of long names, only the end."""
    table = main_table(comparison, unit)
    rows = [
        (label if len(label) <= LONGEST else f"…{label[1 - LONGEST :]}", cells)
        for label, cells in table.rows
    ]
    return Table(table.head, rows).lines()


def _by_item(comparison: Comparison, found: Callable[[dict, str], dict], sign: bool) -> Table:
    rows = [row for row in plain(comparison.rows) if found(row, "rubric") or found(row, "flaws")]
    items = list(rows[0]["rubric"]) if rows else []
    flaws = list(rows[0]["flaws"]) if rows else []
    columns = [Column(item, item, sign=sign) for item in items]
    shares = [Column(flaw, flaw, 1, True, sign) for flaw in flaws]
    return Table(
        ["", *items, *flaws],
        [
            (
                row["model"],
                [c.cell(found(row, "rubric")[c.measure]) for c in columns]
                + [c.cell(found(row, "flaws")[c.measure]) for c in shares],
            )
            for row in rows
        ],
    )
