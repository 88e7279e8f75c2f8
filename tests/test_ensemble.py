"""Ensembles of reward models: combinations by hand, and one model in an ensemble of its own."""

import pytest
import torch

from rlhf_lab import maths
from rlhf_lab.disk.data import base_model
from rlhf_lab.models import (
    COMBINATIONS,
    Ensemble,
    ScalarModel,
    load_policy,
    load_tokenizer,
    new_value_model,
)
from rlhf_lab.reward import normalise
from rlhf_lab.sequences import Sequences, in_batches, response_scores

SCORES = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 6.0]])  # three members, two responses


def test_combinations_by_hand():
    # variances: (1 + 1 + 0) / 3 and (4 + 4 + 16) / 3
    assert COMBINATIONS["mean"](SCORES).tolist() == [2.0, 2.0]
    assert COMBINATIONS["worst"](SCORES).tolist() == [1.0, 0.0]
    assert COMBINATIONS["uncertainty"](SCORES).tolist() == pytest.approx([2 - 1 / 3, 2 - 4.0])
    assert maths.uncertainty_weighted(SCORES, 0.1).tolist() == pytest.approx([2 - 0.2 / 3, 2 - 0.8])


def test_who_agrees_with_himself_is_believed():
    base, tokenizer = load_policy(base_model()), load_tokenizer(base_model())
    model = ScalarModel.from_policy(base, 0)
    rows = Sequences.of_text(
        tokenizer, [("My radio hums.", "Restart it."), ("Hello.", "Buy another, now!")]
    )
    alone = in_batches(response_scores, model, rows)
    for name, combine in COMBINATIONS.items():
        together = in_batches(response_scores, Ensemble([model, model, model], combine), rows)
        torch.testing.assert_close(together, alone, msg=name)


def test_an_ensemble_is_normalised_as_one_model_is():
    base, tokenizer = load_policy(base_model()), load_tokenizer(base_model())
    rows = Sequences.of_text(tokenizer, [("Hello.", text) for text in ("Yes.", "No.", "Ask me.")])
    ensemble = Ensemble([ScalarModel.from_policy(base, seed) for seed in (0, 1)], maths.worst_case)
    for _ in range(2):  # again: scores of mean 0 and sd 1 stay as they are
        scores = in_batches(response_scores, ensemble, rows)
        normalise(ensemble, scores)
    scores = in_batches(response_scores, ensemble, rows)
    assert (float(scores.mean()), float(scores.std())) == pytest.approx((0, 1), abs=1e-5)


def test_ppos_value_network_starts_from_an_ensembles_first():
    base = load_policy(base_model())
    members = [ScalarModel.from_policy(base, seed) for seed in (0, 1)]
    value = new_value_model(base, Ensemble(members, maths.worst_case).requires_grad_(False))
    torch.testing.assert_close(value.head.weight, members[0].head.weight)
    assert value is not members[0] and all(p.requires_grad for p in value.parameters())


def test_one_member_that_differs_is_seen_only_in_the_combination():
    base = load_policy(base_model())
    first, second = ScalarModel.from_policy(base, 0), ScalarModel.from_policy(base, 1)
    tokens = torch.tensor([[5, 6, 7, 8]])
    ensemble = Ensemble([first, second], maths.worst_case)
    scores = ensemble.scores(tokens, torch.ones_like(tokens))
    assert scores.shape == (2, 1) and scores[0] != scores[1]
    assert ensemble.score(tokens, torch.ones_like(tokens)) == scores.min()
