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

from rlhf_lab.feedback.pairs import CHANCE_PICKS, Pair, Source, agreed, comparisons, rankings_in
from rlhf_lab.intervals import Interval, resampled_interval, share_interval

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
    agreement = share_interval(sums["agreed"], sums["pairs"], seed)
    values = {"agreement": agreement, "alpha": alpha(source, seed)}
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
    by_prompt = votes_by_prompt(source).values()
    people = sorted({who for votes in by_prompt for who in votes})
    every = [units for votes in by_prompt if len(units := _units(votes, people))]
    return resampled_interval(every, _alpha, draws, seed)


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
        (*key, len(of), of["pairs"].sum(), *share_interval(of["agreed"], of["pairs"], seed))
        for key, of in sums.groupby(keys)
    ]
    return pd.DataFrame(table, columns=[*keys, "prompts", "pairs", "agreement", "low", "high"])


def _units(votes: dict[str, dict[Pair, int]], people: Sequence[str]) -> np.ndarray:
    """What each of the people said of each pair that two or more compared, -1, 0 or 1, or nan, and
    what that is of the pair turned round: (pairs * 2, people)."""
    pairs = dict.fromkeys(pair for said in votes.values() for pair in said)
    said = [[votes.get(who, {}).get(pair, np.nan) for who in people] for pair in pairs]
    units = np.reshape(said, (len(pairs), len(people)))
    units = units[(~np.isnan(units)).sum(1) > 1]
    return np.concatenate([units, -units])


def _alpha(prompts: list[np.ndarray]) -> float:
    import evalica  # here, as it loads scipy

    units = np.concatenate(prompts)
    if not np.nansum(units**2):  # all is tied: there is nothing to disagree about
        return np.nan
    return evalica.alpha(pd.DataFrame(units.T), distance="ordinal").alpha
