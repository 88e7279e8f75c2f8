"""What a reward model makes of a person's rankings: its scores on prompts it was not trained on,
before and after, beside controls.

A control learns from the same rankings with the ranks shuffled among the responses of each prompt.
It can memorise as well as the real one, and sees the same words, but not the person's taste: what
it gets right on other prompts is luck. With few rankings luck is large, so there are several.

    relearned = relearn(reward_model, tokenizer, *rankings_from(store, ["me"]))
    relearned.summary
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.intervals import share
from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Ranking
from rlhf_lab.reward import RankedData, RewardConfig, encode, score_groups, train_reward
from rlhf_lab.training import shuffled

FEW_RANKINGS = RewardConfig(epochs=2, batch_size=4, warmup=2)  # for 20 to 100: seconds on a laptop


@dataclass(frozen=True)
class Relearned:
    """The retrained reward model, and two DataFrames on the held-out prompts.

    scores: a row for each response in each ranking, with prompt, response, labeller, rank (nan for
    unranked), and a column of scores for each model: before, after, control 1, ... A score has the
    mean of its ranking taken off, since only differences between answers to one prompt mean
    anything. summary: a row for each of these models, with model, prompts, pairs, accuracy (the
    share of the pairs ordered as the person did, equal scores half), low and high (95 %, by
    bootstrap over prompts). Guessing gives 0.5; a head that was never trained guesses, but by one
    rule for all prompts, so that it may start far from 0.5 on either side.
    """

    reward_model: ScalarModel
    scores: pd.DataFrame
    summary: pd.DataFrame


def relearn(reward_model: ScalarModel, tokenizer: PreTrainedTokenizerBase,
            rankings: Sequence[Ranking], held_out: Sequence[Ranking],
            config: RewardConfig = FEW_RANKINGS, controls: int = 3) -> Relearned:
    """Train a copy of the reward model on the rankings, and a copy for each control.

    The model given stays as it is. held_out: rankings of other prompts (see
    `reward.rankings_from`). Raises UserError if either list is empty.
    """
    if not rankings or not held_out:
        raise UserError("it takes rankings to learn from and others to test on: rank at least two "
                        "prompts picked at random")  # fmt: skip
    lists = {"after": rankings} | {f"control {i}": shuffle_ranks(rankings, i)
                                   for i in range(1, controls + 1)}  # fmt: skip
    models = {"before": reward_model}
    for name, some in lists.items():
        models[name] = copy.deepcopy(reward_model)
        for _ in train_reward(models[name], tokenizer, some, config):
            pass
    data = encode(tokenizer, held_out)
    scores = {name: score_groups(model, data) for name, model in models.items()}  # (G, K) each
    return Relearned(models["after"], _scores(held_out, scores), _summary(held_out, data, scores))


def shuffle_ranks(rankings: Sequence[Ranking], seed: int) -> list[Ranking]:
    """The same ranks on other responses, at random for each prompt.

    Two rankings of the same responses are shuffled alike: people who agreed still do.
    """
    mixed = []
    for ranking in rankings:
        places = sorted(range(len(ranking.ranks)), key=lambda i: ranking.responses[i])
        texts = [ranking.responses[i] for i in places]
        ranks = list(ranking.ranks)
        for place, other in enumerate(shuffled(len(places), seed, ranking.prompt.text, *texts)):
            ranks[places[place]] = ranking.ranks[places[other]]
        mixed.append(replace(ranking, ranks=tuple(ranks)))
    return mixed


def _scores(held_out: Sequence[Ranking], scores: dict[str, Tensor]) -> pd.DataFrame:
    """The scores of every response in every ranking, less the mean of the ranking."""
    rows = []
    for g, ranking in enumerate(held_out):
        K = len(ranking.ranks)
        means = {name: float(table[g, :K].mean()) for name, table in scores.items()}
        rows += [{"prompt": ranking.prompt.text, "response": ranking.responses[k],
                  "labeller": ranking.labeller, "rank": ranking.ranks[k],
                  **{name: float(table[g, k]) - means[name] for name, table in scores.items()}}
                 for k in range(K)]  # fmt: skip
    return pd.DataFrame(rows).astype({"rank": float})


def _summary(held_out: Sequence[Ranking], data: RankedData,
             scores: dict[str, Tensor]) -> pd.DataFrame:
    """Each model's accuracy on the pairs of the held-out rankings, with its interval."""
    beats = maths.comparisons(data.ranks)  # (G, K, K)
    rows = []
    for name, table in scores.items():
        right = ((table[:, :, None] - table[:, None, :]).sign() + 1) / 2 * beats
        sums = pd.DataFrame({"prompt": [ranking.prompt.text for ranking in held_out],
                             "right": right.sum((1, 2)), "pairs": beats.sum((1, 2))}
                            ).groupby("prompt").sum()  # fmt: skip
        rows.append((name, len(sums), int(beats.sum()), *share(sums["right"], sums["pairs"])))
    return pd.DataFrame(rows, columns=["model", "prompts", "pairs", "accuracy", "low", "high"])
