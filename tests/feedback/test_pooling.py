"""Pooling: votes by hand; the fit against choix, exact integrals and labellers that are known."""

import itertools
import math
import random

import choix
import numpy as np
import pytest
import torch

from rlhf_lab.feedback.pooling import fit_labellers, pool_by_vote
from rlhf_lab.feedback.reliability import Contests, fit, follows, lower_bounds
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.tasks.labellers import ranks_of


def ranking(labeller, ranks, prompt="p", texts="abcdefghi") -> Ranking:
    return Ranking(Prompt(prompt, prompt), tuple(texts[: len(ranks)]), tuple(ranks), labeller)


def simulate(reliabilities, prompts, responses, per_prompt=None, seed=0):
    """Rankings by labellers of these reliabilities, and the true qualities, (prompts, responses).

    Gumbel noise on a times the quality makes P(i beats j) = sigmoid(a (s_i - s_j)) (Luce 1959).
    """
    rng = np.random.default_rng(seed)
    qualities, rows = rng.normal(size=(prompts, responses)), []
    for p, quality in enumerate(qualities):
        for who in rng.permutation(len(reliabilities))[:per_prompt]:
            values = reliabilities[who] * quality + rng.gumbel(size=responses)
            rows.append(ranking(f"labeller {who}", ranks_of(values), str(p)))
    return rows, qualities


def correlation(scores, qualities):
    """Between two tables, each prompt's mean taken off."""
    tables = [np.array(t) - np.array(t).mean(1, keepdims=True) for t in (scores, qualities)]
    return np.corrcoef(*(t.ravel() for t in tables))[0, 1]


# ------------------------------------------------------------------------------ the vote


def test_votes_by_hand():
    pooled = pool_by_vote(
        [ranking("ann", (1, 2, 3)), ranking("bob", (1, 3, 2)), ranking("cat", (2, 1, 3))]
    )
    # Of six comparisons each: a wins 5, b 1 + 0 + 2 = 3, c 1.
    assert pooled == [ranking("pooled", (1, 2, 3))]


def test_opposite_votes_and_a_circle_tie():
    assert pool_by_vote([ranking("ann", (1, 2)), ranking("bob", (2, 1))])[0].ranks == (1, 1)
    circle = [ranking("ann", (1, 2, 3)), ranking("bob", (3, 1, 2)), ranking("cat", (2, 3, 1))]
    assert pool_by_vote(circle)[0].ranks == (1, 1, 1)


def test_a_labeller_who_ranks_twice_has_one_vote():
    rows = [ranking("ann", (1, 2)), ranking("ann", (1, 2)), ranking("bob", (2, 1))]
    assert pool_by_vote(rows)[0].ranks == (1, 1)


def test_what_nobody_ranked_stays_unranked():
    rows = [ranking("ann", (1, None, None, None)), ranking("bob", (2, 1, None, None))]
    assert pool_by_vote(rows)[0].ranks == (1, 2, None, None)


def test_other_orders_and_other_responses_meet_by_their_text():
    rows = [ranking("ann", (1, 2)), ranking("bob", (2, 1, 3), texts="bac")]
    pooled = pool_by_vote(rows)
    assert (pooled[0].responses, pooled[0].ranks) == (("a", "b", "c"), (1, 2, 3))


def test_what_was_compared_with_nothing_is_left_out():
    rows = [ranking("ann", (1, 2)), ranking("bob", (1,), texts="z"), ranking("bob", (1,), "q")]
    for pooled in (pool_by_vote(rows), fit_labellers(rows).rankings):
        assert [(r.prompt.text, r.responses) for r in pooled] == [("p", ("a", "b"))]


def test_prompts_stay_in_the_order_in_which_they_came():
    rows = [ranking("ann", (1, 2), p) for p in "zay"] + [ranking("bob", (2, 1), "a")]
    for pooled in (pool_by_vote(rows), fit_labellers(rows).rankings):
        assert [r.prompt.text for r in pooled] == ["z", "a", "y"]
        assert {r.labeller for r in pooled} == {"pooled"}


# ------------------------------------------------------------------------------ choix


def comparisons_of(qualities, count, seed):
    """Winner and loser of comparisons of random pairs, by Bradley and Terry's model."""
    rng = random.Random(seed)
    for _ in range(count):
        i, j = rng.sample(range(len(qualities)), 2)
        first = rng.random() < 1 / (1 + math.exp(qualities[j] - qualities[i]))
        yield (i, j) if first else (j, i)


def scores_of(pooled):
    return [score for _, score in sorted(zip(pooled.rankings[0].responses, pooled.scores[0]))]


def test_one_labeller_gets_the_scores_of_choix():
    data = list(comparisons_of([1.2, 0.4, 0.0, -0.5, -1.1], 400, seed=0))
    rows = [ranking("ann", (1, 2), texts="abcde"[i] + "abcde"[j]) for i, j in data]
    known = choix.opt_pairwise(5, data, alpha=0.5)  # the same prior, N(0, 1)
    # choix gives the peak of the posterior, the fit its mean.
    assert scores_of(fit_labellers(rows)) == pytest.approx(known, abs=0.03)


def test_equal_labellers_get_equal_reliabilities_and_the_scores_of_choix():
    data = list(comparisons_of([2.0, 1.0, 0.0, -1.0, -2.0], 400, seed=1))
    rows = [
        ranking(who, (1, 2), texts="abcde"[i] + "abcde"[j])
        for i, j in data
        for who in ("ann", "bob", "cat")
    ]
    pooled = fit_labellers(rows)
    a = pooled.labellers["reliability"]
    assert a.tolist() == pytest.approx([a[0]] * 3, abs=1e-3)
    # a s has the prior N(0, a^2), which for choix is alpha = 1 / (2 a^2).
    known = choix.opt_pairwise(5, data * 3, alpha=0.5 / a[0] ** 2)
    assert a[0] * np.array(scores_of(pooled)) == pytest.approx(known, abs=0.05)


# ------------------------------------------------------------------------------ exact integrals


def one_win(reliability: float):
    """One comparison of two responses, fitted; and the grid of their difference d ~ N(0, 2)."""
    zero = torch.zeros(1, dtype=torch.long)
    contests = Contests(zero, zero, zero + 1, zero, torch.ones(1), (1, 2, 1))
    d = np.linspace(-12, 12, 20001)
    chance = np.exp(-d * d / 4) / (1 + np.exp(-reliability * d))
    found = fit(contests, torch.tensor([reliability]))
    return contests, found, d, chance / chance.sum()


@pytest.mark.parametrize("reliability", [0.5, 1.0, 3.0])
def test_expected_qualities_are_near_the_exact_ones(reliability):
    _, found, d, chance = one_win(reliability)
    winner, loser = found.mean[0].tolist()
    assert winner == pytest.approx(-loser)
    assert winner - loser == pytest.approx((d * chance).sum(), abs=0.02)


@pytest.mark.parametrize("reliability", [0.5, 1.0, 3.0])
def test_the_bound_is_just_below_the_exact_likelihood(reliability):
    contests, found, _, _ = one_win(reliability)
    exact = -math.log(2)  # whoever wins: the two qualities come from the same distribution
    assert exact - 0.05 < float(lower_bounds(contests, found)) <= exact


def test_follows_is_the_chance_of_ordering_two_random_responses_rightly():
    a = torch.tensor([0.0, 1.0, -1.0, 100.0], dtype=torch.float64)
    chance, right, reverse, sure = follows(a).tolist()
    rows, qualities = simulate([1.0], 4000, 2)
    better = np.array([r.ranks[1] - r.ranks[0] for r in rows])  # 1 if the first, -1 if the second
    share = np.mean((qualities[:, 0] - qualities[:, 1]) * better > 0)
    assert chance == pytest.approx(0.5) and sure > 0.99
    assert right == pytest.approx(share, abs=0.02)  # two standard errors are 0.014
    assert reverse == pytest.approx(1 - right)


# ------------------------------------------------------------------------------ known labellers


@pytest.mark.parametrize(("best", "prompts", "responses"), [(3, 150, 4), (3, 60, 6), (2, 300, 2)])
def test_known_labellers_are_recovered(best, prompts, responses):
    true = [best, 2.0, 2.0, 1.5, 1.0, 0.5, 0.0, -1.0]  # the last ranks upside down
    rows, qualities = simulate(true, prompts, responses, seed=prompts)
    pooled = fit_labellers(rows)
    found = pooled.labellers["reliability"].to_numpy()
    assert (np.abs(found - true) < 0.2 + 0.3 * np.abs(true)).all()
    assert pooled.labellers["rankings"].tolist() == [prompts] * 8
    # Weighing labellers must beat counting heads.
    votes = [[-rank for rank in r.ranks] for r in pool_by_vote(rows)]
    assert correlation(pooled.scores, qualities) > correlation(votes, qualities) + 0.02


def test_three_labellers_a_prompt_still_tell_who_guesses():
    rows, _ = simulate([2.5, 2.5, 2.0, 2.0, 0.0, 0.0], 120, 4, per_prompt=3)
    found = fit_labellers(rows).labellers["reliability"].to_numpy()
    assert found[:4].min() > 1.2 and np.abs(found[4:]).max() < 0.4
    assert found[:4].mean() == pytest.approx(2.25, abs=0.5)  # not several times too high


def test_intervals_hold_the_known_reliabilities():
    true, inside, widths = [2.5, 1.5, 1.0, 0.5, 0.0], [], []
    for seed in range(6):
        table = fit_labellers(simulate(true, 50, 4, seed=seed)[0], draws=12).labellers
        inside += ((table["low"] <= true) & (true <= table["high"])).tolist()
        widths += (table["high"] - table["low"]).tolist()
    assert np.mean(inside) > 0.75  # of 30; 0.88 are expected
    assert np.mean(widths) < 1.5


def test_intervals_depend_on_the_seed_alone():
    rows, _ = simulate([2.0, 1.0], 15, 2)
    first, again, other = (fit_labellers(rows, draws=3, seed=s).labellers["low"] for s in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)


# ------------------------------------------------------------------------------ what must hold


def test_prompts_of_ones_own_get_scores_but_move_no_reliability():
    rows, _ = simulate([2.0, 1.0, 0.3], 30, 3)
    own = [
        ranking("labeller 2", ranks, f"own {i}")
        for i, ranks in enumerate(itertools.permutations((1, 2, 3)))
    ]
    alone, both = fit_labellers(rows), fit_labellers(rows + own)
    columns = ["labeller", "reliability", "shared"]
    assert both.labellers[columns].equals(alone.labellers[columns])
    assert both.labellers["rankings"].tolist() == [30, 30, 36]
    assert [r.ranks for r in both.rankings[30:]] == [r.ranks for r in own]


def test_without_shared_prompts_everybody_is_alike():
    table = fit_labellers([ranking("ann", (1, 2)), ranking("bob", (1, 2), "q")]).labellers
    assert table["reliability"].tolist() == [1, 1] and table["shared"].tolist() == [0, 0]
    assert table["low"].isna().all()


def test_a_tie_is_half_a_win_for_either_side():
    others = [
        ranking("bob", (1, 2, 3)),
        ranking("bob", (2, 1, 3), "q"),
        ranking("ann", (1, 3, 2), "q"),
    ]
    ties = fit_labellers([*others, ranking("ann", (1, 1, 2)), ranking("ann", (1, 1, 2))])
    wins = fit_labellers([*others, ranking("ann", (1, 2, 3)), ranking("ann", (2, 1, 3))])
    assert np.array(ties.scores) == pytest.approx(np.array(wins.scores), abs=1e-3)


def test_unranked_responses_come_after_all_ranked_ones_and_are_not_compared():
    pooled = fit_labellers([ranking("ann", (1, 2, None, None)), ranking("bob", (1, 2, None, None))])
    a, b, c, d = pooled.scores[0]
    assert pooled.rankings[0].ranks == (1, 2, None, None)
    assert a > b > c and c == pytest.approx(d, abs=1e-3)


def test_the_order_of_rankings_and_responses_makes_no_difference():
    rows, _ = simulate([2.0, 1.0, 0.5], 20, 3)
    mirrored = [Ranking(r.prompt, r.responses[::-1], r.ranks[::-1], r.labeller) for r in rows[::-1]]
    first, second = fit_labellers(rows), fit_labellers(mirrored)
    assert second.labellers["reliability"].tolist() == pytest.approx(
        first.labellers["reliability"].tolist(), abs=1e-3
    )
    assert np.array(second.scores)[::-1, ::-1] == pytest.approx(np.array(first.scores), abs=1e-3)


def test_nothing_to_pool():
    pooled = fit_labellers([])
    assert pool_by_vote([]) == pooled.rankings == pooled.scores == [] and pooled.labellers.empty
