"""docs/model-families.md says what runs: each row is held to a small random model of that family.

The weights are large, so that a mistake shows; real models start at 0.02.
"""

import gc
import re
import weakref
from pathlib import Path

import pytest
import torch
import transformers
from helpers import refusal
from packaging.version import Version
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from rlhf_lab import checks, sampling
from rlhf_lab.checks import check_model
from rlhf_lab.disk.storage import HEAD_FILE, fingerprint, read_context
from rlhf_lab.engine import trial
from rlhf_lab.engine.adapters import add_lora
from rlhf_lab.engine.packed import headless
from rlhf_lab.engine.trial import projects, width_of
from rlhf_lab.evaluate import respond
from rlhf_lab.models import Ensemble, ScalarModel, load_policy, new_value_model, save_policy
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig, train_reward
from rlhf_lab.sampling import SamplingConfig, decoder_of, sample
from rlhf_lab.sequences import Sequences, check_fits, response_logits
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.text import pad_left, pad_right

PAGE = Path(__file__).parents[1].joinpath("docs/model-families.md").read_text("utf-8")
TABLE = {
    row[0]: row[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for row in [[cell.strip(" `") for cell in line.strip("|").split("|")]]
}
DECODERS = {"own": "GPT2Decoder", "cache": "LibraryDecoder", "no cache": "WholeDecoder"}

VOCABULARY = 258  # the byte-level tokenizer's
ENDS = dict(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=256, pad_token_id=257)
ENDS |= dict(initializer_range=0.3)
SHORT = ENDS | dict(n_embd=32, n_layer=2, n_head=4, n_positions=128)
PLAIN = ENDS | dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
PLAIN |= dict(intermediate_size=64, num_key_value_heads=2, max_position_embeddings=128)
LLAMA = PLAIN | dict(head_dim=8)
LINEAR = dict(layer_types=["linear_attention", "full_attention"], linear_num_value_heads=4)
LINEAR |= dict(linear_num_key_heads=2, linear_key_head_dim=8, linear_value_head_dim=8)
MAMBA = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8)
EXPERTS = dict(num_experts=2, num_experts_per_tok=1, moe_intermediate_size=32)
MIXED = dict(sliding_window=16, layer_types=["sliding_attention", "full_attention"])
VISION = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
VISION |= dict(image_size=28, patch_size=14)
OPT = ENDS | dict(hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4)
OPT |= dict(max_position_embeddings=128, init_std=0.3)

SETTINGS = {
    "gpt2": SHORT,
    "llama": LLAMA,
    "mistral": LLAMA | dict(sliding_window=16),
    "mixtral": LLAMA | dict(num_local_experts=2, num_experts_per_tok=1),
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "qwen3_moe": LLAMA | EXPERTS,
    "qwen3_next": LLAMA | LINEAR | EXPERTS | dict(shared_expert_intermediate_size=32),
    "qwen3_5_text": LLAMA | LINEAR,
    "gemma": LLAMA,
    "gemma2": LLAMA | dict(sliding_window=16, final_logit_softcapping=5.0),
    "gemma3": dict(text_config=LLAMA | dict(sliding_window=16), vision_config=VISION)
    | {name: ENDS[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
    "gemma4_text": LLAMA
    | MIXED
    | dict(vocab_size_per_layer_input=VOCABULARY, hidden_size_per_layer_input=8)
    | dict(global_head_dim=8, num_kv_shared_layers=0),
    "phi": LLAMA,
    "phi3": LLAMA,
    "gpt_neo": ENDS
    | dict(hidden_size=32, num_layers=2, num_heads=4, window_size=16, max_position_embeddings=128)
    | dict(attention_types=[[["global", "local"], 1]]),
    "gpt_neox": LLAMA,
    "gptj": SHORT | dict(rotary_dim=4),
    "gpt_bigcode": SHORT,
    "gpt_oss": LLAMA | MIXED | dict(num_local_experts=2, num_experts_per_tok=1),
    "openai-gpt": SHORT,
    "opt": OPT | dict(word_embed_proj_dim=32),
    "opt (350m)": OPT | dict(word_embed_proj_dim=16, do_layer_norm_before=False),
    "bloom": ENDS | dict(hidden_size=32, n_layer=2, n_head=4),
    "falcon": ENDS | dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
    "falcon_h1": LLAMA | MAMBA | dict(mamba_d_ssm=64, lm_head_multiplier=0.3),
    "granite": LLAMA | dict(logits_scaling=4.0),
    "granitemoehybrid": LLAMA
    | MAMBA
    | dict(layer_types=["mamba", "attention"], shared_intermediate_size=64)
    | dict(num_local_experts=0, num_experts_per_tok=0),
    "bamba": LLAMA | MAMBA | dict(attn_layer_indices=[1]),
    "cohere": LLAMA,
    "olmo2": LLAMA,
    "olmoe": LLAMA | dict(num_experts=2, num_experts_per_tok=1),
    "ernie4_5": LLAMA,
    "apertus": LLAMA,
    "smollm3": LLAMA,
    "stablelm": LLAMA,
    "starcoder2": LLAMA,
    "deepseek_v3": PLAIN
    | dict(num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=1)
    | dict(topk_group=1, moe_intermediate_size=32, q_lora_rank=16, kv_lora_rank=16)
    | dict(qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8, first_k_dense_replace=1),
    "llama4_text": LLAMA
    | dict(intermediate_size_mlp=64, num_local_experts=2, interleave_moe_layer_step=1)
    | dict(layer_types=["chunked_attention", "full_attention"], attention_chunk_size=64),
    "lfm2": LLAMA | dict(layer_types=["conv", "full_attention"]),
    "mamba": ENDS | dict(hidden_size=32, num_hidden_layers=2, state_size=8),
    "mamba2": ENDS
    | dict(hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=8, n_groups=1)
    | dict(chunk_size=16),
    "jamba": LLAMA
    | dict(num_experts=2, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1)
    | dict(expert_layer_period=2, expert_layer_offset=1, mamba_d_state=8, mamba_dt_rank=4)
    | dict(use_mamba_kernels=False),
    "recurrent_gemma": LLAMA
    | dict(lru_width=32, attention_window_size=16, block_types=["recurrent", "attention"]),
    "rwkv": ENDS | dict(hidden_size=32, num_hidden_layers=2),
    "xlstm": ENDS | dict(hidden_size=32, num_blocks=2, num_heads=4),
    "roberta": PLAIN | dict(is_decoder=True, pad_token_id=1),
}
WITH_PICTURES = dict(depth=1, num_heads=2, out_hidden_size=32, vision_output_dim=16)
WITH_PICTURES |= dict(projector_input_dim=16, projector_output_dim=16)
for whole, text in {
    "gemma4": "gemma4_text",
    "qwen3_5": "qwen3_5_text",
    "llama4": "llama4_text",
}.items():
    parts = dict(text_config=SETTINGS[text], vision_config=VISION | WITH_PICTURES)
    SETTINGS[whole] = parts | {"audio_config": None}
# Older versions know fewer families and cache others.
TESTED_WITH = re.search(r"transformers (5\.\d+)", PAGE)
newer = pytest.mark.skipif(
    Version(transformers.__version__) < Version(TESTED_WITH[1]), reason="an older transformers"
)
RUN = [name for name, (runs, *_) in TABLE.items() if runs == "yes"]

PROMPTS = [Prompt(str(i), text) for i, text in enumerate(["a long one, over 16:", "b:", "why:"])]
SHOWN = [Demonstration(prompt, "yes") for prompt in PROMPTS]
RANKED = [Ranking(prompt, ("good", "bad"), (1, 2)) for prompt in PROMPTS]
ROWS = [[7, 3], [1, 2, 3, 4, 5, 6, 8], [60, 61, 62]]
exact = dict(atol=1e-4, rtol=1e-4)


def made(name: str):
    """A random model of a family, as transformers makes it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(name.split(" ")[0], **SETTINGS[name])
    return AutoModelForCausalLM.from_config(config).eval()


def weights_of(model):
    return {name: x.detach().clone() for name, x in model.named_parameters()}


# ---- the table -----------------------------------------------------------------------------------


def test_every_family_of_the_page_is_built_here():
    assert set(TABLE) == set(SETTINGS)
    assert {runs for runs, *_ in TABLE.values()} == {"yes", "no"}


@newer
@pytest.mark.parametrize("name", RUN)
def test_a_family_that_runs(name, tokenizer, tmp_path):
    policy, (_, sampled, stored, note) = made(name), TABLE[name]
    check_model(policy, tokenizer)
    assert decoder_of(policy).__name__ == DECODERS[sampled]
    assert projects(policy) == ("own way with logits" not in note)

    # What is sampled has the log-probabilities of a plain forward pass over the row alone.
    prompts = [list(prompt.text.encode()) for prompt in PROMPTS] * 2
    drawn = sample(policy, tokenizer, prompts, list(range(6)), SamplingConfig(12), batch_size=4)
    P = drawn.prompt_length
    for row, prompt in enumerate(prompts):
        response = drawn.tokens[row, P:][drawn.mask[row]].tolist()
        with torch.no_grad():
            logits = policy(input_ids=torch.tensor([prompt + response])).logits[0]
        wanted = logits[len(prompt) - 1 : -1].log_softmax(-1)
        wanted = wanted.gather(1, torch.tensor(response)[:, None])[:, 0]
        torch.testing.assert_close(drawn.logprobs[row][drawn.mask[row]], wanted, **exact)

    # A reward model is saved as the page says, and scores as it did once it is read again.
    scorer = ScalarModel.from_policy(policy, seed=0)
    scorer.normalise(0.3, 0.5)
    check_model(scorer, tokenizer, to_save=True)
    scorer.save(tmp_path / "reward", tokenizer)
    assert (tmp_path / "reward" / HEAD_FILE).exists() == (stored == "trunk and head")
    batch = pad_right(ROWS, 257)
    with torch.no_grad():
        scores = scorer.score(*batch)
        torch.testing.assert_close(
            ScalarModel.load(tmp_path / "reward").score(*batch), scores, **exact
        )
        if stored == "classifier":
            plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
            theirs = plain(input_ids=batch[0], attention_mask=batch[1]).logits[:, 0]
            torch.testing.assert_close(theirs + plain.config.reward_bias, scores, **exact)

    # Every stage makes an update.
    before = weights_of(policy)
    (record,) = train_sft(policy, tokenizer, SHOWN, SFTConfig(1, 8, learning_rate=1e-3, warmup=0))
    assert record["loss/sft"] > 0 and record["grad_norm"] > 0
    config = PPOConfig(updates=1, batch_size=4, epochs=1, max_new_tokens=4)
    (record,) = train_ppo(policy, scorer, tokenizer, PROMPTS, config)
    assert record["val/log_ratio_first"] < 1e-4
    assert record["objective/kl"] == pytest.approx(0, abs=1e-3)
    assert any(not torch.equal(x, before[name]) for name, x in policy.named_parameters())


@pytest.mark.parametrize("name", [name for name in TABLE if name not in RUN])
def test_a_family_that_does_not_run_is_refused_in_a_line_before_any_training(name, tokenizer):
    policy, (*_, note) = made(name), TABLE[name]
    before = weights_of(policy)

    def everything():
        next(train_sft(policy, tokenizer, SHOWN))
        next(train_reward(ScalarModel.from_policy(policy, seed=0), tokenizer, RANKED))

    message = refusal(everything)
    assert note in message and type(headless(policy)).__name__[:4] in message
    assert all(torch.equal(x, before[name]) for name, x in policy.named_parameters())


# ---- what the page promises ----------------------------------------------------------------------


def stages(policy, tokenizer):
    """Each stage, begun with a policy."""
    from rlhf_lab.alternatives.dpo import train_dpo
    from rlhf_lab.alternatives.grpo import train_grpo
    from rlhf_lab.alternatives.rloo import train_rloo

    def count_e(prompts, texts):
        return [float(text.count("e")) for text in texts]

    return [
        lambda: next(train_sft(policy, tokenizer, SHOWN)),
        lambda: next(train_reward(ScalarModel.from_policy(policy, 0), tokenizer, RANKED)),
        lambda: next(train_ppo(policy, count_e, tokenizer, PROMPTS)),
        lambda: next(train_dpo(policy, tokenizer, RANKED)),
        lambda: next(train_rloo(policy, count_e, tokenizer, PROMPTS)),
        lambda: next(train_grpo(policy, count_e, tokenizer, PROMPTS)),
        lambda: respond(policy, tokenizer, PROMPTS),
    ]


@pytest.mark.parametrize("stage", range(7))
def test_every_stage_asks_first(stage, tokenizer):
    assert "padding before a row" in refusal(stages(made("rwkv"), tokenizer)[stage])


def test_a_reward_model_is_asked_too(gpt2, tokenizer):
    scorer = ScalarModel.from_policy(made("rwkv"), seed=0)
    for one in (scorer, Ensemble([scorer], lambda scores: scores.mean(0))):
        message = refusal(lambda one=one: next(train_ppo(gpt2, one, tokenizer, PROMPTS)))
        assert "RwkvModel" in message and "changes its score" in message


def test_a_model_is_asked_once(llama, tokenizer, monkeypatch):
    check_model(llama, tokenizer)
    monkeypatch.setattr(type(llama), "forward", lambda *_, **__: pytest.fail("read again"))
    check_model(llama, tokenizer)


def test_what_was_found_goes_with_the_model(make_llama, tokenizer):
    kept = [trial._projects, sampling._caches, checks._passed]
    llama = make_llama(tokenizer)
    check_model(llama, tokenizer)
    assert all(llama in found for found in kept)
    gone = weakref.ref(llama)
    del llama
    gc.collect()
    assert gone() is None


def test_broken_weights_and_a_pad_token_that_is_not_known_are_named(llama, tokenizer):
    with torch.no_grad():
        llama.lm_head.weight[3] = torch.nan
    assert "logits are not finite" in refusal(check_model, llama, tokenizer)
    llama.resize_token_embeddings(257)
    message = refusal(check_model, llama, tokenizer)
    assert "pad token has id 257" in message and "only 257 embeddings" in message


def test_what_is_no_model_passes(tokenizer):
    check_model(len, tokenizer)


@pytest.mark.parametrize("name", ["llama", "gemma2", "falcon_h1", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_trial_leaves_no_trace_and_says_the_same_of_every_type(name, dtype, tokenizer):
    policy = made(name).to(dtype).train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert projects(policy) == (name in ("llama", "gpt2"))
    if dtype != torch.float64:  # in which transformers' Gemma 2 takes padding for nan
        check_model(policy, tokenizer)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in policy.modules())
    assert all(weight.grad is None for weight in policy.parameters())


@pytest.mark.parametrize("spread", [0.3, 0.002])
def test_a_cap_shows_however_small_the_logits_are(spread):
    """A cap of 30 leaves logits of 0.01 alone, and those of the trained model not."""
    settings = SETTINGS["gemma2"] | dict(initializer_range=spread, final_logit_softcapping=30.0)
    torch.manual_seed(0)
    policy = AutoModelForCausalLM.from_config(AutoConfig.for_model("gemma2", **settings)).eval()
    assert not projects(policy)


@pytest.mark.parametrize("name", ["falcon_h1", "recurrent_gemma", "nanochat", "cohere", "granite"])
def test_the_logits_are_the_models_own(name, tokenizer):
    settings = SETTINGS.get(name, LLAMA)
    torch.manual_seed(0)
    policy = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **settings)).eval()
    batch = Sequences.of_tokens([[5, 6, 7], [8]], [[9, 10], [11, 12, 13]], 257)
    for rank in (0, 2):
        if rank and name == "falcon_h1":
            assert "peft has no adapters" in refusal(add_lora, policy, rank)
            continue
        model = add_lora(policy, rank) if rank else policy
        found = response_logits(model, batch)
        own = [model(input_ids=torch.tensor([[5, 6, 7, 9, 10]])).logits[0, 2:4]]
        own += [model(input_ids=torch.tensor([[8, 11, 12, 13]])).logits[0, :3]]
        torch.testing.assert_close(found, torch.cat(own), **exact)
        found.logsumexp(-1).sum().backward()
        assert any(p.grad is not None for p in model.parameters())


def test_the_head_is_as_wide_as_the_state_that_it_reads(tokenizer):
    policy = made("opt (350m)")
    assert policy.config.hidden_size == 32 and width_of(headless(policy)) == 16
    scorer = ScalarModel.from_policy(policy, seed=0)
    value = new_value_model(policy, None, shared=True)
    assert scorer.head.in_features == value.head.in_features == 16


def test_of_a_model_with_a_picture_tower_the_text_part_counts(tokenizer, tmp_path):
    policy = made("gemma3")
    assert not hasattr(policy.config, "max_position_embeddings")
    save_policy(policy, tokenizer, tmp_path / "model")
    assert read_context(tmp_path / "model") == 128
    loaded = load_policy(tmp_path / "model")
    tokens = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(loaded(tokens).logits, policy(tokens).logits, **exact)
    assert loaded.config.get_text_config().pad_token_id == 257
    long = Sequences.of_tokens([[5] * 100], [[6] * 29], 257)
    for model in (loaded, ScalarModel.from_policy(loaded, seed=0)):
        assert "has 129 tokens" in refusal(check_fits, model, long)
    message = refusal(sample, loaded, tokenizer, [[5] * 100], [0], SamplingConfig(29))
    assert "context 128" in message


# ---- a trunk and a head --------------------------------------------------------------------------


@pytest.fixture
def trunk_and_head(tokenizer, tmp_path):
    """A reward model of a family without a classifier class, and its folder."""
    scorer = ScalarModel.from_policy(made("granite"), seed=0)
    scorer.normalise(0.3, 0.5)
    scorer.save(tmp_path / "reward", tokenizer)
    return scorer, tmp_path / "reward"


def test_plain_transformers_loads_the_trunk(trunk_and_head):
    scorer, folder = trunk_and_head
    trunk = AutoModel.from_pretrained(folder)
    tokens = torch.tensor([ROWS[1]])
    states = trunk(input_ids=tokens).last_hidden_state[:, -1]
    theirs = states @ scorer.head.weight[0] + scorer.head.bias
    torch.testing.assert_close(theirs, scorer.score(tokens, torch.ones_like(tokens)), **exact)
    assert {file.suffix for file in folder.iterdir()} == {".json", ".safetensors"}


def test_it_is_replaced_read_at_half_and_is_no_policy(trunk_and_head, tokenizer):
    scorer, folder = trunk_and_head
    first = fingerprint(folder)
    with torch.no_grad():
        scorer.head.bias.add_(1)
    scorer.save(folder, tokenizer)
    assert fingerprint(folder) != first  # the head is part of the model
    scorer.save(folder, tokenizer, half=True)
    loaded, batch = ScalarModel.load(folder), pad_left(ROWS, 257)
    assert {x.dtype for x in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.score(*batch), scorer.score(*batch), atol=0.02, rtol=0)
    assert "is a reward model, not a" in refusal(load_policy, folder)


def test_adapters_are_merged_into_it(trunk_and_head, tokenizer):
    scorer, folder = trunk_and_head
    add_lora(scorer, rank=2)
    config = RewardConfig(epochs=1, batch_size=4, learning_rate=1e-2)
    assert list(train_reward(scorer, tokenizer, RANKED, config))
    scorer.save(folder, tokenizer)
    batch = pad_right(ROWS, 257)
    torch.testing.assert_close(
        ScalarModel.load(folder).score(*batch), scorer.score(*batch), **exact
    )


def test_a_head_that_does_not_fit_is_named(trunk_and_head, tokenizer):
    _, folder = trunk_and_head
    (folder / HEAD_FILE).write_bytes(b"no safetensors")
    assert "cannot load a reward model" in refusal(ScalarModel.load, folder)


def test_of_what_cannot_be_saved_the_training_does_not_begin(tokenizer):
    bert = AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", **PLAIN, is_decoder=True))
    scorer = ScalarModel.from_policy(bert, seed=0)
    message = refusal(lambda: next(train_reward(scorer, tokenizer, RANKED)))
    assert "a reward model of BertModel cannot be saved" in message


def test_the_page_is_linked_and_its_words_are_known():
    larger = Path(__file__).parents[1].joinpath("docs/larger-models.md").read_text("utf-8")
    assert "(model-families.md)" in larger
    words = {cell for row in TABLE.values() for cell in row[1:3]}
    assert words <= {*DECODERS, "classifier", "trunk and head", ""}
    assert len(RUN) > 30
