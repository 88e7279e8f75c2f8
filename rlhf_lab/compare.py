"""Compare policies on the same prompts: by a task's judge or, on data of your own, by a second
reward model trained on rankings that nothing else has seen; and blind, by a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import (
    Answers, Judge, answer, blind_pairs, distinct_share, interval, scores_of, sequence_kl, win_rate,
)
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.records import Prompt
from rlhf_lab.sampling import SamplingConfig


@dataclass(frozen=True)
class Comparison:
    """One row a model (all in the same units: the judge's marks or the reward model's scores), and
    blind pairs of the first two models' responses."""

    rows: list[dict]
    pairs: list[dict]


def compare(folders: Sequence[str | Path], prompts: Sequence[Prompt], judge: Judge | None = None,
            reward_model: str | Path | None = None, samples: int = 4, blind: int = 0, seed: int = 0,
            config: SamplingConfig = SamplingConfig(), device: str | torch.device = "cpu") -> Comparison:
    """Let every model answer every prompt; the first model is the rival and the reference of the KL.

    Raises UserError without a judge or a reward model to go by.
    """
    if judge is None and reward_model is None:
        raise UserError("nothing to compare by: give --task, or --reward-model with --data")
    model = ScalarModel.load(reward_model, device) if reward_model else None
    policies = [load_policy(folder, device) for folder in folders]
    answers = [answer(policy, load_tokenizer(folder), prompts, samples, seed, judge, config)
               for policy, folder in zip(policies, folders)]
    values = [a.mark_table() if judge else scores_of(model, a) for a in answers]
    rows = [_row(folder, a, v, values[0], sequence_kl(p, policies[0], a, config.temperature))
            for folder, a, v, p in zip(folders, answers, values, policies)]
    pairs = blind_pairs(answers[0], answers[1], blind, seed) if blind and len(answers) > 1 else []
    return Comparison(rows, pairs)


def _row(folder: str | Path, answers: Answers, values: Tensor, rival: Tensor, kl: Tensor) -> dict:
    return {
        "model": str(folder), "value": interval(values),
        "win_rate": None if values is rival else win_rate(values, rival),
        "kl": interval(kl), "length": float(answers.sequences.mask.sum(1).float().mean()),
        "distinct": distinct_share(answers.texts),
    }
