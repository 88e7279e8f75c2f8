"""What a frozen model already knows about people's ratings: only the head learns.

Every sentence is read once. Its features are the last hidden state at its last token, which is the
input of a reward model's head. The head is trained with the k-wise loss, as in a reward model;
since nothing else is trained, the loss is convex: there is one best head, and L-BFGS finds it in a
second. So a whole grid of "how many sentences, how many ratings" needs only one reading of the
texts. (Alain and Bengio 2017 call such a head a linear probe.) The same fit on which words a
sentence has shows what is possible without any model.
"""

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Ranking
from rlhf_lab.reward import tables
from rlhf_lab.sequences import Sequences, micro_batches
from rlhf_lab.tasks.film_reviews.draw import PROMPT
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence
from rlhf_lab.training import make_accelerator

RIDGE = 0.01  # L2 penalty on the head
WORDS_RIDGE = 3e-4  # the same for words: the best of four values on the training side
LEAST = 2  # the least number of sentences in which a word must occur
TINY = 1e-6  # a feature with a smaller standard deviation counts as constant


@torch.no_grad()
def features(
    model: ScalarModel,
    tokenizer,
    sentences: Sequence[Sentence],
    precision: str = "auto",
    max_tokens: int = 1024,
) -> Tensor:
    """The last hidden state at the last token of each sentence, (S, D), float32."""
    rows = Sequences.of_text(tokenizer, [(PROMPT, one.text) for one in sentences])
    found = torch.zeros(len(sentences), model.head.in_features)
    accelerator = make_accelerator("cpu", precision)
    for some in micro_batches(rows.lengths, max_tokens):
        batch = rows.rows(some)
        with accelerator.autocast():
            found[some] = model.last_states(batch.tokens, batch.attention).float()
    return found


def word_features(train: Sequence[Sentence], others: Sequence[Sentence]) -> Tensor:
    """Which words each sentence has: (S, V) zeros and ones, float64, with the rows of `train` first
    and then those of `others`. The V words are those in at least two sentences of `train`."""
    rows = [_words(one.text) for one in (*train, *others)]
    counts = Counter(word for row in rows[: len(train)] for word in row)
    column = {word: v for v, word in enumerate(sorted(w for w in counts if counts[w] >= LEAST))}
    found = torch.zeros(len(rows), len(column), dtype=torch.float64)
    for s, row in enumerate(rows):
        found[s, [column[word] for word in row if word in column]] = 1.0
    return found


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text.lower()))


def standardised(features: Tensor) -> Tensor:
    """Every feature with mean 0 and standard deviation 1, float64, so that one ridge suits all."""
    wide = features.double()
    return (wide - wide.mean(0)) / wide.std(0).clamp_min(TINY)


def with_head(model: ScalarModel, head: Tensor, features: Tensor) -> ScalarModel:
    """Give the model a head that was fitted to its standardised features; returns the model. Its
    scores equal those of the head on `standardised(features)`."""
    wide = features.double()
    weight = head / wide.std(0).clamp_min(TINY)
    with torch.no_grad():
        model.head.weight.copy_(weight)
        model.head.bias.fill_(-float(weight @ wide.mean(0)))
    return model


def fit_head(
    features: Tensor, rankings: Sequence[Ranking], place: dict[str, int], ridge: float = RIDGE
) -> Tensor:
    """The head (D,) with the smallest k-wise loss plus ridge / 2 times its squared length.

    features: (S, D), float64; place: the row of each response's text. Ties are skipped, and each
    prompt has the same weight, as in `train_reward`.
    """
    index, ranks = tables(rankings, lambda one, k: place[one.responses[k]])
    head = torch.zeros(features.shape[1], dtype=features.dtype, requires_grad=True)
    search = torch.optim.LBFGS([head], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = maths.kwise_loss((features @ head)[index], ranks) + ridge / 2 * head @ head
        value.backward()
        return value

    search.step(loss)
    return head.detach()
