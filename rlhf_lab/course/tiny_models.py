"""Models of twelve words, to try the steps of a training loop on in a few milliseconds.

Their weights are random and large, so that a mistake in a step moves its numbers by far more than
rounding does. Each call gives new copies, which may be trained.
"""

import copy
from functools import cache
from random import Random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Prompt
from rlhf_lab.rollout import Rollout
from rlhf_lab.sequences import Sequences

PAD, END = "<pad>", "<end>"
WORDS = ("please", "help", "my", "phone", "is", "hot", "try", "this", "thanks", "no")
# Prompts and responses of different lengths; the second response was cut off before its end token.
WRITTEN = (
    ("please help", "try this", True),
    ("my phone is hot", "no no thanks", False),
    ("is this hot", "no", True),
    ("help my phone", "thanks this phone is please", True),
)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word, after PAD (0) and END (1)."""
    words = {word: number for number, word in enumerate((PAD, END, *WORDS))}
    backend = Tokenizer(models.WordLevel(words, unk_token="no"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([PAD, END])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=PAD)


@cache
def _policy(seed: int) -> GPT2LMHeadModel:
    sizes = {"n_positions": 80, "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 12}
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(GPT2Config(**sizes, **ends, initializer_range=0.6)).eval()


def policy(seed: int = 0) -> GPT2LMHeadModel:
    """A random language model."""
    return copy.deepcopy(_policy(seed))


@cache
def _scalar_model(seed: int) -> ScalarModel:
    with torch.random.fork_rng(devices=[]):
        return ScalarModel.from_policy(_policy(seed), seed)


def scalar_model(seed: int = 1) -> ScalarModel:
    """A random model with one number per token: a reward model or a value network."""
    return copy.deepcopy(_scalar_model(seed))


def sentence(dice: Random, fewest: int, most: int) -> str:
    """A sentence of so many random words."""
    return " ".join(dice.choices(WORDS, k=dice.randint(fewest, most)))


def written(dice: Random) -> tuple[tuple[str, str, bool], ...]:
    """Three prompts with responses, like WRITTEN: the first and the last ended, the second did not.
    No prompt is one word, so that two positions before a response there is a word."""
    return tuple((sentence(dice, 2, 4), sentence(dice, 1, 5), row != 1) for row in range(3))


def prompts() -> list[Prompt]:
    """The prompts of WRITTEN."""
    return [Prompt(str(number), text) for number, (text, *_) in enumerate(WRITTEN)]


def sequences() -> Sequences:
    """The prompts and responses of WRITTEN."""
    return Sequences.of_text(tokenizer(), WRITTEN)


def batch() -> Rollout:
    """WRITTEN as a rollout whose numbers are random, as if it came from another policy."""
    rows, draws = sequences(), torch.Generator().manual_seed(5)

    def some(spread: float, middle: float = 0.0) -> torch.Tensor:
        numbers = middle + spread * torch.randn(rows.mask.shape, generator=draws)
        return numbers.masked_fill(~rows.mask, 0)

    texts, ended = [text for _, text, _ in WRITTEN], torch.tensor([row[2] for row in WRITTEN])
    scores = torch.randn(len(WRITTEN), generator=draws)
    rollout = Rollout(
        prompts(), texts, rows, ended, scores, some(0.7, -2.5), some(0.7, -2.5), some(0.5)
    )
    rollout.rewards, rollout.advantages, rollout.returns = some(0.5), some(1.0), some(0.8)
    return rollout
