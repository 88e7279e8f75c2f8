"""Simulated labellers: each ranks responses by their own taste and sometimes makes a mistake.

A labeller values a response by the judge's rubric with weights of their own (taste), plus a little
random noise. The noise is drawn for each response, so that two responses close in value are often
swapped and two far apart hardly ever (Thurstone 1927).
"""

import hashlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlhf_lab.records import Mark, Prompt, Ranking

Judge = Callable[[Prompt, str], Mark]


@dataclass(frozen=True)
class Labeller:
    """One simulated labeller.

    weights: points for each item of the rubric. per_word: points for every word above 20, below 0
    for one who dislikes length. noise: standard deviation, in points. tie: values closer than this
    are ranked equal. unchecked: an item of the rubric that they cannot check, and so judge by
    appearance (`Mark.plausible`).
    """

    name: str
    weights: dict[str, float]
    per_word: float = 0.0
    noise: float = 0.4
    tie: float = 0.15
    unchecked: str = ""

    def taste(self, mark: Mark, response: str) -> float:
        """The value of the response for this labeller, without noise, in points."""
        rubric = dict(mark.rubric)
        if self.unchecked:
            rubric[self.unchecked] = mark.plausible
        length = max(0, len(response.split()) - 20)
        return sum(w * rubric[item] for item, w in self.weights.items()) + self.per_word * length

    def rank(
        self,
        judge: Judge,
        prompt: Prompt,
        responses: Sequence[str],
        seed: int = 0,
        noisy: bool = True,
        ended: Sequence[bool] = (),
    ) -> Ranking:
        """Rank the responses; the same seed gives the same ranking, in whatever order they stand.
        ended: as in `Ranking`."""
        values = {}
        for response in set(responses):
            chance = _normal(seed, self.name, prompt.id, prompt.text, response) if noisy else 0.0
            values[response] = self.taste(judge(prompt, response), response) + self.noise * chance
        ranks = ranks_of([values[response] for response in responses], self.tie)
        return Ranking(prompt, tuple(responses), tuple(ranks), self.name, tuple(ended))


def ranks_of(values: Sequence[float], tie: float = 0.0) -> list[int]:
    """Ranks from values, 1 for the highest. A value within `tie` of the best of its group shares
    its rank; the next rank counts all before it (1, 1, 3)."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    ranks, head = [0] * len(values), 0
    for place, i in enumerate(order):
        if values[order[head]] - values[i] > tie:
            head = place
        ranks[i] = head + 1
    return ranks


def _normal(*key: object) -> float:
    """A standard normal number that depends on the key alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    u = (int.from_bytes(digest[:7], "big") + 0.5) / 2**56
    return statistics.NormalDist().inv_cdf(u)


def rank_all(
    prompts: Sequence[Prompt],
    texts: Sequence[Sequence[str]],
    labellers: Sequence[Labeller],
    judge: Judge,
    seed: int = 0,
    noisy: bool = True,
    ended: Sequence[Sequence[bool]] | None = None,
) -> list[Ranking]:
    """One ranking for each prompt; the labellers take turns. texts[i] are the responses to rank,
    ended[i] whether each of them ended (None: all)."""
    ends = [()] * len(prompts) if ended is None else ended
    return [
        labellers[i % len(labellers)].rank(judge, prompt, responses, seed, noisy, end)
        for i, (prompt, responses, end) in enumerate(zip(prompts, texts, ends, strict=True))
    ]


@dataclass(frozen=True)
class Guidelines:
    """Instructions to labellers, in Markdown."""

    name: str
    text: str

    @property
    def version(self) -> str:
        """The name and a fingerprint of the text, so that no change of wording goes unnoticed."""
        return f"{self.name} {hashlib.sha256(self.text.encode()).hexdigest()[:8]}"


GENERAL = Guidelines(
    "general",
    """\
Put the responses in the order in which you would like to receive them, the best first.

- **Tie** what you cannot tell apart, and leave unranked what is not worth an order.
- **Skip** a prompt you cannot judge; **flag** what is unsafe, or nonsense throughout.
""",
)  # for a task without its own
