"""A folder of LoRA adapters named as a model: what peft leaves after training, read and merged."""

import json
import sys

import pytest
import torch
from helpers import END, PAD, byte_level, refusal
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from rlhf_lab.cli import main
from rlhf_lab.disk.storage import fingerprint, read_context, read_tokenizer
from rlhf_lab.engine.adapters import add_lora, has_lora
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy
from rlhf_lab.records import Demonstration, Prompt
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.text import pad_right

peft = pytest.importorskip("peft")
TOKENS = torch.tensor([[5, 6, 7, 8]])
close = dict(atol=1e-5, rtol=1e-5)


@pytest.fixture
def base(policy, tokenizer, tmp_path):
    """A whole model in a folder."""
    save_policy(policy, tokenizer, tmp_path / "base")
    return tmp_path / "base"


def trained(model, folder, **settings):
    """Adapters that have learned something, written by peft itself; the adapted model."""
    config = peft.LoraConfig(r=2, target_modules="all-linear", **settings)
    adapted = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for name, x in adapted.named_parameters():
        if x.requires_grad:
            noise = 0.1 * torch.randn(x.shape, generator=generator)
            x.data.add_(noise) if "lora_A" not in name else None
    adapted.eval().save_pretrained(folder)
    return adapted


def rewrite(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture
def adapters(base, tmp_path):
    """The adapters of a policy, without a tokenizer, and the logits of the model with them."""
    model = load_policy(base)
    model.name_or_path = str(base)
    with torch.no_grad():
        logits = trained(model, tmp_path / "lora", task_type="CAUSAL_LM")(TOKENS).logits
    rewrite(tmp_path / "lora", base_model_name_or_path=str(base))
    return tmp_path / "lora", logits


def test_a_policy_comes_out_merged(adapters, base):
    folder, logits = adapters
    loaded = load_policy(folder)
    torch.testing.assert_close(loaded(TOKENS).logits, logits, **close)
    assert (logits - load_policy(base)(TOKENS).logits).abs().max() > 0.1
    assert type(loaded) is type(load_policy(base)) and not has_lora(loaded)
    assert load_tokenizer(folder).get_vocab() == load_tokenizer(base).get_vocab()
    assert read_context(folder) == read_context(base) == 64


def test_it_is_trained_and_saved_as_any_other(adapters, tmp_path):
    folder, logits = adapters
    loaded, words = load_policy(folder), load_tokenizer(folder)
    assert all(weight.requires_grad for weight in loaded.parameters())
    shown = [Demonstration(Prompt("0", "a:"), "yes")]
    assert list(train_sft(loaded, words, shown, SFTConfig(epochs=1, learning_rate=1e-2, warmup=0)))
    save_policy(loaded, words, tmp_path / "trained")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "trained")
    torch.testing.assert_close(plain(TOKENS).logits, loaded(TOKENS).logits, **close)
    assert (plain(TOKENS).logits - logits).abs().max() > 0.01


def test_it_can_be_sampled_by_command_line_from_where_the_base_is(adapters, base, monkeypatch):
    folder, _ = adapters
    rewrite(folder, base_model_name_or_path="base")  # as seen from the working directory
    monkeypatch.chdir(base.parent)
    out = base.parent / "s.jsonl"
    words = ["sample", "--prompt", "a", "--max-new-tokens", "4", "--device", "cpu"]
    assert main([*words, "--model", "lora", "--out", str(out)]) == 0
    assert out.read_text()


def test_the_fingerprint_is_of_both(adapters, base):
    folder, _ = adapters
    first = fingerprint(folder)
    assert first not in ("", fingerprint(base))
    weights = load_policy(base)
    with torch.no_grad():
        weights.get_input_embeddings().weight[0, 0] += 1
    save_policy(weights, load_tokenizer(base), base)
    second = fingerprint(folder)
    trained(load_policy(base), folder, init_lora_weights="gaussian")
    rewrite(folder, base_model_name_or_path=str(base))
    assert len({first, second, fingerprint(folder)}) == 3


def test_what_was_trained_beside_them_counts(base, tmp_path):
    model = load_policy(base)
    name = next(n for n, m in model.named_modules() if m is model.get_input_embeddings())
    adapted = trained(model, tmp_path / "lora", modules_to_save=[name.split(".")[-1]])
    rewrite(tmp_path / "lora", base_model_name_or_path=str(base))
    torch.testing.assert_close(
        load_policy(tmp_path / "lora")(TOKENS).logits, adapted(TOKENS).logits, **close
    )


@pytest.mark.parametrize("beside", [True, False])
def test_tokens_that_were_added_before_the_training_have_their_rows(base, tmp_path, beside):
    model = load_policy(base)
    model.resize_token_embeddings(260, mean_resizing=False)
    name = next(n for n, m in model.named_modules() if m is model.get_input_embeddings())
    more = {"modules_to_save": [name.split(".")[-1], "lm_head"]} if beside else {}
    adapted = trained(model, tmp_path / "lora", **more)
    rewrite(tmp_path / "lora", base_model_name_or_path=str(base))
    more = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(END, PAD, "<a>", "<b>"), eos_token=END, pad_token=PAD
    )
    more.save_pretrained(tmp_path / "lora")
    loaded = load_policy(tmp_path / "lora")
    assert "<b>" in read_tokenizer(tmp_path / "lora").get_vocab()
    tokens = torch.tensor([[5, 258, 259]])
    torch.testing.assert_close(loaded(tokens).logits, adapted(tokens).logits, **close)


def test_a_reward_model_comes_out_with_its_head(base, tmp_path):
    classifier = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).eval()
    classifier.config.pad_token_id = 257
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")
    adapted = peft.get_peft_model(classifier, config).eval()
    adapted.save_pretrained(tmp_path / "lora")
    rewrite(tmp_path / "lora", base_model_name_or_path=str(base))
    tokens, attention = pad_right([[1, 2, 3], [4, 5, 6, 7]], 257)
    with torch.no_grad():
        wanted = adapted(input_ids=tokens, attention_mask=attention).logits[:, 0]
        found = ScalarModel.load(tmp_path / "lora").score(tokens, attention)
    torch.testing.assert_close(found, wanted, **close)
    assert "are a reward model's" in refusal(load_policy, tmp_path / "lora")


def test_the_labs_own_adapters_are_read_so(policy, base, tokenizer, tmp_path):
    model = load_policy(base)
    add_lora(model, rank=2)
    with torch.no_grad():
        for name, x in model.named_parameters():
            x.add_(0.1) if "lora_B" in name else None
    save_policy(model, tokenizer, tmp_path / "trained")
    loaded = load_policy(tmp_path / "trained/adapter")
    torch.testing.assert_close(loaded(TOKENS).logits, model(TOKENS).logits, **close)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_model_name_or_path": "/nowhere/base"}, "no folder '/nowhere/base'"),
        ({"base_model_name_or_path": "some/model"}, "'some/model'"),
        ({"base_model_name_or_path": None}, "do not name their base model"),
        ({"peft_type": "LOHA"}, "kind of adapter is not supported"),
        ({"init_lora_weights": "pissa"}, "kind of adapter is not supported"),
        ({"corda_config": {"cache_file": "x"}}, r"not supported (corda_config)"),
        ({"megatron_config": {"a": 1}}, r"not supported (megatron_config)"),
        ({"layer_replication": [[0, 1]]}, r"not supported (layer_replication)"),
        ({"r": 3}, "the adapters do not fit the model"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(adapters, changes, said):
    folder, _ = adapters
    rewrite(folder, **changes)
    message = refusal(load_policy, folder)
    assert said in message and "LoRA adapters" in message
    if "base_model_name_or_path" not in changes or changes["base_model_name_or_path"]:
        assert "merge_and_unload" in message


def test_adapters_of_another_model_are_named(adapters, make_gpt2, make_llama, tokenizer, base):
    folder, _ = adapters
    kind = load_policy(base).config.model_type
    other = make_llama(tokenizer) if kind == "gpt2" else make_gpt2(tokenizer)
    save_policy(other, tokenizer, base)
    assert "holds LoRA adapters of" in refusal(load_policy, folder)


def test_adapters_on_adapters_are_refused(adapters):
    folder, _ = adapters
    rewrite(folder, base_model_name_or_path=str(folder))  # and without end, too
    assert "which itself holds only adapters" in refusal(load_policy, folder)
    assert "which itself holds only adapters" in refusal(read_context, folder)


def test_nothing_is_unpickled(adapters):
    folder, _ = adapters
    (folder / "adapter_model.safetensors").unlink()
    torch.save({}, folder / "adapter_model.bin")
    assert "only safetensors are loaded" in refusal(load_policy, folder)


def test_without_peft_it_is_named(adapters, monkeypatch):
    folder, _ = adapters
    monkeypatch.setitem(sys.modules, "peft", None)
    message = refusal(load_policy, folder)
    assert "needs the package peft" in message and "merge_and_unload" in message


def test_a_policys_adapters_are_no_reward_model(adapters):
    folder, _ = adapters
    assert "its weights lack score.weight" in refusal(ScalarModel.load, folder)
