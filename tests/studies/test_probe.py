"""A head alone on the features of a model that stays as it is."""

import pytest
import torch

from rlhf_lab import maths
from rlhf_lab.disk.data import base_model
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.reward import score_texts
from rlhf_lab.studies import probe
from rlhf_lab.tasks.film_reviews import draw
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence

TEXTS = ["a fine film", "a dull film, and long", "warm", "it is what it is"]


def ranking(texts, ranks, id="p"):
    return Ranking(Prompt(id, draw.PROMPT), tuple(texts), tuple(ranks))


def test_with_one_pair_the_head_is_the_one_worked_out_by_hand():
    # Features x and y, x preferred: the best head is c (x - y) with ridge c = 1 / (1 + exp(c |x -
    # y|²)).
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    head = probe.fit_head(features, [ranking("ab", (1, 2))], {"a": 0, "b": 1}, ridge=0.1)
    c = head[0].item()
    assert head[1].item() == pytest.approx(-c, abs=1e-6)
    assert 0.1 * c == pytest.approx(1 / (1 + torch.tensor(2 * c).exp().item()), abs=1e-6)


def test_the_fit_is_the_minimum_of_the_loss():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 5, dtype=torch.float64, generator=generator)
    place = {str(i): i for i in range(12)}
    drawn = [ranking([str(i), str(i + 1), str(i + 2)], (1, 3, 1), str(i)) for i in range(0, 9, 3)]
    drawn.append(ranking(["3", "9"], (2, 1)))  # a smaller group
    head = probe.fit_head(features, drawn, place, ridge=0.05).requires_grad_()
    pairs = [(0, 1), (2, 1), (3, 4), (5, 4), (6, 7), (8, 7)]
    losses = [-(features[a] @ head - features[b] @ head).sigmoid().log() for a, b in pairs]
    each = [(losses[i] + losses[i + 1]) / 2 for i in (0, 2, 4)]
    each.append(-(features[9] @ head - features[3] @ head).sigmoid().log())
    (sum(each) / 4 + 0.025 * head @ head).backward()
    assert head.grad.abs().max() < 1e-4


def test_the_model_with_its_head_scores_as_the_head_does_on_features():
    tokenizer = load_tokenizer(base_model())
    model = ScalarModel.from_policy(load_policy(base_model()), seed=0)
    rated = [Sentence(i, text, (1,) * 15, 0) for i, text in enumerate(TEXTS)]
    found = probe.features(model, tokenizer, rated, max_tokens=16)
    assert found.shape == (4, model.head.in_features)
    known = probe.standardised(found)
    torch.testing.assert_close(
        known.mean(0), torch.zeros(len(known[0]), dtype=torch.float64), atol=1e-6, rtol=0
    )
    head = probe.fit_head(
        known, [ranking(TEXTS, (1, 4, 2, 3))], {t: i for i, t in enumerate(TEXTS)}
    )
    scores = score_texts(
        probe.with_head(model, head, found), tokenizer, [(draw.PROMPT, text) for text in TEXTS]
    )
    torch.testing.assert_close(scores, (known @ head).float(), atol=1e-3, rtol=1e-3)
    assert float(maths.pair_accuracy(scores[None], torch.tensor([[1, 4, 2, 3]]))) == 1.0
