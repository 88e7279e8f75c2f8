"""Steer a policy towards praise with real people's ratings, and ask others whether it worked: for
notebook 10.

A policy that has read lines about films goes on from the first two words of a line. PPO pays it for
praise, as a reward model knows it from single ratings of the training side. Nobody rates what it
writes, so whether it worked is asked of two who had no part in it: a judge, a model that learned
from other sentences, rated by other people, and VADER's lexicon, which knows words alone. The
beginnings that they hear are of the test side.

The reward model is a head on the features of `Ground.model` as it is; the judge is that model with
adapters in all of its layers. So they began with the same knowledge of English, and may share its
mistakes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from rlhf_lab import ratings
from rlhf_lab.adapters import add_lora
from rlhf_lab.data import base_model
from rlhf_lab.evaluate import Answers, answer, distinct_share, interval, sequence_kl
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.ratings import Sentence, Sides, beginnings, lexicon_scores, probe
from rlhf_lab.records import Prompt
from rlhf_lab.reward import RewardConfig, score_texts, train_reward
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.studies.ground import Ground, Rows
from rlhf_lab.studies.ratings import tested
from rlhf_lab.training import make_accelerator

LONGEST = 32  # tokens of a line's rest
LORA = 16
JUDGE = RewardConfig(epochs=1, learning_rate=3e-4, head_factor=3.0)
ROUNDS = 2  # times the judge reads each of its sentences
Opinion = Callable[[Sequence[Prompt], Sequence[str]], Tensor]


@dataclass(frozen=True)
class Arm:
    """beta: the price of a nat. hacked: whether the judge's opinion was expected to part from the
    score, before it was run: to gain less than half as many standard deviations."""

    name: str
    beta: float
    hacked: bool
    updates: int = 30
    batch_size: int = 32
    ratings: int = 4  # single ratings of each sentence of the training side


ARMS = (Arm("beta 0.1", 0.1, hacked=False), Arm("beta 0", 0.0, hacked=True))


def run_arm(ground: Ground, arm: Arm, seed: int, sentences: Sequence[Sentence] | None = None
            ) -> dict:
    """Run one arm, unless it is there already, and return its summary: what `told` says of the SFT
    policy ("sft") and of the policy, what both gained ("gain", paired by prompt), and how good reward
    model and judge are on the test side's sentences.

    Writes metrics.jsonl.gz, and lines.jsonl.gz with what both wrote. All seeds begin with the same
    SFT policy. Raises UserError if the ratings or the lexicon are not there.
    """
    return ground.once(arm.name, seed, lambda: _steer(ground, arm, seed, sentences))


def _steer(ground: Ground, arm: Arm, seed: int, sentences: Sequence[Sentence] | None
           ) -> tuple[dict, dict[str, Rows]]:
    sides = ratings.split(ratings.read() if sentences is None else sentences)
    tokenizer = load_tokenizer(ground.model or base_model())
    prompts, held_out = prompts_of(sides.train), prompts_of(sides.test)[: ground.judged]
    sft = load_policy(writer(ground, sides.train))
    told_before = answer(sft, tokenizer, held_out, 1, seed, config=SamplingConfig(LONGEST))

    reward_model, judge = reward_model_of(ground, sides, arm.ratings, seed), judge_of(ground, sides)
    opinions = {name: opinion(model, tokenizer, told_before, ground.precision)
                for name, model in (("score", reward_model), ("judge", judge))}
    opinions["lexicon"] = lambda prompts, texts: torch.tensor(lexicon_scores(_joined(prompts, texts)))

    policy = add_lora(load_policy(writer(ground, sides.train)), LORA, seed=seed)
    config = PPOConfig(updates=arm.updates, batch_size=arm.batch_size, beta=arm.beta, seed=seed,
                       learning_rate=3e-4, max_new_tokens=LONGEST)
    scorer = lambda prompts, texts: opinions["score"](prompts, texts).tolist()  # noqa: E731
    metrics = list(train_ppo(policy, scorer, tokenizer, prompts, config,
                             accelerator=make_accelerator("cpu", ground.precision)))

    told_after = answer(policy, tokenizer, held_out, 1, seed, config=SamplingConfig(LONGEST))
    before, after = (said(opinions, answers) for answers in (told_before, told_after))
    kl = sequence_kl(policy, sft, told_after, max_tokens=512)
    summary = {
        "arm": asdict(arm), "seed": seed, "model": Path(ground.model or "compact").name,
        "sft": told(before, told_before), "policy": told(after, told_after) | {"kl": interval(kl)},
        "gain": {name: interval((after[name] - before[name])[:, None]) for name in opinions},
        "reward_model": _known(reward_model, tokenizer, sides.test),
        "judge": _known(judge, tokenizer, sides.test),
    }
    kept = ("update", "objective/kl", "objective/scores", "policy/entropy_avg", "response/length",
            "response/ended")  # fmt: skip
    rows = [{"prompt": p.text, "sft": a, "policy": b}
            | {name: [round(float(which[name][i]), 2) for which in (before, after)]
               for name in opinions}
            for i, (p, [a], [b]) in enumerate(zip(held_out, told_before.texts, told_after.texts))]
    return summary, {"metrics": [{k: record[k] for k in kept} for record in metrics],
                     "lines": rows[: ground.watched * 2]}


# ---- who has a part in it ------------------------------------------------------------------------


def prompts_of(sentences: Sequence[Sentence]) -> list[Prompt]:
    """The beginnings of the sentences, each once, in their order."""
    shown = beginnings.demonstrations(sentences)
    return [Prompt(f"beginning: {text}", text) for text in dict.fromkeys(d.prompt.text for d in shown)]


def writer(ground: Ground, train: Sequence[Sentence]) -> Path:
    """The folder of the SFT policy, which has read lines of the training side; trained if it is not
    there."""
    folder = Path(ground.folder) / "writer"
    if not folder.exists():
        base = ground.model or base_model()
        policy, tokenizer = load_policy(base), load_tokenizer(base)
        shown = beginnings.demonstrations(ratings.some(train, min(len(train), ground.demonstrations)))
        config = SFTConfig(epochs=1, learning_rate=5e-5)
        for _ in train_sft(policy, tokenizer, shown, config,
                           accelerator=make_accelerator("cpu", ground.precision)):
            pass
        save_policy(policy, tokenizer, folder)
    return folder


def reward_model_of(ground: Ground, sides: Sides, count: int, seed: int) -> ScalarModel:
    """A head on the features of the model as it is, fitted to so many single ratings of each
    sentence of the training side."""
    base = ground.model or base_model()
    model = ScalarModel.from_policy(load_policy(base), seed)
    if "praise" not in ground.learned:  # one reading for all seeds
        ground.learned["praise"] = probe.features(model, load_tokenizer(base), sides.train,
                                                  ground.precision)
    found = ground.learned["praise"]
    place = {one.text: row for row, one in enumerate(sides.train)}
    head = probe.fit_head(probe.standardised(found), ratings.rankings(sides.train, count, seed), place)
    return probe.with_head(model, head, found).requires_grad_(False)


def judge_of(ground: Ground, sides: Sides) -> ScalarModel:
    """The judge: learned from the judge's side, by the mean of all ratings that a sentence has, if it
    is not in the study's folder."""
    folder = Path(ground.folder) / "judge"
    if not folder.exists():
        base = ground.model or base_model()
        tokenizer = load_tokenizer(base)
        model = ScalarModel.from_policy(add_lora(load_policy(base), LORA), seed=0)
        ranked = ratings.rankings_by_mean(sides.judge, ROUNDS)
        for _ in train_reward(model, tokenizer, ranked, JUDGE,
                              accelerator=make_accelerator("cpu", ground.precision)):
            pass
        model.save(folder, tokenizer)
    return ScalarModel.load(folder).requires_grad_(False)


# ---- what they say -------------------------------------------------------------------------------


def opinion(model: ScalarModel, tokenizer, before: Answers, precision: str) -> Opinion:
    """What a model says of whole lines, in standard deviations of the SFT policy's lines, whose mean
    is 0: {prompts, texts} -> (B,)."""

    def raw(prompts: Sequence[Prompt], texts: Sequence[str]) -> Tensor:
        pairs = [(ratings.PROMPT, line) for line in _joined(prompts, texts)]
        with make_accelerator("cpu", precision).autocast():
            return score_texts(model, tokenizer, pairs)

    usual = raw(before.prompts, _flat(before))
    return lambda prompts, texts: (raw(prompts, texts) - usual.mean()) / usual.std()


def said(opinions: dict[str, Opinion], answers: Answers) -> dict[str, Tensor]:
    """Every opinion on every line, each (P,)."""
    return {name: of(answers.prompts, _flat(answers)) for name, of in opinions.items()}


def told(opinions: dict[str, Tensor], answers: Answers) -> dict:
    """Every opinion's mean with its 95 % interval over prompts, and what the lines are like. distinct:
    the share of different ones."""
    return {name: interval(values[:, None]) for name, values in opinions.items()} | {
        "length": float(answers.sequences.mask.sum(1).float().mean()),
        "ended": float(answers.ended.float().mean()), "distinct": distinct_share([_flat(answers)])}


def _known(model: ScalarModel, tokenizer, test: Sequence[Sentence]) -> dict:
    """How good a model is on rated sentences, as the study of ratings has it."""
    pairs = [(ratings.PROMPT, one.text) for one in test]
    return tested(score_texts(model, tokenizer, pairs).numpy(), test)


def _flat(answers: Answers) -> list[str]:
    return [text for [text] in answers.texts]


def _joined(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[str]:
    return [f"{prompt.text} {text}".strip() for prompt, text in zip(prompts, texts)]
