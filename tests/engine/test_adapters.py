"""LoRA, gradient checkpointing and micro-batches: what they must leave as it was."""

import copy
import sys
from dataclasses import replace

import pytest
import torch
from helpers import refusal
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.engine import parallel
from rlhf_lab.engine.adapters import (
    MemoryConfig,
    add_lora,
    has_lora,
    merged,
    prepare,
    trainable_copy,
    without_lora,
)
from rlhf_lab.engine.recompute import recompute_layers, recomputed
from rlhf_lab.engine.trial import projects
from rlhf_lab.models import ScalarModel, frozen_copy, load_policy, new_value_model, save_policy
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig, train_reward
from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.sequences import (
    Sequences,
    in_batches,
    response_logprobs,
    response_scores,
    response_values,
)
from rlhf_lab.sft import SFTConfig, train_sft

PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["ab:", "c:", "a long one:", "xyz:"] * 3)]
SHOWN = [Demonstration(p, "yes" if i % 2 else "no, never") for i, p in enumerate(PROMPTS)]
RANKED = [Ranking(p, ("good", "fair one", "bad", "worst"), (1, 2, 3, None)) for p in PROMPTS]
PPO = PPOConfig(updates=3, batch_size=6, epochs=2, learning_rate=1e-2, max_new_tokens=6)
TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
STAGES = ["sft", "reward", "ppo"]


def count_e(prompts, texts):
    return [float(text.count("e")) for text in texts]


def stirred(model):
    """Adapters that do something: B is 0 at the start."""
    draws = torch.Generator().manual_seed(3)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(0, 0.1, generator=draws)
    return model


def batch(tokenizer):
    return Sequences.of_text(tokenizer, [(d.prompt.text, d.response) for d in SHOWN[:4]])


def read(policy, tokenizer):
    return in_batches(lambda m, b: response_logprobs(m, b)[0], policy, batch(tokenizer))


def moved(before, model):
    return {n for n, p in model.named_parameters() if not torch.equal(before[n], p)}


def weights(model):
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def steps_of(stage, model, tokenizer, kept=None, **changes):
    """A stage on `model`, which for the reward model is a scalar one."""
    if stage == "sft":
        return train_sft(
            model, tokenizer, SHOWN, replace(SFTConfig(1, 4, 1e-2), **changes), checkpoint=kept
        )
    if stage == "reward":
        return train_reward(
            model, tokenizer, RANKED, replace(RewardConfig(1, 4, 1e-2), **changes), checkpoint=kept
        )
    scorer = ScalarModel.from_policy(without_lora(model), 1).requires_grad_(False).to(model.dtype)
    return train_ppo(model, scorer, tokenizer, PROMPTS, replace(PPO, **changes), checkpoint=kept)


def model_of(stage, policy):
    return ScalarModel.from_policy(policy, 0) if stage == "reward" else policy


# ---- LoRA ----------------------------------------------------------------------------------------


def test_at_the_start_adapters_change_nothing(policy, tokenizer):
    before = policy(TOKENS).logits.detach()
    scorer = ScalarModel.from_policy(policy, 0)
    score = scorer(TOKENS, torch.ones_like(TOKENS)).detach()
    add_lora(policy, 4), add_lora(scorer, 4)
    assert has_lora(policy) and has_lora(scorer)
    assert torch.equal(policy(TOKENS).logits, before)
    assert torch.equal(scorer(TOKENS, torch.ones_like(TOKENS)), score)


def test_an_adapter_is_alpha_over_rank_times_b_a(llama):
    layer = llama.model.layers[0].mlp.up_proj
    weight, x = layer.weight.detach().clone(), torch.randn(3, 32)
    stirred(add_lora(llama, 4, alpha=10))
    layer = llama.model.layers[0].mlp.up_proj
    B, A = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    assert A.shape == (4, 32) and B.shape == (48, 4)
    torch.testing.assert_close(layer(x), x @ (weight + 2.5 * B @ A).T, atol=1e-5, rtol=1e-5)


def test_every_matrix_of_the_layers_has_one_and_nothing_else(policy):
    add_lora(policy, 2)
    names = {n.rsplit(".lora_A", 1)[0] for n, _ in policy.named_parameters() if "lora_A" in n}
    wanted = {
        n
        for n, m in without_lora(policy).base_model.named_modules()
        if type(m).__name__ in ("Linear", "Conv1D")
    }
    assert {n.removeprefix(policy.base_model_prefix + ".") for n in names} == wanted
    assert all(("lora_" in n) == p.requires_grad for n, p in policy.named_parameters())


def test_adapters_hang_on_their_seed_alone(make_gpt2, tokenizer):
    first, second, third = (make_gpt2(tokenizer) for _ in range(3))
    add_lora(first, 2, seed=5)
    torch.rand(7)  # something else draws in between
    state = torch.get_rng_state()
    add_lora(second, 2, seed=5), add_lora(third, 2, seed=6)
    assert torch.equal(torch.get_rng_state(), state)  # and is not disturbed
    one, other, unlike = (parallel.checksum(m.parameters()) for m in (first, second, third))
    assert one == other != unlike


def test_reference_is_the_frozen_original_also_after_training(policy, tokenizer):
    original = frozen_copy(policy)
    add_lora(policy, 4)
    reference = frozen_copy(policy)
    own = {id(p) for p in reference.parameters()}
    assert own <= {id(p) for p in policy.parameters()}  # the same weights, not a copy
    assert torch.equal(read(reference, tokenizer), read(original, tokenizer))
    *_, record = train_ppo(policy, count_e, tokenizer, PROMPTS, PPO, reference=reference)
    assert record["objective/kl"] != 0
    assert torch.equal(read(reference, tokenizer), read(original, tokenizer))
    assert (read(policy, tokenizer) - read(original, tokenizer)).abs().max() > 1e-3


def test_reference_of_adapters_that_have_learned_is_what_they_give_now(policy, tokenizer):
    add_lora(policy, 4)
    for _ in steps_of("sft", policy, tokenizer):
        pass
    before = read(policy, tokenizer)
    reference = frozen_copy(policy)
    torch.testing.assert_close(read(reference, tokenizer), before, atol=1e-4, rtol=1e-4)
    first, *_, last = train_ppo(policy, count_e, tokenizer, PROMPTS, PPO)
    assert first["objective/kl"] == pytest.approx(0, abs=1e-3) != last["objective/kl"]
    assert all(p.requires_grad == ("lora_" in n) for n, p in policy.named_parameters())
    torch.testing.assert_close(read(reference, tokenizer), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_only_adapters_and_head_are_trained(stage, policy, tokenizer):
    model = add_lora(model_of(stage, policy), 4)
    before = weights(model)
    for _ in steps_of(stage, model, tokenizer):
        pass
    changed = moved(before, model) - {
        "head.bias"
    }  # adds to all scores alike, so it has no gradient
    assert changed == {n for n in before if "lora_" in n or n == "head.weight"}
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_value_network_trains_its_own_adapters_on_the_reward_models_weights(policy, tokenizer):
    scorer = ScalarModel.from_policy(policy, 1).requires_grad_(False)
    before = weights(scorer)
    add_lora(policy, 4, alpha=8)
    value = new_value_model(policy, scorer, PPO.seed)
    still = {id(p) for p in value.parameters() if not p.requires_grad}
    assert still == {id(p) for p in scorer.backbone.parameters()}
    assert {n for n, p in value.named_parameters() if p.requires_grad and "lora_" not in n} == {
        "head.weight",
        "head.bias",
    }
    assert value.backbone.peft_config["default"].r == 4
    data = batch(tokenizer)
    plain = in_batches(response_values, scorer, data)
    assert torch.equal(in_batches(response_values, value, data), plain)
    for _ in train_ppo(policy, scorer, tokenizer, PROMPTS, PPO, value_model=value):
        pass
    assert not moved(before, scorer)
    assert not torch.equal(in_batches(response_values, value, data), plain)


def test_a_value_network_from_the_policy_has_its_adapters_apart(gpt2):
    stirred(add_lora(gpt2, 2))
    value = new_value_model(gpt2, count_e, PPO.seed)
    trained = {id(p) for p in value.parameters() if p.requires_grad}
    assert trained and not trained & {id(p) for p in gpt2.parameters()}
    assert {id(p) for p in value.parameters()} - trained <= {id(p) for p in gpt2.parameters()}
    pairs = zip(value.backbone.parameters(), gpt2.transformer.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)


def test_a_reward_model_with_adapters_is_copied_as_what_it_gives(gpt2, tokenizer):
    scorer = stirred(add_lora(ScalarModel.from_policy(gpt2, 1), 4))
    twin = trainable_copy(scorer, like=gpt2)
    assert all(p.requires_grad for p in twin.parameters()) and not has_lora(twin)
    one, other = (in_batches(response_scores, m, batch(tokenizer)) for m in (twin, scorer))
    torch.testing.assert_close(one, other)


def test_merged_gives_the_same_numbers_and_leaves_the_model_as_it_was(policy):
    stirred(add_lora(policy, 4))
    before, logits = weights(policy), policy(TOKENS).logits.detach()
    plain = merged(policy)
    assert not has_lora(plain) and type(plain) is type(policy)
    torch.testing.assert_close(plain(TOKENS).logits, logits, atol=1e-4, rtol=1e-4)
    assert not moved(before, policy) and has_lora(policy)
    assert merged(plain) is plain and without_lora(plain) is plain


@pytest.mark.parametrize("half", [False, True])
def test_saved_folder_is_plain_and_has_the_adapter_beside_it(policy, tokenizer, tmp_path, half):
    save_policy(policy, tokenizer, tmp_path / "base")
    adapted = stirred(add_lora(load_policy(tmp_path / "base"), 4))
    save_policy(adapted, tokenizer, tmp_path / "p", half=half)
    logits = adapted(TOKENS).logits.detach()
    close = dict(atol=5e-2, rtol=5e-2) if half else dict(atol=1e-4, rtol=1e-4)
    for plain in (
        load_policy(tmp_path / "p"),
        AutoModelForCausalLM.from_pretrained(tmp_path / "p"),
    ):
        torch.testing.assert_close(plain(TOKENS).logits.float(), logits, **close)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    by_peft = PeftModel.from_pretrained(base, tmp_path / "p" / "adapter")
    torch.testing.assert_close(by_peft(input_ids=TOKENS).logits, logits, atol=1e-4, rtol=1e-4)
    suffixes = {f.suffix for f in (tmp_path / "p").rglob("*") if f.is_file()}
    assert suffixes <= {".json", ".safetensors", ".md"}


def test_a_reward_models_folder_has_its_adapters_merged(policy, tokenizer, tmp_path):
    scorer = stirred(add_lora(ScalarModel.from_policy(policy, 0), 4))
    scorer.normalise(0.3, 2.0)
    scorer.save(tmp_path / "rm", tokenizer)
    data = batch(tokenizer)
    wanted = in_batches(response_scores, scorer, data)
    close = dict(atol=1e-4, rtol=1e-4)
    ours = in_batches(response_scores, ScalarModel.load(tmp_path / "rm"), data)
    torch.testing.assert_close(ours, wanted, **close)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    scores = plain(input_ids=data.tokens, attention_mask=data.attention).logits[:, 0].detach()
    torch.testing.assert_close(scores + plain.config.reward_bias, wanted, **close)


def test_both_samplers_read_adapters(make_gpt2, tokenizer, monkeypatch):
    gpt2 = stirred(add_lora(make_gpt2(tokenizer), 4))
    prompts, seeds = [tokenizer.encode(p.text) for p in PROMPTS], list(range(len(PROMPTS)))
    fast = sample(gpt2, tokenizer, prompts, seeds, SamplingConfig(8))
    monkeypatch.setattr("rlhf_lab.sampling.supports", lambda policy: False)
    slow = sample(gpt2, tokenizer, prompts, seeds, SamplingConfig(8))
    assert torch.equal(fast.tokens, slow.tokens)
    torch.testing.assert_close(fast.logprobs, slow.logprobs, atol=1e-4, rtol=1e-4)
    base = sample(without_lora(gpt2), tokenizer, prompts, seeds, SamplingConfig(8))
    assert base.tokens.shape != fast.tokens.shape or not torch.equal(base.tokens, fast.tokens)


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_holds_what_is_trained_and_resumes(stage, make_llama, tokenizer, tmp_path):
    def fresh():
        return add_lora(model_of(stage, make_llama(tokenizer)), 4, seed=1)

    whole = list(steps_of(stage, fresh(), tokenizer))
    kept = tmp_path / "kept"
    stopped = steps_of(stage, fresh(), tokenizer, Checkpoint(kept, every=1))
    first = [next(stopped), next(stopped)]  # a checkpoint after 1
    stopped.close()
    model = fresh()
    trained = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
    file = kept / ("model.safetensors" if stage == "reward" else "policy.safetensors")
    held = sum(p.numel() * 4 for p in model.parameters())
    assert trained < file.stat().st_size < trained + 20_000 < held
    if stage == "ppo":
        assert (kept / "reference.safetensors").stat().st_size < 1000
    rest = list(steps_of(stage, model, tokenizer, Checkpoint(kept, every=1)))
    assert first[:1] + rest == whole
    other = add_lora(model_of(stage, make_llama(tokenizer, initializer_range=0.2)), 4, seed=1)
    assert "other weights" in refusal(next, steps_of(stage, other, tokenizer, Checkpoint(kept)))


@pytest.mark.parametrize("rank, words", [(0, "at least 1"), (-3, "at least 1")])
def test_a_rank_that_cannot_be(gpt2, rank, words):
    assert words in refusal(add_lora, gpt2, rank)


def test_adapters_that_would_not_act_are_refused(gpt2):
    assert "lora_alpha is 0" in refusal(add_lora, gpt2, 2, 0.0)


def test_no_adapters_on_adapters(gpt2):
    assert "already" in refusal(add_lora, add_lora(gpt2, 2), 2)


def test_without_peft_one_line_says_how_to_get_it(gpt2, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert "pip install" in refusal(add_lora, gpt2, 2)
    assert prepare(gpt2, MemoryConfig()) is gpt2  # who wants no adapters needs no peft


# ---- gradients that must not change --------------------------------------------------------------


def gradients(stage, model, tokenizer, monkeypatch, **changes):
    """Those of the first step, in float64, as they stand before clipping."""
    found = []

    def seen(parameters):
        found.append([None if p.grad is None else p.grad.clone() for p in parameters])

    monkeypatch.setattr(parallel, "sum_gradients", seen)
    next(steps_of(stage, model, tokenizer, **changes))
    return found[0]


def assert_same(first, second):
    assert (
        len(first) == len(second)
        and max(float(x.abs().max()) for x in first if x is not None) > 1e-6
    )
    for a, b in zip(first, second):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("lora", [0, 3])
@pytest.mark.parametrize("stage", STAGES)
def test_micro_batches_do_not_change_the_gradient(stage, lora, policy, tokenizer, monkeypatch):
    model = prepare(model_of(stage, policy), MemoryConfig(lora=lora)).double()
    one, many = copy.deepcopy(model), copy.deepcopy(model)
    assert_same(
        gradients(stage, stirred(one), tokenizer, monkeypatch, max_tokens=10_000),
        gradients(stage, stirred(many), tokenizer, monkeypatch, max_tokens=30),
    )


@pytest.mark.parametrize("lora", [0, 3])
@pytest.mark.parametrize("stage", STAGES)
def test_checkpointing_does_not_change_the_gradient(stage, lora, policy, tokenizer, monkeypatch):
    model = prepare(model_of(stage, policy), MemoryConfig(lora=lora)).double()
    kept, again = stirred(copy.deepcopy(model)), stirred(recompute_layers(copy.deepcopy(model)))
    assert_same(*(gradients(stage, m, tokenizer, monkeypatch) for m in (kept, again)))


def test_a_checkpointed_layer_runs_twice(policy, tokenizer):
    recompute_layers(policy)
    calls, layer = [], next(m for m in policy.modules() if recomputed(m))
    norm = next(m for m in layer.children() if "Norm" in type(m).__name__)
    norm.register_forward_hook(lambda *_: calls.append(1))
    projects(policy)  # what is tried of a new model, once, is not counted
    calls.clear()
    logprobs, _ = response_logprobs(policy, batch(tokenizer))
    assert len(calls) == 1
    logprobs.sum().backward()
    assert len(calls) == 2 and not layer.training


def test_copies_are_checkpointed_as_the_policy_is(gpt2):
    scorer = ScalarModel.from_policy(gpt2, 0).requires_grad_(False)
    recompute_layers(gpt2)
    assert any(map(recomputed, new_value_model(gpt2, scorer, PPO.seed).modules()))
    assert not any(map(recomputed, scorer.modules()))


def test_a_model_without_layers_that_can_be_checkpointed():
    assert "checkpointed" in refusal(recompute_layers, torch.nn.Linear(2, 2))
