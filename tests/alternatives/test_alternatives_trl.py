"""DPO, RLOO and GRPO against TRL's own trainers: the same loss and gradient on the same inputs.

TRL is no dependency: install it (1.12) beside the lab to run these.
"""

import copy
from dataclasses import replace

import pytest
import torch

trl = pytest.importorskip("trl", reason="TRL is not installed: nothing to compare with")

from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence

from rlhf_lab import maths
from rlhf_lab.alternatives import dpo, groups, grpo, rloo
from rlhf_lab.alternatives.dpo import DPOConfig
from rlhf_lab.alternatives.groups import group_loss
from rlhf_lab.alternatives.grpo import GRPOConfig
from rlhf_lab.alternatives.rloo import RLOOConfig
from rlhf_lab.ppo import minibatch_gradients
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.training import make_accelerator

PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["ab:", "cd:", "xyz", "w w"])]  # 3 tokens
RANKED = [
    Ranking(Prompt("a", "ab:"), ("yes", "no, never"), (1, 2)),
    Ranking(Prompt("b", "a longer one:"), ("a", "bcd"), (2, 1)),
    Ranking(Prompt("c", "c:"), ("good", "worse"), (1, 2)),
]
COUNT = {"updates": 1, "batch_size": 8, "group": 4, "max_new_tokens": 12}


def plain(kind, folder, **settings):
    """A TRL config for one step on this machine, without reports."""
    return kind(
        output_dir=str(folder),
        report_to="none",
        use_cpu=True,
        bf16=False,
        disable_dropout=True,
        gradient_checkpointing=False,
        **settings,
    )


def moved(model, seed=2):
    """A copy that differs a little."""
    other, noise = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p += 0.02 * torch.randn(p.shape, generator=noise)
    return other


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def assert_same(first, second, factor=1.0):
    assert max(float(g.abs().max()) for g in first.values()) > 1e-3
    for name in first:
        torch.testing.assert_close(first[name], factor * second[name], atol=1e-5, rtol=1e-4)


def test_dpo(gpt2, tokenizer, tmp_path):
    reference = moved(gpt2)
    data = dpo.compared(tokenizer, RANKED)
    loss, scores = dpo.batch_gradients(
        gpt2,
        data,
        dpo.whole_logprobs(reference, data),
        make_accelerator("cpu"),
        DPOConfig(dpo_beta=0.3),
    )
    mine = gradients(gpt2)

    text = {"prompt": ["x"], "chosen": ["y"], "rejected": ["z"]}  # the trainer wants some
    trainer = trl.DPOTrainer(
        gpt2,
        reference,
        plain(trl.DPOConfig, tmp_path, beta=0.3, loss_type="sigmoid"),
        train_dataset=Dataset.from_dict(text),
        processing_class=tokenizer,
    )
    # TRL's batch: the chosen of all prompts, then the rejected.
    s = data.sequences.rows([0, 3, 4, 1, 2, 5])
    columns = torch.arange(s.tokens.shape[1])
    inputs = {
        "input_ids": s.tokens,
        "attention_mask": s.attention,
        "completion_mask": s.attention * (columns >= s.starts[:, None]),
    }
    theirs = trainer._compute_loss(gpt2, inputs, return_outputs=False)
    assert loss == pytest.approx(float(theirs.detach()), abs=1e-6)
    theirs.backward()
    assert_same(mine, gradients(gpt2))
    logged = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
    found = dpo.margins_of(scores, data.ranks)
    for ours, name in (
        ("accuracy", "accuracies"),
        ("margin", "margins"),
        ("chosen", "chosen"),
        ("rejected", "rejected"),
    ):
        assert found[f"dpo/{ours}"] == pytest.approx(logged[f"rewards/{name}"], abs=1e-5)


def rollout_of(sampler, reference, tokenizer, config, lengths):
    """Responses of `sampler`, cut to these lengths, with advantages of four to a prompt."""
    rollout, _ = groups.collect(
        sampler, reference, lambda p, t: [0.0] * len(t), tokenizer, PROMPTS, config, 1
    )
    s = rollout.sequences
    lengths = torch.minimum(torch.tensor(lengths), s.mask.sum(1))
    mask = torch.arange(s.mask.shape[1]) < lengths[:, None]
    attention = (torch.arange(s.tokens.shape[1]) < (s.starts + lengths)[:, None]).long()
    rollout.sequences = replace(s, attention=attention, mask=mask)
    scores = torch.randn(2, 4, generator=torch.Generator().manual_seed(3))
    rollout.advantages = groups.per_token(maths.grpo_advantages(scores), mask)
    return rollout


def trl_inputs(rollout, pad):
    """The rollout as TRL's trainers pass it on; all prompts have one length, as TRL gives GPT-2 no
    positions."""
    s = rollout.sequences
    rows = [row[start : start + n] for row, start, n in zip(s.tokens, s.starts, s.mask.sum(1))]
    prompts = torch.stack([row[:start] for row, start in zip(s.tokens, s.starts)])
    return {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": pad_sequence(rows, batch_first=True, padding_value=pad),
        "completion_mask": s.mask.long(),
        "advantages": rollout.advantages[:, 0],
        "old_per_token_logps": rollout.logprobs,
        "ref_per_token_logps": rollout.ref_logprobs,
        "old_logps": maths.masked_sum(rollout.logprobs, s.mask),
    }


def trainer_of(kind, config, policy, tokenizer, folder, **settings):
    """One of TRL's trainers of groups; it reads its reference from a folder."""
    policy.save_pretrained(folder / "policy")
    trainer = kind(
        str(folder / "policy"),
        lambda completions, **_: [0.0] * len(completions),
        plain(
            config, folder, num_generations=4, per_device_train_batch_size=8, beta=0.3, **settings
        ),
        train_dataset=Dataset.from_dict({"prompt": ["x", "y"]}),
        processing_class=tokenizer,
    )
    trainer.model.eval()
    return trainer


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo"])
def test_grpo(loss_type, gpt2, tokenizer, tmp_path):
    """grpo is the mean per response, bnpo that over tokens, dr_grpo the sum over a constant."""
    average = {"grpo": "responses", "bnpo": "tokens", "dr_grpo": "constant"}[loss_type]
    config = GRPOConfig(**COUNT, beta=0.3, average=average)
    policy = moved(gpt2)  # no longer the sampler: some ratios are clipped
    rollout = rollout_of(gpt2, moved(gpt2, 5), tokenizer, config, [12, 1, 4, 2, 9, 6, 3, 11])
    metrics = minibatch_gradients(
        rollout,
        group_loss(policy, grpo.grpo_loss, config),
        make_accelerator("cpu"),
        config.max_tokens,
    )
    mine = gradients(policy)
    trainer = trainer_of(
        trl.GRPOTrainer,
        trl.GRPOConfig,
        policy,
        tokenizer,
        tmp_path,
        loss_type=loss_type,
        epsilon=0.2,
        max_completion_length=12,
        use_bias_correction_kl=False,
    )
    theirs = trainer._compute_loss(policy, trl_inputs(rollout, tokenizer.pad_token_id))
    assert metrics["loss/policy_avg"] == pytest.approx(float(theirs.detach()), abs=1e-5)
    theirs.backward()
    assert_same(mine, gradients(policy))
    logged = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
    clipped = metrics["policy/clipfrac_avg"]
    assert clipped > 0 and clipped == pytest.approx(logged["clip_ratio/region_mean"], abs=1e-6)
    if loss_type == "bnpo":
        assert metrics["loss/kl_avg"] == pytest.approx(logged["kl"], abs=1e-5)


def test_trls_default_has_the_gradient_of_k2_while_the_ratio_is_one(gpt2, tokenizer, tmp_path):
    """It multiplies k3 by the ratio, through which the gradient flows too (DeepSeek-V3.2)."""
    config = GRPOConfig(**COUNT, beta=0.3, kl="k2")
    rollout = rollout_of(gpt2, moved(gpt2), tokenizer, config, [12, 1, 4, 2, 9, 6, 3, 11])
    rollout.advantages.zero_()
    minibatch_gradients(
        rollout,
        group_loss(gpt2, grpo.grpo_loss, config),
        make_accelerator("cpu"),
        config.max_tokens,
    )
    mine = gradients(gpt2)
    trainer = trainer_of(
        trl.GRPOTrainer,
        trl.GRPOConfig,
        gpt2,
        tokenizer,
        tmp_path,
        loss_type="bnpo",
        max_completion_length=12,
    )
    trainer._compute_loss(gpt2, trl_inputs(rollout, tokenizer.pad_token_id)).backward()
    assert_same(mine, gradients(gpt2))


def test_rloo(gpt2, tokenizer, tmp_path):
    """On the one pass: TRL's mean over responses of the sum is our mean over tokens, times the mean
    length."""
    config = RLOOConfig(**COUNT)
    rollout = rollout_of(gpt2, gpt2, tokenizer, config, [12, 1, 4, 2, 9, 6, 3, 11])
    minibatch_gradients(
        rollout,
        group_loss(gpt2, rloo.rloo_loss, config),
        make_accelerator("cpu"),
        config.max_tokens,
    )
    mine = gradients(gpt2)
    trainer = trainer_of(
        trl.RLOOTrainer, trl.RLOOConfig, gpt2, tokenizer, tmp_path, max_completion_length=12
    )
    trainer._compute_loss(gpt2, trl_inputs(rollout, tokenizer.pad_token_id)).backward()
    assert_same(mine, gradients(gpt2), factor=8 / int(rollout.mask.sum()))
