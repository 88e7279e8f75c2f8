"""Attempts at a reward, compared at equal KL by the judge, who never scores in training.

    attempt = Attempt(title_of(my_reward), seed=1)
    for record in attempt.watch(train_ppo(policy, score, ...), policy, score, watch): ...
    attempts = Attempts("runs/06_attempts.jsonl")       # kept between runs of the notebook
    attempts.add(attempt)

On the way every policy answers the same prompts with the same random numbers, so each prompt is
compared with itself. The intervals are over prompts: another seed of a run may differ by more.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab.course.exercises.nb06_hacking import fooled, mark_at_kl
from rlhf_lab.disk.jsonl import read_rows, write_whole
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import Judge, respond, scores_of, sequence_kl
from rlhf_lab.intervals import interval
from rlhf_lab.models import Ensemble, ScalarModel
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.records import Prompt
from rlhf_lab.rollout import Scorer
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.training import Record

CONFIG = PPOConfig(updates=16, batch_size=32, seed=1)  # as in notebook 04
WATCHED = 100  # prompts


@dataclass(frozen=True)
class Watch:
    """How runs are watched: every `every` updates the policy answers these prompts; the KL is to
    the reference."""

    reference: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[Prompt]
    judge: Judge
    every: int = 4
    sampling: SamplingConfig = SamplingConfig()


@dataclass
class Attempt:
    """One run with a reward. title: what it rewards. looks: for update 0 and every few updates
    {"update", "kl", "marks", "scores"}, the last three a list with a number for each prompt.
    answers: what the policy wrote then, a row for each update and prompt; they are not kept."""

    title: str
    seed: int = 0
    looks: list[dict] = field(default_factory=list)
    answers: list[dict] = field(default_factory=list, compare=False, repr=False)

    def watch(
        self, records: Iterator[Record], policy: PreTrainedModel, scorer: Scorer, watch: Watch
    ) -> Iterator[Record]:
        """Yield the records of a run and look at its policy on the way."""
        self._look(0, policy, scorer, watch)
        for record in records:
            if record["update"] % watch.every == 0 or record["update"] == record["updates"]:
                self._look(int(record["update"]), policy, scorer, watch)
            yield record

    def _look(self, update: int, policy: PreTrainedModel, scorer: Scorer, watch: Watch) -> None:
        prompts = list(watch.prompts)
        there = respond(policy, watch.tokenizer, prompts, judge=watch.judge, config=watch.sampling)
        if isinstance(scorer, ScalarModel | Ensemble):
            scores = scores_of(scorer, there).flatten().tolist()
        else:
            scores = list(scorer(prompts, [text for [text] in there.texts]))
        kl = sequence_kl(policy, watch.reference, there).flatten()
        numbers = {"kl": kl.tolist(), "marks": there.mark_table().flatten().tolist()}
        numbers["scores"] = scores
        self.looks.append(
            {"update": update} | {name: [round(x, 4) for x in row] for name, row in numbers.items()}
        )
        self.answers += [
            {"update": update, "prompt": p.text, "response": text, "mark": mark, "score": score}
            for p, [text], mark, score in zip(prompts, there.texts, numbers["marks"], scores)
        ]

    def samples(self, count: int = 16) -> pd.DataFrame:
        """The answers to the first prompts, for `SampleWalk`."""
        rows = pd.DataFrame(self.answers)
        return rows[rows["prompt"].isin(rows["prompt"].drop_duplicates()[:count])]

    def table(self, name: str) -> Tensor:
        """Of every look the kl, marks or scores: (looks, P)."""
        return torch.tensor([look[name] for look in self.looks], dtype=torch.float64)


class Attempts:
    """The attempts in a file, a line for each. Raises UserError if the file holds anything else."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def load(self) -> list[Attempt]:
        """The attempts so far, in their order."""
        return load_attempts(self.path) if self.path.exists() else []

    def add(self, attempt: Attempt) -> None:
        """Keep an attempt; one that is there already, to the last number, is not kept twice."""
        kept = self.load()
        if attempt not in kept:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, "".join(map(_line, [*kept, attempt])))


def _line(attempt: Attempt) -> str:
    row = asdict(attempt)
    del row["answers"]
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise UserError(
            f"{attempt.title}: the run has numbers that are not finite, so it is not kept"
        ) from error


def load_attempts(path: Path) -> list[Attempt]:
    """The attempts in a file. Raises UserError if it is not one of attempts."""
    found = []
    for row in read_rows(path):
        row.only(("title", "seed", "looks"))
        attempt = Attempt(row.text("title"), row.get("seed", int), row.get("looks", list))
        try:
            shapes = {attempt.table(name).shape for name in ("kl", "marks", "scores")}
            whole = all(isinstance(look["update"], int) for look in attempt.looks)
            whole = whole and len(shapes) == 1 and all(len(shape) == 2 for shape in shapes)
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise UserError(
                f"{row.where} is not an attempt that this notebook kept: move or rename that file"
            )
        found.append(attempt)
    return found


def compared(
    attempts: Sequence[Attempt],
    learned: Sequence[Attempt],
    kl: float = 1.0,
    mark_at_kl: Callable = mark_at_kl,
    fooled: Callable = fooled,
) -> pd.DataFrame:
    """A row each for the SFT policy, the runs with the learned reward model (one for each seed) and
    every attempt.

    Columns: the KL and the mark at the end; the mark where the run first comes to `kl` nats, on the
    line between two looks, with half its 95 % interval over prompts; by how much that is above the
    learned reward model's (mean of its runs), prompt by prompt; and the share of prompts that are
    fooled: a higher score for a lower mark than SFT's. "not reached" where a run ends nearer.

    mark_at_kl, fooled: the formulas, as in the exercises. Raises UserError for attempts that
    answered another number of prompts.
    """
    rival = torch.stack([at_kl(run, kl, mark_at_kl) for run in learned]).nanmean(0)  # (P,)
    sft = {"KL at the end": "0.0", "mark at the end": shown(learned[0].table("marks")[0])}
    rows, names = [sft], [("the SFT policy", "", "")]
    for number, run in enumerate([*learned, *attempts], 1 - len(learned)):
        marks, scores = run.table("marks"), run.table("scores")
        if marks.shape[1] != len(rival):
            raise UserError(
                f"attempt {number} ({run.title}) answered {marks.shape[1]} prompts and the learned "
                f"reward model {len(rival)}: compare runs on the same prompts"
            )
        there = at_kl(run, kl, mark_at_kl)
        row = {
            "KL at the end": f"{run.table('kl')[-1].mean():.1f}",
            "mark at the end": shown(marks[-1]),
            f"mark at {kl:g} nats": shown(there),
            "minus the learned one's": shown(there - rival, "+") if number > 0 else "",
            "fooled": f"{float(fooled(scores[0], scores[-1], marks[0], marks[-1])):.0%}",
        }
        rows.append(row)
        names.append((run.title, str(run.seed), str(number) if number > 0 else ""))
    index = pd.MultiIndex.from_tuples(names, names=["scored by", "seed", "attempt"])
    return pd.DataFrame(rows, index).fillna("")


def at_kl(run: Attempt, kl: float, mark_at_kl: Callable = mark_at_kl) -> Tensor:
    """Each prompt's mark where the run first comes to this KL, (P,); nan if it does not."""
    path = run.table("kl").mean(1)  # (looks,)
    each = [float(mark_at_kl(path, marks, kl)) for marks in run.table("marks").T]
    return torch.tensor(each, dtype=torch.float64)


def shown(values: Tensor, sign: str = "") -> str:
    """A mean over prompts and half the width of its 95 % interval."""
    if values.isnan().any():
        return "not reached"
    mean, _, high = interval(values[:, None])
    return f"{mean:{sign}.1f} ± {high - mean:.1f}"
