"""Distinct n-grams and self-BLEU, by hand and against the definition."""

import math

import pytest

from rlhf_lab.compare.diversity import distinct_ngrams, diversity, self_bleu

SAME = "the fox sat down by the river"
OTHERS = [SAME, "a quiet bell rang over every dark roof", "nobody ever found my two lost keys"]


def test_distinct_ngrams_by_hand():
    texts = ["A b a.", "a b"]  # a b a a b; ab ba, ab
    assert distinct_ngrams(texts, 1) == pytest.approx(2 / 5)
    assert distinct_ngrams(texts, 2) == pytest.approx(2 / 3)
    assert distinct_ngrams(texts, 3) == 1
    assert math.isnan(distinct_ngrams(texts, 4)) and math.isnan(distinct_ngrams([], 1))


def test_ngrams_do_not_cross_from_text_to_text():
    assert distinct_ngrams(["one two", "three four"], 3) != distinct_ngrams(["one two three"], 3)
    assert math.isnan(distinct_ngrams(["one two", "three four"], 3))


def test_self_bleu_is_one_for_copies_and_near_nothing_for_strangers():
    assert self_bleu([SAME] * 3) == pytest.approx(1)
    assert self_bleu(OTHERS) < 0.1
    assert self_bleu([SAME, SAME, OTHERS[1]]) == pytest.approx(2 / 3, abs=0.05)


def test_a_bigram_bleu_by_hand():
    # Two words each, so orders 1 and 2 alone count: precisions 1/2 and, with none of one bigram
    # right, 1 / (2 * 1) by exponential smoothing; no brevity penalty: sqrt(1/2 * 1/2).
    assert self_bleu(["red fox", "red bell"]) == pytest.approx(0.5)


def test_the_means_are_over_prompts():
    found = diversity([[SAME] * 3, OTHERS])
    assert found["self-BLEU"] == pytest.approx((1 + self_bleu(OTHERS)) / 2)
    for n in (1, 2, 3):
        alone = [distinct_ngrams(row, n) for row in ([SAME] * 3, OTHERS)]
        assert found[f"distinct-{n}"] == pytest.approx(sum(alone) / 2)


def test_odd_texts_do_no_harm():
    odd = ["", "\0", "<b>a</b> " * 50, "😀 " * 9]
    assert 0 <= self_bleu(odd) <= 1 and 0 < distinct_ngrams(odd, 1) <= 1
