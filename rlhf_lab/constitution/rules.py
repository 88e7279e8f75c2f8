"""A constitution as a file: rules that a person reads and edits, each with its checker."""

import inspect
import math
import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_lab.constitution.checkers import CHECKERS
from rlhf_lab.disk.data import data_folder
from rlhf_lab.disk.jsonl import KINDS, Row
from rlhf_lab.errors import UserError

FIELDS = ("name", "says", "weight", "check", "add", "at", "on")  # of every rule
PLACES = ("front", "end")


@dataclass(frozen=True)
class Rule:
    """One rule. says: the sentence a person reads. weight: what it counts. check and settings: the
    checker that tests whether it is kept, and its named arguments. add: a sentence that a revision
    may put in, at the "front" or the "end", or ""."""

    name: str
    says: str
    weight: float
    check: str
    settings: dict = field(default_factory=dict)
    add: str = ""
    at: str = "front"
    on: bool = True


def read_rules(path: str | Path | None = None, also: Collection[str] = ()) -> tuple[Rule, ...]:
    """The rules of a file that are on, the heaviest first; by default data/constitution.toml,
    those of the task that is shipped.

    also: names of rules to use although they are off in the file. Raises UserError if the file
    cannot be read or a rule is wrong, naming the file, the rule and the field.
    """
    path = Path(path) if path is not None else data_folder() / "constitution.toml"
    rules = [_rule(row) for row in _rows(path)]
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}, rule {name!r}, field 'name': is used twice: rename one")
    _check_known(also, names, str(path))
    rules = [rule for rule in rules if rule.on or rule.name in also]
    if not rules:
        raise UserError(f"{path}: no rule is on: set on = true for one")
    return tuple(sorted(rules, key=lambda rule: -rule.weight))


def without(rules: Sequence[Rule], *names: str) -> tuple[Rule, ...]:
    """The rules without these. Raises UserError if one of these is not among them."""
    _check_known(names, [rule.name for rule in rules], "the rules")
    return tuple(rule for rule in rules if rule.name not in names)


def _check_known(wanted: Collection[str], names: Sequence[str], where: str) -> None:
    for name in wanted:
        if name not in names:
            known = ", ".join(map(repr, names))
            raise UserError(f"no rule {name!r} in {where}: use one of {known}")


def _rows(path: Path) -> list[Row]:
    """The tables of the file, each with its place for messages."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror
        raise UserError(f"cannot read {path}: {why}: check its name and folder") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8: save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        hint = "put texts in quotes, lists in [ ]"
        raise UserError(f"{path}: not valid TOML: {error}: {hint}") from error
    for name in found:
        if name != "rule":
            raise UserError(
                f"{path}, field {name!r}: is not known: the file may only have [[rule]] tables"
            )
    tables = found.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UserError(f"{path}: begin each rule with a line [[rule]]")
    if not tables:
        raise UserError(f"{path}: has no rule: begin one with a line [[rule]]")
    return [
        Row(f"{path}, rule {table.get('name', number)!r}", table)
        for number, table in enumerate(tables, 1)
    ]


def _rule(row: Row) -> Rule:
    for name, value in row.fields.items():
        if type(value) not in KINDS:
            row.refuse(name, "is a date or a time: put it in quotes if it is meant as a text")
    check = row.text("check")
    if check not in CHECKERS:
        row.refuse("check", f"{check!r} is not known: the checks are {', '.join(CHECKERS)}")
    wanted = _settings_of(check)
    row.only((*FIELDS, *wanted))
    settings = {
        name: _setting(row, name, parameter.annotation)
        for name, parameter in wanted.items()
        if name in row.fields or parameter.default is parameter.empty
    }
    add, at = row.get("add", str, ""), row.get("at", str, "front")
    if at not in PLACES:
        row.refuse("at", f'is {at!r}: write "front" or "end"')
    for gap in re.findall(r"\{.*?\}|[{}]", add):
        if gap != "{product}":
            row.refuse("add", f"has {gap}: only {{product}} may stand in braces")
    return Rule(
        row.text("name"),
        row.text("says"),
        _weight(row),
        check,
        settings,
        add.strip(),
        at,
        row.get("on", bool, True),
    )


def _settings_of(check: str) -> dict[str, inspect.Parameter]:
    """The named arguments of a checker: all but the prompt and the response."""
    return dict(list(inspect.signature(CHECKERS[check]).parameters.items())[2:])


def _setting(row: Row, name: str, kind: type) -> int | tuple[str, ...]:
    """A setting of the kind that the checker takes: a whole number or a list of texts."""
    if kind is int:
        value = row.get(name, int)
        if isinstance(value, bool) or value < 0:
            row.refuse(name, f"is {str(value).lower()}: give a whole number, 0 or more")
        return value
    values = row.get(name, list)
    for number, value in enumerate(values, 1):
        if not isinstance(value, str) or not re.search(r"\w", value):
            row.refuse(name, f"number {number} is {value!r}: give a text with a word in it")
    if not values and name not in ("negations", "when", "no_names"):
        row.refuse(name, "is empty: list at least one text")
    return tuple(values)


def _weight(row: Row) -> float:
    value = row.fields.get("weight")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        row.refuse(
            "weight",
            "is missing: give a number above 0"
            if value is None
            else f"is {value!r}: give a number above 0",
        )
    return float(value)
