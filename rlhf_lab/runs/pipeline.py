"""A whole run: all three stages of a task from a base model, then the evaluation by the judge.

    base --sft--> SFT policy --sample, rank--> rankings --reward--> reward model --ppo--> policy

Everything goes into one run folder, and a stopped run resumes where it was.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import torch

from rlhf_lab import reward
from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.disk.files import read_rankings, write_rankings
from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.engine import parallel
from rlhf_lab.evaluate import (
    Responses,
    best_of_n,
    distinct_share,
    mask_words,
    respond,
    reward_accuracy,
    scores_of,
    sequence_kl,
    win_rate,
)
from rlhf_lab.intervals import interval, ratio_interval, share_interval
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import check_settings, seed_setting, setting
from rlhf_lab.reward import RewardConfig, train_reward
from rlhf_lab.runs.costs.counting import spending
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.tasks import Task
from rlhf_lab.tasks.labellers import rank_all
from rlhf_lab.training import Record, make_accelerator


@dataclass(frozen=True)
class PipelineConfig:
    """All settings of a run.

    base: the model to start from. demonstrations, ranked_prompts, ppo_prompts: how many prompts
    each stage gets. responses: how many responses are ranked per prompt (K). samples: responses per
    held-out prompt in the evaluation. held_out: the most prompts to use of each held-out set (None:
    all).
    """

    base: str
    seed: int = seed_setting()
    device: str = "auto"
    demonstrations: int = setting(2000, "demonstrations for SFT", at_least=1)
    ranked_prompts: int = setting(1000, "prompts whose responses are ranked", at_least=1)
    responses: int = setting(4, "responses ranked for each prompt", at_least=2)
    ppo_prompts: int = setting(4000, "prompts for PPO", at_least=1)
    samples: int = setting(4, "responses to each held-out prompt", at_least=1)
    held_out: int | None = setting(None, "prompts of each held-out set", at_least=1)
    sft: SFTConfig = field(default_factory=SFTConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        check_settings(self)

    def seeded(self, seed: int) -> "PipelineConfig":
        """The same settings with another seed in every stage."""
        return replace(
            self,
            seed=seed,
            sft=replace(self.sft, seed=seed),
            reward=replace(self.reward, seed=seed),
            ppo=replace(self.ppo, seed=seed),
        )


def smoke(config: PipelineConfig) -> PipelineConfig:
    """Settings for a one-minute run that shows that everything works; its figures mean nothing."""
    return replace(
        config,
        demonstrations=200,
        ranked_prompts=60,
        ppo_prompts=100,
        samples=2,
        held_out=30,
        sft=replace(config.sft, epochs=1),
        reward=replace(config.reward, epochs=1),
        ppo=replace(config.ppo, updates=3, batch_size=16),
    )


class Pipeline:
    """The stages of one run, in order. Each writes its result into the run folder, and is skipped
    if the result is already there. `watch(stage, records)` may draw or print the records and must
    yield them."""

    def __init__(
        self,
        task: Task,
        config: PipelineConfig,
        run: RunFolder,
        watch: Callable[[str, Iterator[Record]], Iterable[Record]] | None = None,
    ):
        self.task, self.config, self.run = task, config, run
        self.watch = watch or (lambda stage, records: records)
        self.accelerator = make_accelerator(config.device)
        self.tokenizer = load_tokenizer(config.base)

    def run_all(self) -> dict:
        """Train, evaluate, and return the summary."""
        for stage in (self.sft, self.rankings, self.reward_model, self.ppo):
            stage()
        return self.evaluate()

    # ---- the stages --------------------------------------------------------------------------

    def sft(self) -> None:
        """Stage one: imitate the demonstrations."""
        if self.run.sft.exists():
            return
        policy, c = self._policy(self.config.base), self.config
        shown = self.task.demonstrations(c.seed, c.demonstrations + 200)
        self._train(
            "sft",
            train_sft(
                policy,
                self.tokenizer,
                shown[200:],
                c.sft,
                held_out=shown[:200],
                checkpoint=self._checkpoint("sft"),
                accelerator=self.accelerator,
            ),
        )
        save_policy(policy, self.tokenizer, self.run.sft)

    def rankings(self) -> None:
        """Sample K responses to each prompt from the SFT policy and let the task's labellers rank
        them."""
        if self.run.rankings.exists():
            return
        c = self.config
        with self._measured("rankings"):
            prompts = self.task.prompts(c.seed, c.ranked_prompts)
            answers = respond(
                self._policy(self.run.sft),
                self.tokenizer,
                prompts,
                c.responses,
                c.seed,
                config=c.sampling,
            )
            parallel.once(
                write_rankings,
                self.run.rankings,
                rank_all(
                    prompts,
                    answers.texts,
                    self.task.labellers,
                    self.task.judge,
                    c.seed,
                    ended=answers.ended.tolist(),
                ),
            )

    def reward_model(self) -> None:
        """Stage two: train on the rankings, then shift and scale the scores to mean 0 and standard
        deviation 1 on the SFT responses."""
        if self.run.reward_model.exists():
            return
        c, ranked = self.config, read_rankings(self.run.rankings)
        held_out = ranked[: len(ranked) // 10]
        model = ScalarModel.from_policy(self._policy(self.run.sft), c.seed)
        self._train(
            "reward",
            train_reward(
                model,
                self.tokenizer,
                ranked[len(held_out) :],
                c.reward,
                held_out,
                checkpoint=self._checkpoint("reward"),
                accelerator=self.accelerator,
            ),
        )
        written = [each for r in ranked for each in r.written()]
        reward.normalise(model, reward.score_texts(model, self.tokenizer, written))
        model.save(self.run.reward_model, self.tokenizer)

    def ppo(self) -> None:
        """Stage three: optimise the policy against the reward model."""
        if self.run.policy.exists():
            return
        c = self.config
        policy, model = self._policy(self.run.sft), self._reward_model()
        self._train(
            "ppo",
            train_ppo(
                policy,
                model,
                self.tokenizer,
                self.task.prompts(c.seed + 1_000_003, c.ppo_prompts),
                c.ppo,
                judge=self.task.judge,
                checkpoint=self._checkpoint("ppo"),
                accelerator=self.accelerator,
            ),
        )
        save_policy(policy, self.tokenizer, self.run.policy)

    # ---- the judge's table -------------------------------------------------------------------

    def evaluate(self) -> dict:
        """Let base, SFT policy, best of n and policy answer the held-out prompts; write and return
        the summary."""
        with self._measured("evaluate"):
            summary = self._judged()
        summary |= {
            "seconds": self.run.costs("seconds"),
            "peak_memory_mb": self.run.costs("peak_memory_mb"),
        }
        self.run.write_json("summary.json", summary)
        return summary

    def _judged(self) -> dict:
        """The judge's table and the reward model's accuracy; writes samples.jsonl."""
        c, sets = (
            self.config,
            {k: v[: self.config.held_out] for k, v in self.task.held_out().items()},
        )
        prompts = [p for group in sets.values() for p in group]
        models = {
            name: self._policy(folder)
            for name, folder in (
                ("base", c.base),
                ("sft", self.run.sft),
                ("policy", self.run.policy),
            )
        }
        answers = {
            name: respond(
                m,
                self.tokenizer,
                prompts,
                c.samples,
                c.seed,
                self.task.judge,
                replace(c.sampling, temperature=c.ppo.temperature),
            )
            for name, m in models.items()
        }
        model = self._reward_model()
        sft_scores = scores_of(model, answers["sft"])
        main = slice(len(next(iter(sets.values()))))
        answers["best_of_n"] = best_of_n(answers["sft"], sft_scores, c.samples)
        scores = {"sft": sft_scores[main], "best_of_n": sft_scores[main].amax(1, keepdim=True)}
        scores |= {n: scores_of(model, answers[n].prompts_in(main)) for n in ("base", "policy")}
        kl = {
            "policy": sequence_kl(
                models["policy"], models["sft"], answers["policy"], c.ppo.temperature
            )
        }
        table = {
            name: self._row(answers[name], answers["sft"], scores[name], kl.get(name), sets)
            for name in ("base", "sft", "best_of_n", "policy")
        }
        self.run.write_lines("samples.jsonl", sample_rows(prompts, answers))
        return {
            "task": self.task.name,
            "seed": c.seed,
            "prompts": {k: len(v) for k, v in sets.items()},
            "samples": c.samples,
            "models": table,
            "reward_model": reward_accuracy(
                answers["sft"].prompts_in(main), sft_scores[main], self.task.truth, self.task.manner
            )
            | {"labellers": self._held_out_metrics()},
        }

    def _held_out_metrics(self) -> dict:
        """The reward model's last metrics, from its training, on held-out rankings."""
        found = [r for r in self.run.metrics("reward") if "reward/held_out_accuracy" in r]
        name = "reward/held_out_"
        return (
            {k.removeprefix(name): v for k, v in found[-1].items() if k.startswith(name)}
            if found
            else {}
        )

    def _row(
        self, every: Responses, every_sft: Responses, scores: torch.Tensor, kl, sets: dict
    ) -> dict:
        """One column of the judge's table: figures on the main held-out set (which `scores`
        covers), and the mark on each of the other sets."""
        ends = torch.tensor([len(group) for group in sets.values()]).cumsum(0).tolist()
        spans = dict(zip(sets, map(slice, [0, *ends], ends)))
        main = spans[next(iter(sets))]
        answers, sft = every.prompts_in(main), every_sft.prompts_in(main)
        flaws = sorted({flaw for row in answers.judged for m in row for flaw in m.flaws})
        words = [str(v) for p in answers.prompts for v in p.facts.values()]
        row = {
            "mark": interval(answers.mark_table()),
            "rubric": {i: interval(answers.rubric_table(i)) for i in answers.judged[0][0].rubric},
            "mark_by_set": {
                name: interval(every.mark_table()[span]) for name, span in spans.items()
            },
            "win_rate_against_sft": None,
            "score": interval(scores),
            "length": float(answers.sequences.mask.sum(1).float().mean()),
            "ended": float(answers.ended.float().mean()),
            "distinct": distinct_share(answers.texts, mask_words(sorted(set(words)))),
            "kl": None if kl is None else interval(kl[main]),
            "flaws": {f: share_interval(answers.flaw_table(f).float().mean(1)) for f in flaws},
        }
        if every is not every_sft:
            row["win_rate_against_sft"] = win_rate(answers.mark_table(), sft.mark_table())
            row["flaws_against_sft"] = {
                f: ratio_interval(answers.flaw_table(f), sft.flaw_table(f)) for f in flaws
            }
        return row

    # ---- helpers -----------------------------------------------------------------------------

    def _policy(self, folder):
        return load_policy(folder, self.accelerator.device)

    def _reward_model(self) -> ScalarModel:
        return ScalarModel.load(self.run.reward_model, self.accelerator.device).requires_grad_(
            False
        )

    def _checkpoint(self, stage: str) -> Checkpoint:
        return Checkpoint(self.run.checkpoints / stage)

    def _train(self, stage: str, records: Iterator[Record]) -> None:
        """Run a stage to its end and log every record with the seconds since the stage began."""
        started = time.perf_counter()
        timed = (record | {"seconds": time.perf_counter() - started} for record in records)
        with self._measured(stage):
            for _ in self.watch(stage, self.run.logged(stage, timed)):
                pass

    @contextmanager
    def _measured(self, stage: str) -> Iterator[None]:
        """Log the cost of the block as {"stage": "cost", "of": stage, "seconds",
        "peak_memory_mb"}."""
        with spending() as cost:
            yield
        self.run.log({"stage": "cost", "of": stage, **cost})


def sample_rows(prompts, answers: dict[str, Responses]) -> Iterator[dict]:
    """A row for each response of each model to each prompt, with its mark and the reasons."""
    for i, prompt in enumerate(prompts):
        for name, given in answers.items():
            for text, mark in zip(given.texts[i], given.judged[i]):
                yield {
                    "id": prompt.id,
                    "prompt": prompt.text,
                    "model": name,
                    "response": text,
                    **asdict(mark),
                }
