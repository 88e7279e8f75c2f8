"""What a reward model learns from a person's rankings: its scores on held-out prompts, before and
after training, compared with controls.

A control learns from the same rankings with the ranks shuffled among the responses of each prompt.
It can memorise as well as the real model and sees the same words, but not the person's taste: what
it gets right on other prompts is luck. With few rankings luck is large, so there are several
controls. Start from a head of zeros (`ScalarModel.from_policy(..., zero_head=True)`): a random head
prefers one side on all prompts, training on any rankings moves it back and past 0, and all controls
move with it.

    relearned = relearn(reward_model, tokenizer, *rankings_from(store, ["ada"]))
    relearned.summary

With twenty rankings, a fifth of them is too few to test on: use `relearn_in_turn`.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.errors import UserError
from rlhf_lab.intervals import share_interval
from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Ranking
from rlhf_lab.reward import RankedData, RewardConfig, encode, score_groups, train_reward
from rlhf_lab.text import counted
from rlhf_lab.training import seed_of, shuffled

FEW_RANKINGS = RewardConfig(epochs=2, batch_size=4, warmup=2)  # for 20 to 100: seconds on a laptop


@dataclass(frozen=True)
class Relearned:
    """The retrained reward model, and two DataFrames on the held-out prompts.

    scores: a row for each response in each ranking, with prompt, response, labeller, rank (nan for
    unranked), and a column of scores for each model: before, after, control 1, ... The mean of its
    ranking is subtracted from each score, since only differences between responses to one prompt
    mean anything. right: a row for each model and ranking, with model, prompt, pairs, and how many
    pairs the model ordered as the person did; equal scores count half.
    """

    reward_model: ScalarModel
    scores: pd.DataFrame
    right: pd.DataFrame

    @property
    def summary(self) -> pd.DataFrame:
        """A row for each model: model, prompts, pairs, accuracy (the share of the pairs ordered as
        the person did), low and high (95 %, by bootstrap over prompts).

        Guessing gives 0.5. A head that was never trained guesses by the same rule on all prompts,
        so it may start far from 0.5 on either side.
        """
        rows = []
        for model, group in self.right.groupby("model", sort=False):
            sums = group.groupby("prompt")[["right", "pairs"]].sum()
            share = share_interval(sums["right"], sums["pairs"])
            rows.append((model, len(sums), int(sums["pairs"].sum()), *share))
        return pd.DataFrame(rows, columns=["model", "prompts", "pairs", "accuracy", "low", "high"])


def relearn(
    reward_model: ScalarModel,
    tokenizer: PreTrainedTokenizerBase,
    rankings: Sequence[Ranking],
    held_out: Sequence[Ranking],
    config: RewardConfig = FEW_RANKINGS,
    controls: int = 3,
) -> Relearned:
    """Train a copy of the reward model on the rankings, and a copy for each control.

    The given model is not changed. held_out: rankings of other prompts (see
    `reward.rankings_from`). Raises UserError if either list is empty.
    """
    if not rankings or not held_out:
        raise UserError(
            "there must be rankings to learn from and others to test on: rank at least two "
            "prompts picked at random"
        )
    lists = {"after": rankings} | {
        f"control {i}": shuffle_ranks(rankings, i) for i in range(1, controls + 1)
    }
    models = {"before": reward_model}
    for name, some in lists.items():
        models[name] = copy.deepcopy(reward_model)
        for _ in train_reward(models[name], tokenizer, some, config):
            pass
    data = encode(tokenizer, held_out)
    scores = {name: score_groups(model, data) for name, model in models.items()}  # (G, K) each
    return Relearned(models["after"], _scores(held_out, scores), _right(held_out, data, scores))


def relearn_in_turn(
    reward_model: ScalarModel,
    tokenizer: PreTrainedTokenizerBase,
    rankings: Sequence[Ranking],
    fair: Sequence[Ranking] | None = None,
    config: RewardConfig = FEW_RANKINGS,
    controls: int = 3,
    folds: int = 4,
    say: Callable[[str], None] = print,
) -> Relearned:
    """Like `relearn`, but every prompt is tested once, by models that learned from the other folds'
    prompts (cross-validation; Stone 1974). It takes `folds` times as long.

    fair: the rankings to test on, those of prompts picked at random; all of them if not given. say:
    is called with a progress message after each fold. The reward_model returned has learned from
    all rankings, so it is not one of the models that were tested.
    Raises UserError unless there are at least `folds` prompts to test on.
    """
    fair = list(rankings if fair is None else fair)
    prompts = sorted({r.prompt.text for r in fair}, key=lambda text: seed_of("fold", text))
    if len(prompts) < folds:
        raise UserError(
            f"{len(prompts)} prompts cannot be divided into {folds} folds: rank at least {folds}"
        )
    parts = []
    for fold in range(folds):
        apart = set(prompts[fold::folds])
        some = [r for r in rankings if r.prompt.text not in apart]
        parts.append(
            relearn(
                reward_model,
                tokenizer,
                some,
                [r for r in fair if r.prompt.text in apart],
                config,
                controls,
            )
        )
        say(f"fold {fold + 1} of {folds} done, {counted(controls + 1, 'model')} each")
    whole = copy.deepcopy(reward_model)
    for _ in train_reward(whole, tokenizer, rankings, config):
        pass
    right = pd.concat([part.right for part in parts], ignore_index=True)
    scores = pd.concat([part.scores for part in parts], ignore_index=True)
    return Relearned(whole, scores, right)


def shuffle_ranks(rankings: Sequence[Ranking], seed: int) -> list[Ranking]:
    """The rankings with the ranks of each prompt's responses shuffled.

    Two rankings of the same responses are shuffled alike: people who agreed still agree.
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
    """The scores of every response in every ranking, minus the mean of the ranking."""
    rows = []
    for g, ranking in enumerate(held_out):
        K = len(ranking.ranks)
        means = {name: float(table[g, :K].mean()) for name, table in scores.items()}
        rows += [
            {
                "prompt": ranking.prompt.text,
                "response": ranking.responses[k],
                "labeller": ranking.labeller,
                "rank": ranking.ranks[k],
                **{name: float(table[g, k]) - means[name] for name, table in scores.items()},
            }
            for k in range(K)
        ]
    return pd.DataFrame(rows).astype({"rank": float})


def _right(
    held_out: Sequence[Ranking], data: RankedData, scores: dict[str, Tensor]
) -> pd.DataFrame:
    """How many pairs of each ranking each model orders as the person did; equal scores count
    half."""
    beats = maths.comparisons(data.ranks)  # (G, K, K)
    tables = []
    for name, table in scores.items():
        right = ((table[:, :, None] - table[:, None, :]).sign() + 1) / 2 * beats
        tables.append(
            pd.DataFrame(
                {
                    "model": name,
                    "prompt": [ranking.prompt.text for ranking in held_out],
                    "right": right.sum((1, 2)),
                    "pairs": beats.sum((1, 2)),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)
