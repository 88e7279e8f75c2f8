"""Other families than GPT-2, through all three stages: a Llama folder as people have it, with a
start token, without a pad token, its output layer tied to its embedding or not; beside it a GPT-2
folder."""

import json
from functools import partial

import pytest
import torch
from helpers import byte_level
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from rlhf_lab import maths, models
from rlhf_lab.cli import main
from rlhf_lab.evaluate import respond
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
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
from rlhf_lab.text import encode_prompt

START, STOP = "<s>", "</s>"
PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["ab:", "c:", "a long one:", "xyz:"] * 2)]
SHOWN = [Demonstration(p, "yes" if i % 2 else "no, never") for i, p in enumerate(PROMPTS)]
RANKED = [Ranking(p, ("good", "fair one", "bad"), (1, 2, None)) for p in PROMPTS]
KINDS = ["llama", "llama, tied", "gpt2"]
close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)
closer = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)


def with_a_start() -> PreTrainedTokenizerFast:
    """A byte a token; START before every text, no pad token."""
    backend = byte_level(START, STOP)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, 256)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=START, eos_token=STOP)


@pytest.fixture(params=KINDS)
def folder(request, make_gpt2, make_llama, tokenizer, tmp_path):
    """The folder of a model as plain transformers writes it, and a small file for each stage."""
    kind, own = request.param, with_a_start()
    if kind == "gpt2":
        model, own = (
            make_gpt2(tokenizer, bos_token_id=256),
            PreTrainedTokenizerFast(
                tokenizer_object=byte_level(STOP), bos_token=STOP, eos_token=STOP
            ),
        )
    else:
        model = make_llama(own, tie_word_embeddings=kind == "llama, tied", bos_token_id=256)
    model.save_pretrained(tmp_path / "model"), own.save_pretrained(tmp_path / "model")
    rows = {
        "shown": [{"prompt": d.prompt.text, "response": d.response} for d in SHOWN],
        "ranked": [
            {"prompt": r.prompt.text, "responses": r.responses, "ranking": r.ranks} for r in RANKED
        ],
        "asked": [{"prompt": p.text} for p in PROMPTS],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return tmp_path


def loaded(folder):
    return load_tokenizer(folder / "model"), load_policy(folder / "model")


def run(folder, command, data, *more):
    stage = [command, "--data", f"{folder}/{data}.jsonl", "--out", f"{folder}/{command}"]
    return main([*stage, "--device", "cpu", *(str(x).replace("@", f"{folder}/") for x in more)])


@pytest.mark.parametrize(
    "lean", [(), ("--lora", 2, "--gradient-checkpointing", "--max-tokens", 60)]
)
def test_three_stages_by_command_line(folder, lean, capsys):
    assert run(folder, "sft", "shown", "--model", "@model", "--epochs", 1, *lean) == 0
    assert run(folder, "reward", "ranked", "--model", "@sft/sft", "--epochs", 1, *lean) == 0
    assert (
        run(
            folder,
            "ppo",
            "asked",
            "--model",
            "@sft/sft",
            "--reward-model",
            "@reward/reward_model",
            "--updates",
            2,
            "--batch-size",
            4,
            "--max-new-tokens",
            5,
            *lean,
        )
        == 0
    )
    assert capsys.readouterr().out.count("parameters; memory") == 3
    records = [json.loads(line) for line in (folder / "ppo/metrics.jsonl").read_text().splitlines()]
    assert records[0]["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert records[0]["val/log_ratio_first"] < 1e-4
    before, trained = loaded(folder)[1], folder / "ppo/policy"
    plain = AutoModelForCausalLM.from_pretrained(trained)
    assert type(plain) is type(before)
    one, other = (m.get_input_embeddings().weight for m in (plain, before))
    assert torch.equal(one, other) == bool(lean)  # adapters leave the embeddings alone
    tokens = torch.tensor([AutoTokenizer.from_pretrained(trained).encode("ab:")])
    close(load_policy(trained)(tokens).logits, plain(tokens).logits)
    assert (plain(tokens).logits - before(tokens).logits).abs().max() > 1e-4
    scores = AutoModelForSequenceClassification.from_pretrained(folder / "reward/reward_model")
    scorer, tokenizer = ScalarModel.load(folder / "reward/reward_model"), load_tokenizer(trained)
    data = Sequences.of_text(tokenizer, [("ab:", "good"), ("a long one:", "bad")])
    with torch.no_grad():
        theirs = scores(input_ids=data.tokens, attention_mask=data.attention).logits[:, 0]
    close(in_batches(response_scores, scorer, data), theirs + scores.config.reward_bias)


def test_three_stages_in_python(folder):
    tokenizer, policy = loaded(folder)
    config = SFTConfig(epochs=15, batch_size=8, learning_rate=1e-2, warmup=0)
    losses = [r["loss/sft"] for r in train_sft(policy, tokenizer, SHOWN, config)]
    assert losses[-1] < losses[0] / 2
    scorer = ScalarModel.from_policy(policy, seed=0)
    config = RewardConfig(epochs=15, batch_size=8, learning_rate=1e-3, warmup=0)
    losses = [r["loss/reward"] for r in train_reward(scorer, tokenizer, RANKED, config)]
    assert losses[-1] < losses[0] / 2
    config = PPOConfig(updates=2, batch_size=4, max_new_tokens=6, learning_rate=1e-3)
    first, second = train_ppo(policy, scorer, tokenizer, PROMPTS, config)
    assert first["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert first["val/log_ratio_first"] < 1e-4
    assert second["objective/kl"] != first["objective/kl"]
    assert len(respond(policy, tokenizer, PROMPTS[:2], 2, config=SamplingConfig(4)).texts) == 2


def test_the_start_token_comes_first_and_once(folder):
    tokenizer, _ = loaded(folder)
    ids = Sequences.of_text(tokenizer, [("ab:", "good")]).tokens[0].tolist()
    start = [256] if START in tokenizer.get_vocab() else []
    text = tokenizer.encode("ab: good", add_special_tokens=False)
    assert ids == [*start, *text, tokenizer.eos_token_id]


def test_the_added_pad_token_has_a_row_and_ties_stay_tied(folder):
    tokenizer, policy = loaded(folder)
    into, out = policy.get_input_embeddings().weight, policy.get_output_embeddings().weight
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert len(into) == len(out) == policy.config.vocab_size > tokenizer.pad_token_id
    assert (into is out) == policy.config.tie_word_embeddings


def test_padding_changes_nothing(folder):
    tokenizer, policy = loaded(folder)
    scorer = ScalarModel.from_policy(policy, 1)
    pairs = [("ab:", "good"), ("a long one:", "a much longer answer"), ("c:", "x")]
    padded = Sequences.of_text(tokenizer, pairs)
    for i, pair in enumerate(pairs):
        alone = Sequences.of_text(tokenizer, [pair])
        n = alone.mask.shape[1]
        with torch.no_grad():
            for together, apart in (
                (response_logprobs(policy, padded)[0], response_logprobs(policy, alone)[0]),
                (response_values(scorer, padded), response_values(scorer, alone)),
            ):
                closer(together[i, :n], apart[0])
                assert not together[i, n:].any()
            closer(response_scores(scorer, padded)[i], response_scores(scorer, alone)[0])


def test_samples_do_not_hang_on_their_neighbours_and_carry_the_models_logprobs(folder):
    tokenizer, policy = loaded(folder)
    asked, seeds = [encode_prompt(tokenizer, p.text) for p in PROMPTS], list(range(len(PROMPTS)))
    together = sample(policy, tokenizer, asked, seeds, SamplingConfig(6, 0.7))
    for i in (0, 2):
        apart = sample(
            policy, tokenizer, asked[i : i + 1], seeds[i : i + 1], SamplingConfig(6, 0.7)
        )
        assert apart.texts(tokenizer) == together.texts(tokenizer)[i : i + 1]
        real = together.mask[i]
        closer(together.logprobs[i][real], apart.logprobs[0][apart.mask[0]])
        ids = torch.tensor([asked[i] + together.tokens[i, together.prompt_length :][real].tolist()])
        logits = policy(input_ids=ids).logits[0, len(asked[i]) - 1 : -1]
        wanted = maths.logprobs_of(logits, ids[0, len(asked[i]) :], 0.7)
        close(together.logprobs[i][real], wanted.detach())


def test_the_value_network_begins_as_the_reward_model(folder):
    tokenizer, policy = loaded(folder)
    scorer = ScalarModel.from_policy(policy, 1)
    value = models.new_value_model(policy, scorer)
    data = Sequences.of_text(tokenizer, [("ab:", "good")])
    whole = scorer(data.tokens, data.attention)[0].detach()
    start = int(data.starts[0])
    values = in_batches(response_values, value, data)[0]
    closer(values, whole[start - 1 : start - 1 + len(values)])
