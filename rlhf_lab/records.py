"""The plain types that travel between the parts of the lab."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prompt:
    """What the model reads, and the facts that a judge may know about it."""

    id: str
    text: str
    facts: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Demonstration:
    """A prompt and a response that a person wrote to it."""

    prompt: Prompt
    response: str


@dataclass(frozen=True)
class Sample:
    """A response and what made it: the name or folder of the policy, and its settings (temperature,
    seed, ...) as JSON can hold them."""

    text: str
    model: str = ""
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """An order of K responses to one prompt.

    ranks[i] belongs to responses[i]: 1 is best, equal ranks are ties, None is unranked (worse than
    every ranked one, not compared with other unranked ones).
    """

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int | None, ...]
    labeller: str = ""


@dataclass(frozen=True)
class Mark:
    """What a judge gives a response.

    mark: the total, in the task's own points. rubric: each item from 0 to 1. plausible: from 0 to
    1, how helpful it looks to a reader who cannot check the facts. flaws: countable faults, such
    as invented promises. reasons: why, in words.
    """

    mark: float
    rubric: dict[str, float]
    plausible: float = 0.0
    flaws: dict[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
