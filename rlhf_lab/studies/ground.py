"""What all studies share: the SFT policy of a seed, its responses to rank, reward models that
learned from the rankings, and one way to judge the result.

A run of a study is one arm with one seed. Its records are written to its own folder, ARM/SEED, the
summary last: a run that has a summary is not run again.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_lab import __version__
from rlhf_lab.disk.data import base_model
from rlhf_lab.disk.files import fingerprint
from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.evaluate import (
    Responses,
    distinct_share,
    mask_words,
    respond,
    scores_of,
    sequence_kl,
    win_rate,
)
from rlhf_lab.intervals import interval
from rlhf_lab.models import Ensemble, ScalarModel, load_policy, load_tokenizer, save_policy
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig, normalise, train_reward
from rlhf_lab.rollout import Scorer
from rlhf_lab.runs.costs.counting import spending
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.studies.results import place_of
from rlhf_lab.tasks import Task, check_base, load_task
from rlhf_lab.tasks.labellers import rank_all

Rows = list[dict]
LOGGED = ("update", "objective/kl", "objective/scores", "objective/entropy", "judge/mark")


class Learned(NamedTuple):
    """A reward model and the seconds that its training took."""

    model: ScalarModel
    seconds: float


@dataclass(frozen=True)
class Ground:
    """Where the runs are written and how large they are; tests use smaller ones.

    demonstrations: how many SFT learns from. prompts: how many get four responses of the SFT policy
    each; all but the first tenth can be ranked. batch_size: PPO's. watched: how many held-out
    prompts are answered during training. judged: how many other held-out prompts the summary is
    made from, with `samples` responses each. model: folder or hub id of the model from which the
    studies of ratings and praise start, if not the compact model; precision: of their arithmetic,
    as in `make_accelerator`.
    """

    folder: Path
    task: Task = field(default_factory=lambda: load_task("support_desk"))
    demonstrations: int = 2000
    prompts: int = 1000
    batch_size: int = 64
    watched: int = 16
    judged: int = 200
    samples: int = 2
    model: str | None = None
    precision: str = "auto"
    learned: dict = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def tokenizer(self):
        return load_tokenizer(self.base)

    @property
    def base(self) -> Path:
        """The folder of the compact base model that has read the task's raw text. Raises UserError
        if the lab has none yet."""
        check_base(self.task)
        return base_model(self.task.base)

    def once(self, name: str, seed: int, run: Callable[[], tuple[dict, dict[str, Rows]]]) -> dict:
        """The summary of a run: read from its folder, or returned by `run`, whose tables are then
        written beside it as NAME.jsonl.gz. It also holds the version of the lab that made it."""
        place = place_of(self.folder, name, seed)
        if (place / "summary.json").exists():
            return json.loads((place / "summary.json").read_text(encoding="utf-8"))
        summary, tables = run()
        summary |= {"version": __version__}
        place.mkdir(parents=True, exist_ok=True)
        for table, rows in tables.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (place / f"{table}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        write_whole(place / "summary.json", json.dumps(summary, indent=1) + "\n")
        return summary

    # ---- the common start --------------------------------------------------------------------

    def sft(self, seed: int) -> Path:
        """The folder of the seed's SFT policy; trained as in `rlhf-lab demo` if it is missing."""
        return imitator(
            self.folder / f"sft_{seed}",
            self.base,
            lambda policy: SFTConfig(seed=seed),
            lambda: self.task.demonstrations(seed, self.demonstrations + 200)[200:],
        )

    def policy(self, seed: int):
        """A fresh copy of the seed's SFT policy."""
        return load_policy(self.sft(seed))

    @cache  # noqa: B019  a ground lives as long as its study
    def drawn(self, seed: int) -> Responses:
        """Four marked responses of the SFT policy to each of the prompts; all arms share them."""
        return respond(
            self.policy(seed),
            self.tokenizer,
            self.task.prompts(seed, self.prompts),
            4,
            seed,
            self.task.judge,
        )

    def ranked(self, count: int, skip: int = 0) -> slice:
        """Which of the prompts are ranked: skip the first tenth and `skip` more, then take
        `count`."""
        first = self.prompts // 10 + skip
        return slice(first, first + count)

    def rankings(
        self, drawn: Responses, count: int, seed: int, labellers=None, judge=None, skip: int = 0
    ) -> list[Ranking]:
        """`count` rankings of drawn responses, by the task's labellers and judge unless others are
        given; skip: how many prompts are left out before them."""
        chosen = self.ranked(count, skip)
        return rank_all(
            drawn.prompts[chosen],
            drawn.texts[chosen],
            labellers or self.task.labellers,
            judge or self.task.judge,
            seed,
            ended=drawn.ended[chosen].tolist(),
        )

    def reward_model(
        self, rankings: Sequence[Ranking], drawn: Responses, seed: int, member: int = 0
    ) -> ScalarModel:
        """A reward model that learned from rankings, with scores of mean 0 and standard deviation 1
        on the drawn responses. member: its number in an ensemble, where each member has its own
        head and order of the rankings."""
        return self.learn(rankings, drawn, seed, member).model

    def learn(
        self,
        rankings: Sequence[Ranking],
        drawn: Responses,
        seed: int,
        member: int = 0,
        as_base: bool = False,
    ) -> Learned:
        """The same with its training time; arms that ask for the same model share it. as_base: it
        starts from the base model, not from the SFT policy."""
        key = fingerprint(rankings), seed, member, as_base
        if key not in self.learned:
            own = seed + 1000 * member
            start = load_policy(self.base) if as_base else self.policy(seed)
            model = ScalarModel.from_policy(start, own)
            with spending() as cost:
                for _ in train_reward(model, self.tokenizer, rankings, RewardConfig(seed=own)):
                    pass
            normalise(model, scores_of(model, drawn))
            self.learned[key] = Learned(model.requires_grad_(False), cost["seconds"])
        return self.learned[key]

    def ppo_prompts(self, seed: int) -> list[Prompt]:
        """The prompts for PPO and every other method that samples while it trains."""
        return self.task.prompts(seed + 1_000_003, 4000)

    def optimise(
        self,
        score: Scorer,
        seed: int,
        beta: float,
        road: tuple[Callable, Callable] = (train_ppo, PPOConfig),
    ) -> tuple[PreTrainedModel, Rows]:
        """The seed's SFT policy after 50 updates against a score, and the main metrics of each.
        road: the trainer and its config class; by default PPO's."""
        policy, (train, settings) = self.policy(seed), road
        config = settings(
            updates=50,
            batch_size=self.batch_size,
            beta=beta,
            seed=seed,
            max_new_tokens=self.task.longest_response,
        )
        prompts, judge = self.ppo_prompts(seed), self.task.judge
        records = train(policy, score, self.tokenizer, prompts, config, judge=judge)
        return policy, [{name: record[name] for name in LOGGED} for record in records]

    # ---- what came of it ---------------------------------------------------------------------

    def watched_prompts(self) -> list[Prompt]:
        return self.task.held_out()["held-out"][: self.watched]

    def judged_prompts(self) -> list[Prompt]:
        return self.task.held_out()["held-out"][self.watched :][: self.judged]

    def look(
        self,
        policy,
        update: int,
        reward_model: ScalarModel | Ensemble | None = None,
        prompts: list[Prompt] | None = None,
        tokenizer=None,
    ) -> Rows:
        """The policy's present responses to the watched prompts, or to these, with marks and, if a
        reward model is given, its scores; sampled with the same random numbers each time.
        tokenizer: if it is not that of the ground."""
        prompts = self.watched_prompts() if prompts is None else prompts
        tokenizer = self.tokenizer if tokenizer is None else tokenizer
        answers = respond(policy, tokenizer, prompts, judge=self.task.judge)
        rows: Rows = [
            {"update": update, "prompt": p.text, "response": text, "mark": mark.mark}
            for p, [text], [mark] in zip(answers.prompts, answers.texts, answers.judged)
        ]
        if reward_model is not None:
            for row, [score] in zip(rows, scores_of(reward_model, answers).tolist()):
                row["score"] = round(score, 4)
        return rows

    def answers(self, policy, seed: int) -> Responses:
        """Fresh marked responses to the judged prompts."""
        return respond(
            policy, self.tokenizer, self.judged_prompts(), self.samples, seed, self.task.judge
        )

    @cache  # noqa: B019  a ground lives as long as its study
    def rivals(self, seed: int) -> Responses:
        """The SFT policy's responses to the judged prompts; all arms are compared with them."""
        return self.answers(self.policy(seed), seed)

    def judge(
        self, policy, answers: Responses, seed: int, reward_model: ScalarModel | Ensemble
    ) -> dict:
        """Measures of a policy's fresh `answers`: mark, score, KL to the SFT policy and win rate
        against it, each with its 95 % interval over prompts; rubric and flaws, mean length, share
        of distinct responses; and every prompt's mean mark, with which runs can be paired."""
        kl = sequence_kl(policy, self.policy(seed), answers)
        return self.describe(answers, self.rivals(seed), reward_model, kl)

    def judge_sft(self, seed: int, reward_model: ScalarModel | Ensemble) -> dict:
        """The same measures of the SFT policy itself, whose KL is 0."""
        rivals = self.rivals(seed)
        return self.describe(rivals, rivals, reward_model, torch.zeros(rivals.ended.shape))

    def describe(self, answers: Responses, rivals: Responses, reward_model, kl: Tensor) -> dict:
        """The same measures of given responses; kl: (P, S); rivals: the SFT policy's responses."""
        marks = answers.mark_table()
        flaws = sorted({f for row in answers.judged for mark in row for f in mark.flaws})
        words = sorted({str(v) for p in answers.prompts for v in p.facts.values()})
        return {
            "mark": interval(marks),
            "score": interval(scores_of(reward_model, answers)),
            "kl": interval(kl),
            "wins": win_rate(marks, rivals.mark_table()),
            "rubric": {
                i: float(answers.rubric_table(i).mean()) for i in answers.judged[0][0].rubric
            },
            "flaws": {f: float(answers.flaw_table(f).mean()) for f in flaws},
            "length": float(answers.sequences.mask.sum(1).float().mean()),
            "distinct": distinct_share(answers.texts, mask_words(words)),
            "marks": [round(m, 3) for m in marks.mean(1).tolist()],
        }


def imitator(
    folder: Path,
    base: str | Path,
    config: Callable[[PreTrainedModel], SFTConfig],
    shown: Callable[[], Sequence[Demonstration]],
    accelerator: Accelerator | None = None,
) -> Path:
    """The folder of an SFT policy that started from `base` and learned the demonstrations `shown`.
    It is trained if it is missing, and kept for all arms that ask for it."""
    if not folder.exists():
        policy, tokenizer = load_policy(base), load_tokenizer(base)
        for _ in train_sft(policy, tokenizer, shown(), config(policy), accelerator=accelerator):
            pass
        save_policy(policy, tokenizer, folder)
    return folder
