"""What is ranked next: uncertainty by hand, exact orders, and what holds for every selection."""

import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lab.errors import UserError
from rlhf_lab.feedback.selection import (
    Selection,
    common_prompts,
    next_pick,
    pick_responses,
    shuffled,
    split_by_prompt,
)
from rlhf_lab.feedback.session import RankingSession
from rlhf_lab.feedback.store import Contents, Entry, FeedbackStore, Sample
from rlhf_lab.maths import uncertainty
from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.reward import score_texts, uncertainty_of

LN2, LN3 = math.log(2), math.log(3)
SURE = 2 * LN2 - 0.75 * LN3  # the entropy of 3 to 1, which is sigmoid(ln 3)
NOTHING_ELSE = dict(common=0, repeats=0)
nan = math.nan


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"id-{i}", f"question {i}") for i in range(count)]


def make_store(folder, count: int = 10, texts: tuple[str, ...] = ("yes", "no", "maybe")):
    store = FeedbackStore(folder / "store.sqlite")
    store.add_all((prompt, [Sample(text) for text in texts]) for prompt in prompts(count))
    return store


def walk(store, labeller="ann", selection=Selection(), uncertainty=None, limit=100, skip=()):
    """Rank to the end, or up to a limit; the items that were shown. skip: numbers of items."""
    session = RankingSession(store, labeller, selection, uncertainty=uncertainty)
    items = []
    while session.current and len(items) < limit:
        items.append(session.current)
        if len(items) - 1 in skip:
            session.skip()
        else:
            session.submit(range(1, len(session.current.responses) + 1))
    return items


def texts_of(items) -> list[str]:
    return [item.prompt.text for item in items]


# ---- uncertainty ---------------------------------------------------------------------------------


def test_uncertainty_by_hand():
    scores = torch.tensor(
        [
            [0.0, 0.0, nan],  # nobody knows: one bit
            [LN3, 0.0, nan],  # three to one
            [nan, 5.0, 5.0 + LN3],  # the same, wherever the scores stand
            [LN3, 0.0, 0.0],  # two pairs at three to one, and one bit
            [1000.0, 0.0, nan],  # certain
            [7.0, nan, nan],  # no pair
            [nan, nan, nan],
        ]
    )
    wanted = torch.tensor([LN2, SURE, SURE, (2 * SURE + LN2) / 3, 0.0, 0.0, 0.0])
    torch.testing.assert_close(uncertainty(scores), wanted)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=4), st.floats(-5, 5))
def test_uncertainty_depends_on_differences_alone(scores, shift):
    rows = torch.tensor([[s + shift for s in order] for order in permutations(scores)])
    values, plain = uncertainty(rows.double()), uncertainty(torch.tensor([scores]).double())
    torch.testing.assert_close(values, plain.expand(len(rows)), atol=1e-4, rtol=0)
    assert values.min() >= 0 and values.max() <= LN2 + 1e-6


def test_a_prompt_without_a_pair_and_no_prompt_at_all():
    assert uncertainty(torch.zeros(2, 1)).tolist() == [0, 0]
    assert uncertainty(torch.zeros(0, 3)).tolist() == []


def test_uncertainty_of_a_reward_model_is_that_of_the_models_scores(gpt2, tokenizer):
    model = ScalarModel.from_policy(gpt2, seed=0)
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    first, second, third = prompts(3)
    found = uncertainty_of(
        model,
        tokenizer,
        [(first, ["yes", "no", "yes", " no "]), (second, ["a", "b", "c"]), (third, ["alone"])],
    )
    yes, no, a, b, c = score_texts(
        model,
        tokenizer,
        [(first.text, "yes"), (first.text, "no"), *((second.text, x) for x in "abc")],
    ).tolist()
    assert len({yes, no, a, b, c}) == 5

    def bits(x, y):
        p = 1 / (1 + math.exp(y - x))
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    assert list(found) == [first.text, second.text, third.text]
    assert found[first.text] == pytest.approx(bits(yes, no), abs=1e-4)
    wanted = (bits(a, b) + bits(a, c) + bits(b, c)) / 3
    assert found[second.text] == pytest.approx(wanted, abs=1e-4)
    assert found[third.text] == 0


# ---- the responses to show -----------------------------------------------------------------------


def test_the_responses_shown_are_the_farthest_apart():
    texts = ["a b c d", "a b c e", "x y", "a b x y", "a b c d f"]
    # From the first: "x y" shares no word with it. Then "a b x y" is 2/3 from the first but only
    # 1/2 from "x y"; "a b c e" is 2/5 from the first; "a b c d f" is 1/5.
    assert pick_responses(texts, 2) == [0, 2]
    assert pick_responses(texts, 3) == [0, 2, 3]
    assert pick_responses(texts, 4) == [0, 1, 2, 3]
    assert pick_responses(texts, 9) == [0, 1, 2, 3, 4]


def test_responses_that_look_alike_are_shown_once():
    assert pick_responses(["It is red.", "It is red.\n", " It is red.", "red"], 4) == [0, 3]
    assert pick_responses(["", " ", "\n"], 4) == [0]
    assert pick_responses([], 4) == []


def test_words_are_compared_without_case_and_of_equals_the_earlier_is_taken():
    assert pick_responses(["Red hat", "red HAT!", "blue hat", "green hat"], 2) == [0, 2]


@given(st.lists(st.text(" ab\n", max_size=4), max_size=8), st.integers(2, 9))
def test_as_many_different_responses_as_there_are_in_stored_order(texts, k):
    taken = pick_responses(texts, k)
    looks = [texts[i].strip() for i in taken]
    assert taken == sorted(set(taken)) and len(set(looks)) == len(looks)
    assert len(taken) == min(k, len({text.strip() for text in texts}))
    assert taken[:1] == [0][: len(texts)]


# ---- the next prompt -----------------------------------------------------------------------------


def test_chance_is_the_same_on_every_machine(tmp_path):
    store = make_store(tmp_path, 8)
    items = walk(store, selection=Selection(common=0.25, repeats=0.2, gap=4))
    assert [(item.prompt.id, item.pick, item.shown) for item in items] == [
        ("id-1", "common", (1, 0, 2)),
        ("id-5", "random", (2, 0, 1)),
        ("id-2", "random", (2, 0, 1)),
        ("id-0", "random", (2, 1, 0)),
        ("id-1", "repeat", (0, 2, 1)),
        ("id-3", "common", (0, 1, 2)),
        ("id-7", "random", (1, 0, 2)),
        ("id-4", "random", (1, 2, 0)),
        ("id-6", "random", (1, 2, 0)),
        ("id-5", "repeat", (0, 2, 1)),
    ]


def test_every_order_on_the_screen_is_as_likely_as_another():
    counts = Counter(shuffled(3, [], "seed", number) for number in range(6000))
    assert sorted(counts) == sorted(permutations(range(3)))
    assert all(abs(count - 1000) < 120 for count in counts.values())  # four standard deviations
    without = Counter(shuffled(3, [(0, 1, 2)], "seed", number) for number in range(5000))
    assert len(without) == 5 and all(abs(count - 1000) < 120 for count in without.values())


def test_labellers_and_seeds_have_orders_of_their_own(tmp_path):
    store, alone = make_store(tmp_path, 20), Selection(**NOTHING_ELSE)
    ann, ben = walk(store, "ann", alone), walk(store, "ben", alone)
    other = walk(store, "cem", Selection(**NOTHING_ELSE, seed=1))
    everything = sorted(prompt.text for prompt in prompts(20))
    assert everything == sorted(texts_of(ann)) == sorted(texts_of(ben)) == sorted(texts_of(other))
    assert texts_of(ann) != texts_of(ben) and {item.pick for item in ann} == {"random"}
    reseeded = Selection(**NOTHING_ELSE, seed=1)
    assert next_pick(store, "new", alone) != next_pick(store, "new", reseeded)


def test_common_prompts_are_the_same_for_all_and_spread_among_the_others(tmp_path):
    store, selection = make_store(tmp_path, 20), Selection(common=0.2, repeats=0)
    ways = {name: walk(store, name, selection) for name in ("ann", "ben", "cem")}
    shared = [prompt.text for prompt in common_prompts(store.prompts(), selection)]
    assert len(shared) == 4
    for items in ways.values():
        places = [place for place, item in enumerate(items) if item.pick == "common"]
        assert places == [0, 5, 10, 15]
        assert [items[place].prompt.text for place in places] == shared
        assert len(set(texts_of(items))) == 20 == len(items)
    assert len({tuple(texts_of(items)) for items in ways.values()}) == 3


def test_the_same_responses_to_a_common_prompt_whoever_ranks(tmp_path):
    store, selection = make_store(tmp_path, 3, tuple("abcdefg")), Selection(common=1, repeats=0)
    ann, ben = walk(store, "ann", selection), walk(store, "ben", selection)
    assert [item.responses for item in ann] == [item.responses for item in ben]
    assert [item.shown for item in ann] != [item.shown for item in ben]


def test_what_others_do_changes_nothing(tmp_path):
    store = make_store(tmp_path, 10)
    walk(store, "ann", limit=4)
    before = Selection().next_item(store, "ann")
    walk(store, "ben", limit=7)
    assert Selection().next_item(store, "ann") == before


def test_new_prompts_leave_the_order_of_the_others(tmp_path):
    store, alone = make_store(tmp_path, 6), Selection(**NOTHING_ELSE)
    planned = texts_of(walk(store, "ann", alone))
    store.forget("ann")
    walk(store, "ann", alone, limit=2)
    store.add_all((prompt, [Sample("yes"), Sample("no")]) for prompt in prompts(9)[6:])
    rest = texts_of(walk(store, "ann", alone))
    assert [text for text in rest if text in planned] == planned[2:] and len(rest) == 7


def test_prompts_with_one_response_are_passed_over(tmp_path):
    store = make_store(tmp_path, 3)
    alike = [Sample("same", "sft"), Sample("same", "ppo"), Sample("same ")]
    store.add(Prompt("one", "alone"), alike)
    store.add(Prompt("none", "nothing"), [])
    assert sorted(texts_of(walk(store, selection=Selection(common=1)))) == [
        "question 0",
        "question 1",
        "question 2",
    ]


def test_a_repeat_comes_after_the_gap_with_the_same_responses_in_another_order(tmp_path):
    store = make_store(tmp_path, 20, tuple("abcdef"))
    items = walk(store, selection=Selection(responses=3, repeats=0.25, gap=6))
    first = {}
    for place, item in enumerate(items):
        if item.pick != "repeat":
            first[item.prompt.text] = place
            continue
        earlier = first[item.prompt.text]
        assert place - earlier >= 6
        assert item.responses == items[earlier].responses
        assert item.shown != items[earlier].shown
    repeats = [place for place, item in enumerate(items) if item.pick == "repeat"]
    assert repeats[:3] == [6, 7, 11]  # one in four from the start, as soon as the gap allows
    assert len(set(texts_of(items[place] for place in repeats))) == len(repeats)


def test_two_responses_are_swapped_in_a_repeat(tmp_path):
    items = walk(make_store(tmp_path, 12, ("yes", "no")), selection=Selection(repeats=1, gap=1))
    pairs = list(zip(items[::2], items[1::2]))
    assert len(pairs) == 12
    assert all(
        again.prompt == item.prompt and again.shown == item.shown[::-1] for item, again in pairs
    )


def test_what_was_skipped_is_not_repeated(tmp_path):
    store = make_store(tmp_path, 8)
    items = walk(store, selection=Selection(repeats=1, gap=1), skip=range(0, 100, 2))
    shown = [(item.pick, item.prompt.text) for item in items]
    for place, (pick, text) in enumerate(shown):
        if pick == "repeat":
            assert [
                earlier
                for earlier, entry in enumerate(shown[:place])
                if entry[1] == text and earlier % 2
            ]


def test_an_imported_ranking_too_long_for_the_screen_is_not_repeated(tmp_path):
    store, many = make_store(tmp_path, 3), tuple("abcdefghij")
    prompt = Prompt("long", "long list")
    entry = Entry("0" * 32, "ranking", "ann", prompt, many, tuple(range(1, 11)))
    store.take_in(Contents([(prompt, [Sample(text) for text in many])], ["ann"], [entry]))
    items = walk(store, selection=Selection(repeats=1, gap=1))
    assert "long list" not in texts_of(items) and len(items) == 6


def test_active_choice_takes_the_least_certain_first(tmp_path):
    store = make_store(tmp_path, 6)
    nats = {"question 0": 0.1, "question 1": 0.6, "question 2": 0.3, "question 3": nan}
    items = walk(store, selection=Selection(**NOTHING_ELSE, active=True), uncertainty=nats)
    assert texts_of(items)[:3] == ["question 1", "question 2", "question 0"]
    assert sorted(texts_of(items)[3:]) == ["question 3", "question 4", "question 5"]
    assert {item.pick for item in items} == {"active"}


def test_active_choice_leaves_the_common_prompts_to_everybody(tmp_path):
    store, selection = make_store(tmp_path, 10), Selection(repeats=0, active=True)
    shared = [prompt.text for prompt in common_prompts(store.prompts(), selection)]
    nats = {prompt.text: 0.5 for prompt in store.prompts()} | dict.fromkeys(shared, 0.69)
    items = walk(store, selection=selection, uncertainty=nats)
    assert [item.prompt.text for item in items if item.pick == "common"] == shared
    assert [place for place, item in enumerate(items) if item.pick == "common"] == [0, 5]


def test_active_choice_needs_uncertainty(tmp_path):
    with pytest.raises(UserError, match="active choice needs the uncertainty"):
        RankingSession(make_store(tmp_path), "ann", Selection(active=True))


@pytest.mark.parametrize(
    "wrong",
    [
        dict(responses=1),
        dict(responses=10),
        dict(common=1.1),
        dict(common=-0.1),
        dict(repeats=nan),
        dict(gap=0),
    ],
)
def test_a_selection_out_of_range_is_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(UserError, match=name):
        Selection(**wrong)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99),
    count=st.integers(0, 7),
    common=st.sampled_from([0, 0.2, 0.5, 1]),
    repeats=st.sampled_from([0, 0.1, 0.3, 1]),
    gap=st.integers(1, 4),
    skip=st.sets(st.integers(0, 15)),
)
def test_what_holds_for_every_selection(tmp_path_factory, seed, count, common, repeats, gap, skip):
    store = make_store(tmp_path_factory.mktemp("walk"), count)
    selection = Selection(common=common, repeats=repeats, gap=gap, seed=seed)
    items = walk(store, "ann", selection, skip=skip)
    assert sorted(texts_of(i for i in items if i.pick != "repeat")) == sorted(
        p.text for p in prompts(count)
    )
    shared = [p.text for p in common_prompts(store.prompts(), selection)]
    assert [i.prompt.text for i in items if i.pick == "common"] == shared
    assert len(shared) == math.ceil(common * count)
    new = again = 0
    for place, item in enumerate(items):
        assert sorted(item.shown) == list(range(len(item.responses)))
        if item.pick == "repeat":
            again += 1
            earlier = [p for p in range(place) if items[p].prompt == item.prompt]
            assert len(earlier) == 1 and place - earlier[0] >= gap and earlier[0] not in skip
            assert again <= repeats * (place + 1) + 1e-9
        else:
            new += 1
            so_far = sum(i.pick == "common" for i in items[: place + 1])
            assert so_far >= min(math.floor(common * new), len(shared))


# ---- what to hold out ----------------------------------------------------------------------------


def rankings(count: int, labeller: str = "ann") -> list[Ranking]:
    return [Ranking(prompt, ("yes", "no"), (1, 2), labeller) for prompt in prompts(count)]


def test_a_prompt_never_crosses_the_split():
    ann, ben, repeats = rankings(60), rankings(40, "ben"), rankings(20)
    train, held_out = split_by_prompt(ann + ben + repeats)
    sides = [{ranking.prompt.text for ranking in side} for side in (train, held_out)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 60
    assert sorted(map(id, train + held_out)) == sorted(map(id, ann + ben + repeats))
    assert train == [r for r in ann + ben + repeats if r.prompt.text in sides[0]]


def test_more_rankings_move_no_prompt_to_the_other_side():
    few, many = split_by_prompt(rankings(50)), split_by_prompt(rankings(1000))
    for side, larger in zip(few, many):
        assert {r.prompt.text for r in side} <= {r.prompt.text for r in larger}
    assert 160 < len(many[1]) < 240  # 200 wanted, 13 the standard deviation
    assert split_by_prompt(rankings(50), seed=1) != few


@given(st.integers(2, 6), st.floats(0.01, 0.99), st.integers(0, 50))
def test_neither_side_is_empty(count, share, seed):
    train, held_out = split_by_prompt(rankings(count), share, seed)
    assert train and held_out


def test_nothing_is_held_out_of_one_prompt_or_where_nothing_is_asked_for():
    assert split_by_prompt(rankings(1)) == (rankings(1), [])
    assert split_by_prompt(rankings(9), held_out=0) == (rankings(9), [])
    assert split_by_prompt([]) == ([], [])
