"""How far people agree: for every two labellers, for each of them, and for all together.

Only prompts picked at random or common to everybody count. Those that a model chose because it was
unsure are harder than most, and a repeat is the labeller's own second look. Every function takes a
store or a list of entries or rankings, and gives a DataFrame; shares go from 0 to 1, a tie against
a preference is half an agreement, and intervals are 95 %, by bootstrap over prompts.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.pairs import CHANCE_PICKS, Pair, Source, agreed, comparisons, rankings_in
from rlhf_lab.intervals import Interval, resampled, share

DISPUTED_PICKS = (*CHANCE_PICKS, "active")  # what can be disputed: all but a labeller's repeats
Votes = dict[str, dict[str, dict[Pair, int]]]  # the prompt's text, then the labeller


def agreement_by_pair(source: Source, seed: int = 0) -> pd.DataFrame:
    """A row for every two labellers with a comparison in common: first, second, prompts, pairs,
    agreement, low, high."""
    return _shares(meetings(source), ["first", "second"], seed)


def agreement_by_labeller(source: Source, seed: int = 0) -> pd.DataFrame:
    """A row for each labeller: how far the others agree with them. labeller, prompts, pairs (each
    as often as somebody else compared it), agreement, low, high."""
    rows = meetings(source)
    both = [rows.rename(columns={side: "labeller"}) for side in ("first", "second")]
    return _shares(pd.concat(both), ["labeller"], seed)


def agreement_of_all(source: Source, seed: int = 0) -> pd.DataFrame:
    """Two rows, `agreement` (the share of pairs that two people order alike) and `alpha`
    (Krippendorff's), as columns measure, labellers, prompts, value, low, high."""
    rows = meetings(source)
    people, prompts = {*rows["first"], *rows["second"]}, rows["prompt"].nunique()
    sums = rows.groupby("prompt")[["agreed", "pairs"]].sum()
    values = {"agreement": share(sums["agreed"], sums["pairs"], seed), "alpha": alpha(source, seed)}
    return pd.DataFrame(
        [(name, len(people), prompts, *value) for name, value in values.items()],
        columns=["measure", "labellers", "prompts", "value", "low", "high"],
    )


def alpha(source: Source, seed: int = 0, draws: int = 500) -> Interval:
    """Krippendorff's alpha with its interval: 1 is full agreement, 0 what chance would give.

    The unit is a pair of responses to a prompt, its value which of them is better: it is what a
    reward model learns, and holds for any number of responses and for unranked ones. The level is
    ordinal, since a tie lies between the two orders; nominal would take a tie against a preference
    for as bad as two opposite ones. Which response stands first means nothing, so each pair counts
    once in either direction. nan where nobody compared what another did, or all is tied.
    """
    every = [units for votes in votes_by_prompt(source).values() if len(units := _units(votes))]
    return resampled(every, _alpha, draws, seed)


def disagreements(source: Source) -> pd.DataFrame:
    """The prompts that two people or more ranked, those they disagree most about first.

    Columns prompt, labellers, pairs (each as often as two people compared it) and agreement.
    Prompts that a model chose are among them.
    """
    rows = meetings(source, DISPUTED_PICKS)
    people = rows.melt(["prompt"], ["first", "second"]).groupby("prompt")["value"].nunique()
    sums = rows.groupby("prompt")[["agreed", "pairs"]].sum()
    table = pd.DataFrame(
        {"labellers": people, "pairs": sums["pairs"], "agreement": sums["agreed"] / sums["pairs"]}
    ).reset_index()
    order = ["agreement", "pairs", "prompt"]
    return table.sort_values(order, ascending=[True, False, True], ignore_index=True)


def meetings(source: Source, picks: Sequence[str] = CHANCE_PICKS) -> pd.DataFrame:
    """A row for every prompt and two labellers who compared the same responses to it: prompt,
    first, second, pairs that both compared, and agreed, how many of them alike."""
    rows = []
    for prompt, votes in votes_by_prompt(source, picks).items():
        for first, second in combinations(sorted(votes), 2):
            alike, pairs = agreed(votes[first], votes[second])
            if pairs:
                rows.append((prompt, first, second, alike, pairs))
    return pd.DataFrame(rows, columns=["prompt", "first", "second", "agreed", "pairs"])


def votes_by_prompt(source: Source, picks: Sequence[str] = CHANCE_PICKS) -> Votes:
    """What each labeller said of each pair of responses; of two rankings, the earlier counts."""
    votes: Votes = defaultdict(lambda: defaultdict(dict))
    for ranking in rankings_in(source, picks):
        said = votes[ranking.prompt.text][ranking.labeller]
        said |= comparisons(ranking) | said
    return votes


def _shares(rows: pd.DataFrame, keys: list[str], seed: int) -> pd.DataFrame:
    """For each group by keys: the prompts, the pairs, and the share agreed with its interval."""
    sums = rows.groupby([*keys, "prompt"])[["agreed", "pairs"]].sum()
    table = [
        (*key, len(group), group["pairs"].sum(), *share(group["agreed"], group["pairs"], seed))
        for key, group in sums.groupby(keys)
    ]
    return pd.DataFrame(table, columns=[*keys, "prompts", "pairs", "agreement", "low", "high"])


def _units(votes: dict[str, dict[Pair, int]]) -> np.ndarray:
    """How many people said -1, 0 and 1 of each pair that two or more compared, in both directions:
    (pairs * 2, 3)."""
    counts: dict[Pair, list[int]] = defaultdict(lambda: [0, 0, 0])
    for said in votes.values():
        for pair, sign in said.items():
            counts[pair][sign + 1] += 1
    units = np.array([c for c in counts.values() if sum(c) > 1], dtype=int).reshape(-1, 3)
    return np.concatenate([units, units[:, ::-1]])


def _alpha(prompts: list[np.ndarray]) -> float:
    try:
        import krippendorff  # an extra, because of its licence
    except ImportError as error:
        raise UserError(
            "Krippendorff's alpha needs the package krippendorff (GPL): "
            "pip install 'rlhf-lab[agreement]'"
        ) from error
    units = np.concatenate(prompts)
    if not units[:, [0, 2]].any():  # all is tied: there is nothing to disagree about
        return np.nan
    return float(krippendorff.alpha(value_counts=units, level_of_measurement="ordinal"))
