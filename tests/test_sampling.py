import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from helpers import response_logits

import rlhf_lab.sampling as sampling
from rlhf_lab.engine.fast_gpt2 import GPT2Decoder, supports
from rlhf_lab.errors import UserError
from rlhf_lab.sampling import LibraryDecoder, SamplingConfig, WholeDecoder, choose, sample
from rlhf_lab.text import encode_prompt, pad_left

END, PAD, V = 0, 1, 9
PROMPTS = [[3, 4, 5, 6], [7], [2, 8, 2], [5] * 11, [6, 6], [4, 3, 2, 3, 4], [7], [8, 8, 3]]
SEEDS = list(range(100, 108))
CONFIG = SamplingConfig(max_new_tokens=20)


class Nine:
    """A vocabulary of nine tokens, so that responses end soon and can be enumerated."""

    eos_token_id, pad_token_id = END, PAD

    def __len__(self):
        return V


@pytest.fixture(params=["gpt2", "llama"])
def policy(request, make_gpt2, make_llama):
    return {"gpt2": make_gpt2, "llama": make_llama}[request.param](Nine())


def teacher_forced(policy, samples, temperature=1.0):
    n = samples.mask.shape[1]
    logits = response_logits(policy, samples.tokens, samples.attention, n) / temperature
    responses = samples.tokens[:, samples.prompt_length :, None]
    return logits.log_softmax(-1).gather(2, responses).squeeze(2)


def responses_of(samples):
    rows = samples.tokens[:, samples.prompt_length :]
    return [row[keep].tolist() for row, keep in zip(rows, samples.mask, strict=True)]


# ---- what comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_the_teacher_forced_ones(policy, temperature):
    samples = sample(policy, Nine(), PROMPTS, SEEDS, SamplingConfig(20, temperature), batch_size=3)
    expected = teacher_forced(policy, samples, temperature)
    torch.testing.assert_close(
        samples.logprobs, expected.where(samples.mask, 0.0), atol=1e-5, rtol=0
    )
    assert (samples.logprobs - teacher_forced(policy, samples, 2.0)).abs().max() > 0.1


def test_restricted_samples_still_carry_the_whole_softmax(policy):
    for config in (SamplingConfig(20, top_k=2), SamplingConfig(20, top_p=0.5)):
        samples = sample(policy, Nine(), PROMPTS, SEEDS, config)
        expected = teacher_forced(policy, samples).where(samples.mask, 0.0)
        torch.testing.assert_close(samples.logprobs, expected, atol=1e-5, rtol=0)


def test_layout_end_token_in_the_mask_padding_behind(policy):
    samples = sample(policy, Nine(), PROMPTS, SEEDS, SamplingConfig(7), batch_size=3)
    B, P, N = len(PROMPTS), 11, samples.mask.shape[1]
    assert samples.prompt_length == P
    assert samples.tokens.shape == samples.attention.shape == (B, P + N)
    assert samples.mask.shape == samples.logprobs.shape == (B, N)
    assert samples.ended.any() and not samples.ended.all()
    assert max(map(len, responses_of(samples))) == N
    for row, prompt in enumerate(PROMPTS):
        n = int(samples.mask[row].sum())
        left = P - len(prompt)
        assert samples.tokens[row].tolist()[:P] == [PAD] * left + prompt
        real = [0] * left + [1] * (len(prompt) + n) + [0] * (N - n)
        assert samples.attention[row].tolist() == real
        assert samples.mask[row].tolist() == [True] * n + [False] * (N - n)
        response = samples.tokens[row, P:].tolist()
        assert response[n:] == [PAD] * (N - n)
        assert END not in response[: n - 1]
        assert samples.ended[row] == (response[n - 1] == END)
        assert samples.ended[row] or n == 7
        assert samples.logprobs[row, :n].lt(0).all() and samples.logprobs[row, n:].eq(0).all()


def test_samples_may_be_trained_on(policy):
    samples = sample(policy, Nine(), PROMPTS, SEEDS, CONFIG)
    loss = (teacher_forced(policy, samples) * samples.logprobs).sum()
    loss.backward()
    assert not any(value.is_inference() for value in vars(samples).values())


def test_texts_are_the_responses_without_their_end(gpt2, tokenizer):
    words = ["Hello", "Why", "Hm"]
    prompts = [encode_prompt(tokenizer, word) for word in words]
    samples = sample(gpt2, tokenizer, prompts, [1, 2, 3], SamplingConfig(8))
    assert samples.prompt_length == 5
    for text, ids in zip(samples.texts(tokenizer), responses_of(samples), strict=True):
        assert text == tokenizer.decode(ids, skip_special_tokens=True).strip()


# ---- a sample is its seed's ----------------------------------------------------------------------


def test_a_sample_depends_on_its_prompt_and_seed_alone(policy):
    together = responses_of(sample(policy, Nine(), PROMPTS, SEEDS, CONFIG))
    for batch_size in (1, 3):
        assert together == responses_of(sample(policy, Nine(), PROMPTS, SEEDS, CONFIG, batch_size))
    order = [5, 2, 7, 0, 6, 1, 4, 3]
    prompts, seeds = [PROMPTS[i] for i in order], [SEEDS[i] for i in order]
    shuffled = sample(policy, Nine(), prompts, seeds, CONFIG)
    assert responses_of(shuffled) == [together[i] for i in order]
    longer = sample(policy, Nine(), PROMPTS + [[4] * 30], SEEDS + [0], CONFIG)  # more left padding
    assert responses_of(longer)[:-1] == together
    torch.manual_seed(12345)  # the global generator has no say
    assert responses_of(sample(policy, Nine(), PROMPTS[3:4], SEEDS[3:4], CONFIG)) == together[3:4]
    other = responses_of(sample(policy, Nine(), PROMPTS, [s + 50 for s in SEEDS], CONFIG))
    assert sum(a != b for a, b in zip(together, other)) >= 6


def test_a_shorter_limit_cuts_the_same_sample(policy):
    whole = responses_of(sample(policy, Nine(), PROMPTS, SEEDS, CONFIG))
    short = responses_of(sample(policy, Nine(), PROMPTS, SEEDS, SamplingConfig(5)))
    assert short == [response[:5] for response in whole]


def test_both_decoders_draw_the_same(make_gpt2, monkeypatch):
    policy = make_gpt2(Nine())
    fast = sample(policy, Nine(), PROMPTS, SEEDS, CONFIG)
    monkeypatch.setattr(sampling, "supports", lambda policy: False)
    slow = sample(policy, Nine(), PROMPTS, SEEDS, CONFIG)
    assert responses_of(fast) == responses_of(slow)
    torch.testing.assert_close(fast.logprobs, slow.logprobs, atol=1e-5, rtol=0)


def test_without_a_cache_it_draws_the_same(policy, monkeypatch):
    cached = sample(policy, Nine(), PROMPTS, SEEDS, CONFIG, batch_size=3)
    monkeypatch.setattr(sampling, "decoder_of", lambda policy: WholeDecoder)
    whole = sample(policy, Nine(), PROMPTS, SEEDS, CONFIG, batch_size=3)
    assert responses_of(whole) == responses_of(cached)
    torch.testing.assert_close(whole.logprobs, cached.logprobs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("broken", ["keep", "step"])
def test_a_cache_that_is_not_right_is_not_used(make_llama, monkeypatch, broken):
    """Whether it raises an error or, as some hybrids do, gives other logits in silence."""
    policy = make_llama(Nine())
    expected = sample(policy, Nine(), PROMPTS, SEEDS, CONFIG)

    class Broken(LibraryDecoder):
        def keep(self, rows):
            if broken == "keep":
                raise AttributeError("no batch_select_indices")
            super().keep(rows)

        def step(self, tokens):
            return super().step(tokens) if broken == "keep" else super().step(tokens.flip(0))

    monkeypatch.setattr(sampling, "LibraryDecoder", Broken)
    other = make_llama(Nine())
    assert sampling.decoder_of(other) is WholeDecoder
    assert responses_of(sample(other, Nine(), PROMPTS, SEEDS, CONFIG)) == responses_of(expected)


# ---- the distribution ----------------------------------------------------------------------------


def exact_distribution(policy, prompt, n, temperature):
    """Every response of at most n tokens and its probability, from one pass over all of them."""
    sequences = torch.tensor(list(itertools.product(range(V), repeat=n)))
    tokens = torch.cat([torch.tensor(prompt).expand(len(sequences), -1), sequences], dim=1)
    with torch.no_grad():
        logits = response_logits(policy, tokens, torch.ones_like(tokens), n) / temperature
    logprobs = logits.double().log_softmax(-1).gather(2, sequences[..., None]).squeeze(2)
    exact = {}
    for sequence, steps in zip(sequences.tolist(), logprobs.tolist(), strict=True):
        length = sequence.index(END) + 1 if END in sequence else n
        exact[tuple(sequence[:length])] = math.exp(sum(steps[:length]))
    return exact


def test_frequencies_are_those_of_exact_enumeration(policy):
    draws, config = 3000, SamplingConfig(3, temperature=1.5)
    samples = sample(policy, Nine(), [[3, 4]] * draws, list(range(draws)), config, batch_size=500)
    drawn = [tuple(response) for response in responses_of(samples)]

    def chi_square(exact):  # per degree of freedom, rare responses together
        assert sum(exact.values()) == pytest.approx(1)
        common = [response for response, p in exact.items() if p * draws >= 5]
        counts = [drawn.count(response) for response in common]
        expected = [exact[response] * draws for response in common]
        counts.append(draws - sum(counts))
        expected.append(draws - sum(expected))
        return sum((c - e) ** 2 / e for c, e in zip(counts, expected)) / (len(counts) - 1)

    assert chi_square(exact_distribution(policy, [3, 4], 3, 1.5)) < 1.4
    assert chi_square(exact_distribution(policy, [3, 4], 3, 1.0)) > 3
    assert chi_square(exact_distribution(policy, [4, 3], 3, 1.5)) > 3


def shares(logits, config=SamplingConfig(), draws=10_000):
    """How often each token is chosen by evenly spread uniform numbers."""
    uniforms = (torch.arange(draws) + 0.5) / draws
    tokens, logprobs = choose(logits.expand(draws, -1), uniforms, config)
    return torch.bincount(tokens, minlength=len(logits)) / draws, tokens, logprobs


PROBABILITIES = torch.tensor([0.15, 0.5, 0.05, 0.3])


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [0.15, 0.5, 0.05, 0.3]),
        ({"top_k": 1}, [0.0, 1.0, 0.0, 0.0]),
        ({"top_k": 2}, [0.0, 0.625, 0.0, 0.375]),
        ({"top_k": 9}, [0.15, 0.5, 0.05, 0.3]),
        ({"top_p": 0.4}, [0.0, 1.0, 0.0, 0.0]),
        ({"top_p": 0.6}, [0.0, 0.625, 0.0, 0.375]),
        ({"top_p": 0.9}, [0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95]),
        ({"top_k": 3, "top_p": 0.6}, [0.0, 0.625, 0.0, 0.375]),
        ({"temperature": 0.5}, [0.0225 / 0.365, 0.25 / 0.365, 0.0025 / 0.365, 0.09 / 0.365]),
    ],
)
def test_what_is_chosen_and_how_often(options, expected):
    found, tokens, logprobs = shares(PROBABILITIES.log(), SamplingConfig(**options))
    torch.testing.assert_close(found, torch.tensor(expected), atol=2e-4, rtol=0)
    whole = (PROBABILITIES.log() / options.get("temperature", 1)).log_softmax(-1)
    torch.testing.assert_close(logprobs, whole[tokens])


def test_temperature_divides_the_logits():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    _, logprob = choose(logits, torch.tensor([0.0]), SamplingConfig(temperature=0.7))
    assert logprob.item() == pytest.approx(-0.2601, abs=1e-4)
    _, logprob = choose(logits, torch.tensor([0.0]), SamplingConfig())
    assert logprob.item() == pytest.approx(-0.4076, abs=1e-4)


def test_a_token_of_probability_zero_is_never_chosen():
    torch.manual_seed(0)
    logits = torch.randn(2000, 50)
    logits[:, [0, 20, 49]] = -torch.inf
    for u in (0.0, 0.5, 1 - 2**-24):  # the least, and the greatest that torch.rand can draw
        tokens, logprobs = choose(logits, torch.full((2000,), u), SamplingConfig())
        assert not torch.isin(tokens, torch.tensor([0, 20, 49])).any()
        assert logprobs.isfinite().all()


def test_top_k_of_one_is_the_library_greedy_search(policy):
    prompts = [[3, 4, 5], [7, 2, 6]]
    greedy = sample(policy, Nine(), prompts, [0, 0], SamplingConfig(12, top_k=1))
    theirs = policy.generate(torch.tensor(prompts), max_new_tokens=12, do_sample=False)
    n = greedy.tokens.shape[1]
    assert greedy.tokens.tolist() == theirs[:, :n].tolist()


# ---- how it decodes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scale_attn_by_inverse_layer_idx": True},
        {"activation_function": "gelu"},
        {"n_inner": 40},
    ],
)
def test_the_fast_path_agrees_with_the_library(make_gpt2, changes):
    policy = make_gpt2(Nine(), **changes)
    assert supports(policy)
    prompts, copies = [[3], [4, 5, 6], [2] * 9], torch.tensor([0, 2, 1, 1, 0])
    padded = pad_left(prompts, PAD)
    decoders = [D(policy, *padded, copies, 6) for D in (GPT2Decoder, LibraryDecoder)]
    close = dict(atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(*(decoder.read() for decoder in decoders), **close)
        for tokens, kept in [
            ([2, 3, 4, 5, 6], [0, 4, 2, 3]),
            ([7, 8, 2, 2], [0, 1, 2, 3]),
            ([5, 4, 3, 2], [3, 1]),
            ([6, 6], [1]),
            ([8], [0]),
        ]:
            tokens, kept = torch.tensor(tokens), torch.tensor(kept)
            torch.testing.assert_close(*(decoder.step(tokens) for decoder in decoders), **close)
            for decoder in decoders:
                decoder.keep(kept)


def test_only_a_plain_gpt2_takes_the_fast_path(make_gpt2, make_llama):
    assert supports(make_gpt2(Nine()))
    assert not supports(make_llama(Nine()))
    assert not supports(make_gpt2(Nine(), reorder_and_upcast_attn=True))
    adapted = make_gpt2(Nine())
    adapted.transformer.h[1].mlp.c_fc = torch.nn.Linear(32, 128)
    assert not supports(adapted)


@pytest.mark.parametrize("Decoder", ["GPT2Decoder", "LibraryDecoder"])
def test_finished_rows_are_decoded_no_further(make_gpt2, monkeypatch, Decoder):
    monkeypatch.setattr(sampling, "supports", lambda policy: Decoder == "GPT2Decoder")
    policy = make_gpt2(Nine())
    sampling.decoder_of(policy)  # what it tries of a new model is not counted
    read, stepped = [], []

    class Counting(getattr(sampling, Decoder)):
        def read(self):
            read.append(len(self.tokens))
            return super().read()

        def step(self, tokens):
            stepped.append(len(tokens))
            return super().step(tokens)

    monkeypatch.setattr(sampling, Decoder, Counting)
    samples = sample(policy, Nine(), PROMPTS, SEEDS, CONFIG, batch_size=4)
    assert read == [3, 4]  # [7] is asked twice and read once
    assert sum(stepped) == samples.mask.sum() - len(PROMPTS)  # nothing follows a last token


def test_dropout_is_off_and_the_mode_comes_back(make_gpt2):
    policy = make_gpt2(Nine(), resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    expected = responses_of(sample(policy, Nine(), PROMPTS, SEEDS, CONFIG))
    policy.train()
    assert responses_of(sample(policy, Nine(), PROMPTS, SEEDS, CONFIG)) == expected
    assert all(module.training for module in policy.modules())


# ---- what is refused -----------------------------------------------------------------------------


def test_bad_prompts_and_seeds_are_refused(make_gpt2):
    policy = make_gpt2(Nine())
    with pytest.raises(UserError, match="prompt 1 is empty"):
        sample(policy, Nine(), [[2], []], [0, 1], CONFIG)
    with pytest.raises(UserError, match="prompt 1 has 45 tokens.* max_new_tokens 20 .* 64"):
        sample(policy, Nine(), [[2], [3] * 45], [0, 1], CONFIG)
    with pytest.raises(UserError, match="2 prompts but 1 seeds"):
        sample(policy, Nine(), [[2], [3]], [0], CONFIG)
    with pytest.raises(UserError, match="no prompts"):
        sample(policy, Nine(), [], [], CONFIG)
    with pytest.raises(UserError, match="pad token"):
        sample(policy, SimpleNamespace(eos_token_id=0, pad_token_id=0), [[2]], [0], CONFIG)


def test_a_policy_that_diverged_is_named(policy):
    with torch.no_grad():
        policy.get_input_embeddings().weight[3, 0] = torch.nan
    with pytest.raises(UserError, match="logits are not finite"):
        sample(policy, Nine(), PROMPTS, SEEDS, CONFIG)


def test_a_prompt_may_fill_the_context_to_the_last_token(policy):
    samples = sample(policy, Nine(), [[3] * 44], [1], CONFIG)
    expected = teacher_forced(policy, samples).where(samples.mask, 0.0)
    torch.testing.assert_close(samples.logprobs, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0}, {"max_new_tokens": 0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        SamplingConfig(**options)
