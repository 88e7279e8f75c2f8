"""The plain types that travel between the parts of the lab, and the settings of a config class."""

import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from rlhf_lab.errors import UserError

HIGHEST_RANK = 10**6
HIGHEST_SEED = 2**63 - 1  # the highest that torch takes


@dataclass(frozen=True)
class Prompt:
    """What the model reads, and the facts that a judge may know about it."""

    id: str
    text: str
    facts: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Demonstration:
    """A prompt and a response that a person wrote to it. ended: False for one that was cut off, so
    that no end token is learned after it."""

    prompt: Prompt
    response: str
    ended: bool = True


@dataclass(frozen=True)
class Sample:
    """A response and what made it: the name or folder of the policy, and its settings (temperature,
    seed, ...) as JSON can hold them. ended: False for one cut off before its end token."""

    text: str
    model: str = ""
    settings: dict = field(default_factory=dict)
    ended: bool = True


@dataclass(frozen=True)
class Ranking:
    """An order of K responses to one prompt.

    ranks[i] belongs to responses[i]: 1 is best, equal ranks are ties, None is unranked (worse than
    every ranked one, not compared with other unranked ones). ended[i] is False for a response that
    was cut off before its end token; () means that all ended.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int | None, ...]
    labeller: str = ""
    ended: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if all(self.ended):
            object.__setattr__(self, "ended", ())  # one form only: equal rankings compare equal

    def written(self) -> list[tuple[str, str, bool]]:
        """(prompt, response, ended) of each response, as `Sequences.of_text` takes them."""
        ended = self.ended or (True,) * len(self.responses)
        return [(self.prompt.text, *each) for each in zip(self.responses, ended, strict=True)]


def is_rank(value: object) -> bool:
    """Whether a value can be a rank: a whole number from 1, the best, to HIGHEST_RANK."""
    return type(value) is int and 1 <= value <= HIGHEST_RANK


@dataclass(frozen=True)
class Mark:
    """What a judge gives a response.

    mark: the total, in the task's own points. rubric: each item from 0 to 1. plausible: from 0 to
    1, how helpful it looks to a reader who cannot check the facts. flaws: countable faults, such
    as invented facts. reasons: why, in words.
    """

    mark: float
    rubric: dict[str, float]
    plausible: float = 0.0
    flaws: dict[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


# ---- settings ------------------------------------------------------------------------------------


def setting(
    default: Any,
    help: str,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A field of a config class, with its help text and the values it may have.

    Command-line options, their help and their checks are made from it (`cli/options.py`).
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "choices": choices}
    return field(default=default, metadata={"help": help} | limits)


def seed_setting(help: str = "random seed") -> Any:
    """The seed of a config class."""
    return setting(0, help, at_least=0, at_most=HIGHEST_SEED)


def check_settings(config: Any) -> None:
    """Raise UserError for a setting out of its range; a setting of None is not set."""
    for item in fields(config):
        if item.metadata and (advice := out_of_range(item, getattr(config, item.name))):
            raise UserError(f"{item.name} is {getattr(config, item.name)}: {advice}")


def out_of_range(item: Field, value: Any) -> str:
    """What to use instead of this value of a setting; "" if it is in its range, or not set."""
    limits = item.metadata
    at_least, above, at_most = limits["at_least"], limits["above"], limits["at_most"]
    fits = value is None or (
        (not limits["choices"] or value in limits["choices"])
        and (not isinstance(value, float) or math.isfinite(value))
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
    )
    return "" if fits else f"take {range_of(item) or 'a finite number'}"


def range_of(item: Field) -> str:
    """The values that a setting may have, such as "1 or more"; "" if there is no limit."""
    limits = item.metadata
    at_least, above, at_most = limits["at_least"], limits["above"], limits["at_most"]
    if limits["choices"]:
        *others, last = limits["choices"]
        return f"{', '.join(others)} or {last}" if others else last
    if above is not None:
        return f"more than {above}" + (f", at most {at_most}" if at_most is not None else "")
    if at_least is None:
        return ""
    return f"{at_least} or more" if at_most is None else f"{at_least} to {at_most:,}"
