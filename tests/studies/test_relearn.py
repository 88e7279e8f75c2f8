"""Training on a store's rankings, and what a reward model learned beside controls."""

import copy
import itertools

import numpy as np
import pytest
import torch

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.store import Entry, FeedbackStore, Sample
from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.reward import RewardConfig, rankings_from, score_texts, train_reward
from rlhf_lab.show import feedback_plots, plots
from rlhf_lab.studies.relearn import relearn, relearn_in_turn, shuffle_ranks

TEXTS = ("good", "fair one", "bad", "worst")
QUICK = RewardConfig(epochs=8, batch_size=4, learning_rate=3e-3, warmup=0)


def ranked(count, ranks=(1, 2, 3, 4), labeller="ann") -> list[Ranking]:
    return [Ranking(Prompt(f"p{i}", f"say {i}:"), TEXTS, ranks, labeller) for i in range(count)]


@pytest.fixture
def store(tmp_path):
    """Two labellers and ten prompts; ann has a repeat of each, and five that a model chose."""
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    prompts = [Prompt(f"p{i}", f"say {i}:") for i in range(15)]
    store.add_all([(prompt, [Sample(text) for text in TEXTS]) for prompt in prompts])
    store.add_labeller("ann")
    store.add_labeller("bob")
    picks = ["random"] * 10 + ["active"] * 5
    for prompt, pick in zip(prompts, picks):
        store.write(entry("ann", prompt, (1, 2, 3, None), pick))
    for prompt in prompts[:10]:
        store.write(entry("ann", prompt, (1, 2, 4, 3), "repeat"))
        store.write(entry("bob", prompt, (4, 3, 2, 1), "common"))
    return store


def entry(labeller, prompt, ranks, pick) -> Entry:
    return Entry("", "ranking", labeller, prompt, TEXTS, ranks, (3, 1, 0, 2), 1.0, pick)


# ------------------------------------------------------------------------------ from a store


def test_no_prompt_is_trained_on_and_tested_on(store):
    training, held_out = rankings_from(store)
    trained = {r.prompt.text for r in training}
    assert held_out and trained.isdisjoint(r.prompt.text for r in held_out)
    both = [r for r in store.rankings() if r.prompt.text in trained]
    assert training == both  # all rankings of a prompt go to the same side


def test_the_test_has_only_prompts_picked_by_chance(store):
    _, held_out = rankings_from(store, ["ann"])
    fair = store.rankings(["ann"], ["random"])
    assert held_out and all(r in fair for r in held_out)
    assert len({r.prompt.text for r in held_out}) == len(held_out)  # no repeats


def test_labellers_are_chosen(store):
    for chosen in (["bob"], ["ann"], ["ann", "bob"], None):
        training, held_out = rankings_from(store, chosen)
        for rows in (training, held_out):
            assert {r.labeller for r in rows} == set(chosen or ["ann", "bob"])
    with pytest.raises(UserError, match="nobody"):
        rankings_from(store, ["nobody"])


def test_training_from_a_store_is_training_on_its_rankings(store, gpt2, tokenizer):
    def records(**source):
        torch.manual_seed(0)
        model = ScalarModel.from_policy(gpt2, 0)
        return list(train_reward(model, tokenizer, config=RewardConfig(1, 8), **source))

    training, held_out = rankings_from(store, ["ann"])
    found = records(store=store, labellers=["ann"])
    assert found == records(rankings=training, held_out=held_out)
    assert "reward/held_out_accuracy" in found[-1]


def test_nothing_to_train_on_is_said(tmp_path, gpt2, tokenizer):
    model, empty = ScalarModel.from_policy(gpt2, 0), FeedbackStore(tmp_path / "empty.sqlite")
    for source in ({}, {"store": empty}):
        with pytest.raises(UserError, match="no rankings"):
            next(train_reward(model, tokenizer, **source))


# ------------------------------------------------------------------------------ shuffled ranks


def test_shuffling_keeps_the_ranks_of_a_prompt_and_the_responses():
    before = ranked(20, (1, 1, 3, None))
    after = shuffle_ranks(before, 1)
    for a, b in zip(before, after):
        assert (a.prompt, a.responses, a.labeller) == (b.prompt, b.responses, b.labeller)
        assert sorted(map(str, a.ranks)) == sorted(map(str, b.ranks))
    assert after == shuffle_ranks(before, 1) != shuffle_ranks(before, 2)


def test_shuffling_takes_the_taste_away():
    places = [r.ranks.index(1) for r in shuffle_ranks(ranked(2000), 3)]
    share = np.bincount(places, minlength=4) / 2000
    assert share == pytest.approx([0.25] * 4, abs=0.04)  # four standard errors


def test_rankings_of_the_same_responses_are_shuffled_alike():
    first = Ranking(Prompt("p", "p"), TEXTS, (1, 2, 3, 4))
    again = Ranking(Prompt("p", "p"), TEXTS[::-1], (4, 3, 2, 1))  # the same order, stored backwards
    one, two = shuffle_ranks([first, again], 5)
    assert dict(zip(one.responses, one.ranks)) == dict(zip(two.responses, two.ranks))


# ------------------------------------------------------------------------------ relearning


@pytest.fixture(scope="module")
def learned(make_gpt2, tokenizer):
    """A tiny model that learned a taste that holds for all prompts; and the model it began from."""
    model = ScalarModel.from_policy(make_gpt2(tokenizer), 0)
    rows = ranked(32)
    before = copy.deepcopy(model.state_dict())
    result = relearn(model, tokenizer, rows[:24], rows[24:], QUICK)
    return result, model, before


def test_a_taste_is_learned_and_a_shuffled_one_is_not(learned):
    accuracy = learned[0].summary.set_index("model")["accuracy"]
    assert accuracy["after"] > 0.95
    assert accuracy.filter(like="control").mean() < 0.8


def test_the_summary_counts_prompts_and_pairs(learned):
    summary = learned[0].summary
    assert summary["model"].tolist() == ["before", "after", "control 1", "control 2", "control 3"]
    assert set(summary["prompts"]) == {8} and set(summary["pairs"]) == {8 * 6}
    assert (summary["low"] <= summary["accuracy"]).all()
    assert (summary["accuracy"] <= summary["high"]).all()


def test_scores_are_those_of_the_models_less_each_prompts_mean(learned, tokenizer):
    result, model, _ = learned
    table = result.scores
    assert len(table) == 8 * 4 and table["rank"].tolist() == [1, 2, 3, 4] * 8
    pairs = list(zip(table["prompt"], table["response"]))
    for name, one in (("before", model), ("after", result.reward_model)):
        expected = score_texts(one, tokenizer, pairs).view(8, 4)
        expected = (expected - expected.mean(1, keepdim=True)).flatten()
        assert table[name].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_accuracy_is_that_of_the_scores(learned):
    result = learned[0]
    for name, accuracy in zip(result.summary["model"], result.summary["accuracy"]):
        right = [
            (b[name] < a[name]) + (b[name] == a[name]) / 2
            for _, group in result.scores.groupby("prompt")
            for (_, a), (_, b) in itertools.combinations(group.iterrows(), 2)
        ]  # a is better
        assert accuracy == pytest.approx(np.mean(right))


def test_the_model_given_stays_as_it_was(learned):
    _, model, before = learned
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_ties_and_unranked_responses_are_tested_as_the_person_left_them(gpt2, tokenizer):
    model, rows = ScalarModel.from_policy(gpt2, 0), ranked(3, (1, 1, None, None))
    result = relearn(model, tokenizer, rows[:2], rows[2:], RewardConfig(1, 2), controls=1)
    assert set(result.summary["pairs"]) == {4}
    assert result.scores["rank"].isna().tolist() == [False, False, True, True]


def test_too_few_prompts_are_said(gpt2, tokenizer):
    model = ScalarModel.from_policy(gpt2, 0)
    with pytest.raises(UserError, match="at least two prompts"):
        relearn(model, tokenizer, ranked(1), [])


# ------------------------------------------------------------------------------ the figure


def test_the_figure_shows_scores_by_rank_and_each_models_accuracy(learned):
    result = learned[0]
    left, right = feedback_plots.relearned(result.scores, result.summary).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "before",
        "after",
        "control",
    ]
    drawn = dict(zip(["before", "after"], left.lines))
    for name, line in drawn.items():
        assert list(line.get_xdata()) == [1, 2, 3, 4]
        means = result.scores.groupby("rank")[name].mean()
        assert list(line.get_ydata()) == pytest.approx(means.tolist())
    dots = [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"]
    assert dots == pytest.approx(result.summary["accuracy"].tolist())


def test_unranked_responses_have_a_place_of_their_own(learned):
    scores = learned[0].scores.copy()
    scores.loc[scores["rank"] == 4, "rank"] = np.nan
    left, _ = feedback_plots.relearned(scores, learned[0].summary).axes
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["1", "2", "3", "unranked"]
    assert plots.to_bytes(left.figure).startswith(b"<?xml")


# ------------------------------------------------------------------------------ in turn


def test_every_prompt_is_tested_once_by_models_that_did_not_see_it(gpt2, tokenizer, monkeypatch):
    """What each fold learned from and was tested on, caught on the way."""
    from rlhf_lab.studies import relearn as module

    seen, real = [], module.relearn
    monkeypatch.setattr(
        module,
        "relearn",
        lambda model, tok, some, apart, *rest: (
            seen.append((some, apart)) or real(model, tok, some, apart, *rest)
        ),
    )
    rows = ranked(7) + ranked(7, (4, 3, 2, 1), "bob")
    model = ScalarModel.from_policy(gpt2, 0)
    said, config = [], RewardConfig(1, 4)
    result = relearn_in_turn(
        model, tokenizer, rows, config=config, controls=1, folds=3, say=said.append
    )
    assert said == [f"fold {i} of 3 done, 2 models each" for i in (1, 2, 3)]
    assert sorted(r.prompt.text for _, apart in seen for r in apart) == sorted(
        r.prompt.text for r in rows
    )
    for some, apart in seen:
        assert {r.prompt.text for r in some}.isdisjoint(r.prompt.text for r in apart)
        assert len(some) + len(apart) == len(rows)
    assert list(result.summary["model"]) == ["before", "after", "control 1"]
    assert result.summary["prompts"].tolist() == [7] * 3
    assert result.summary["pairs"].tolist() == [14 * 6] * 3 and len(result.scores) == 14 * 4


def test_in_turn_only_fair_prompts_are_tested_and_all_others_are_learned_from(gpt2, tokenizer):
    rows = ranked(6)
    model = ScalarModel.from_policy(gpt2, 0)
    result = relearn_in_turn(model, tokenizer, rows, rows[:4], RewardConfig(1, 4), 1, folds=2)
    assert set(result.scores["prompt"]) == {r.prompt.text for r in rows[:4]}


def test_in_turn_the_model_returned_has_learned_from_all(gpt2, tokenizer):
    rows, config = ranked(4), RewardConfig(1, 2)
    model, whole = ScalarModel.from_policy(gpt2, 0), ScalarModel.from_policy(gpt2, 0)
    result = relearn_in_turn(model, tokenizer, rows, config=config, controls=1, folds=2)
    for _ in train_reward(whole, tokenizer, rows, config):
        pass
    for one, other in zip(result.reward_model.parameters(), whole.parameters()):
        torch.testing.assert_close(one, other)


def test_in_turn_it_takes_as_many_prompts_as_folds(gpt2, tokenizer):
    with pytest.raises(UserError, match="3 prompts cannot be divided into 4"):
        relearn_in_turn(ScalarModel.from_policy(gpt2, 0), tokenizer, ranked(3))
