import copy
import json
import math
import shutil
from logging import StreamHandler

import pytest
import torch
from helpers import refusal, response_logits
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from rlhf_lab.disk.places import replacing
from rlhf_lab.errors import UserError
from rlhf_lab.models import (
    ScalarModel,
    check_same_words,
    evaluating,
    load_policy,
    load_tokenizer,
    save_policy,
)
from rlhf_lab.text import pad_left, pad_right

ROWS = [[7], [1, 2, 3, 4, 5], [9, 8, 7], [60, 61, 62, 63, 64, 65, 66, 67, 68]]


def logprobs_of_last(policy, tokens, attention, n=1):
    return response_logits(policy, tokens, attention, n).log_softmax(-1)


def same_weights(one, other, tolerance=0.0):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(a.float(), b.float(), rtol=0, atol=tolerance) for a, b in pairs)


# ---- reading log-probabilities -------------------------------------------------------------------


@pytest.mark.parametrize("extra", [0, 5])
def test_padding_on_the_left_changes_no_logprob(policy, extra):
    rows = [row + [42] for row in ROWS]
    tokens, attention = pad_left(rows + [[1] * (len(ROWS[-1]) + 1 + extra)], 257)
    padded = logprobs_of_last(policy, tokens, attention)
    for row, together in zip(rows, padded):
        alone = torch.tensor([row])
        apart = logprobs_of_last(policy, alone, torch.ones_like(alone))[0]
        torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_without_position_ids_the_same_comparison_fails(gpt2):
    tokens, attention = pad_left(ROWS, 257)
    alone = torch.tensor([ROWS[0]])
    apart = gpt2(input_ids=alone).logits[0, -1].log_softmax(-1)
    together = gpt2(input_ids=tokens, attention_mask=attention).logits[0, -1].log_softmax(-1)
    assert (together - apart).abs().max() > 0.5


def test_left_padding_gives_finite_logits_and_gradients(policy):
    tokens, attention = pad_left([[5], [6] * 20], 257)
    logits = response_logits(policy, tokens, attention, 19)
    assert logits.isfinite().all()
    logits.logsumexp(-1).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in policy.parameters())


# ---- loading and saving policies -----------------------------------------------------------------


def test_a_saved_policy_loads_here_and_with_plain_transformers(policy, tokenizer, tmp_path):
    save_policy(policy, tokenizer, tmp_path / "p")
    loaded = load_policy(tmp_path / "p")
    assert same_weights(policy, loaded)
    assert not loaded.training
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "p")
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    torch.testing.assert_close(loaded(tokens).logits, plain(tokens).logits, atol=1e-5, rtol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "p").encode("Hi") == tokenizer.encode("Hi")
    names = {path.suffix for path in (tmp_path / "p").iterdir()}
    assert names == {".json", ".safetensors"}


def test_the_faster_gelu_is_in_memory_only(gpt2, tokenizer, tmp_path):
    save_policy(gpt2, tokenizer, tmp_path / "p")
    loaded = load_policy(tmp_path / "p")
    assert isinstance(loaded.transformer.h[0].mlp.act, torch.nn.GELU)
    save_policy(loaded, tokenizer, tmp_path / "q")
    before, after = (json.loads((tmp_path / x / "config.json").read_text()) for x in "pq")
    assert before == after and after["activation_function"] == "gelu_new"


def test_dropout_is_off_even_in_train_mode(make_gpt2, make_llama, tokenizer, tmp_path):
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    heavy = dict(resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    for model in (make_gpt2(tokenizer, **heavy), make_llama(tokenizer, attention_dropout=0.5)):
        model.train()
        assert not torch.equal(model(tokens).logits, model(tokens).logits)
        save_policy(model, tokenizer, tmp_path / "p")
        loaded = load_policy(tmp_path / "p").train()
        assert torch.equal(loaded(tokens).logits, loaded(tokens).logits)


def test_half_files_are_half_the_size_and_load_as_float32(policy, tokenizer, tmp_path):
    save_policy(policy, tokenizer, tmp_path / "whole")
    save_policy(policy, tokenizer, tmp_path / "half", half=True)
    sizes = [(tmp_path / x / "model.safetensors").stat().st_size for x in ("whole", "half")]
    assert 1.8 < sizes[0] / sizes[1] < 2.0
    assert policy.dtype == torch.float32
    loaded = load_policy(tmp_path / "half")
    assert loaded.dtype == torch.float32
    assert same_weights(loaded, policy, tolerance=1e-3) and not same_weights(loaded, policy)


def test_a_pad_token_is_added_where_there_is_none(make_gpt2, padless_tokenizer, tmp_path):
    model = make_gpt2(padless_tokenizer, pad_token_id=None)
    save_policy(model, padless_tokenizer, tmp_path / "p")
    tokenizer, loaded = load_tokenizer(tmp_path / "p"), load_policy(tmp_path / "p")
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (256, 257)
    assert loaded.config.pad_token_id == 257
    assert loaded.get_input_embeddings().num_embeddings == len(tokenizer) == 258
    assert same_weights(loaded, load_policy(tmp_path / "p"))  # the new row is not drawn at random
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    old, new = model(tokens).logits, loaded(tokens).logits
    torch.testing.assert_close(new[..., :-1], old, atol=1e-5, rtol=1e-5)
    # The mean of all logits: never above the logarithm of the mean of their exponentials.
    torch.testing.assert_close(new[..., -1], old.mean(-1), atol=1e-4, rtol=1e-4)


def test_pad_and_end_tokens_differ(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.eos_token_id, loaded.pad_token_id) == (256, 257)


def test_failing_half_way_leaves_the_old_folder(gpt2, tokenizer, tmp_path, monkeypatch):
    save_policy(gpt2, tokenizer, tmp_path / "p")
    before = {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()}

    def fail(folder):
        raise OSError("disk full")

    monkeypatch.setattr(tokenizer, "save_pretrained", fail)  # after the weights are written
    with torch.no_grad():
        gpt2.transformer.wte.weight.add_(1)
    with pytest.raises(UserError, match="disk full: nothing was changed; free some space"):
        save_policy(gpt2, tokenizer, tmp_path / "p")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_whoever_may_read_the_folder_may_read_its_weights(policy, tokenizer, tmp_path):
    save_policy(policy, tokenizer, tmp_path / "model")
    modes = {path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("name", ["thesis.txt", "metrics.jsonl", ".git"])
def test_a_folder_of_something_else_is_not_replaced_by_a_model(policy, tokenizer, tmp_path, name):
    folder = tmp_path / "model"
    save_policy(policy, tokenizer, folder)
    save_policy(policy, tokenizer, folder)  # a model takes the place of a model
    (folder / name).write_text("years of work")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for save in (
        lambda: save_policy(policy, tokenizer, folder),
        lambda: ScalarModel.from_policy(policy, 0).save(folder, tokenizer),
    ):
        assert f"holds '{name}'" in refusal(save)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "is a file" in refusal(save_policy, policy, tokenizer, folder / name)


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("first", "second"):
        with replacing(tmp_path / "a" / "b") as folder:
            (folder / name).write_text(name)
    assert [path.name for path in (tmp_path / "a").rglob("*")] == ["b", "second"]


def test_no_folder_no_config_no_tokenizer(gpt2, tokenizer, tmp_path):
    with pytest.raises(UserError, match="no folder '.*missing'"):
        load_policy(tmp_path / "missing")
    with pytest.raises(UserError, match="no config.json"):
        load_policy(tmp_path)
    gpt2.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no tokenizer in"):
        load_policy(tmp_path)


def test_a_reward_model_is_no_policy(gpt2, tokenizer, tmp_path):
    ScalarModel.from_policy(gpt2, seed=0).save(tmp_path / "rm", tokenizer)
    with pytest.raises(UserError, match="is a reward model, not a causal language model"):
        load_policy(tmp_path / "rm")
    assert ScalarModel.load(tmp_path / "rm").head.out_features == 1


def test_weights_of_other_sizes_than_the_config_says_are_named_without_a_table(
    gpt2, tokenizer, tmp_path
):
    save_policy(gpt2, tokenizer, tmp_path / "p")
    ScalarModel.from_policy(gpt2, seed=0).save(tmp_path / "r", tokenizer)
    config = json.loads((tmp_path / "p/config.json").read_text())
    (tmp_path / "p/config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    library, heard = logging.get_logger("transformers"), []
    listener = StreamHandler()
    listener.emit = lambda record: heard.append(record.getMessage())
    library.addHandler(listener)
    verbosity = logging.get_verbosity()
    try:
        assert "do not have the sizes in its config.json" in refusal(load_policy, tmp_path / "p")
        assert "a reward model" in refusal(load_policy, tmp_path / "r")
        assert heard == [] and logging.get_verbosity() == verbosity
        AutoModelForCausalLM.from_pretrained(tmp_path / "r")
        assert heard  # what we do not pass on
    finally:
        library.removeHandler(listener)


def test_of_a_run_the_folder_in_it_is_to_be_named(gpt2, tokenizer, tmp_path):
    save_policy(gpt2, tokenizer, tmp_path / "run" / "sft")
    (tmp_path / "run" / "config.json").write_text('{"rlhf_lab_run": 1}')
    for load in (load_policy, load_tokenizer, ScalarModel.load):
        with pytest.raises(
            UserError, match="in '.*run' itself: give one of the folders in it: .*run/sft$"
        ):
            load(tmp_path / "run")


def test_an_unknown_hub_id_says_how_to_get_it():
    for load in (load_policy, load_tokenizer, ScalarModel.load):
        with pytest.raises(UserError, match="unset it and download") as caught:
            load("nobody/no-such-model")
        assert "\n" not in str(caught.value)


def test_weights_that_unpickle_are_refused(gpt2, tokenizer, tmp_path):
    save_policy(gpt2, tokenizer, tmp_path / "p")
    (tmp_path / "p" / "model.safetensors").unlink()
    torch.save(gpt2.state_dict(), tmp_path / "p" / "pytorch_model.bin")
    with pytest.raises(UserError, match="no safetensors file"):
        load_policy(tmp_path / "p")


def test_a_truncated_file_and_another_kind_of_model_are_refused(gpt2, tokenizer, tmp_path):
    save_policy(gpt2, tokenizer, tmp_path / "p")
    shutil.copytree(tmp_path / "p", tmp_path / "q")
    weights = tmp_path / "p" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        load_policy(tmp_path / "p")
    (tmp_path / "q" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match="cannot load a causal language model"):
        load_policy(tmp_path / "q")


# ---- scalar models -------------------------------------------------------------------------------


@pytest.fixture
def scorer(policy) -> ScalarModel:
    scorer = ScalarModel.from_policy(policy, seed=3)
    scorer.normalise(0.4, 0.5)  # so that the bias is not 0
    return scorer


def test_one_number_a_token_from_the_trunk_alone(scorer, policy):
    tokens, attention = pad_right(ROWS, 257)
    assert scorer(tokens, attention).shape == tokens.shape
    assert scorer.backbone.get_output_embeddings() is None
    hidden = policy(tokens[-1:], output_hidden_states=True).hidden_states[-1]
    expected = hidden @ scorer.head.weight[0] + scorer.head.bias
    torch.testing.assert_close(scorer(tokens, attention)[-1:], expected, atol=1e-5, rtol=1e-5)


def test_the_score_is_that_of_the_last_real_token_wherever_the_padding(scorer):
    alone = [scorer(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long)) for row in ROWS]
    expected = torch.stack([values[0, -1] for values in alone])
    longer = ROWS + [[1] * 15]
    for pad in (pad_left, pad_right):
        for rows in (ROWS, longer):
            scores = scorer.score(*pad(rows, 257))[: len(ROWS)]
            torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)


def test_plain_transformers_gives_the_score_less_the_bias(scorer, tokenizer, tmp_path):
    scorer.save(tmp_path / "r", tokenizer)
    tokens, attention = pad_right(ROWS, tokenizer.pad_token_id)
    scores = scorer.score(tokens, attention)
    assert scorer.head.bias.item() == pytest.approx(-0.8)

    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "r").eval()
    assert plain.config.num_labels == 1 and plain.config.pad_token_id == tokenizer.pad_token_id
    assert plain.config.reward_bias == pytest.approx(-0.8)
    theirs = plain(input_ids=tokens, attention_mask=attention).logits.squeeze(1)
    torch.testing.assert_close(theirs + plain.config.reward_bias, scores, atol=1e-5, rtol=0)

    loaded = ScalarModel.load(tmp_path / "r")
    torch.testing.assert_close(loaded.score(tokens, attention), scores, atol=1e-5, rtol=0)
    assert not loaded.training
    loaded.save(tmp_path / "again", tokenizer)
    assert same_weights(ScalarModel.load(tmp_path / "again"), loaded)


def test_a_half_scalar_model_scores_nearly_the_same(scorer, tokenizer, tmp_path):
    scorer.save(tmp_path / "r", tokenizer, half=True)
    loaded = ScalarModel.load(tmp_path / "r")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert same_weights(loaded, scorer, tolerance=2e-3) and not same_weights(loaded, scorer)


def test_normalising_shifts_and_scales(policy):
    model = ScalarModel.from_policy(policy, seed=0)
    tokens, attention = pad_right(ROWS, 257)
    with torch.no_grad():
        before = model.score(tokens, attention)
        weight = model.head.weight.clone()
        model.normalise(-3.2, 1.6)
        after = model.score(tokens, attention)
    torch.testing.assert_close(model.head.weight, 0.625 * weight)
    assert model.head.bias.item() == pytest.approx(2.0)
    torch.testing.assert_close(after, (before + 3.2) / 1.6, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        mean, sd = after.mean().item(), after.std().item()
        model.normalise(mean, sd)  # a second time, from a bias that is not 0
        scores = model.score(tokens, attention)
    assert scores.mean().item() == pytest.approx(0, abs=1e-5)
    assert scores.std().item() == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match="give unequal ones"):
        model.normalise(0.0, 0.0)


def test_heads_start_random_by_seed_or_at_zero(gpt2):
    heads = [ScalarModel.from_policy(gpt2, seed).head for seed in range(100)]
    weights = torch.stack([head.weight for head in heads])
    assert weights.std().item() == pytest.approx(1 / math.sqrt(33), rel=0.05)
    assert weights.mean().item() == pytest.approx(0, abs=0.02)
    assert all(head.bias.item() == 0 for head in heads)
    assert torch.equal(ScalarModel.from_policy(gpt2, 5).head.weight, heads[5].weight)
    zero = ScalarModel.from_policy(gpt2, 5, zero_head=True)
    assert torch.equal(zero(*pad_right(ROWS, 257)), torch.zeros(4, 9))


def test_the_trunk_is_a_copy(policy):
    before = copy.deepcopy(policy)
    model = ScalarModel.from_policy(policy, seed=0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    assert same_weights(policy, before)


def test_a_policy_is_no_reward_model(gpt2, tokenizer, tmp_path):
    save_policy(gpt2, tokenizer, tmp_path / "p")
    with pytest.raises(
        UserError, match="not a complete reward model: its weights lack score.weight"
    ):
        ScalarModel.load(tmp_path / "p")


def test_a_classifier_with_two_labels_is_no_reward_model(gpt2, tokenizer, tmp_path):
    gpt2.config.num_labels = 2
    model = AutoModelForSequenceClassification.from_config(gpt2.config)
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="one score"):
        ScalarModel.load(tmp_path)


def test_a_reward_model_gets_a_row_for_the_pad_token_that_its_tokenizer_lacked(
    make_llama, padless_tokenizer, tmp_path
):
    """As other libraries write them: the end token stands in for the pad token."""
    config = make_llama(padless_tokenizer).config
    config.num_labels = 1
    classifier = AutoModelForSequenceClassification.from_config(config).eval()
    classifier.save_pretrained(tmp_path / "theirs")
    padless_tokenizer.save_pretrained(tmp_path / "theirs")
    loaded, tokenizer = ScalarModel.load(tmp_path / "theirs"), load_tokenizer(tmp_path / "theirs")
    pad = tokenizer.pad_token_id
    assert pad == 257 == config.vocab_size
    tokens, attention = pad_right(ROWS, pad)
    scores = loaded.score(tokens, attention)
    for row, score in zip(ROWS, scores):
        states = classifier.model(torch.tensor([row])).last_hidden_state
        torch.testing.assert_close(score, classifier.score(states[0, -1])[0], atol=1e-5, rtol=0)
    loaded.save(tmp_path / "ours", tokenizer)
    again = ScalarModel.load(tmp_path / "ours").score(tokens, attention)
    torch.testing.assert_close(again, scores, atol=1e-6, rtol=0)


def test_a_policy_and_its_reward_model_may_differ_in_the_pad_token_alone(
    gpt2, tokenizer, padless_tokenizer, tmp_path
):
    tokenizer.save_pretrained(tmp_path / "policy")
    padless_tokenizer.save_pretrained(tmp_path / "reward")
    check_same_words(tmp_path / "policy", tmp_path / "reward")
    padless_tokenizer.add_tokens(["word"])
    padless_tokenizer.save_pretrained(tmp_path / "other")
    message = refusal(check_same_words, tmp_path / "policy", tmp_path / "other")
    assert "use different tokenizers" in message


def test_evaluating_puts_every_module_back(gpt2):
    gpt2.train()
    gpt2.transformer.h[0].eval()
    before = [module.training for module in gpt2.modules()]
    with pytest.raises(RuntimeError), evaluating(gpt2):
        assert not any(module.training for module in gpt2.modules())
        raise RuntimeError
    assert [module.training for module in gpt2.modules()] == before
