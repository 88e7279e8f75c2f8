"""Where a response begins and ends, for every kind of tokenizer: tokens of the whole text, all ids
that end a response, and whether one ended, from the sampler to the loss."""

import copy
import itertools
import json
from pathlib import Path

import pytest
import torch
from helpers import END, PAD, byte_level
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from rlhf_lab import maths
from rlhf_lab.alternatives import dpo
from rlhf_lab.alternatives.best_of_n import best_of_n
from rlhf_lab.cli import main
from rlhf_lab.disk.files import read_rankings, read_samples, write_demonstrations, write_rankings
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import respond
from rlhf_lab.feedback.entry import Entry
from rlhf_lab.feedback.exchange import contents_of, export_jsonl
from rlhf_lab.feedback.pooling import pool_by_vote
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.formats.reading import read_demonstrations, read_preferences
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Demonstration, Prompt, Ranking, Sample
from rlhf_lab.reward import encode, score_texts
from rlhf_lab.rollout import roll_out
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sft import encode as encode_shown
from rlhf_lab.tasks.labellers import Labeller, rank_all
from rlhf_lab.text import decode_response, encode_pair, encode_prompt, end_ids, response_end

TEXT = "Human: Where is my order ? Assistant: Sorry ! It left us on Monday . Thank you Yes No"
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
BYTES = [f"<0x{i:02X}>" for i in range(256)]


# ---- tokens of the whole text -------------------------------------------------------------------


def sentencepiece() -> Tokenizer:
    """As Llama 2, Mistral 7B v0.1 and TinyLlama: a "▁" before every text, bytes for the rest."""
    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<s>", "</s>", *BYTES]
    train(backend, trainers.BpeTrainer(vocab_size=700, special_tokens=special, max_token_length=12))
    return starting(backend)


def metaspace() -> Tokenizer:
    """As T5 and XLNet cut: words, each with the space before it, likely ones whole (Unigram)."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    train(
        backend, trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>")
    )
    return backend


def gpt2_like() -> Tokenizer:
    """As GPT-2, Qwen and Llama 3: bytes, merged inside of words that begin with their space."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=ALPHABET)
    train(backend, trainer)
    return backend


def wordpiece() -> Tokenizer:
    """As BERT cuts: words and their ends."""
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    special = ["<unk>", "<s>", "</s>"]
    train(backend, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    return backend


def train(backend: Tokenizer, trainer) -> None:
    backend.train_from_iterator(TEXT.split() * 20 + [TEXT] * 5, trainer)


def starting(backend: Tokenizer) -> Tokenizer:
    backend.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return backend


def of_kind(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


KINDS = {
    "sentencepiece": sentencepiece,
    "metaspace": metaspace,
    "metaspace, started": lambda: starting(metaspace()),
    "byte level": gpt2_like,
    "byte level, started": lambda: starting(gpt2_like()),
    "word pieces": wordpiece,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "prompt", ["Human: Where is my order?\n\nAssistant:", "Where is it?", "Yes", "<s>Where is it?"]
)
def test_a_response_has_the_tokens_of_the_whole_text(kind, prompt):
    tokenizer, response = of_kind(KINDS[kind]()), "Sorry! It left us on Monday."
    before, after = encode_pair(tokenizer, prompt, response)
    whole = tokenizer.encode(f"{prompt} {response}")
    if whole[:2] == 2 * [tokenizer.bos_token_id]:  # spelt out, and put in front of every text
        whole = whole[1:]
    assert before + after == whole + [tokenizer.eos_token_id]
    assert before == encode_prompt(tokenizer, prompt)  # what the policy reads when it samples


@pytest.mark.parametrize("kind", KINDS)
def test_behind_a_space_of_the_prompt_the_response_gets_no_second_one(kind):
    tokenizer, prompt = of_kind(KINDS[kind]()), "Human: Where is it? Assistant: "
    before, after = encode_pair(tokenizer, prompt, "Sorry! Monday.", ended=False)
    text = tokenizer.decode([*before, *after], skip_special_tokens=True)
    assert "  " not in text and text.replace(" ", "").endswith("Assistant:Sorry!Monday.")
    assert before == encode_prompt(tokenizer, prompt)


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_token_in_a_response_is_text(kind):
    tokenizer = of_kind(KINDS[kind]())
    _, after = encode_pair(tokenizer, "Yes", "No </s> Yes", ended=False)
    assert tokenizer.eos_token_id not in after


def test_sft_reward_model_and_dpo_read_the_same_tokens():
    tokenizer = of_kind(sentencepiece())
    tokenizer.add_special_tokens({"pad_token": PAD})
    ranking = Ranking(Prompt("p", "Where is it?"), ("Sorry! Monday.", "No"), (1, 2))
    wanted = encode_pair(tokenizer, "Where is it?", "Sorry! Monday.")
    for sequences in (
        encode_shown(tokenizer, [Demonstration(ranking.prompt, "Sorry! Monday.")]),
        encode(tokenizer, [ranking]).sequences,
        dpo.compared(tokenizer, [ranking]).sequences,
    ):
        row = sequences.rows([0])
        assert row.tokens[0].tolist() == wanted[0] + wanted[1]
        assert row.response_tokens[0].tolist() == wanted[1]


# ---- every id that ends a response --------------------------------------------------------------

TEMPLATE = (
    "{% for m in messages %}<start>{{ m['role'] }}\n{{ m['content'] }}<turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start>assistant\n{% endif %}"
)


@pytest.fixture
def chatty(tmp_path):
    """The folder of a model that always says "Hello!" and ends its turn with <turn>, which is not
    its tokenizer's end token but stands in its generation config, as with Gemma and Phi."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(END, PAD, "<start>", "<turn>"), eos_token=END, pad_token=PAD
    )
    tokenizer.chat_template = TEMPLATE
    V, D, turn = len(tokenizer), 300, tokenizer.convert_tokens_to_ids("<turn>")
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(V, D))
        model.lm_head.weight.zero_()
        said = [*tokenizer.encode("\nHey"), turn, *tokenizer.encode("\n")]
        for now, then in itertools.pairwise(said):  # no letter twice: a chain
            model.lm_head.weight[then, now] = 10
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, turn]
    model.save_pretrained(tmp_path / "chatty")
    tokenizer.save_pretrained(tmp_path / "chatty")
    return tmp_path / "chatty"


ASKED = Prompt("p", "<start>user\nHi<turn>\n<start>assistant\n")
SHORT = SamplingConfig(max_new_tokens=12)


def test_every_end_id_of_the_generation_config_ends_a_response(chatty):
    tokenizer, policy = load_tokenizer(chatty), load_policy(chatty)
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    assert end_ids(tokenizer) == [tokenizer.eos_token_id, turn] and response_end(tokenizer) == turn
    given = respond(policy, tokenizer, [ASKED], 2, config=SHORT)
    assert given.texts == [["Hey", "Hey"]] and given.ended.all()
    assert given.sequences.response_tokens[0].tolist()[-1] == turn
    assert decode_response(tokenizer, given.sequences.response_tokens[0]) == "Hey"
    record = next(
        train_ppo(
            policy,
            lambda prompts, texts: [float(text == "Hey") for text in texts],
            tokenizer,
            [ASKED],
            PPOConfig(updates=1, batch_size=4, max_new_tokens=12),
        )
    )
    assert record["response/ended"] == 1 and record["objective/scores"] == 1


def test_the_end_ids_are_kept_and_best_of_n_and_dpo_know_them(chatty, tmp_path):
    tokenizer, policy = load_tokenizer(chatty), load_policy(chatty)
    save_policy(policy, tokenizer, tmp_path / "again")
    saved = json.loads((tmp_path / "again/generation_config.json").read_text())
    assert (
        saved["eos_token_id"] == end_ids(tokenizer) == end_ids(load_tokenizer(tmp_path / "again"))
    )
    scorer = ScalarModel.from_policy(policy, 0)
    scorer.save(tmp_path / "reward", tokenizer)
    assert end_ids(load_tokenizer(tmp_path / "reward")) == end_ids(tokenizer)
    picked = best_of_n(policy, scorer, tokenizer, [ASKED], n=3, sampling=SHORT)
    assert picked.texts == [["Hey"]] and picked.ended.all()
    data = dpo.compared(tokenizer, [Ranking(ASKED, ("Hey", "What?"), (1, 2))])
    ends = [ids[-1] for ids in responses_of(data.sequences)]
    assert ends == 2 * [response_end(tokenizer)]


def test_a_chat_is_learned_with_the_end_of_its_turn(chatty, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hey"}]}
    ]
    file = tmp_path / "shown.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = load_tokenizer(chatty)
    sequences = encode_shown(tokenizer, list(read_demonstrations(file, tokenizer)))
    said = tokenizer.apply_chat_template(rows[0]["messages"])["input_ids"]
    assert sequences.tokens[0].tolist() == said[:-1]  # all but the line break after the turn


# ---- whether it ended travels -------------------------------------------------------------------


def responses_of(sequences):
    return [row[mask].tolist() for row, mask in zip(sequences.response_tokens, sequences.mask)]


CUT = Ranking(Prompt("p", "ab:"), ("a whole one", "one that is c"), (1, 2), "ann", (True, False))


def test_no_end_token_is_put_behind_a_response_that_was_cut_off(tokenizer):
    end = tokenizer.eos_token_id
    sequences = encode(tokenizer, [CUT]).sequences
    ends = [end in ids for ids in responses_of(sequences)]
    assert ends == [True, False]
    shown = [Demonstration(CUT.prompt, text, ended) for _, text, ended in CUT.written()]
    assert (encode_shown(tokenizer, shown).tokens == sequences.tokens).all()
    same = Ranking(CUT.prompt, ("the same", "the same", "x"), (1, 1, 2), ended=(True, False, True))
    assert len(encode(tokenizer, [same]).sequences.tokens) == 3  # with and without its end
    blank = Ranking(CUT.prompt, ("x", " "), (1, 2), ended=(True, False))
    assert encode(tokenizer, [blank]).sequences.mask.sum(1).tolist() == [3, 0]


def test_a_cut_response_is_scored_as_it_was_sampled(chatty):
    """What PPO scores, and what a ranking of the same texts teaches, are the same tokens."""
    tokenizer, policy = load_tokenizer(chatty), load_policy(chatty)
    model = ScalarModel.from_policy(policy, 0)
    for longest, text, ended in ((2, "He", False), (9, "Hey", True)):
        sampling = SamplingConfig(longest)
        rollout = roll_out(policy, policy, None, model, tokenizer, [ASKED], [0], sampling)
        assert (rollout.texts, rollout.ended.tolist()) == ([text], [ended])
        written = [(ASKED.text, text, ended), (ASKED.text, text, not ended)]
        same, other = score_texts(model, tokenizer, written).tolist()
        assert same == pytest.approx(float(rollout.scores), abs=1e-6)
        assert abs(other - same) > 1e-3


def test_files_carry_it_and_leave_out_what_is_as_usual(tmp_path):
    whole = Ranking(Prompt("q", "c:"), ("x", "y"), (2, 1), ended=(True, True))
    assert whole == Ranking(Prompt("q", "c:"), ("x", "y"), (2, 1))
    write_rankings(tmp_path / "ranked.jsonl", [CUT, whole])
    assert read_rankings(tmp_path / "ranked.jsonl") == [CUT, whole]
    assert list(read_preferences(tmp_path / "ranked.jsonl")) == [CUT, whole]
    first, second = map(json.loads, (tmp_path / "ranked.jsonl").read_text().splitlines())
    assert first["ended"] == [True, False] and "ended" not in second
    shown = [Demonstration(CUT.prompt, "cut of", False), Demonstration(CUT.prompt, "whole")]
    write_demonstrations(tmp_path / "shown.jsonl", shown)
    assert list(read_demonstrations(tmp_path / "shown.jsonl")) == shown
    (tmp_path / "two.jsonl").write_text(
        '{"prompt": "ab:", "chosen": "a", "rejected": "b", "ended": [false, true]}\n'
    )
    [ranking] = read_rankings(tmp_path / "two.jsonl")
    assert ranking.ended == (False, True) and [ranking] == list(
        read_preferences(tmp_path / "two.jsonl")
    )
    assert [d.ended for d in read_demonstrations(tmp_path / "two.jsonl")] == [False]
    (tmp_path / "table.csv").write_text("prompt,response,ended\nab:,cut of,False\nc:,whole,\n")
    assert [d.ended for d in read_demonstrations(tmp_path / "table.csv")] == [False, True]


@pytest.mark.parametrize("said", [[True], [True, 1], "yes", {}])
def test_an_ended_that_says_something_else_is_named(said, tmp_path):
    row = {"prompt": "ab:", "responses": ["a", "b"], "ranking": [1, 2], "ended": said}
    (tmp_path / "bad.jsonl").write_text(json.dumps(row) + "\n")
    for read in (read_rankings, lambda file: list(read_preferences(file))):
        with pytest.raises(UserError, match="bad.jsonl, line 1.*'ended'"):
            read(tmp_path / "bad.jsonl")


def test_a_store_carries_it_and_pooling_keeps_it(tmp_path):
    store = FeedbackStore(tmp_path / "a.sqlite")
    texts = CUT.responses
    store.add(CUT.prompt, [Sample(texts[0], "m"), Sample(texts[1], "m", {"seed": 1}, False)])
    for name in ("ann", "bob"):
        store.add_labeller(name)
        store.write(Entry("", "ranking", name, CUT.prompt, texts, (1, 2), (0, 1)))
    assert store.samples(CUT.prompt)[1] == Sample(texts[1], "m", {"seed": 1}, False)
    assert [r.ended for r in store.rankings()] == 2 * [(True, False)]
    [pooled] = pool_by_vote(store.rankings())
    assert pooled.ended == (True, False)
    export_jsonl(store, tmp_path / "all.jsonl")
    other = FeedbackStore(tmp_path / "b.sqlite")
    other.take_in(contents_of(tmp_path / "all.jsonl"))
    assert other.contents() == store.contents()
    store.add(CUT.prompt, [Sample(texts[1], "n")])  # another model did end it there
    assert [r.ended for r in store.rankings()] == 2 * [()]
    write_rankings(tmp_path / "ranked.jsonl", [CUT])
    third = FeedbackStore(tmp_path / "c.sqlite")
    third.take_in(contents_of(tmp_path / "ranked.jsonl", "ann"))
    assert third.rankings() == [CUT]


def test_samples_carry_it_from_the_command_to_a_ranking(gpt2, tokenizer, tmp_path, capsys):
    save_policy(gpt2, tokenizer, tmp_path / "model")
    out = tmp_path / "samples.jsonl"
    ask = ["--prompt", "ab:", "--responses", "4", "--max-new-tokens", "3", "--out", str(out)]
    assert main(["sample", "--model", str(tmp_path / "model"), "--device", "cpu", *ask]) == 0
    [(_, samples)] = read_samples(out)
    given = respond(gpt2, tokenizer, [Prompt("given-0", "ab:")], 4, config=SamplingConfig(3))
    assert [s.ended for s in samples] == given.ended[0].tolist() and not given.ended.all()
    taste = Labeller("short", {"concise": 1.0})
    mark = type("M", (), {"rubric": {"concise": 1.0}, "plausible": 0.0})
    [ranking] = rank_all(
        given.prompts, given.texts, [taste], lambda p, t: mark, ended=given.ended.tolist()
    )
    assert ranking.ended == tuple(given.ended[0].tolist())


def test_dpo_does_not_learn_to_stop_in_mid_sentence(gpt2, tokenizer):
    """The log-probability of a cut response is that of its tokens, without an end."""
    data = dpo.compared(tokenizer, [CUT])
    [row] = [i for i, ids in enumerate(responses_of(data.sequences)) if len(ids) == 14]
    found = dpo.summed_logprobs(gpt2, data.sequences)[row]
    ids = tokenizer.encode("ab: one that is c")
    logprobs = gpt2(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = sum(float(logprobs[t - 1, ids[t]]) for t in range(3, len(ids)))
    assert float(found) == pytest.approx(expected, abs=1e-4)


def test_a_mask_ends_at_the_first_of_several_ends():
    tokens = torch.tensor([[5, 6, 3, 9, 2], [5, 2, 3, 9, 9], [5, 5, 5, 5, 5]])
    mask = maths.response_mask(tokens, torch.tensor([2, 3]))
    assert mask.sum(1).tolist() == [3, 2, 5]


# ---- a model without a pad token ----------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_without_a_pad_token_goes_through_all_stages(
    family, make_gpt2, make_llama, tmp_path, capsys
):
    """As gpt2, Llama and Mistral come; its reward model made here, or by plain transformers, as TRL
    does, whose pad token is the end token."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(END), eos_token=END)
    policy = {"gpt2": make_gpt2, "llama": make_llama}[family](tokenizer)
    config = copy.deepcopy(policy.config)
    config.num_labels, config.pad_token_id = 1, tokenizer.eos_token_id
    theirs = AutoModelForSequenceClassification.from_config(config)
    for model, name in ((policy, "model"), (theirs, "theirs")):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    rows = [{"prompt": f"ab{i}:", "chosen": "yes", "rejected": "no, never"} for i in range(4)]
    (tmp_path / "ranked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(command, model, *more):
        data = ["--data", str(tmp_path / "ranked.jsonl"), "--device", "cpu"]
        out = ["--out", str(tmp_path / command / "_".join(more[-1:]).replace("/", ""))]
        done = main([command, "--model", str(tmp_path / model), *data, *out, *more])
        assert done == 0, capsys.readouterr().err
        return Path(out[1])

    sft = run("sft", "model", "--epochs", "1") / "sft"
    own = run("reward", str(sft.relative_to(tmp_path)), "--epochs", "1") / "reward_model"
    short = ["--updates", "1", "--batch-size", "4", "--max-new-tokens", "4", "--reward-model"]
    for scorer in (own, tmp_path / "theirs"):
        run("ppo", "model", *short, str(scorer))
    # What the pad token is called nobody reads: the scores are those without any padding.
    model, words = ScalarModel.load(tmp_path / "theirs"), load_tokenizer(tmp_path / "theirs")
    written = [("ab:", "yes"), ("ab:", "a good deal longer")]
    together = score_texts(model, words, written)
    alone = torch.cat([score_texts(model, words, [one]) for one in written])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
