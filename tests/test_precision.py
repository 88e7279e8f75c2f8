"""bf16 by autocast: old numbers and new ones come from the same arithmetic."""

import copy
import subprocess
import sys

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState

from rlhf_lab import maths
from rlhf_lab.alternatives.dpo import DPOConfig, train_dpo
from rlhf_lab.alternatives.grpo import GRPOConfig, train_grpo
from rlhf_lab.alternatives.rloo import RLOOConfig, train_rloo
from rlhf_lab.engine.fast_gpt2 import GPT2Decoder
from rlhf_lab.engine.packed import in_float32
from rlhf_lab.errors import UserError
from rlhf_lab.models import ScalarModel
from rlhf_lab.ppo import PPOConfig, collect, ppo_loss, train_ppo
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.sampling import LibraryDecoder, SamplingConfig, sample
from rlhf_lab.sequences import response_logprobs, response_values
from rlhf_lab.text import encode_prompt
from rlhf_lab.training import make_accelerator

PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["ab:", "c:", "a long one:", "xyz:"] * 4)]
RANKED = [Ranking(p, ("good", "fair one", "bad", "worst"), (1, 2, 3, None)) for p in PROMPTS]
ROOM = dict(batch_size=16, max_new_tokens=12)


@pytest.fixture
def bf16():
    """An accelerator that computes in bf16; afterwards the process may choose again."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield make_accelerator("cpu", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert not PartialState._shared_state


@pytest.fixture(params=["gpt2", "llama", "gpt2 shifted"])
def model(request, make_gpt2, make_llama, tokenizer):
    """A policy; of the third one every logit is lowered by 100, where bf16 has steps of 0.5."""
    name, *shifted = request.param.split()
    policy = {"gpt2": make_gpt2, "llama": make_llama}[name](tokenizer)
    if shifted:
        head = torch.nn.Linear(policy.lm_head.in_features, policy.lm_head.out_features)
        head.weight = policy.lm_head.weight
        torch.nn.init.constant_(head.bias, -100.0)
        policy.lm_head = head
    return policy


def count_e(prompts, texts):
    return [float(text.count("e")) for text in texts]


def test_the_first_ratio_is_one(model, tokenizer, bf16):
    """On the same pieces to the last digit, and in other ones to what the order of sums makes."""
    config = PPOConfig(updates=1, epochs=1, learning_rate=1e-9, **ROOM)
    value = ScalarModel.from_policy(model, 0)
    with bf16.autocast():
        rollout = collect(model, model, value, count_e, tokenizer, PROMPTS, config, 1)
        same, _ = response_logprobs(model, rollout.sequences)
        values = response_values(value, rollout.sequences)
    assert torch.equal(same, rollout.logprobs) and same.dtype == torch.float32
    torch.testing.assert_close(values, rollout.values, atol=1e-5, rtol=0)
    assert (rollout.ref_logprobs == rollout.logprobs).all()
    for size in (40, 10_000):
        config = PPOConfig(updates=1, epochs=1, learning_rate=1e-9, max_tokens=size, **ROOM)
        run = train_ppo(copy.deepcopy(model), count_e, tokenizer, PROMPTS, config, accelerator=bf16)
        record = next(run)
        assert record["val/log_ratio_first"] < 1e-3
        assert record["policy/approxkl_avg"] < 1e-6 and record["policy/clipfrac_avg"] == 0
        assert record["objective/kl"] == pytest.approx(0, abs=1e-6)


def test_float32_old_and_bf16_new_would_differ(model, tokenizer, bf16):
    """What the lab did before: the test above can fail."""
    config, value = PPOConfig(**ROOM), ScalarModel.from_policy(model, 0)
    rollout = collect(model, model, value, count_e, tokenizer, PROMPTS, config, 1)
    with bf16.autocast():
        _, metrics = ppo_loss(model, value, rollout, config)
    assert metrics["policy/approxkl_avg"] > 1e-6


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_the_first_ratio_is_one_in_groups(method, model, tokenizer, bf16):
    train, config = {
        "rloo": (train_rloo, RLOOConfig(updates=1, learning_rate=1e-9, **ROOM)),
        "grpo": (train_grpo, GRPOConfig(updates=1, learning_rate=1e-9, **ROOM)),
    }[method]
    record = next(train(model, count_e, tokenizer, PROMPTS, config, accelerator=bf16))
    assert record["policy/approxkl_avg"] < 1e-6
    assert record["objective/kl"] == pytest.approx(0, abs=1e-6)


def test_dpo_starts_at_ln_2(model, tokenizer, bf16):
    config = DPOConfig(batch_size=16)
    record = next(train_dpo(model, tokenizer, RANKED, config, RANKED[:2], accelerator=bf16))
    assert record["loss/dpo"] == pytest.approx(0.693147, abs=1e-4)
    assert abs(record["dpo/margin"]) < 1e-4


@pytest.mark.parametrize("decoder", [GPT2Decoder, LibraryDecoder])
def test_both_decoders_sample_under_autocast(decoder, make_gpt2, tokenizer, bf16, monkeypatch):
    policy = make_gpt2(tokenizer)
    monkeypatch.setattr("rlhf_lab.sampling.supports", lambda _: decoder is GPT2Decoder)
    prompts = [encode_prompt(tokenizer, p.text) for p in PROMPTS]
    with bf16.autocast():
        samples = sample(policy, tokenizer, prompts, list(range(16)), SamplingConfig(12))
    exact = sample(policy, tokenizer, prompts, list(range(16)), SamplingConfig(12))
    agree = (samples.tokens[:, :13] == exact.tokens[:, :13]).float().mean()
    assert samples.logprobs.dtype == torch.float32 and agree > 0.9  # the first tokens


def test_a_logit_of_minus_100_keeps_its_digits():
    hidden = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    layer = torch.nn.Linear(8, 5)
    torch.nn.init.constant_(layer.bias, -100.0)
    with torch.autocast("cpu", torch.bfloat16):
        found, coarse = in_float32(layer, hidden), layer(hidden)
    exact = torch.nn.functional.linear(hidden.float(), layer.weight, layer.bias)
    assert found.dtype == torch.float32 and torch.equal(found, exact)
    tokens = torch.arange(4)
    gap = (maths.logprobs_of(coarse, tokens) - maths.logprobs_of(exact, tokens)).abs().max()
    assert gap > 0.05


def test_another_device_or_precision_is_refused_with_what_is_in_use(bf16, monkeypatch):
    with pytest.raises(UserError, match="precision float32 were asked for.* uses cpu and bf16"):
        make_accelerator("cpu", "float32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    with pytest.raises(UserError, match="device cuda and precision bf16 were asked for"):
        make_accelerator("cuda", "bf16")


def test_a_cpu_after_a_gpu_is_refused_by_its_name():
    """Accelerate's own state after a run on a GPU, which is not there to be had."""
    code = (
        "import torch\n"
        "from accelerate.state import AcceleratorState\n"
        "from rlhf_lab.training import make_accelerator\n"
        "make_accelerator('cpu')\n"
        "from accelerate.state import PartialState\n"
        "PartialState._shared_state['device'] = torch.device('cuda')\n"
        "AcceleratorState._shared_state['device'] = torch.device('cuda')\n"
        "try:\n    make_accelerator('cpu')\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout.startswith("UserError device cpu"), said.stderr
    assert "this process already uses cuda and float32" in said.stdout
