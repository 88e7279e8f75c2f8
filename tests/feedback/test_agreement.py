"""Agreement, consistency, position bias and pace, against numbers worked by hand, another
implementation, exact enumeration, and people whose habits are known."""

import itertools
import random

import numpy as np
import pytest

from rlhf_lab.feedback import agreement, habits, pairs
from rlhf_lab.feedback.store import Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.show.feedback_browser import browse_disagreements
from rlhf_lab.tasks.labellers import ranks_of

TEXTS = ("a", "b", "c", "d")


def entry(labeller, prompt, ranks, **changes) -> Entry:
    texts = TEXTS[: len(ranks)]
    fields = {"responses": texts, "ranks": tuple(ranks), "shown": tuple(range(len(ranks)))}
    return Entry("", "ranking", labeller, Prompt(prompt, prompt), **fields | changes)


def random_ranks(rng: random.Random, count: int = 4) -> tuple[int, ...]:
    return tuple(ranks_of([rng.randrange(4) for _ in range(count)]))


# ------------------------------------------------------------------------------ comparisons


def test_comparisons_by_hand():
    ranking = Ranking(Prompt("p", "p"), ("d", "a", "c", "b"), (1, 2, None, 2))
    assert pairs.comparisons(ranking) == {
        ("a", "b"): 0,
        ("a", "c"): 1,
        ("a", "d"): -1,
        ("b", "c"): 1,
        ("b", "d"): -1,
        ("c", "d"): -1,
    }


def test_two_unranked_responses_and_equal_texts_are_not_compared():
    ranking = Ranking(Prompt("p", "p"), ("x", "a", "b", "x"), (1, None, None, 1))
    assert pairs.comparisons(ranking) == {("a", "x"): -1, ("b", "x"): -1}


# ------------------------------------------------------------------------------ agreement


def test_agreement_of_a_pair_by_hand():
    table = agreement.agreement_by_pair(
        [
            entry("ann", "p", (1, 2, 3)),
            entry("bob", "p", (2, 1, 3)),
            entry("ann", "q", (1, 2)),
            entry("bob", "q", (1, 1)),
        ]
    )
    row = table.iloc[0]  # p: one pair of three is reversed; q: a preference against a tie
    assert len(table) == 1 and (row["first"], row["second"]) == ("ann", "bob")
    assert (row["prompts"], row["pairs"]) == (2, 4)
    assert row["agreement"] == pytest.approx(2.5 / 4)
    assert 0 < row["low"] < row["agreement"] < row["high"] < 1


def agreement_pair_by_pair(first, second):
    """The share of pairs that two people order alike, ties half: one pair after the other."""

    def sign(ranks, i, j):
        return (ranks[i] > ranks[j]) - (ranks[i] < ranks[j])

    found = [
        (sign(a.ranks, i, j), sign(b.ranks, i, j))
        for a, b in zip(first, second, strict=True)
        for i in range(len(a.ranks))
        for j in range(i)
    ]
    return sum(1.0 if x == y else 0.5 if x * y == 0 else 0.0 for x, y in found) / len(found)


def test_complete_rankings_agree_as_pair_by_pair():
    rng = random.Random(0)
    ranks = {who: [random_ranks(rng) for _ in range(30)] for who in ("ann", "bob")}
    lists = [
        [Ranking(Prompt(str(i), str(i)), TEXTS, r, who) for i, r in enumerate(rows)]
        for who, rows in ranks.items()
    ]
    table = agreement.agreement_by_pair([r for rows in lists for r in rows])
    assert table["agreement"][0] == pytest.approx(agreement_pair_by_pair(*lists))
    assert table["pairs"][0] == 30 * 6


def test_responses_are_matched_by_their_text():
    rows = [
        entry("ann", "p", (1, 2, 3)),
        entry("bob", "p", (1, 2, 3), responses=("c", "b", "a")),
        entry("cat", "p", (1, 2), responses=("b", "z")),
    ]
    table = agreement.agreement_by_pair(rows)
    row = table[["first", "second", "pairs", "agreement"]]
    assert row.values.tolist() == [["ann", "bob", 3, 0]]


def test_only_pairs_that_both_compared_count():
    rows = [entry("ann", "p", (1, None, None)), entry("bob", "p", (1, 2, 3))]
    assert agreement.agreement_by_pair(rows)[["pairs", "agreement"]].values.tolist() == [[2, 1]]


def test_repeats_and_active_picks_do_not_count():
    rows = [
        entry("ann", "p", (1, 2)),
        entry("bob", "p", (1, 2), pick="common"),
        entry("ann", "p", (2, 1), pick="repeat"),
        entry("ann", "q", (1, 2), pick="active"),
        entry("bob", "q", (2, 1)),
    ]
    assert agreement.agreement_by_pair(rows)[["pairs", "agreement"]].values.tolist() == [[1, 1]]
    assert agreement.agreement_of_all(rows)["prompts"].tolist() == [1, 1]


def test_of_two_rankings_of_a_prompt_the_earlier_counts():
    rows = [entry("ann", "p", (1, 2)), entry("ann", "p", (2, 1)), entry("bob", "p", (1, 2))]
    assert agreement.agreement_by_pair(rows)["agreement"].tolist() == [1]


def test_agreement_of_a_labeller_is_with_all_others():
    rows = [entry("ann", "p", (1, 2)), entry("bob", "p", (1, 2)), entry("cat", "p", (2, 1))]
    table = agreement.agreement_by_labeller(rows).set_index("labeller")
    assert table["agreement"].to_dict() == {"ann": 0.5, "bob": 0.5, "cat": 0}
    assert table["pairs"].tolist() == [2, 2, 2] and table["prompts"].tolist() == [1, 1, 1]
    everybody = agreement.agreement_of_all(rows).set_index("measure")
    assert everybody["value"]["agreement"] == pytest.approx(1 / 3)
    assert everybody["labellers"].tolist() == [3, 3]


def test_nobody_to_agree_with_gives_empty_tables():
    for rows in ([], [entry("ann", "p", (1, 2))]):
        assert agreement.agreement_by_pair(rows).empty
        assert agreement.agreement_by_labeller(rows).empty
        assert agreement.disagreements(rows).empty
        assert agreement.agreement_of_all(rows)["value"].isna().all()


# ------------------------------------------------------------------------------ alpha


def test_alpha_of_people_who_always_agree_or_never_do():
    def people(second):
        return [
            entry(who, str(i), ranks)
            for i in range(10)
            for who, ranks in (("ann", (1, 2)), ("bob", second))
        ]

    assert agreement.alpha(people((1, 2)))[0] == pytest.approx(1)
    # P pairs, both directions, n = 4 P values, half of them either way: all 4 P coincidences are
    # off the diagonal, where chance has 8 P^2 / (4 P - 1). So alpha = -1 + 1 / (2 P).
    assert agreement.alpha(people((2, 1)))[0] == pytest.approx(-1 + 1 / 20)


@pytest.mark.parametrize("seed", range(8))
def test_alpha_is_its_definition(seed):
    """1 - observed / expected disagreement, of squared distances (Krippendorff 2011). Ordinal
    distances are in proportion to these, as each pair counts in both directions."""
    rng = random.Random(seed)
    rows = [
        entry(who, str(i), random_ranks(rng, 3))
        for i in range(12)
        for who in ("ann", "bob", "cat", "dan", "eve")[: 2 + seed % 4]
        if rng.random() < 0.8
    ]
    units = []
    for votes in agreement.votes_by_prompt(rows).values():
        for pair in itertools.combinations(TEXTS[:3], 2):
            values = [said[pair] for said in votes.values() if pair in said]
            units += [values, [-v for v in values]] if len(values) > 1 else []
    every = [v for values in units for v in values]
    observed = sum(
        (x - y) ** 2 / (len(values) - 1)
        for values in units
        for x, y in itertools.permutations(values, 2)
    ) / len(every)
    expected = sum((x - y) ** 2 for x, y in itertools.permutations(every, 2)) / (
        len(every) * (len(every) - 1)
    )
    value, low, high = agreement.alpha(rows)
    assert value == pytest.approx(1 - observed / expected, abs=1e-12)
    assert low < value < high


def test_alpha_of_people_who_guess_is_about_0_and_of_ties_alone_unknown():
    rng = random.Random(2)
    rows = [
        entry(who, str(i), rng.sample((1, 2, 3, 4), 4))
        for i in range(150)
        for who in ("ann", "bob")
    ]
    value, low, high = agreement.alpha(rows)
    assert low < 0 < high and abs(value) < 0.15
    tied = [entry(who, str(i), (1, 1)) for i in range(3) for who in ("ann", "bob")]
    assert np.isnan(agreement.alpha(tied)).all()


# ------------------------------------------------------------------------------ habits


def test_consistency_compares_a_repeat_with_the_last_time():
    rows = [
        entry("ann", "p", (1, 2, 3)),
        entry("ann", "q", (1, 2)),
        entry("bob", "p", (3, 2, 1)),
        entry("ann", "p", (1, 3, 2), pick="repeat"),  # one of three pairs reversed
        entry("ann", "q", (1, 1), pick="repeat"),
    ]  # a tie
    table = habits.consistency(rows)
    assert table["labeller"].tolist() == ["ann"]
    assert table[["repeats", "pairs"]].values.tolist() == [[2, 4]]
    assert table["agreement"][0] == pytest.approx(2.5 / 4)


@pytest.mark.parametrize(
    "ranks", [(1, 2, 3, 4), (1, 1, 3, 4), (1, 1, 1, 1), (2, 1, None, 1), (None, 1, None, None)]
)
def test_over_all_orders_on_screen_the_first_is_best_as_often_as_chance_has_it(ranks):
    rows = [
        entry("ann", str(shown), ranks, shown=shown) for shown in itertools.permutations(range(4))
    ]
    table = habits.position_bias(rows)
    assert table["first_best"].tolist() == pytest.approx([0.25, 0.25])
    assert table["chance"].tolist() == [0.25, 0.25]
    assert (table["low"] < 0.25).all() and (table["high"] > 0.25).all()


def test_one_who_takes_the_first_shown_stands_out_and_few_of_those_who_do_not_look_at_the_place():
    rng = random.Random(3)
    rows = []
    for who, i in itertools.product(["swayed", *map(str, range(100))], range(40)):
        shown, ranks = rng.sample(range(4), 4), rng.sample((1, 2, 3, 4), 4)
        if who == "swayed" and rng.random() < 0.5:
            ranks = [1 if k == shown[0] else 2 for k in range(4)]
        rows.append(entry(who, str(i), ranks, shown=tuple(shown)))
    table = habits.position_bias(rows).set_index("labeller")
    assert table["low"]["swayed"] > 0.25 and table["rankings"]["swayed"] == 40
    fair = table.drop(index=["swayed", "everybody"])
    alarms = ((fair["low"] > 0.25) | (fair["high"] < 0.25)).mean()
    assert len(fair) == 100 and alarms < 0.12  # 0.05 expected, with a standard deviation of 0.022
    assert table.loc["everybody", ["rankings", "chance"]].tolist() == [4040, 0.25]


def test_the_place_is_that_on_screen_and_unknown_for_imported_rankings():
    rows = [entry("ann", "p", (2, 1, 3), shown=(1, 2, 0)), entry("bob", "p", (1, 2, 3), shown=())]
    table = habits.position_bias(rows)
    assert table["labeller"].tolist() == ["ann", "everybody"]
    assert table["first_best"].tolist() == [1, 1]


def test_chance_is_that_of_the_number_of_responses_shown():
    rows = [entry("ann", "p", (1, 2)), entry("ann", "q", (1, 2, 3, 4))]
    assert habits.position_bias(rows)["chance"][0] == pytest.approx((1 / 2 + 1 / 4) / 2)


def test_pace_counts_and_times():
    rows = [entry("ann", str(i), (1, 2), seconds=s) for i, s in enumerate((4.0, 10.0, 6.0, 0.0))]
    rows += [
        Entry("", "skip", "ann", Prompt("s", "s")),
        Entry("", "flag", "bob", Prompt("s", "s"), flag="unsafe"),
    ]
    table = habits.pace(rows).set_index("labeller")
    assert table.loc["ann", ["rankings", "skips", "flags", "seconds"]].tolist() == [4, 1, 0, 6]
    assert table.loc["bob", ["rankings", "skips", "flags"]].tolist() == [0, 0, 1]
    assert np.isnan(table["seconds"]["bob"])


def test_habits_of_nobody_are_empty_tables():
    for table in (habits.consistency([]), habits.position_bias([]), habits.pace([])):
        assert table.empty and table.columns[0] == "labeller"


# ------------------------------------------------------------------------------ disagreements


def test_disputed_prompts_come_first():
    rows = [
        entry("ann", "clear", (1, 2)),
        entry("bob", "clear", (1, 2)),
        entry("ann", "hard", (1, 2), pick="active"),
        entry("bob", "hard", (2, 1)),
        entry("cat", "hard", (1, 2)),
        entry("cat", "hard", (2, 1), pick="repeat"),
        entry("ann", "her own", (1, 2)),
    ]
    table = agreement.disagreements(rows)
    assert table["prompt"].tolist() == ["hard", "clear"]
    assert table["labellers"].tolist() == [3, 2] and table["pairs"].tolist() == [3, 1]
    assert table["agreement"].tolist() == pytest.approx([1 / 3, 1])


def test_the_browser_shows_who_ranked_what_where_and_escapes_all_text():
    bad = "<script>alert(1)</script>\x1b[31m\u202e"
    texts = (bad, "good", "fair")
    page = browse_disagreements(
        [
            entry("<b>ann", bad, (3, 1, 2), responses=texts),
            entry("bob", bad, (1, None, None), responses=texts),
        ]
    )
    assert not any(mark in page for mark in ("<script", "<b>", "\x1b", "\u202e"))
    assert page.count("&lt;script&gt;") == 3 and "&lt;b&gt;ann" in page
    assert page.count("<tr>") == 4
    assert page.index("good") < page.index("fair")  # in the order of the vote
    assert "0 % agreement, 2 labellers" in page and "–" in page


def test_the_browser_says_when_there_is_nothing_to_dispute():
    assert "No two people" in browse_disagreements([entry("ann", "p", (1, 2))])


def test_a_store_will_do_and_what_was_undone_does_not_count(tmp_path):
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    store.add(Prompt("p", "p"), [Sample(text) for text in TEXTS])
    for who, ranks in (("ann", (1, 2)), ("bob", (1, 2)), ("cat", (2, 1))):
        store.add_labeller(who)
        store.write(entry(who, "p", ranks, seconds=3.0))
    store.undo("cat")
    assert agreement.agreement_by_pair(store)["agreement"].tolist() == [1]
    assert agreement.disagreements(store)["labellers"].tolist() == [2]
    assert habits.position_bias(store)["rankings"].tolist() == [1, 1, 2]
    assert habits.pace(store)["seconds"].tolist() == [3, 3]
    assert habits.consistency(store).empty
    assert "p" in browse_disagreements(store)
