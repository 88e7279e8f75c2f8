"""Real people's ratings: reading, the ceiling, and rankings."""

import itertools
import re
import sys
import types
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from rlhf_lab import maths
from rlhf_lab.cli import main
from rlhf_lab.cli import study as command
from rlhf_lab.cli.ratings import described
from rlhf_lab.disk.data import base_model
from rlhf_lab.errors import UserError
from rlhf_lab.reward import encode
from rlhf_lab.studies import ground as ground_module
from rlhf_lab.studies import probe
from rlhf_lab.studies import ratings as learning
from rlhf_lab.studies.ground import Ground
from rlhf_lab.studies.ratings_reading import ALIKE
from rlhf_lab.studies.results import lines
from rlhf_lab.tasks.film_reviews import draw, rated_pairs, ratings_file
from rlhf_lab.tasks.film_reviews.draw import K
from rlhf_lab.tasks.film_reviews.rated_pairs import (
    Ceiling,
    Pairs,
    accuracy,
    ceiling,
    leans,
    share_of_ceiling,
    ties,
)
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence, cached, parse
from rlhf_lab.tasks.film_reviews.split_half import deal, spearman_brown, split_half, worth


def sentences(*given, sheets=None, text="sentence {}"):
    """Sentences with these ratings, each on a sheet of its own unless said otherwise."""
    sheets = sheets or range(len(given))
    return [
        Sentence(i, text.format(i), tuple(row), sheet)
        for i, (row, sheet) in enumerate(zip(given, sheets), 1)
    ]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch, request):
    """A cache of the test's own, and no process may be started; the real one where asked for."""
    if "real" in request.fixturenames:
        return None
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RLHF_LAB_CACHE", str(folder))
    monkeypatch.setattr("subprocess.run", lambda *a, **k: pytest.fail("a process was started"))
    return folder


# ---- reading -------------------------------------------------------------------------------------


def test_rows_become_sentences():
    first, second = parse(
        "1\t1.5\tGood fun.\n2\t-1.0\tA bore. \n", "1\t1.5\t0.5\t[1, 2]\n2\t-1\t0\t[-1, -1, -1]\n"
    )
    assert first == Sentence(1, "Good fun.", (1, 2), 0)
    assert second == Sentence(2, "A bore.", (-1, -1, -1), 0) and second.mean == -1


def test_thirty_rows_are_a_sheet():
    texts = "\n".join(f"{i}\t1\tText {i}" for i in range(1, 62))
    rows = "\n".join(f"{i}\t1\t0\t[1]" for i in range(1, 62))
    assert [one.sheet for one in parse(texts, rows)] == [0] * 30 + [1] * 30 + [2]


def test_what_was_not_fetched_is_said(capsys):
    with pytest.raises(UserError, match="rlhf-lab ratings fetch"):
        ratings_file.read()
    assert main(["ratings", "show"]) == 1
    assert "rlhf-lab ratings fetch" in capsys.readouterr().err


# ---- the ceiling ---------------------------------------------------------------------------------


def ends(found: Ceiling) -> tuple[float, float]:
    return found.low.accuracy, found.high.accuracy


def test_ceilings_worked_by_hand():
    assert ends(ceiling(sentences([1], [0, 2]))) == (0.5, 0.5)  # each wins once
    assert ends(ceiling(sentences([2, 2], [1, 1]))) == (1, 1)
    # 1, 2, 3 against 0, 2: of six draws the first wins four and ties one, so p = 0.75. Leave out
    # (1, 0): 2, 3 against 2 say the first, right; (1, 2): 2, 3 against 0 say the first, wrong;
    # (2, 0): 1, 3 against 2 say neither, half; (2, 2): a tie, half; (3, 0): 1, 2 against 2 say the
    # second, wrong; (3, 2): 1, 2 against 0 say the first, right. 3 of 6.
    assert ends(ceiling(sentences([1, 2, 3], [0, 2]))) == pytest.approx((0.5, 0.75))
    assert ceiling(sentences([1, 2, 3], [0, 2])).middle.accuracy == pytest.approx(0.625)
    assert ties(sentences([1, 2, 3], [0, 2])).accuracy == pytest.approx(1 / 6)


def counted(rows, sheets, scores):
    """The same by drawing every comparison one by one: low, high, accuracy of scores, ties."""
    sums, count = np.zeros(4), 0
    for i, j in itertools.combinations(range(len(rows)), 2):
        if sheets[i] == sheets[j]:
            continue
        count += 1
        draws = list(itertools.product(range(len(rows[i])), range(len(rows[j]))))
        won = {d: (np.sign(rows[i][d[0]] - rows[j][d[1]]) + 1) / 2 for d in draws}
        p = np.mean(list(won.values()))
        sums += np.array([0, max(p, 1 - p), 0.5 + np.sign(scores[i] - scores[j]) * (p - 0.5), 0])
        for a, b in draws:
            others = [won[c, d] for c, d in draws if c != a and d != b]
            says = np.sign(np.mean(others) - 0.5) if others else 0
            sums += np.array([0.5 + says * (won[a, b] - 0.5), 0, 0, won[a, b] == 0.5]) / len(draws)
    return sums / count


def test_all_pairs_at_once_are_what_one_by_one_gives():
    rng = np.random.default_rng(0)
    rows = [rng.integers(-4, 5, rng.integers(1, 6)).tolist() for _ in range(9)]
    sheets, scores = [0, 5, 5, 2, 0, 2, 7, 0, 5], rng.integers(0, 4, 9)
    given = sentences(*rows, sheets=sheets)
    best = ceiling(given)
    found = [
        best.low.accuracy,
        best.high.accuracy,
        accuracy(scores, given).accuracy,
        ties(given).accuracy,
    ]
    assert found == pytest.approx(counted(rows, sheets, scores))
    assert best.low.pairs.sum() == 36 - 3 - 3 - 1  # all pairs but those of one sheet


def world(seed: int, count: int = 300, each: int = 6) -> tuple[float, Ceiling]:
    """The ceiling that a made-up world has, and the one found from six ratings a sentence: ratings
    are a quality and a noise of standard deviation 1, rounded."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 1.5, (count, 1)).clip(-3.5, 3.5)
    rated = np.round(quality + rng.normal(size=(count, each))).clip(-4, 4).astype(int)
    below = np.vectorize(NormalDist().cdf)(np.arange(-3.5, 4) - quality)  # (S, 8)
    chances = np.diff(below, axis=1, prepend=0, append=1)
    wins = np.tril(np.ones((9, 9)), -1) + np.eye(9) / 2
    preference = (chances @ wins @ chances.T)[np.triu_indices(count, 1)]
    return np.maximum(preference, 1 - preference).mean(), ceiling(sentences(*rated.tolist()))


def test_the_middle_is_the_ceiling_where_that_is_known():
    # In 30 worlds the middle was 0.000 off on average, with a standard deviation of 0.005; low and
    # high were 0.019 off. So the mean of eight has a standard error of 0.002.
    worlds = [world(seed) for seed in range(8)]
    off = np.mean(
        [
            [one.accuracy - true for one in (best.low, best.middle, best.high)]
            for true, best in worlds
        ],
        axis=0,
    )
    assert off[0] < -0.012 and abs(off[1]) < 0.006 and off[2] > 0.012


def test_the_way_of_a_coin_of_the_best_and_of_the_worst():
    given = sentences([3, 3], [1, 1], [0, 0], [-2, -2])
    best = ceiling(given)
    assert share_of_ceiling(accuracy([4, 3, 2, 1], given), best)[0] == 1
    assert share_of_ceiling(accuracy([1, 2, 3, 4], given), best)[0] == -1
    assert share_of_ceiling(accuracy([0, 0, 0, 0], given), best)[0] == 0
    share, low, high = share_of_ceiling(accuracy([4, 3, 1, 2], given), best)
    assert share == pytest.approx(2 / 3) and low < share < high  # one of six pairs is wrong


def test_an_accuracy_without_ties_leaves_the_way_as_it_is():
    given = sentences([1, 2, 2], [2, 0, 1], [0, 1, 1], [3, 1, 0])
    best, found, tied = ceiling(given).high, accuracy([1, 2, 0, 3], given), ties(given).accuracy
    without = [0.5 + (one.accuracy - 0.5) / (1 - tied) for one in (found, best)]
    assert (without[0] - 0.5) / (without[1] - 0.5) == pytest.approx(
        share_of_ceiling(found, Ceiling(best, best))[0]
    )


def test_intervals_are_those_of_sheets():
    # Every pair right: no spread. Every other sheet right: an interval, but none if those that are
    # right are all the sheets of one lean, as each lean is drawn from apart.
    ones, even = np.triu(np.ones((40, 40)), 1), np.arange(40) % 2 == 0
    assert Pairs(ones, ones, even).interval == (1, 1, 1)
    right = ones * (even & (np.arange(40) < 20))[:, None]
    value, low, high = Pairs(right, ones, np.arange(40) < 20).interval
    assert low < value < high and high - low > 0.1
    split = np.diag(np.ones(20), 20)  # one pair for each two sheets that lean apart
    value, low, high = Pairs(split, np.ones((40, 40)) * (split > 0), np.arange(40) < 20).interval
    assert value == low == high == 1


def test_an_interval_is_about_the_estimate():
    # Half right among alike, all right among others; sheets drawn twice must not tilt the mixture
    # (uncorrected, the middle of the interval is 0.013 too high).
    lean = np.arange(20) < 10
    pairs = np.triu(np.ones((20, 20)), 1)
    right = pairs * np.where(lean[:, None] == lean, 0.5, 1)
    value, low, high = Pairs(right, pairs, lean).interval
    assert value == pytest.approx(145 / 190)
    assert low < value < high and (low + high) / 2 == pytest.approx(value, abs=0.006)


def test_alike_are_sheets_that_lean_to_one_side():
    given = sentences([2], [-1], [3], [-4], [1], sheets=[0, 0, 1, 2, 3])  # sheet 0: 0.5 on average
    assert leans(given).tolist() == [True, True, False, True]
    alike = accuracy([one.mean for one in given], given).alike
    # Sheets 0 and 1, with 3 against 2 and -1; sheets 0 and 3, with 1 against them; 1 and 3.
    assert alike.pairs.sum() == 2 + 2 + 1 and alike.accuracy == 1
    assert accuracy([2, -1, 3, -4, -2], given).alike.accuracy == pytest.approx(4 / 5)


def test_one_sheet_alone_is_refused():
    with pytest.raises(UserError, match="two sheets"):
        ceiling(sentences([1], [2], sheets=[3, 3]))
    with pytest.raises(ValueError, match="scores"):
        accuracy([1, 2, 3], sentences([1], [2]))


# ---- what a number of ratings is worth -----------------------------------------------------------


def test_spearman_brown_by_hand():
    assert spearman_brown(0.5, 2) == pytest.approx(2 / 3)
    assert spearman_brown(0.5, 1) == 0.5
    assert spearman_brown(spearman_brown(0.3, 3), 1 / 3) == pytest.approx(0.3)


def test_split_half_finds_the_reliability_that_was_put_in():
    # Quality of variance 1.25 and noise of variance 2: one rating has reliability 0.385; with 4,000
    # sentences its standard error is 0.014.
    rng = np.random.default_rng(0)
    quality = rng.choice([-1.5, -0.5, 0.5, 1.5], (4000, 1))
    rated = quality + rng.choice([-2, -1, 1, 2], (4000, 8)) * 0.8**0.5
    given = [replace(one, ratings=tuple(row)) for one, row in zip(sentences(*[[0]] * 4000), rated)]
    single = 1.25 / 3.25
    assert split_half(given, 1) == pytest.approx(single, abs=0.05)
    assert split_half(given, 4) == pytest.approx(spearman_brown(single, 4), abs=0.04)


def test_dealt_ratings_are_each_on_one_side():
    given = sentences([1, 2, 3, 4], [0, 0, -1, -4])
    for k in (1, 3):
        taken, rest = deal(given, k)
        for one, first, second in zip(given, taken, rest):
            assert len(first.ratings) == k
            assert sorted(first.ratings + second.ratings) == sorted(one.ratings)
    first = [[one.ratings[0] for one in deal(given, k)[0]] for k in (1, 3)]
    assert first[0] == first[1]
    assert len({deal(given, 1, seed)[0][0].ratings for seed in range(20)}) == 4
    with pytest.raises(UserError, match="sentence 1 has 4 ratings: too few to take 4 and leave 1"):
        worth(given, 4)


def test_what_one_rating_is_worth():
    assert worth(sentences([3, 3], [1, 1], [0, 0]), 1).accuracy == 1
    # 1 and 0 against 0 and 1: whichever is known, what is left says the contrary, or both tie.
    found = [worth(sentences([1, 0], [0, 1]), 1, seed).accuracy for seed in range(20)]
    assert set(found) == {0, 0.5}


# ---- rankings ------------------------------------------------------------------------------------


def study(count=240, per_sheet=6):
    rng = np.random.default_rng(3)
    rows = [rng.integers(-4, 5, 15).tolist() for _ in range(count)]
    return sentences(*rows, sheets=[i // per_sheet for i in range(count)])


def test_sides_share_no_sheet_and_no_text():
    given = study()
    given[100] = replace(given[100], text="Sentence, 7!!")  # "sentence 7" once more
    sides = draw.split(given)
    parts = (sides.train, sides.test, sides.judge)
    assert [len({one.sheet for one in part}) for part in parts] == [24, 6, 10]
    for one, other in itertools.combinations(parts, 2):
        assert not {s.sheet for s in one} & {s.sheet for s in other}
    words = [["".join(filter(str.isalnum, s.text.lower())) for s in part] for part in parts]
    assert not any(set(a) & set(b) for a, b in itertools.combinations(words, 2))
    whole = {s.id for part in parts for s in part}
    assert whole | {7, 101} == {one.id for one in given} and len(whole) >= 239
    assert draw.split(given) == sides != draw.split(given, seed=1)


def test_a_round_uses_every_sentence_once_with_ratings_it_has():
    given = study(count=22)
    drawn = draw.rankings(given, ratings=3)
    assert [len(one.responses) for one in drawn] == 3 * ([K] * 5 + [2])
    by_text = {one.text: one for one in given}
    for turn in range(3):
        texts = [t for one in drawn[6 * turn : 6 * turn + 6] for t in one.responses]
        assert sorted(texts) == sorted(by_text)
    assert len({one.prompt.id for one in drawn}) == len(drawn)
    assert {one.prompt.text for one in drawn} == {draw.PROMPT}
    assert draw.rankings(given, 1) == drawn[:6]
    assert draw.rankings(given, 1, seed=1) != drawn[:6]


def test_the_higher_rating_is_ranked_better():
    [ranking] = draw.rankings(sentences([3], [-2], [3], [0]), 1)
    ranks = dict(zip(ranking.responses, ranking.ranks))
    assert ranks == {"sentence 1": 1, "sentence 3": 1, "sentence 4": 3, "sentence 2": 4}


def test_a_ranking_draws_each_rating_equally_often():
    # The first wins against 0 with its 1 and loses with its -1: half of the draws each.
    given = sentences([1, -1], [0, 0])
    wins = sum(
        dict(zip(r.responses, r.ranks))["sentence 1"] == 1
        for seed in range(400)
        for r in draw.rankings(given, 1, seed)
    )
    assert 160 < wins < 240  # four standard deviations
    # In two rounds each of its ratings is used once.
    for seed in range(10):
        drawn = draw.rankings(given, 2, seed)
        both = [dict(zip(r.responses, r.ranks))["sentence 1"] for r in drawn]
        assert sorted(both) == [1, 2]


def test_a_reward_model_takes_the_rankings(tokenizer):
    drawn = draw.rankings(sentences([3], [3], [3], [0]), 1)
    data = encode(tokenizer, drawn)
    assert int(maths.comparisons(data.ranks).sum()) == 3  # ties compare nothing


def test_fewer_sentences_are_among_more():
    given = study(count=50)
    few, many = draw.some(given, 10), draw.some(given, 30)
    assert few == many[:10] and len({one.id for one in many}) == 30
    with pytest.raises(UserError, match="there are 50 sentences, fewer than 60"):
        draw.some(given, 60)
    with pytest.raises(UserError, match="too few to take 16"):
        draw.rankings(given, 16)


# ---- a second opinion, and the command -----------------------------------------------------------


def test_the_lexicon_is_asked_if_it_is_installed(monkeypatch):
    class Analyser:
        def polarity_scores(self, text):
            return {"compound": 0.5 if "good" in text else -0.25}

    module = types.ModuleType("vaderSentiment.vaderSentiment")
    module.SentimentIntensityAnalyzer = Analyser
    monkeypatch.setitem(sys.modules, "vaderSentiment", types.ModuleType("vaderSentiment"))
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", module)
    assert ratings_file.lexicon_scores(["good", "bad"]).tolist() == [0.5, -0.25]
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(UserError, match=r"pip install 'rlhf-lab\[ratings\]'"):
        ratings_file.lexicon_scores(["good"])


def test_described_by_hand():
    counts, values, shares, spread = described(sentences([4, 4, 2], [-4, -2], sheets=[0, 0]))
    assert counts == "2 sentences on 1 sheets, 5 ratings, 2 to 3 a sentence (mean 2.5, median 2)"
    assert values.split()[1:] == [str(v) for v in range(-4, 5)]
    assert shares.split()[3:] == ["20.0", "0.0", "20.0", "0.0", "0.0", "0.0", "20.0", "0.0", "40.0"]
    # variances 4/3 and 2, mean 5/3; of the means 10/3 and -3: 361/18, less (4/9 + 1) / 2
    assert spread == (
        "mean 0.80; standard deviation 1.29 among the ratings of a sentence, 4.40 "
        "among the sentences"
    )


def test_show_prints_the_table(capsys, monkeypatch):
    monkeypatch.setattr("rlhf_lab.cli.ratings.read", study)
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    assert main(["ratings", "show"]) == 0
    printed = capsys.readouterr().out
    best, known = ceiling(study()), worth(study(), 7)
    for name, figures in (
        ("ceiling, the middle", [*best.middle.interval, *best.middle.alike.interval]),
        (
            "7 ratings",
            [
                known.accuracy,
                known.alike.accuracy,
                *share_of_ceiling(known, best),
                *share_of_ceiling(known.alike, best.alike),
                split_half(study(), 7),
                spearman_brown(split_half(study(), 1), 7),
            ],
        ),
    ):
        [line] = [line for line in printed.splitlines() if line.startswith(name)]
        found = re.findall(r"-?\d\.\d{3}", line)
        assert found == [f"{figure:.3f}" for figure in figures]
    assert "rlhf-lab[ratings]" in printed


# ---- reward models learned from ratings ----------------------------------------------------------


def test_an_arm_learns_from_its_own_sentences_and_is_tested_on_others(tmp_path, monkeypatch):
    learned = []
    train = learning.train_reward

    def training(model, tokenizer, drawn, config, **rest):
        learned.extend(drawn)
        return train(model, tokenizer, drawn[:4], config, **rest)

    monkeypatch.setattr(learning, "train_reward", training)
    ground, given = Ground(tmp_path), study()
    arm = learning.Arm(sentences=24, ratings=2, read=False)
    summary = learning.run_arm(ground, arm, 0, given)
    sides = draw.split(given)
    used = {text for one in learned for text in one.responses}
    assert len(learned) == summary["rankings"] == 12 and summary["ratings"] == 48
    assert len(used) == 24 and used <= {one.text for one in sides.train}
    rows = lines(tmp_path / "24_x_2-unread" / "0" / "scores.jsonl.gz")
    assert [row["id"] for row in rows] == [one.id for one in sides.test]
    found = accuracy([row["score"] for row in rows], sides.test)
    assert summary["accuracy"][0] == pytest.approx(found.accuracy)
    assert summary["way"][0] == pytest.approx(share_of_ceiling(found, ceiling(sides.test))[0])
    assert learning.run_arm(ground, arm, 0, "not read again") == summary


def test_what_reads_first_reads_the_training_side_and_is_kept(tmp_path, monkeypatch):
    shown = []
    train = ground_module.train_sft

    def training(policy, tokenizer, demonstrations, config, accelerator):
        shown.extend(one.response for one in demonstrations)
        assert accelerator.device.type == "cpu"  # as all else in the study
        return train(policy, tokenizer, demonstrations[:4], config, accelerator=accelerator)

    monkeypatch.setattr(ground_module, "train_sft", training)
    ground, sides = Ground(tmp_path, model=str(base_model())), draw.split(study())
    policy, _ = learning.start(ground, learning.Arm(24, 1), 3, sides.train)
    assert shown == [one.text for one in sides.train]
    again, _ = learning.start(ground, learning.Arm(48, 2), 3, sides.train)
    assert len(shown) == len(sides.train)
    for one, other in zip(policy.parameters(), again.parameters()):
        assert one.equal(other)
    name = base_model().name  # and not the whole path, which is nobody's business
    assert learning.name_of(ground, learning.Arm(24, 1)) == f"24 x 1, {name}"
    assert (tmp_path / f"read-{name}_3").is_dir()


def test_arms_of_one_price_differ_in_how_often_they_ask(capsys):
    prices = {}
    for arm in learning.ARMS:
        prices.setdefault(arm.sentences * arm.ratings, []).append(arm.ratings)
    assert {1, 2, 4, 8} <= set(prices[6000]) and {4, 8} <= set(prices[24_000])
    assert list(command.arms_of("ratings")) == [
        *(arm.name for arm in learning.ARMS),
        learning.PEOPLE,
    ]
    assert main(["study", "labels", "--model", "gpt2"]) == 1
    assert "leave --model out" in capsys.readouterr().err
    assert main(["study", "labels", "--precision", "bf16"]) == 1
    assert "leave --precision out" in capsys.readouterr().err
    said = command.line("6000 x 1", 2, {"accuracy": (0.75, 0.7, 0.8), "way": (0.6, 0.5, 0.7)})
    assert said == (
        "6000 x 1, seed 2: accuracy 0.750, 0.600 (0.500 to 0.700) of the way to the ceiling"
    )


@pytest.mark.filterwarnings("ignore:invalid value")  # no correlation where all scores are equal
def test_a_head_alone_and_words_are_fitted_to_the_same_rankings(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "train_reward", lambda *a, **k: pytest.fail("something trained"))
    ground, given = Ground(tmp_path), study()
    sides = draw.split(given)
    arm = learning.Arm(24, 2, read=False, head_alone=True)
    summary = learning.run_arm(ground, arm, 0, given)
    assert summary["arm"]["name"] == "24 x 2, unread, head alone" and summary["ratings"] == 48
    monkeypatch.setattr(learning, "start", lambda *a: pytest.fail("read again"))
    learning.run_arm(ground, replace(arm, ratings=1), 0, given)  # the same features once more
    rows = lines(tmp_path / "24_x_2-unread-head_alone" / "0" / "scores.jsonl.gz")
    assert len({round(row["score"], 6) for row in rows}) > len(rows) / 2
    # "sentence 7" has two words, of which one is known: all test sentences look alike.
    words = learning.run_arm(ground, learning.Arm(24, 2, words=True), 0, given)
    assert words["parameters"] == 1 and words["accuracy"][0] == pytest.approx(0.5)
    assert "24_x_2-words" in {path.name for path in tmp_path.iterdir()}
    assert [row["id"] for row in rows] == [one.id for one in sides.test]


def test_words_tell_what_they_can():
    rows = sentences(*[[4] * 15, [-4] * 15] * 4, text="{}")
    train = [
        replace(one, text=f"{'good' if one.mean > 0 else 'bad'} number {one.id}") for one in rows
    ]
    test = [replace(one, text=f"{'bad' if one.mean < 0 else 'good'} thing") for one in rows]
    known = probe.word_features(train, test)
    assert known.shape == (16, 3) and known.sum(1).tolist() == [2.0] * 8 + [1.0] * 8
    head = probe.fit_head(
        known[:8], draw.rankings(train, 2), {one.text: i for i, one in enumerate(train)}, 0.01
    )
    assert head[1] > 0 > head[0] and head[2].abs() < 1e-3  # bad, good, number
    assert accuracy((known[8:] @ head).numpy(), test).accuracy == pytest.approx(
        rated_pairs.ceiling(test).high.accuracy
    )


def test_people_are_asked_about_the_test_side(tmp_path, monkeypatch):
    monkeypatch.setattr(
        learning.ratings_file, "lexicon_scores", lambda texts: np.zeros(len(list(texts)))
    )
    found = learning.run_people(Ground(tmp_path), 0, study())
    test = draw.split(study()).test
    best, one = ceiling(test), worth(test, 1)
    assert found["opinions"]["1 rating"]["way"][0] == pytest.approx(share_of_ceiling(one, best)[0])
    assert found["opinions"]["VADER's lexicon"]["way"][0] == pytest.approx(0)
    assert found["sentences"] == len(test)


# ---- the study's own files -----------------------------------------------------------------------


@pytest.fixture
def real():
    if cached() is None:
        pytest.skip("the ratings are not in the cache: rlhf-lab ratings fetch")
    return ratings_file.read()


def test_the_real_ratings_are_as_described(real):
    each = [len(one.ratings) for one in real]
    assert (len(each), sum(each), min(each), max(each)) == (10_605, 198_810, 15, 29)
    # On a sheet a column is one labeller: its deviations go together within 30 rows, not across.
    off = [np.array(one.ratings) - one.mean for one in real]
    together = {
        inside: np.mean(
            [
                (a * b).mean()
                for one, a, b in zip(real, off, off[1:])
                if len(a) == len(b) and (one.id % 30 != 0) == inside
            ]
        )
        for inside in (True, False)
    }
    assert together[True] > 0.2 and abs(together[False]) < 0.1
    best = ceiling(draw.split(real).test)
    found = best.middle.accuracy, best.middle.alike.accuracy
    assert found == pytest.approx((0.832, 0.708), abs=5e-4)  # as docs/human-ratings.md has it
    alike = best.middle.alike.pairs.sum() / best.middle.pairs.sum()
    assert alike == pytest.approx(ALIKE, abs=5e-5)
    assert best.low.accuracy < best.middle.accuracy < best.high.accuracy
    assert worth(draw.split(real).test, 1).accuracy < best.low.accuracy
