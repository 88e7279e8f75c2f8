"""Alignment: which position of which model says what about which token."""

import pytest
import torch

from rlhf_lab.models import ScalarModel
from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.sequences import (
    Sequences,
    in_batches,
    label_logprobs,
    micro_batches,
    plain_logits,
    response_logprobs,
    response_scores,
    response_values,
    token_logits,
)

PAIRS = [("ab", "cde"), ("a long prompt", "x"), ("q", "yes, and more")]


@pytest.fixture
def batch(tokenizer):
    return Sequences.of_text(tokenizer, PAIRS)


def alone(tokenizer, prompt, response):
    """Prompt and response of one pair as plain token lists, encoded by hand: a byte a token."""
    return list_of(tokenizer, prompt), list_of(tokenizer, " " + response) + [tokenizer.eos_token_id]


def list_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def test_log_probabilities_are_those_of_each_row_read_alone(policy, tokenizer, batch):
    logprobs, _ = response_logprobs(policy, batch, temperature=0.7)
    for row, (prompt, response) in enumerate(PAIRS):
        p, r = alone(tokenizer, prompt, response)
        logits = policy(torch.tensor([p + r])).logits[0] / 0.7
        expected = logits.log_softmax(-1)[len(p) - 1 : -1].gather(1, torch.tensor(r)[:, None])[:, 0]
        assert batch.mask[row].sum() == len(r)
        torch.testing.assert_close(logprobs[row, : len(r)], expected, atol=1e-5, rtol=0)
        assert (logprobs[row, len(r) :] == 0).all()


def test_the_end_token_is_part_of_the_response_and_has_a_gradient(gpt2, tokenizer, batch):
    last = batch.mask.sum(1) - 1
    ends = batch.response_tokens.gather(1, last[:, None])
    assert (ends == tokenizer.eos_token_id).all()
    logprobs, _ = response_logprobs(gpt2, batch)
    logprobs.gather(1, last[:, None]).sum().backward()
    assert gpt2.lm_head.weight.grad[tokenizer.eos_token_id].abs().sum() > 0


def test_values_are_read_before_the_token_and_scores_at_the_last(gpt2, tokenizer, batch):
    model = ScalarModel.from_policy(gpt2, seed=0)
    values, scores = response_values(model, batch), response_scores(model, batch)
    for row, (prompt, response) in enumerate(PAIRS):
        p, r = alone(tokenizer, prompt, response)
        every = model(torch.tensor([p + r]), torch.ones(1, len(p + r), dtype=torch.long))[0]
        torch.testing.assert_close(values[row, : len(r)], every[len(p) - 1 : -1], atol=1e-5, rtol=0)
        torch.testing.assert_close(scores[row], every[-1], atol=1e-5, rtol=0)


def test_rows_cut_off_padding_and_change_nothing(gpt2, batch):
    whole, _ = response_logprobs(gpt2, batch)
    part = batch.rows([1])
    assert part.tokens.shape[1] == batch.attention[1].sum()
    torch.testing.assert_close(
        response_logprobs(gpt2, part)[0], whole[1:2, : part.mask.shape[1]], atol=1e-5, rtol=0
    )


def test_teacher_forcing_agrees_with_the_sampler(policy, tokenizer):
    prompts = [list_of(tokenizer, text) for text in ("a", "a longer one", "abc")]
    samples = sample(policy, tokenizer, prompts, [1, 2, 3], SamplingConfig(12, temperature=0.8))
    sequences = Sequences.of_samples(samples, tokenizer.pad_token_id)
    assert torch.equal(sequences.mask, samples.mask.bool())
    logprobs, _ = response_logprobs(policy, sequences, temperature=0.8)
    torch.testing.assert_close(logprobs, samples.logprobs, atol=1e-5, rtol=0)


def test_micro_batches_take_every_row_once_and_keep_to_the_budget():
    lengths = torch.tensor([5, 50, 7, 7, 49, 6, 20])
    parts = list(micro_batches(lengths, max_tokens=60))
    assert sorted(torch.cat(parts).tolist()) == list(range(7))
    for part in parts:
        assert len(part) == 1 or lengths[part].max() * len(part) <= 60


def test_in_batches_gives_rows_back_in_their_order(gpt2, batch):
    model = ScalarModel.from_policy(gpt2, seed=0)
    expected = response_scores(model, batch)
    torch.testing.assert_close(
        in_batches(response_scores, model, batch, max_tokens=10), expected, atol=1e-5, rtol=0
    )


def test_a_model_that_wrote_nothing_wrote_the_end_token(tokenizer):
    batch = Sequences.of_text(tokenizer, [("prompt", "")])
    assert batch.response_tokens.tolist() == [[tokenizer.eos_token_id]]
    assert batch.mask.tolist() == [[True]]


def test_logits_where_they_are_wanted_are_those_of_the_plain_forward_pass(policy, batch):
    wanted = batch.attention.bool() & (torch.arange(batch.tokens.shape[1]) % 3 > 0)
    found, plain = token_logits(policy, batch, wanted), plain_logits(policy, batch)[wanted]
    torch.testing.assert_close(found, plain, atol=1e-4, rtol=0)
    labels = batch.labels
    assert (batch.tokens[labels] == batch.response_tokens[batch.mask]).all()
    torch.testing.assert_close(
        label_logprobs(policy, batch, labels),
        response_logprobs(policy, batch)[0][batch.mask],
        atol=1e-6,
        rtol=0,
    )
