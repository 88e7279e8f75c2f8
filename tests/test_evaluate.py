"""The judge's table: win rates and accuracies against numbers worked by hand."""

import copy

import pytest
import torch

from rlhf_lab.evaluate import (
    Responses,
    best_of_n,
    distinct_share,
    mask_words,
    respond,
    reward_accuracy,
    scores_of,
    sequence_kl,
    win_rate,
)
from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.sampling import SamplingConfig

PROMPTS = [Prompt("a", "first:"), Prompt("b", "the second:")]
SHORT = SamplingConfig(max_new_tokens=5)


def length_judge(prompt, text):
    return Mark(float(len(text)), {"helpful": float(len(text) > 2), "polite": float("a" in text)})


def marked(rows):
    """Responses with these (mark, accurate, polite), (P, S)."""
    marks = [
        [
            Mark(m, {"helpful": 1.0, "accurate": h, "polite": p}, flaws={"lies": int(m < 2)})
            for m, h, p in row
        ]
        for row in rows
    ]
    texts = [[f"{i}{j}" for j in range(len(row))] for i, row in enumerate(rows)]
    return Responses(PROMPTS[: len(rows)], texts, None, torch.ones(len(rows), len(rows[0])), marks)


def test_win_rate_counts_ties_half():
    mine, rival = torch.tensor([[3.0, 1.0], [2.0, 2.0]]), torch.tensor([[2.0, 1.0], [2.0, 5.0]])
    # first prompt: 3>2, 3>1, 1<2, 1=1 -> 2.5 of 4; second: = and < twice -> 1 of 4
    assert win_rate(mine, rival)[0] == pytest.approx((2.5 / 4 + 1 / 4) / 2)


def test_win_rate_of_a_model_against_itself_is_a_half():
    marks = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert win_rate(marks, marks)[0] == pytest.approx(0.5)


def test_best_of_n_goes_by_the_score_not_by_the_mark(gpt2, tokenizer):
    answers = respond(gpt2, tokenizer, PROMPTS, 4, seed=1, judge=length_judge, config=SHORT)
    scores = torch.tensor([[0.0, 5.0, 1.0, 9.0], [3.0, 2.0, 1.0, 0.0]])
    best = best_of_n(answers, scores, 3)  # the fourth is not among them
    assert best.texts == [[answers.texts[0][1]], [answers.texts[1][0]]]
    assert best.marks == [[answers.marks[0][1]], [answers.marks[1][0]]]
    assert best.sequences.mask.sum(1).tolist() == answers.sequences.mask.sum(1)[[1, 4]].tolist()


def test_answers_depend_on_the_prompt_and_the_seed_only(gpt2, tokenizer):
    both = respond(gpt2, tokenizer, PROMPTS, 3, seed=1, config=SHORT)
    one = respond(gpt2, tokenizer, PROMPTS[1:], 3, seed=1, config=SHORT, batch_size=1)
    assert both.texts[1] == one.texts[0]
    assert respond(gpt2, tokenizer, PROMPTS, 3, seed=2, config=SHORT).texts != both.texts


def test_kl_of_a_policy_to_itself_is_zero_and_to_another_is_not(gpt2, tokenizer):
    answers = respond(gpt2, tokenizer, PROMPTS, 2, config=SHORT)
    assert sequence_kl(gpt2, gpt2, answers).abs().max() < 1e-5
    other = copy.deepcopy(gpt2)
    with torch.no_grad():
        other.lm_head.weight.mul_(1.1)
    assert (sequence_kl(other, gpt2, answers) > 0).all()


def test_kl_is_summed_over_the_vocabulary_at_every_token(gpt2, tokenizer):
    other = copy.deepcopy(gpt2)
    with torch.no_grad():
        other.transformer.h[0].mlp.c_fc.weight.mul_(1.3)
    answers = respond(gpt2, tokenizer, PROMPTS[:1], 1, config=SHORT)
    p = len(tokenizer.encode(PROMPTS[0].text))
    tokens = answers.sequences.tokens[:, : p + int(answers.sequences.mask.sum())]
    a, b = (m(tokens).logits[0, p - 1 : -1].log_softmax(-1) for m in (gpt2, other))
    expected = sum(float((x.exp() * (x - y)).sum()) for x, y in zip(a, b))
    assert float(sequence_kl(gpt2, other, answers)) == pytest.approx(expected, abs=1e-4)


def test_reward_accuracy_by_kind_of_pair():
    answers = marked([[(9, 1, 1), (5, 0, 1), (8, 1, 0), (8, 1, 0)]])
    scores = torch.tensor([[3.0, 1.0, 4.0, 1.0]])
    result = reward_accuracy(answers, scores, ["accurate"], ["polite"], clear=3)
    # (9,5) right; (9,8) wrong; (9,8') right; (8,5) right; (8',5) tie; (8,8') no difference
    assert result["all"]["pairs"] == 5 and result["all"]["accuracy"] == pytest.approx(3.5 / 5)
    assert result["clear"]["pairs"] == 3 and result["clear"]["accuracy"] == pytest.approx(2.5 / 3)
    assert result["clear"]["share"] == pytest.approx(3 / 6)
    assert result["correctness"]["pairs"] == 1 and result["correctness"]["accuracy"] == 1
    assert result["style"]["pairs"] == 2 and result["style"]["accuracy"] == pytest.approx(0.5)


def test_flaws_are_counted_by_response():
    assert marked([[(1, 0, 0), (9, 1, 1)]]).flaw_table("lies").tolist() == [[1, 0]]


def test_distinct_share_hides_the_names():
    texts = [["your Nimbus is fine", "your Tarn is fine", "no"]]
    assert distinct_share(texts) == 1
    assert distinct_share(texts, mask_words(["Nimbus", "Tarn"])) == pytest.approx(2 / 3)
    assert mask_words([])(" hello ") == "hello"


def test_scores_have_the_shape_of_the_texts(gpt2, tokenizer):
    answers = respond(gpt2, tokenizer, PROMPTS, 3, config=SHORT)
    assert scores_of(ScalarModel.from_policy(gpt2, 0), answers).shape == (2, 3)


def test_a_span_of_prompts_keeps_their_responses(gpt2, tokenizer):
    answers = respond(gpt2, tokenizer, PROMPTS, 3, judge=length_judge, config=SHORT)
    part = answers.prompts_in(slice(1, 2))
    assert part.texts == answers.texts[1:] and part.prompts == PROMPTS[1:]
    assert part.sequences.mask.sum(1).tolist() == answers.sequences.mask.sum(1)[3:].tolist()
