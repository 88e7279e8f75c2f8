"""Steer a policy towards praise with real people's ratings, and measure independently whether it
worked: for notebook 10.

A policy that was trained on lines about films continues the first two words of a line. PPO rewards
it for praise, as scored by a reward model that learned from single ratings of the training side.
People do not rate what the policy writes, so three measures that took no part in training say
whether it worked: a judge that learned from other sentences, rated by other people; a head that
knows only which words a line has, fitted to the judge's ratings; and VADER's lexicon. The first
words that the lines continue are from the test side.

Reward model and judge are heads on the features of one frozen model (`rlhf_lab.studies.probe`),
fitted to ratings that have nothing in common. A line that is misleading in the features may mislead
both; the lexicon and the head on words do not use the features.

PPO takes a point from a line that does not end, so lines become shorter whatever they say. An arm
in which every line scores 0 shows what that alone does.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from rlhf_lab.disk.data import base_model
from rlhf_lab.evaluate import Responses, distinct_share, respond, sequence_kl
from rlhf_lab.intervals import interval
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.reward import score_texts
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sft import SFTConfig
from rlhf_lab.studies import probe
from rlhf_lab.studies.ground import Ground, Rows, imitator
from rlhf_lab.studies.ratings import tested
from rlhf_lab.tasks.film_reviews import beginnings, draw, ratings_file
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence, lexicon_scores
from rlhf_lab.training import make_accelerator

LONGEST = 32  # most tokens that the policy adds to the first words
TRAINED = 10  # the last layers of the policy, which train; the others are frozen
ROUNDS = 4  # how often the judge's sentences are divided into groups to be ranked
Opinion = Callable[[Sequence[Prompt], Sequence[str]], Tensor]


@dataclass(frozen=True)
class Arm:
    """beta: as in PPOConfig. hacked: whether we expected, before the run, that the judge's opinion
    gains less than half as many standard deviations as the score. praised: whether the score is
    part of the reward; if not, only ending a line is rewarded."""

    name: str
    beta: float
    hacked: bool
    praised: bool = True
    updates: int = 30
    batch_size: int = 32
    ratings: int = 4  # single ratings of each sentence of the training side


ARMS = (
    Arm("beta 0.1", 0.1, hacked=False),
    Arm("beta 0", 0.0, hacked=True),
    Arm("ending alone", 0.0, hacked=False, praised=False),
)


def run_arm(
    ground: Ground, arm: Arm, seed: int, sentences: Sequence[Sentence] | None = None
) -> dict:
    """Run one arm, unless it was run already, and return its summary: what `told` says of the SFT
    policy ("sft") and of the policy, the gain by every opinion ("gain", paired by prompt), and how
    well reward model, judge and words do on the test side's sentences ("known").

    Writes metrics.jsonl.gz, and lines.jsonl.gz with what both policies wrote for every prompt. All
    seeds begin with the same SFT policy. Raises UserError if the ratings or the lexicon are
    missing.
    """
    return ground.once(arm.name, seed, lambda: _steer(ground, arm, seed, sentences))


def _steer(
    ground: Ground, arm: Arm, seed: int, sentences: Sequence[Sentence] | None
) -> tuple[dict, dict[str, Rows]]:
    sides = draw.split(ratings_file.read() if sentences is None else sentences)
    tokenizer = load_tokenizer(ground.model or base_model())
    prompts, held_out = prompts_of(sides.train), prompts_of(sides.test)[: ground.judged]
    sft = load_policy(writer(ground, sides.train))
    told_before = respond(sft, tokenizer, held_out, 1, seed, config=SamplingConfig(LONGEST))

    reward_model = learned(
        ground, "train", sides.train, draw.rankings(sides.train, arm.ratings, seed)
    )
    judge = learned(ground, "judge", sides.judge, draw.rankings_by_mean(sides.judge, ROUNDS))
    opinions = {
        name: opinion(model, tokenizer, told_before, ground.precision)
        for name, model in (("score", reward_model), ("judge", judge))
    }
    opinions["words"] = words_of(sides.judge)
    opinions["lexicon"] = lambda prompts, texts: torch.tensor(
        lexicon_scores(_joined(prompts, texts))
    )

    policy = train_top(load_policy(writer(ground, sides.train)))
    config = PPOConfig(
        updates=arm.updates,
        batch_size=arm.batch_size,
        beta=arm.beta,
        seed=seed,
        learning_rate=1e-4,
        max_new_tokens=LONGEST,
    )
    paid = opinions["score"] if arm.praised else lambda prompts, texts: torch.zeros(len(texts))
    scorer = lambda prompts, texts: paid(prompts, texts).tolist()  # noqa: E731
    metrics = list(
        train_ppo(
            policy,
            scorer,
            tokenizer,
            prompts,
            config,
            accelerator=make_accelerator("cpu", ground.precision),
        )
    )

    told_after = respond(policy, tokenizer, held_out, 1, seed, config=SamplingConfig(LONGEST))
    before, after = (said(opinions, answers) for answers in (told_before, told_after))
    kl = sequence_kl(policy, sft, told_after, max_tokens=512)
    heard = opinions["words"]([Prompt("", "")] * len(sides.test), [one.text for one in sides.test])
    summary = {
        "arm": asdict(arm),
        "seed": seed,
        "model": Path(ground.model or "compact").name,
        "sft": told(before, told_before),
        "policy": told(after, told_after) | {"kl": interval(kl)},
        "gain": {name: interval((after[name] - before[name])[:, None]) for name in opinions},
        "known": {
            "score": _known(ground, reward_model, sides.test),
            "judge": _known(ground, judge, sides.test),
            "words": tested(heard.numpy(), sides.test),
        },
    }
    kept = (
        "update",
        "objective/kl",
        "objective/scores",
        "policy/entropy_avg",
        "response/length",
        "response/ended",
    )
    return summary, {
        "metrics": [{k: record[k] for k in kept} for record in metrics],
        "lines": _lines(told_before, told_after, before, after),
    }


def _lines(
    told_before: Responses,
    told_after: Responses,
    before: dict[str, Tensor],
    after: dict[str, Tensor],
) -> Rows:
    """What both policies wrote for every prompt, its number of tokens, and every opinion of it."""
    tokens = [answers.sequences.mask.sum(1).tolist() for answers in (told_before, told_after)]
    return [
        {"prompt": prompt.text, "sft": a, "policy": b, "tokens": [n[i] for n in tokens]}
        | {name: [round(float(which[name][i]), 2) for which in (before, after)] for name in before}
        for i, (prompt, [a], [b]) in enumerate(
            zip(told_before.prompts, told_before.texts, told_after.texts)
        )
    ]


# ---- the models ----------------------------------------------------------------------------------


def prompts_of(sentences: Sequence[Sentence]) -> list[Prompt]:
    """The first words of the sentences as prompts, each once, in their order."""
    shown = beginnings.demonstrations(sentences)
    return [
        Prompt(f"beginning: {text}", text) for text in dict.fromkeys(d.prompt.text for d in shown)
    ]


def writer(ground: Ground, train: Sequence[Sentence]) -> Path:
    """The folder of the SFT policy, which learned from lines of the training side; it is trained if
    it is missing."""

    def shown():
        return beginnings.demonstrations(draw.some(train, min(len(train), ground.demonstrations)))

    return imitator(
        Path(ground.folder) / "writer",
        ground.model or base_model(),
        lambda policy: SFTConfig(epochs=1, learning_rate=5e-5),
        shown,
        make_accelerator("cpu", ground.precision),
    )


def learned(
    ground: Ground, side: str, sentences: Sequence[Sentence], ranked: Sequence[Ranking]
) -> ScalarModel:
    """The frozen model with a head fitted to these rankings of a side's sentences."""
    model = ScalarModel.from_policy(load_policy(ground.model or base_model()), seed=0)
    found = features_of(ground, side, model, sentences)
    place = {one.text: row for row, one in enumerate(sentences)}
    head = probe.fit_head(probe.standardised(found), ranked, place)
    return probe.with_head(model, head, found).requires_grad_(False)


def features_of(
    ground: Ground, side: str, model: ScalarModel, sentences: Sequence[Sentence]
) -> Tensor:
    """The features of a side's sentences, (S, D), computed once for all runs."""
    if side not in ground.learned:
        tokenizer = load_tokenizer(ground.model or base_model())
        ground.learned[side] = probe.features(model, tokenizer, sentences, ground.precision)
    return ground.learned[side]


def words_of(sentences: Sequence[Sentence]) -> Opinion:
    """An opinion that uses only which words a line has: (prompts, texts) -> (B,)."""
    ranked = draw.rankings_by_mean(sentences, ROUNDS)
    place = {one.text: row for row, one in enumerate(sentences)}
    head = probe.fit_head(probe.word_features(sentences, []), ranked, place, probe.WORDS_RIDGE)

    def score(prompts: Sequence[Prompt], texts: Sequence[str]) -> Tensor:
        heard = [Sentence(0, text, (0,), 0) for text in _joined(prompts, texts)]
        return (probe.word_features(sentences, heard)[len(sentences) :] @ head).float()

    return score


def train_top(policy):
    """Freeze all but the last layers of the policy; returns it."""
    policy.requires_grad_(False)
    trunk = policy.base_model
    layers = trunk.h if hasattr(trunk, "h") else trunk.layers
    for layer in list(layers)[-TRAINED:]:
        layer.requires_grad_(True)
    return policy


# ---- what they say -------------------------------------------------------------------------------


def opinion(model: ScalarModel, tokenizer, before: Responses, precision: str) -> Opinion:
    """A model's scores of whole lines, shifted and scaled so that the SFT policy's lines have mean
    0 and standard deviation 1: (prompts, texts) -> (B,)."""
    accelerator = make_accelerator("cpu", precision)

    def raw(prompts: Sequence[Prompt], texts: Sequence[str]) -> Tensor:
        pairs = [(draw.PROMPT, line) for line in _joined(prompts, texts)]
        with accelerator.autocast():
            return score_texts(model, tokenizer, pairs)

    usual = raw(before.prompts, _flat(before))
    return lambda prompts, texts: (raw(prompts, texts) - usual.mean()) / usual.std()


def said(opinions: dict[str, Opinion], answers: Responses) -> dict[str, Tensor]:
    """Every opinion on every line, each (P,)."""
    return {name: of(answers.prompts, _flat(answers)) for name, of in opinions.items()}


def told(opinions: dict[str, Tensor], answers: Responses) -> dict:
    """Every opinion's mean with its 95 % interval over prompts, and the lines' mean length, the
    share that ended ("ended") and the share of different ones ("distinct")."""
    return {name: interval(values[:, None]) for name, values in opinions.items()} | {
        "length": float(answers.sequences.mask.sum(1).float().mean()),
        "ended": float(answers.ended.float().mean()),
        "distinct": distinct_share([_flat(answers)]),
    }


def _known(ground: Ground, model: ScalarModel, test: Sequence[Sentence]) -> dict:
    """How good a model is on rated sentences, measured as in the ratings study."""
    with torch.no_grad():
        scores = model.head(features_of(ground, "test", model, test)).squeeze(1)
    return tested(scores.numpy(), test)


def _flat(answers: Responses) -> list[str]:
    return [text for [text] in answers.texts]


def _joined(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[str]:
    return [f"{prompt.text} {text}".strip() for prompt, text in zip(prompts, texts)]
