"""Model folders that TRL writes, read here, and the other way round.

TRL is no dependency: install it (1.12.0) beside the lab to run these.
"""

import json

import pytest
import torch

trl = pytest.importorskip("trl", reason="TRL is not installed: nothing to compare with")
theirs = pytest.importorskip("trl.experimental.ppo", reason="from 1.13.0 on TRL has no PPO trainer")

from datasets import Dataset
from helpers import END, PAD, byte_level
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from trl.experimental.utils import get_reward

from rlhf_lab.cli import main
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.sequences import Sequences, response_scores
from rlhf_lab.text import pad_right

SHOWN = [{"prompt": "ab: ", "completion": "yes"}, {"prompt": "c: ", "completion": "fine"}]
RANKED = [
    {"prompt": "ab: ", "chosen": "yes", "rejected": "no, no"},
    {"prompt": "c: ", "chosen": "fine", "rejected": "bad"},
]
SAID = [("ab: ", "yes"), ("c: ", "a longer one"), ("d: ", "")]


def settings(kind, folder):
    return kind(
        output_dir=str(folder),
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        max_steps=2,
        save_strategy="no",
        disable_tqdm=True,
        per_device_train_batch_size=2,
    )


@pytest.fixture(params=["own", "end", "none"])
def folders(request, make_gpt2, make_llama, family, tmp_path):
    """What TRL's SFT and reward trainers leave of a model whose pad token is its own, the end
    token, or none."""
    special = {"own": {"pad_token": PAD}, "end": {"pad_token": END}, "none": {}}[request.param]
    backend = byte_level(END, PAD) if request.param == "own" else byte_level(END)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, **special)
    {"gpt2": make_gpt2, "llama": make_llama}[family](tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    stages = (
        (trl.SFTTrainer, trl.SFTConfig, "base", "sft", SHOWN),
        (trl.RewardTrainer, trl.RewardConfig, "sft", "reward", RANKED),
    )
    for trainer, config, begin, end, data in stages:
        made = trainer(
            str(tmp_path / begin),
            settings(config, tmp_path / end),
            train_dataset=Dataset.from_list(data),
            processing_class=AutoTokenizer.from_pretrained(tmp_path / begin),
        )
        made.train()
        made.save_model(str(tmp_path / end))
    return tmp_path


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_ppo_goes_on_with_the_folders_of_trl(folders, family):
    tokenizer, reward_model = load_tokenizer(folders / "sft"), ScalarModel.load(folders / "reward")
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    sequences = Sequences.of_text(tokenizer, SAID)
    classifier = AutoModelForSequenceClassification.from_pretrained(folders / "reward").eval()
    with torch.no_grad():
        mine = response_scores(reward_model, sequences)
        scores = get_reward(classifier, sequences.tokens, tokenizer.pad_token_id, 0)[1]
    torch.testing.assert_close(mine, scores, atol=1e-5, rtol=1e-5)

    (folders / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SHOWN))
    paths = {"model": "sft", "reward-model": "reward", "data": "prompts.jsonl", "out": "run"}
    options = [f"--{name}={folders / place}" for name, place in paths.items()]
    counts = ["--updates=2", "--batch-size=4", "--max-new-tokens=8", "--device=cpu"]
    assert main(["ppo", *options, *counts]) == 0
    AutoModelForCausalLM.from_pretrained(folders / "run/policy")


@pytest.mark.parametrize("own", [True, False])
def test_with_the_end_token_as_padding_a_score_is_learned_one_token_before_the_end(
    own, make_gpt2, tokenizer, padless_tokenizer, tmp_path
):
    """Only the position that is read gets a gradient."""
    used = tokenizer if own else padless_tokenizer
    make_gpt2(used).save_pretrained(tmp_path)
    used.save_pretrained(tmp_path)
    trainer = trl.RewardTrainer(
        str(tmp_path),
        settings(trl.RewardConfig, tmp_path / "out"),
        train_dataset=Dataset.from_list(RANKED),
        processing_class=AutoTokenizer.from_pretrained(tmp_path),
    )
    ids = trainer.train_dataset[0]["chosen_ids"]
    assert ids[-1] == used.eos_token_id
    tokens, attention = pad_right(
        [ids, trainer.train_dataset[0]["rejected_ids"]], used.pad_token_id
    )
    model = trainer.model.eval()
    with torch.no_grad():
        read = model(input_ids=tokens, attention_mask=attention).logits[0, 0]
        states = model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        at_end, before = model.score(states[-1])[0], model.score(states[-2])[0]
    torch.testing.assert_close(read, at_end if own else before, atol=1e-5, rtol=1e-5)
    assert abs(at_end - before) > 1e-3


def test_a_reward_model_from_here_lacks_its_constant_in_trl(gpt2, tokenizer, tmp_path):
    model = ScalarModel.from_policy(gpt2, seed=0)
    model.normalise(3.0, 2.0)
    model.save(tmp_path, tokenizer)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    sequences = Sequences.of_text(tokenizer, SAID)
    with torch.no_grad():
        scores = get_reward(classifier, sequences.tokens, tokenizer.pad_token_id, 0)[1]
        mine = response_scores(model, sequences)
    assert classifier.config.reward_bias == pytest.approx(-1.5)
    torch.testing.assert_close(scores - 1.5, mine, atol=1e-5, rtol=1e-5)


def test_a_policy_that_ppo_trained_in_trl_is_read_here(make_gpt2, padless_tokenizer, tmp_path):
    """With the pad token that TRL's scripts add to the tokenizer and not to the model."""
    policy = make_gpt2(padless_tokenizer)
    padless_tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    policy.save_pretrained(tmp_path)
    padless_tokenizer.save_pretrained(tmp_path)
    loaded, tokenizer = load_policy(tmp_path), load_tokenizer(tmp_path)
    assert tokenizer.pad_token == "[PAD]"
    assert policy.config.vocab_size == 257 and loaded.config.vocab_size == 258
