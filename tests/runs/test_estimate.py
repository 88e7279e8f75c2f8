"""What a run will need: exact where it counts, in proportion where it was probed."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers import refusal
from transformers import DynamicCache

from rlhf_lab.disk.data import base_model
from rlhf_lab.engine.adapters import MemoryConfig, add_lora, prepare
from rlhf_lab.engine.fast_gpt2 import GPT2Decoder
from rlhf_lab.engine.packed import hidden_states
from rlhf_lab.engine.recompute import recomputed
from rlhf_lab.models import ScalarModel, frozen_copy, load_tokenizer, new_value_model
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig
from rlhf_lab.runs.costs import counting as costs
from rlhf_lab.runs.costs import estimate
from rlhf_lab.runs.costs.estimate import (
    Estimate,
    estimate_ppo,
    estimate_reward,
    estimate_sft,
    memory,
)
from rlhf_lab.runs.pretrain import PretrainConfig, new_model
from rlhf_lab.sampling import LibraryDecoder
from rlhf_lab.sequences import Sequences, positions_before
from rlhf_lab.sft import SFTConfig
from rlhf_lab.training import Optimiser, make_accelerator

PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["ab:", "c:", "a long one:", "xyz:"] * 3)]
SHOWN = [Demonstration(p, "yes" if i % 2 else "no, never") for i, p in enumerate(PROMPTS)]
RANKED = [Ranking(p, ("good", "fair one", "bad", "worst"), (1, 2, 3, None)) for p in PROMPTS]
PPO = PPOConfig(updates=3, batch_size=6, max_new_tokens=6)
WAYS = {
    "whole": MemoryConfig(),
    "lora": MemoryConfig(lora=3),
    "lora, shared": MemoryConfig(lora=2),
    "checkpointing": MemoryConfig(gradient_checkpointing=True),
}


def stepped(modules):
    """An optimiser that has taken a step on all that is trained."""
    adam = Optimiser(make_accelerator("cpu"), modules, 1e-3, 10)
    for p in adam.parameters:
        p.grad = torch.ones_like(p)
    gradients = sum(p.grad.nbytes for p in adam.parameters)
    adam.step()
    return gradients, sum(x.nbytes for state in adam.adam.state.values() for x in state.values())


def assert_exact(found: Estimate, trained, others=()):
    """Parameters and bytes are those of the modules, and of Adam after a step."""
    every = {id(p): p for m in (*trained, *others) for p in m.parameters()}.values()
    moved = [p for m in trained for p in m.parameters() if p.requires_grad]
    assert found.trained == sum(p.numel() for p in moved)
    assert found.held == sum(p.numel() for p in every)
    assert found.weights == sum(
        {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in every}.values()
    )
    assert (found.gradients, found.adam) == stepped(trained)


@pytest.mark.parametrize("way", WAYS)
def test_counts_of_sft_and_reward_model_are_those_of_the_real_modules(way, policy, tokenizer):
    prepare(policy, WAYS[way])
    assert_exact(estimate_sft(policy, tokenizer, SHOWN), [policy])
    scorer = ScalarModel.from_policy(policy, 0)
    assert_exact(estimate_reward(scorer, tokenizer, RANKED), [scorer])


@pytest.mark.parametrize("way", WAYS)
def test_counts_of_ppo_are_those_of_the_real_modules(way, policy, tokenizer):
    scorer = ScalarModel.from_policy(policy, 1).requires_grad_(False)
    prepare(policy, WAYS[way])
    config = replace(PPO, shared_value="shared" in way)
    found = estimate_ppo(policy, scorer, tokenizer, PROMPTS, config)
    reference, value = (
        frozen_copy(policy),
        new_value_model(policy, scorer, config.seed, config.shared_value),
    )
    assert_exact(found, [policy, value], [reference, scorer])
    assert found.updates == 3


def test_with_adapters_reference_and_value_network_cost_next_to_nothing(gpt2, tokenizer):
    scorer = ScalarModel.from_policy(gpt2, 1).requires_grad_(False)
    whole = estimate_ppo(gpt2, scorer, tokenizer, PROMPTS, PPO)
    lean = estimate_ppo(add_lora(copy.deepcopy(gpt2), 1), scorer, tokenizer, PROMPTS, PPO)
    assert whole.held == pytest.approx(4 * gpt2.num_parameters(), rel=0.01)
    assert lean.held - lean.trained == pytest.approx(2 * gpt2.num_parameters(), rel=0.01)


def test_the_cache_is_that_of_both_samplers(policy, tokenizer):
    tokens = torch.full((2, 5), 7)
    decoder = LibraryDecoder(policy, tokens, torch.ones_like(tokens), torch.tensor([0, 0, 1]), 4)
    with torch.no_grad():
        decoder.read()
        for _ in range(4):
            decoder.step(torch.tensor([1, 2, 3]))
    assert isinstance(decoder.cache, DynamicCache)
    held = sum(x.nbytes for layer in decoder.cache.layers for x in (layer.keys, layer.values))
    assert costs.cache_bytes(policy, rows=3, length=9) == held


def test_the_fast_samplers_cache(gpt2):
    tokens = torch.full((2, 5), 7)
    decoder = GPT2Decoder(gpt2, tokens, torch.ones_like(tokens), torch.tensor([0, 0, 1]), 4)
    assert costs.cache_bytes(gpt2, rows=3, length=9) == decoder.cache.nbytes


@pytest.mark.parametrize("way", ["whole", "lora"])
def test_what_is_kept_is_found_from_a_few_rows(way, policy, tokenizer):
    prepare(policy, WAYS[way])
    few = Sequences.of_tokens([[5] * 9] * 4, [[6] * 7] * 4, 257)
    many = Sequences.of_tokens([[5] * 9] * 40, [[6] * 7] * 40, 257)
    weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    kept = {}

    def see(x):
        if x.untyped_storage().data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(see, lambda x: x):
        hidden = hidden_states(
            policy.base_model, many.tokens, many.attention, positions_before(many.labels)
        )
    assert hidden.requires_grad
    found, layer = costs.saved(policy, few)
    assert found * many.tokens.numel() == pytest.approx(sum(kept.values()), rel=0.05)
    assert 0 < layer < found / 2


def test_checkpointing_keeps_the_layers_inputs_and_one_layer(make_gpt2, tokenizer):
    deep = make_gpt2(tokenizer, n_layer=8)
    rows = Sequences.of_tokens([[5] * 9] * 4, [[6] * 7] * 4, 257)
    whole, _ = costs.saved(deep, rows)
    lean, _ = costs.saved(prepare(deep, WAYS["checkpointing"]), rows)
    assert lean == pytest.approx(8 * 32 * 4 + whole / 8)
    assert all(block.gradient_checkpointing for block in deep.transformer.h)  # as it was


def test_a_smaller_piece_keeps_less_and_costs_the_same_time(gpt2, tokenizer):
    large = estimate_sft(gpt2, tokenizer, SHOWN, SFTConfig(batch_size=12, max_tokens=10_000))
    small = estimate_sft(gpt2, tokenizer, SHOWN, SFTConfig(batch_size=12, max_tokens=30))
    assert small.activations < large.activations / 3 and small.flops == large.flops


def test_multiplications_by_hand(make_gpt2, tokenizer):
    gpt2 = make_gpt2(tokenizer)  # 2 layers of width 32, 258 tokens
    rows = Sequences.of_tokens(
        [[1, 2]], [[3, 4, 5]], 257
    )  # 5 tokens, of which 3 are the response's
    matrices = 2 * (32 * 96 + 32 * 32 + 2 * 32 * 128)
    attention = 2 * 4 * 32 * (1 + 2 + 3 + 4 + 5)
    assert costs.forward(gpt2, rows) == 2 * matrices * 5 + attention
    assert costs.training(gpt2, rows) == 3 * (2 * matrices * 5 + attention)
    assert costs.projection(gpt2, rows) == 3 * 2 * 258 * 32 * 3
    gpt2.requires_grad_(False)
    assert costs.training(gpt2, rows) == 2 * (2 * matrices * 5 + attention)
    assert costs.projection(gpt2, rows) == 2 * 2 * 258 * 32 * 3


def test_every_row_and_epoch_is_counted(gpt2, tokenizer):
    once = estimate_sft(gpt2, tokenizer, SHOWN, SFTConfig(epochs=1, batch_size=5))
    thrice = estimate_sft(gpt2, tokenizer, SHOWN * 2, SFTConfig(epochs=3, batch_size=5))
    assert thrice.flops == pytest.approx(6 * once.flops) and (once.updates, thrice.updates) == (
        3,
        15,
    )
    scorer = ScalarModel.from_policy(gpt2, 0)
    reward = [estimate_reward(scorer, tokenizer, RANKED, RewardConfig(epochs=n)) for n in (1, 2)]
    assert reward[1].flops == pytest.approx(2 * reward[0].flops)


def test_the_worst_moment_is_training_or_sampling():
    parts = dict(stage="ppo", trained=1, held=1, weights=100, adam=20, flops=1.0, updates=1)
    assert Estimate(**parts, gradients=10, activations=30, cache=25).memory == 160
    assert Estimate(**parts, gradients=10, activations=30, cache=45).memory == 165


def test_two_lines_for_the_screen():
    found = Estimate(
        "sft",
        1_500_000,
        3_000_000,
        weights=12_000_000,
        gradients=6_000_000,
        adam=12_000_000,
        activations=2 * 10**9,
        cache=0,
        flops=9e12,
        updates=40,
    )
    first, second = found.lines(peak=2e10).splitlines()
    assert "1.5M of 3.0M" in first and "2.0 GB" in first and "KV cache" not in first
    assert "while sampling KV cache 45 MB" in replace(found, cache=45_000_000).lines(2e10)
    assert "15 minutes" in second and "40 updates" in second and "20 GFLOP/s" in second


def test_a_probe_that_fails_leaves_checkpointing_on(policy, tokenizer, monkeypatch):
    def fails(*_):
        raise MemoryError

    monkeypatch.setattr(costs, "saved_bytes", fails)
    with pytest.raises(MemoryError):
        estimate_sft(prepare(policy, WAYS["checkpointing"]), tokenizer, SHOWN)
    assert sum(map(recomputed, policy.modules())) == policy.config.num_hidden_layers


@pytest.mark.parametrize(
    "seconds, text",
    [
        (3, "3 seconds"),
        (119, "119 seconds"),
        (150, "2.5 minutes"),
        (3 * 3600, "3.0 hours"),
        (40 * 3600, "40 hours"),
        (30 * 86400, "30 days"),
    ],
)
def test_durations(seconds, text):
    assert estimate.duration(seconds) == text


def test_the_speed_is_measured():
    assert costs.matmul_speed(size=64, rounds=2) > 1e6
    assert costs.matmul_speed(make_accelerator("cpu"), size=64, rounds=2) > 1e6


def test_an_estimate_leaves_everything_as_it_was(policy, tokenizer):
    before, state = {n: p.clone() for n, p in policy.named_parameters()}, torch.get_rng_state()
    scorer = ScalarModel.from_policy(policy, 1).requires_grad_(False)
    torch.set_rng_state(state)
    estimate_sft(policy, tokenizer, SHOWN)
    assert torch.equal(torch.get_rng_state(), state)
    estimate_ppo(policy, scorer, tokenizer, PROMPTS, PPO)
    assert all(torch.equal(before[n], p) and p.requires_grad for n, p in policy.named_parameters())
    assert all(p.grad is None for p in policy.parameters())


def test_the_bars_of_an_estimate_add_up_and_mark_the_worst_moment():
    one = Estimate(
        "ppo",
        1,
        2,
        weights=4 * 10**9,
        gradients=10**9,
        adam=2 * 10**9,
        activations=3 * 10**9,
        cache=6 * 10**9,
        flops=1.0,
        updates=1,
    )
    [axes] = memory({"mine": one}).axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [4, 1, 2, 3, 6] and [bar.get_x() for bar in axes.patches] == [0, 4, 5, 7, 10]
    [mark] = [line for line in axes.lines if line.get_label() == "worst moment"]
    assert list(mark.get_xdata()) == [12]  # sampling: weights, Adam and the cache


# ---- more than there is --------------------------------------------------------------------------


def test_what_needs_more_memory_than_there_is_is_refused_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(costs, "memory_of", lambda device: 10**9)
    cpu = torch.device("cpu")
    costs.check_memory("a stage", 1.4e9, cpu, "take less")  # within what an estimate may be off
    message = refusal(costs.check_memory, "a stage", 1.6e9, cpu, "take less")
    assert message == "a stage needs about 1.6 GB of memory, and this machine has 1.0 GB: take less"
    tokenizer = load_tokenizer(base_model())
    message = refusal(new_model, tokenizer, PretrainConfig(layers=1000, width=50_000, heads=1))
    assert "30,000,106.1M parameters" in message and "lower --width" in message


def test_the_memory_of_this_machine_is_known():
    assert 10**8 < costs.memory_of(torch.device("cpu")) < 10**15
