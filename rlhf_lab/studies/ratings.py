"""What are ratings by real people worth, and how many should each sentence get? For notebook 10.

Reward models learn from rankings drawn from single ratings of film review sentences
(`rlhf_lab.tasks.film_reviews`): more and fewer sentences, each rated by 1 to 15 labellers. Arms
that cost the same number of ratings can be compared: 6000 x 1, 3000 x 2, 1500 x 4. All are tested
on the same sentences, from sheets without any training sentence, on every comparison of two single
ratings. The judge's side is not used.

If `Ground.model` names no model, it is the compact one, whose tokenizer was trained on letters to a
support desk. It is a byte-level BPE, so it can encode any sentence, but with more tokens: it splits
words like "screenplay" into pieces, and its base model has seen hardly any text about films. So it
first learns from the sentences of the training side, without their ratings, as SFT's
demonstrations; these cost no ratings. The arms "unread" skip this: they are a control, and the arms
for models that know English already.

In the arms "head alone" the model is frozen and a head is fitted to its features
(`rlhf_lab.studies.probe`), for which the sentences are read once for all arms. The arms "words" are
a control: they fit a head to which words a sentence has, without any model.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from rlhf_lab.disk.data import base_model
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.records import Ranking
from rlhf_lab.reward import RewardConfig, score_texts, train_reward
from rlhf_lab.sft import SFTConfig
from rlhf_lab.studies import probe
from rlhf_lab.studies.ground import Ground, imitator
from rlhf_lab.tasks.film_reviews import draw, rated_pairs, ratings_file, split_half
from rlhf_lab.tasks.film_reviews.draw import Sides
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence
from rlhf_lab.training import make_accelerator

SENTENCES, RATINGS = (375, 750, 1500, 3000, 6000), (1, 2, 4, 8, 15)
MOST = 24_000  # the most ratings that an arm of the grid may cost
PEOPLE_ASKED = (1, 2, 4, 7, 14)
LARGE = 50_000_000  # a model with at least so many parameters gets smaller learning rates


@dataclass(frozen=True)
class Arm:
    """sentences: how many; ratings: how many single ratings each. read: whether the model first
    learns from all sentences of the training side, without their ratings. head_alone: whether only
    the head learns; words: whether its features are the sentence's words."""

    sentences: int
    ratings: int
    read: bool = True
    head_alone: bool = False
    words: bool = False

    @property
    def name(self) -> str:
        return (
            f"{self.sentences} x {self.ratings}"
            + ("" if self.read else ", unread")
            + (", head alone" if self.head_alone else "")
            + (", words" if self.words else "")
        )


GRID = tuple(Arm(s, r) for s in SENTENCES for r in RATINGS if s * r <= MOST)
UNREAD = tuple(
    Arm(s, r, read=False) for s, r in ((1500, 4), (1500, 15), (6000, 1), (6000, 4), (6000, 15))
)
HEADS = tuple(
    Arm(s, r, read, head_alone=True) for read in (True, False) for s in SENTENCES for r in RATINGS
)
WORDS = tuple(Arm(s, r, words=True) for s in SENTENCES for r in RATINGS)
ARMS = (*GRID, Arm(6000, 15), *UNREAD, *HEADS, *WORDS)
PEOPLE = "people"


def run_arm(
    ground: Ground, arm: Arm, seed: int, sentences: Sequence[Sentence] | None = None
) -> dict:
    """Run one arm, unless it was run already, and return its summary: accuracy on held-out
    comparisons, the ceiling, and "way", how far the accuracy is from 1/2 to the ceiling, each with
    its 95 % interval over sheets, for all pairs of sheets and for those of the same leaning; and
    the correlation with the mean rating. The table "scores" has every test sentence's score.

    sentences: to use in place of the study's. Raises UserError if the study's were not fetched.
    """
    return ground.once(name_of(ground, arm), seed, lambda: _learn(ground, arm, seed, sentences))


def name_of(ground: Ground, arm: Arm) -> str:
    """A run's name: the arm's, and the model it starts from if that is not the compact one."""
    return arm.name if arm.words else arm.name + _model(ground)


def run_people(ground: Ground, seed: int = 0, sentences: Sequence[Sentence] | None = None) -> dict:
    """How well people's own ratings and VADER's lexicon do on the study's test sentences: for each
    name, accuracy and the way to the ceiling as in `run_arm`. The seed only names the folder; it
    does not change the results.

    Raises UserError if the ratings or the lexicon are missing.
    """

    def ask() -> tuple[dict, dict]:
        test = draw.split(ratings_file.read() if sentences is None else sentences).test
        best = rated_pairs.ceiling(test)
        found = {f"{k} rating" + "s" * (k > 1): split_half.worth(test, k) for k in PEOPLE_ASKED}
        found["VADER's lexicon"] = rated_pairs.accuracy(
            ratings_file.lexicon_scores(one.text for one in test), test
        )
        return {
            "sentences": len(test),
            "opinions": {
                name: _held(pairs, best) | {"alike": _held(pairs.alike, best.alike)}
                for name, pairs in found.items()
            },
        }, {}

    return ground.once(PEOPLE, seed, ask)


def _learn(
    ground: Ground, arm: Arm, seed: int, sentences: Sequence[Sentence] | None
) -> tuple[dict, dict]:
    sides = draw.split(ratings_file.read() if sentences is None else sentences)
    drawn = draw.rankings(draw.some(sides.train, arm.sentences, seed), arm.ratings, seed)
    learn = _fit if arm.head_alone or arm.words else _train
    scores, parameters = learn(ground, arm, seed, sides, drawn)
    summary = {
        "arm": asdict(arm) | {"name": name_of(ground, arm)},
        "seed": seed,
        "model": Path(ground.model or "compact").name,
        "parameters": parameters,
        "rankings": len(drawn),
        "ratings": arm.sentences * arm.ratings,
    }
    summary |= tested(scores, sides.test)
    rows = [{"id": one.id, "score": float(score)} for one, score in zip(sides.test, scores)]
    return summary, {"scores": rows}


def _train(
    ground: Ground, arm: Arm, seed: int, sides: Sides, drawn: list[Ranking]
) -> tuple[np.ndarray, int]:
    """Scores of the test sentences by a reward model trained as in the lab, and its number of
    parameters."""
    policy, tokenizer = start(ground, arm, seed, sides.train)
    reward_model = ScalarModel.from_policy(policy, seed)
    config = reward_config(policy, seed)
    for _ in train_reward(
        reward_model,
        tokenizer,
        drawn,
        config,
        accelerator=make_accelerator("cpu", ground.precision),
    ):
        pass
    pairs = [(draw.PROMPT, one.text) for one in sides.test]
    return score_texts(reward_model, tokenizer, pairs).cpu().numpy(), policy.num_parameters()


def _fit(
    ground: Ground, arm: Arm, seed: int, sides: Sides, drawn: list[Ranking]
) -> tuple[np.ndarray, int]:
    """The same for a head on features, which are computed once for all arms that share them."""
    key = "words" if arm.words else "features", seed if arm.read and not arm.words else None
    if key not in ground.learned:
        ground.learned[key] = _features(ground, arm, seed, sides)
    parameters, known = ground.learned[key]
    place = {one.text: row for row, one in enumerate(sides.train)}
    ridge = probe.WORDS_RIDGE if arm.words else probe.RIDGE
    head = probe.fit_head(known[: len(sides.train)], drawn, place, ridge)
    return (known[len(sides.train) :] @ head).numpy(), parameters


def _features(ground: Ground, arm: Arm, seed: int, sides: Sides) -> tuple[int, Tensor]:
    """The number of parameters, and the features of the training and the test side's sentences,
    (S, D)."""
    if arm.words:
        found = probe.word_features(sides.train, sides.test)
        return found.shape[1], found
    policy, tokenizer = start(ground, arm, seed, sides.train)
    model = ScalarModel.from_policy(policy, seed)
    found = probe.features(model, tokenizer, [*sides.train, *sides.test], ground.precision)
    return policy.num_parameters(), probe.standardised(found)


def start(ground: Ground, arm: Arm, seed: int, train: Sequence[Sentence]):
    """The policy from which the reward model starts, and its tokenizer. A policy that learned from
    the sentences is kept in the study's folder for the other arms of the seed."""
    base = ground.model or base_model()
    tokenizer = load_tokenizer(base)
    if not arm.read:
        return load_policy(base), tokenizer
    folder = Path(ground.folder) / f"read{_model(ground)}_{seed}".replace(", ", "-")
    return load_policy(
        imitator(
            folder,
            base,
            lambda policy: sft_config(policy, seed),
            lambda: draw.demonstrations(train),
            make_accelerator("cpu", ground.precision),
        )
    ), tokenizer


def sft_config(policy, seed: int) -> SFTConfig:
    """The lab's defaults; for a large model with a smaller learning rate."""
    return SFTConfig(seed=seed) if small(policy) else SFTConfig(seed=seed, learning_rate=5e-5)


def reward_config(policy, seed: int) -> RewardConfig:
    """The lab's defaults; for a large model the learning rate of Ziegler et al. (2019) for 124M
    parameters, with as many responses per update as theirs, 32."""
    if small(policy):
        return RewardConfig(seed=seed)
    return RewardConfig(seed=seed, learning_rate=5e-5, head_factor=10.0)


def small(policy) -> bool:
    return policy.num_parameters() < LARGE


def tested(scores: np.ndarray, test: Sequence[Sentence]) -> dict:
    """The measures of `run_arm` for scores (S,) of the test sentences."""
    found, best = rated_pairs.accuracy(scores, test), rated_pairs.ceiling(test)
    means = [one.mean for one in test]
    return (
        _held(found, best)
        | {"alike": _held(found.alike, best.alike)}
        | {"correlation": float(np.corrcoef(scores, means)[0, 1])}
    )


def _model(ground: Ground) -> str:
    return f", {Path(ground.model).name}" if ground.model else ""


def _held(found: rated_pairs.Pairs, best: rated_pairs.Ceiling) -> dict:
    held = {
        "accuracy": found.interval,
        "ceiling": best.middle.interval,
        "way": rated_pairs.share_of_ceiling(found, best),
    }
    return {name: list(interval) for name, interval in held.items()}  # lists, as in JSON
