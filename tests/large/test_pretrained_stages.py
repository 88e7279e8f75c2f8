"""A real pretrained model through the three stages, on held-out prompts with intervals by prompt.

What must hold does not come from an earlier run: losses and rewards are compared in pairs, and the
KL is held between two bounds that follow from what it is.
"""

import copy
import math
from dataclasses import dataclass, replace

import pytest
import smol
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from rlhf_lab import (
    ScalarModel,
    answer,
    load_policy,
    load_task,
    maths,
    reward,
    save_policy,
    sft,
    train_ppo,
    train_reward,
    train_sft,
)
from rlhf_lab.evaluate import Responses, sequence_kl
from rlhf_lab.intervals import interval, share_interval
from rlhf_lab.sequences import in_batches, response_logprobs
from rlhf_lab.training import Record

pytestmark = pytest.mark.large

SEED = 0
SAMPLES = 4  # responses to each held-out prompt, with the same seeds before and after


@dataclass
class SFTRun:
    policy: PreTrainedModel
    before: torch.Tensor  # held-out loss of each demonstration, (P, 1)
    after: torch.Tensor
    records: list[Record]


@dataclass
class PPORun:
    records: list[Record]
    before: Responses
    after: Responses
    kl: torch.Tensor  # (P, S)


def losses(policy, tokenizer, demonstrations) -> torch.Tensor:
    """Mean cross entropy of each demonstration's tokens, in nats, (P, 1)."""
    data = sft.encode(tokenizer, demonstrations)
    logprobs = in_batches(lambda model, rows: response_logprobs(model, rows)[0], policy, data)
    return -(logprobs.sum(1) / data.mask.sum(1))[:, None]


def said(found) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*found)


@pytest.fixture(scope="module")
def sft_run(folder, tokenizer, note) -> SFTRun:
    policy = smol.train_top(load_policy(folder))
    shown = smol.demonstrations(tokenizer, SEED, 448)
    held_out = smol.demonstrations(tokenizer, SEED + 1, 64)
    known = {d.prompt.text for d in shown}
    held_out = [d for d in held_out if d.prompt.text not in known]
    before = losses(policy, tokenizer, held_out)
    records = list(train_sft(policy, tokenizer, shown, replace(smol.SFT, seed=SEED), held_out))
    after = losses(policy, tokenizer, held_out)
    note(
        f"SFT: {len(shown)} demonstrations; on {len(held_out)} held out, nats a token "
        f"{said(interval(before))} before, {said(interval(after))} after"
    )
    return SFTRun(policy, before, after, records)


def test_sft_lowers_the_held_out_loss(sft_run):
    _, low, _ = interval(sft_run.before - sft_run.after)
    assert low > 0


def test_frozen_layers_stay_as_they_were(sft_run, policy):
    trained = dict(sft_run.policy.named_parameters())
    moved = {name for name, x in policy.named_parameters() if not torch.equal(x, trained[name])}
    assert moved == {name for name, x in trained.items() if x.requires_grad}


def test_a_trained_policy_is_an_ordinary_folder(sft_run, tokenizer, tmp_path):
    save_policy(sft_run.policy, tokenizer, tmp_path / "policy")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").eval()
    ids = torch.tensor([tokenizer.encode("Customer: Hello?\nAgent:")])
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, sft_run.policy(ids).logits)


def test_the_reward_model_learns_what_labellers_prefer(sft_run, tokenizer, tmp_path, note):
    model = ScalarModel.from_policy(sft_run.policy, seed=SEED)
    ranked = smol.rankings(SEED, 288)
    known = {one.prompt.text for one in ranked}
    held_out = [one for one in smol.rankings(SEED + 1, 160) if one.prompt.text not in known]
    list(train_reward(model, tokenizer, ranked, replace(smol.REWARD, seed=SEED)))
    data = reward.encode(tokenizer, [one for one in held_out if one.ranks[0] != one.ranks[1]])
    margins = maths.pair_margins(reward.score_groups(model, data), data.ranks)
    accuracy = share_interval((margins.sign() + 1) / 2)
    note(f"reward model: {len(ranked)} pairs; accuracy on {len(margins)} held out {said(accuracy)}")
    assert accuracy[1] > 0.5

    model.save(tmp_path / "reward", tokenizer)
    again = reward.score_groups(ScalarModel.load(tmp_path / "reward"), data)
    torch.testing.assert_close(again, reward.score_groups(model, data), atol=1e-4, rtol=1e-4)
    policy = copy.deepcopy(sft_run.policy)
    config = replace(smol.PPO, updates=1, batch_size=8, epochs=1, minibatches=1)
    prompts = load_task("support_desk").prompts(SEED, 8)
    [first] = train_ppo(policy, model, tokenizer, prompts, config)
    assert abs(first["objective/kl"]) < 1e-3 and first["val/log_ratio_first"] < 1e-3


@pytest.fixture(scope="module")
def ppo_run(sft_run, tokenizer, note) -> PPORun:
    task = load_task("support_desk")
    prompts, held_out = task.prompts(SEED, 600), task.held_out()["held-out"][:64]
    ask = dict(per_prompt=SAMPLES, seed=SEED, config=smol.SAMPLING)
    before = answer(sft_run.policy, tokenizer, held_out, **ask)
    policy, config = copy.deepcopy(sft_run.policy), replace(smol.PPO, seed=SEED)
    records = list(train_ppo(policy, smol.says_please, tokenizer, prompts, config))
    after = answer(policy, tokenizer, held_out, **ask)
    return PPORun(records, before, after, sequence_kl(policy, sft_run.policy, after))


def rewards(answers: Responses) -> torch.Tensor:
    """The sparse reward of each response, none for one that does not end, as in PPO: (P, S)."""
    said = torch.tensor([smol.says_please(answers.prompts, row) for row in answers.texts])
    return said * answers.ended


def test_ppo_raises_a_sparse_reward(ppo_run, note):
    before, after = rewards(ppo_run.before), rewards(ppo_run.after)
    gain = interval(after - before)
    first, last = (said(share_interval(x.float().mean(1))) for x in (before, after))
    note(
        f"PPO: rewarded {first} before, {last} after, gain {said(gain)}, "
        f"on {len(before)} held-out prompts"
    )
    assert 0 < before.mean() < 0.3  # sparse: most responses get nothing
    assert gain[1] > 0


def test_kl_begins_at_zero_and_stays_between_its_bounds(ppo_run):
    """The estimate may stray below 0 by chance alone. Above 1 / beta no reward of at most 1 can pay
    for it: beta KL would be more than all there is to gain."""
    first, *later = ppo_run.records
    assert abs(first["objective/kl"]) < 1e-3 and first["val/log_ratio_first"] < 1e-3
    for record in later:
        kl, error = record["objective/kl"], record["objective/kl_se"]
        assert -3 * error - 1e-3 <= kl <= 1 / smol.PPO.beta + 3 * error
        assert math.isfinite(record["grad_norm"]) and record["policy/entropy_avg"] > 0


def test_the_reward_is_worth_its_kl_and_did_not_come_free(ppo_run, note):
    """On held-out prompts, with the KL over the whole vocabulary.

    What PPO maximises, reward minus beta KL, is above the reference's: KL < gain / beta. And no
    policy gets p of the reward where the reference gets q for less than the KL of two coins with
    these chances (the data-processing inequality; over prompts it is convex in the pair).
    """
    before, after, kl = rewards(ppo_run.before), rewards(ppo_run.after), ppo_run.kl
    assert (kl > -1e-3).all()
    worth = interval(after - before - smol.PPO.beta * kl)
    p, q = share_interval(after.float().mean(1))[1], share_interval(before.float().mean(1))[2]
    price = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    note(
        f"PPO: KL {said(interval(kl))} nats, at least {price:.2f} for such a gain; gain less "
        f"{smol.PPO.beta} KL {said(worth)}"
    )
    assert worth[1] > 0
    assert p > q and interval(kl)[2] >= price
