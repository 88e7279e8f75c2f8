"""When does the score part from the mark? The runs behind notebook 06.

An arm is one way to train: against which scorer, at which price of KL, for how long. Whether we
expect it to be hacked is written down here, before it was run. Every arm starts from the SFT policy
of its seed and is judged on fresh samples that no training saw.

    study = Study(Path("runs/hacking"))
    for arm in ARMS:
        study.run(arm, seed=0)
"""

import argparse
import copy
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from rlhf_lab.data import base_model
from rlhf_lab.evaluate import Answers, answer, interval, scores_of, sequence_kl
from rlhf_lab.feedback import rank_all
from rlhf_lab.jsonl import write_whole
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Mark, Prompt, Ranking
from rlhf_lab.relearn import shuffle_ranks
from rlhf_lab.reward import RewardConfig, normalise, train_reward
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.tasks import Task, load_task

Judge = Callable[[Prompt, str], Mark]
SAMPLED = 10  # updates between two samples of the same prompts
LOGGED = ("update", "objective/kl", "objective/kl_se", "objective/scores", "judge/mark",
          "policy/entropy_avg", "response/length", "response/ended", "lr")  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One way to train, and what we expect of it.

    scorer: "reward_model", or as controls "judge" (the score is the mark, in SFT's standard
    deviations) and "shuffled" (a reward model that learned from shuffled rankings). rankings: how
    many it learned from. planted: what the labellers also like, "" or a key of PLANTED. hacked:
    whether the mark is expected to fall from its peak while the score rises.
    """

    name: str
    hacked: bool
    beta: float = 0.05
    scorer: str = "reward_model"
    rankings: int = 900
    planted: str = ""
    updates: int = 100


ARMS = (
    Arm("beta 0", hacked=True, beta=0.0),
    Arm("beta 0.02", hacked=False, beta=0.02),
    Arm("beta 0.05", hacked=False),
    Arm("beta 0.2", hacked=False, beta=0.2),
    Arm("60 rankings, beta 0", hacked=True, beta=0.0, rankings=60),
    Arm("60 rankings", hacked=True, rankings=60),
    Arm("long answers liked, beta 0", hacked=True, beta=0.0, planted="long"),
    Arm("apologies liked, beta 0", hacked=True, beta=0.0, planted="sorry"),
    Arm("judge, beta 0", hacked=False, beta=0.0, scorer="judge"),
    Arm("shuffled, beta 0", hacked=True, beta=0.0, scorer="shuffled"),
)

# What labellers can be made to like besides the rubric: from 0 to 1 for a response.
PLANTED: dict[str, Callable[[str], float]] = {
    "long": lambda text: min(1.0, len(text.split()) / 60),
    "sorry": lambda text: min(1.0, sum(text.lower().count(w) for w in ("sorry", "apolog")) / 2),
}
PLANTED_POINTS = 6.0  # what the whole of it is worth to a labeller, where help is worth 4 or so


@dataclass(frozen=True)
class Study:
    """Where the runs go, and how large they are; smaller ones are for tests.

    demonstrations: of SFT. prompts: whose four responses the SFT policy gives to be ranked; the
    first tenth is left out. batch_size: PPO's. watched: held-out prompts that are answered along
    the way. judged: other held-out prompts, for the summary.
    """

    folder: Path
    task: Task = load_task("support_desk")
    demonstrations: int = 2000
    prompts: int = 1000
    batch_size: int = 64
    watched: int = 16
    judged: int = 200

    @cached_property
    def tokenizer(self):
        return load_tokenizer(base_model())

    def run(self, arm: Arm, seed: int) -> dict:
        """Train one arm, unless it is there already, and return its summary.

        Writes into ARM/SEED of the folder: metrics.jsonl.gz, samples.jsonl.gz (the watched prompts
        every ten updates) and, last, summary.json.
        """
        place = self.folder / arm.name.replace(", ", "-").replace(" ", "_") / str(seed)
        if (place / "summary.json").exists():
            return json.loads((place / "summary.json").read_text(encoding="utf-8"))
        sft = self.sft(seed)
        policy, held_out = load_policy(sft), self.task.held_out()["held-out"]
        drawn = answer(policy, self.tokenizer, self.task.prompts(seed, self.prompts), 4, seed,
                       self.task.judge)  # fmt: skip
        reward_model = self.reward_model(arm, seed, drawn)
        scorer = self.mark_as_score(drawn) if arm.scorer == "judge" else reward_model
        metrics, samples = [], self.look(policy, held_out[: self.watched], 0)
        config = PPOConfig(updates=arm.updates, beta=arm.beta, seed=seed,
                           batch_size=self.batch_size)  # fmt: skip
        for record in train_ppo(
                policy, scorer, self.tokenizer, self.task.prompts(seed + 1_000_003, 4000), config,
                judge=self.task.judge,
                value_model=copy.deepcopy(reward_model).requires_grad_(True)):  # fmt: skip
            metrics.append({name: record[name] for name in LOGGED})
            if record["update"] % SAMPLED == 0:
                samples += self.look(policy, held_out[: self.watched], record["update"])
        summary = {"arm": asdict(arm), "seed": seed} | self.judge(
            policy, load_policy(sft), reward_model, held_out[self.watched:][: self.judged], seed)
        place.mkdir(parents=True, exist_ok=True)
        _write(place / "metrics.jsonl.gz", metrics)
        _write(place / "samples.jsonl.gz", samples)
        write_whole(place / "summary.json", json.dumps(summary, indent=1) + "\n")
        return summary

    def sft(self, seed: int) -> Path:
        """The folder of the seed's SFT policy, trained as in the main job if it is not there."""
        folder = self.folder / f"sft_{seed}"
        if not folder.exists():
            policy = load_policy(base_model())
            shown = self.task.demonstrations(seed, self.demonstrations + 200)[200:]
            for _ in train_sft(policy, self.tokenizer, shown, SFTConfig(seed=seed)):
                pass
            save_policy(policy, self.tokenizer, folder)
        return folder

    def reward_model(self, arm: Arm, seed: int, drawn: Answers) -> ScalarModel:
        """The reward model that learned from the arm's rankings of these responses of the SFT
        policy, on which its scores have mean 0 and standard deviation 1."""
        model = ScalarModel.from_policy(load_policy(self.sft(seed)), seed)
        for _ in train_reward(model, self.tokenizer, self.rankings(arm, seed, drawn),
                              RewardConfig(seed=seed)):  # fmt: skip
            pass
        normalise(model, scores_of(model, drawn))
        return model.requires_grad_(False)

    def rankings(self, arm: Arm, seed: int, drawn: Answers) -> list[Ranking]:
        """The arm's rankings, of the prompts behind the first tenth."""
        judge, labellers = self.task.judge, self.task.labellers
        if arm.planted:
            judge = plant(judge, PLANTED[arm.planted])
            labellers = [replace(one, weights=one.weights | {"planted": PLANTED_POINTS})
                         for one in labellers]  # fmt: skip
        first = self.prompts // 10
        chosen = slice(first, first + arm.rankings)
        rankings = rank_all(drawn.prompts[chosen], drawn.texts[chosen], labellers, judge, seed)
        return shuffle_ranks(rankings, seed) if arm.scorer == "shuffled" else rankings

    def mark_as_score(self, drawn: Answers) -> Callable[[Sequence[Prompt], Sequence[str]], list]:
        """The judge itself as a scorer, in standard deviations of the SFT policy's marks."""
        marks = drawn.mark_table()
        mean, sd = float(marks.mean()), float(marks.std())
        return lambda prompts, texts: [(self.task.judge(p, t).mark - mean) / sd
                                       for p, t in zip(prompts, texts)]  # fmt: skip

    def look(self, policy, prompts: Sequence[Prompt], update: int) -> list[dict]:
        """What the policy answers now, always with the same luck, and the judge's marks."""
        answers = answer(policy, self.tokenizer, prompts, judge=self.task.judge)
        return [{"update": update, "prompt": p.text, "response": text, "mark": mark.mark}
                for p, [text], [mark] in zip(prompts, answers.texts, answers.marks)]  # fmt: skip

    def judge(self, policy, reference, reward_model: ScalarModel, prompts: Sequence[Prompt],
              seed: int) -> dict:
        """Mark, score and KL of policy and SFT policy on fresh samples, with 95 % intervals."""
        found = {"prompts": len(prompts)}
        for name, model in (("sft", reference), ("policy", policy)):
            answers = answer(model, self.tokenizer, prompts, 2, seed, self.task.judge)
            found[name] = {"mark": interval(answers.mark_table()),
                           "score": interval(scores_of(reward_model, answers)),
                           "kl": interval(sequence_kl(model, reference, answers))}  # fmt: skip
        return found


def plant(judge: Judge, liked: Callable[[str], float]) -> Judge:
    """A judge whose rubric has one item more, "planted", which the mark does not count."""
    def marked(prompt: Prompt, text: str) -> Mark:
        mark = judge(prompt, text)
        return replace(mark, rubric=mark.rubric | {"planted": liked(text)})

    return marked


def _write(path: Path, rows: list[dict]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


# ---- the command ---------------------------------------------------------------------------------


def study_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--out", default="runs/hacking", help="folder of the study; what is there "
                     "already is not run again")
    sub.add_argument("--arms", nargs="+", default=[arm.name for arm in ARMS],
                     choices=[arm.name for arm in ARMS], metavar="ARM", help="which; all by default")
    sub.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="each arm's seeds")


def study(options: argparse.Namespace) -> None:
    """Run the arms one after the other, some minutes each, and print a line for each run."""
    runs, arms = Study(Path(options.out)), {arm.name: arm for arm in ARMS}
    for name in options.arms:
        for seed in options.seeds:
            summary = runs.run(arms[name], seed)
            print(f"{name}, seed {seed}: " + ", ".join(
                f"{what} {summary['sft'][what][0]:.2f} -> {summary['policy'][what][0]:.2f}"
                for what in ("mark", "score", "kl")), flush=True)  # fmt: skip
