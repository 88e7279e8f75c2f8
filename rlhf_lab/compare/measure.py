"""Let every model answer every prompt, and measure the responses.

Each prompt counts once, with the mean of its responses, because several responses to one prompt are
not independent. Two models are compared prompt by prompt, so the difficulty of a prompt cancels
out. Seeds are never pooled.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_lab.compare.blind.comparison import Pair, draw_pairs
from rlhf_lab.compare.contestants import (
    Contestant,
    contestants_of,
    groups_of,
    model_in,
    rival_of,
    set_apart,
)
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import (
    Judge,
    Responses,
    distinct_share,
    mask_words,
    respond,
    scores_of,
    sequence_kl,
    win_rate,
)
from rlhf_lab.intervals import Interval, interval, share_interval
from rlhf_lab.models import ScalarModel, check_same_words, load_policy, load_tokenizer
from rlhf_lab.records import Prompt
from rlhf_lab.sampling import SamplingConfig

MEASURES = ("value", "score", "difference", "win_rate", "kl", "length", "distinct")
FIRST_SECOND = ("first", "second")  # the two models of the blind pairs
FIRST, WORST = 6, 3  # examples: prompts from the top of the set, and the best model's worst


@dataclass(frozen=True)
class Comparison:
    """The result, as plain values that JSON can store.

    rows: one for each model, all in the same unit (the judge's marks or the reward model's scores).
    groups: one for each group of seeds, with their names and means. examples: prompts with each
    model's first response. pairs: blind pairs of the first two models, from `draw_pairs`, each
    {"prompt", "left", "right"}. key: for each pair, which model is on the left, "first" or
    "second". (The file for the person who chooses contains only the pairs, because the examples,
    too, reveal which model wrote what.)
    """

    rows: list[dict]
    pairs: list[dict]
    groups: list[dict] = field(default_factory=list)
    examples: list[dict] = field(default_factory=list)
    key: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Played:
    """A model's responses, their values, scores and KL, each (P, S): P prompts, S samples."""

    answers: Responses
    values: Tensor
    scores: Tensor | None
    kl: Tensor | None


def compare(
    folders: Sequence[str | Path],
    prompts: Sequence[Prompt],
    judge: Judge | None = None,
    reward_model: str | Path | None = None,
    samples: int = 4,
    blind: int = 0,
    seed: int = 0,
    config: SamplingConfig = SamplingConfig(),
    device: str | torch.device = "cpu",
    reference: str | None = None,
    watch: Callable[[list[Contestant]], Iterable[Contestant]] = iter,
) -> Comparison:
    """Let every model answer every prompt with the same seeds, and compare it with its rival.

    folders: as `contestants_of` takes them. The rival, also the reference for the KL, is the first
    model, or the one of its group with the same seed (`rival_of`). reference: another model for the
    KL. watch: may show progress; it must yield the models. Two models and the reward model are in
    memory at a time.

    Raises UserError if there is neither a judge nor a reward model, if there are no prompts, and if
    the reward model's tokenizer differs from a model's.
    """
    if judge is None and reward_model is None:
        raise UserError("nothing to compare by: give --task, or --reward-model with --data")
    if not prompts or samples < 1:
        raise UserError(
            "no prompts or samples to compare: give at least one prompt, and 1 sample or more"
        )
    models = contestants_of(folders)
    if reward_model:
        for model in models:
            check_same_words(model.folder, reward_model)
    scorer = ScalarModel.load(reward_model, device) if reward_model else None
    rivals = [rival_of(models, place) for place in range(len(models))]
    references = [model_in(reference) if reference else models[r].folder for r in rivals]
    play = [
        _play(model, measured_from, prompts, samples, seed, judge, scorer, config, device)
        for model, measured_from in zip(watch(models), references)
    ]
    flaws = _flaws(play)
    rows = [
        _row(models[i], play[i], models[r], play[r] if r != i else None, flaws)
        | {"reference": reference or models[r].name, "settings": differing}
        for i, (r, differing) in enumerate(zip(rivals, set_apart(models)))
    ]
    pairs: list[Pair] = []
    if len(play) > 1:
        pairs, _ = draw_pairs(play[0].answers, play[1].answers, blind, seed)
    groups = [_group([rows[i] for i in places]) for places in groups_of(models)]
    return Comparison(
        rows,
        [_blind_row(pair) for pair in pairs],
        groups,
        _examples(prompts, rows, play),
        [FIRST_SECOND[p.shown[0]] for p in pairs],
    )


def paired(values: Tensor, rival: Tensor) -> Interval:
    """The mean difference between two models on the same prompts, with a 95 % interval that is
    paired by prompt. values, rival: (P, S) and (P, R).

    The difficulty of a prompt cancels out, so the interval is narrower than that of two independent
    means if both models find the same prompts hard.
    """
    return interval((values.float().mean(1) - rival.float().mean(1))[:, None])


def paired_shares(values: Tensor, rival: Tensor) -> Interval:
    """The same for a property that a response has (1) or not (0). The interval has a width even if
    no response has the property: the next prompt may show it."""
    difference = values.float().mean(1) - rival.float().mean(1)  # (P,), from -1 to 1
    share, low, high = share_interval((difference + 1) / 2)
    return 2 * share - 1, 2 * low - 1, 2 * high - 1


def _play(
    model: Contestant,
    reference: str,
    prompts: Sequence[Prompt],
    samples: int,
    seed: int,
    judge: Judge | None,
    scorer: ScalarModel | None,
    config: SamplingConfig,
    device: str | torch.device,
) -> _Played:
    policy, tokenizer = load_policy(model.folder, device), load_tokenizer(model.folder)
    answers = respond(policy, tokenizer, prompts, samples, seed, judge, config)
    scores = scores_of(scorer, answers) if scorer else None
    kl: Tensor | None = torch.zeros(answers.ended.shape)
    if reference != model.folder:
        alike = load_tokenizer(reference).get_vocab() == tokenizer.get_vocab()
        kl = None  # not defined between two vocabularies
        if alike:
            start = load_policy(reference, device)
            kl = sequence_kl(policy, start, answers, config.temperature)
    values = answers.mark_table() if judge or scores is None else scores
    return _Played(answers, values.cpu(), scores if judge else None, kl)


def _row(
    model: Contestant, own: _Played, against: Contestant, rival: _Played | None, flaws: list[str]
) -> dict:
    """All figures of a model; those that need a rival are None without one."""
    answers = own.answers
    first = answers.marks[0][0] if answers.marks else None
    rival_scores = rival.scores if rival else None
    row: dict[str, Any] = {
        "model": model.name,
        "folder": model.folder,
        "seed": model.seed,
        "rival": against.name if rival else None,
        "value": interval(own.values),
        "score": None if own.scores is None else interval(own.scores),
        "difference": paired(own.values, rival.values) if rival else None,
        "unpaired_half": _unpaired_half(own.values, rival.values) if rival else None,
        "score_difference": None
        if own.scores is None or rival_scores is None
        else paired(own.scores, rival_scores),
        "win_rate": win_rate(own.values, rival.values) if rival else None,
        "kl": _kl(own.kl),
        "length": float(answers.sequences.mask.sum(1).float().mean()),
        "ended": float(answers.ended.float().mean()),
        "distinct": _distinct(answers),
        "rubric": {},
        "rubric_difference": {},
        "flaws": {},
        "flaws_difference": {},
    }
    for item in first.rubric if first else ():
        table = answers.rubric_table(item)
        row["rubric"][item] = interval(table)
        if rival:
            row["rubric_difference"][item] = paired(table, rival.answers.rubric_table(item))
    for flaw in flaws:
        table = answers.flaw_table(flaw)
        row["flaws"][flaw] = share_interval(table.float().mean(1))
        if rival:
            row["flaws_difference"][flaw] = paired_shares(table, rival.answers.flaw_table(flaw))
    return row


def _kl(table: Tensor | None) -> Interval | None:
    """The mean KL; exactly 0, without an interval, for the reference itself."""
    if table is None:
        return None
    return interval(table) if table.any() else (0.0, math.nan, math.nan)


def _unpaired_half(values: Tensor, rival: Tensor) -> float:
    """Half the width of the difference's interval, if each model had been given different
    prompts."""
    halves = [(high - low) / 2 for _, low, high in (interval(values), interval(rival))]
    return sum(half**2 for half in halves) ** 0.5


def _blind_row(pair: Pair) -> dict:
    left, right = pair.shown
    return {"prompt": pair.prompt.text, "left": pair.texts[left], "right": pair.texts[right]}


def _flaws(played: list[_Played]) -> list[str]:
    """The flaws that the judge named in any response (it need not name those it did not find)."""
    rows = [row for one in played for row in one.answers.marks or []]
    return sorted({flaw for row in rows for mark in row for flaw in mark.flaws})


def _distinct(answers: Responses) -> float | None:
    """The share of different responses to a prompt, ignoring words from its facts; None if each
    prompt has only one response."""
    if answers.per_prompt < 2:
        return None
    words = sorted({str(v) for p in answers.prompts for v in p.facts.values() if str(v).strip()})
    return distinct_share(answers.texts, mask_words(words))


def _group(rows: list[dict]) -> dict:
    """The seeds of one group: their names and, for each measure, the mean, lowest and highest of
    their estimates. There is no interval: a few seeds are too few to compute one."""
    group: dict[str, Any] = {
        "models": [row["model"] for row in rows],
        "seeds": [row["seed"] for row in rows],
    }
    for measure in MEASURES:
        values = [row[measure] for row in rows]
        if None not in values:
            values = [v[0] if isinstance(v, tuple) else v for v in values]
            group[measure] = (sum(values) / len(values), min(values), max(values))
    return group


def _examples(prompts: Sequence[Prompt], rows: list[dict], played: list[_Played]) -> list[dict]:
    """The first prompts, then those of the others to which the best model's first response was
    worst. Nobody picks them by hand."""
    best = max(range(len(rows)), key=lambda i: rows[i]["value"][0])
    by_value = played[best].values[:, 0]
    others = sorted(range(FIRST, len(prompts)), key=lambda p: float(by_value[p]))[:WORST]
    return [
        {
            "prompt": prompts[p].text,
            "worst_of": rows[best]["model"] if p >= FIRST else None,
            "answers": [_example(row, one, p) for row, one in zip(rows, played)],
        }
        for p in [*range(min(FIRST, len(prompts))), *others]
    ]


def _example(row: dict, played: _Played, prompt: int) -> dict:
    mark = played.answers.marks and played.answers.marks[prompt][0]
    return {
        "model": row["model"],
        "response": played.answers.texts[prompt][0],
        "value": float(played.values[prompt, 0]),
        "reasons": list(mark.reasons) if mark else [],
    }
