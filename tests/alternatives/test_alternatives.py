"""The other roads on tiny random models: what they must do whatever the data."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from helpers import refusal

from rlhf_lab import maths
from rlhf_lab.alternatives import dpo, groups, grpo, rloo
from rlhf_lab.alternatives.best_of_n import best_of_n, frontier
from rlhf_lab.alternatives.dpo import DPOConfig, train_dpo
from rlhf_lab.alternatives.groups import group_loss
from rlhf_lab.alternatives.grpo import GRPOConfig, train_grpo
from rlhf_lab.alternatives.rloo import RLOOConfig, train_rloo
from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import respond, scores_of
from rlhf_lab.models import ScalarModel, frozen_copy
from rlhf_lab.ppo import PPOConfig, minibatch_gradients, train_ppo
from rlhf_lab.records import Mark, Prompt, Ranking
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sequences import Sequences
from rlhf_lab.training import make_accelerator

PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["ab:", "c:", "a long one:", "xyz:"] * 3)]
RANKED = [Ranking(p, ("good", "fair one", "bad", "worst"), (1, 2, 3, None)) for p in PROMPTS]
DPO = DPOConfig(batch_size=4, learning_rate=1e-3, max_new_tokens=6)
RLOO = RLOOConfig(updates=4, batch_size=8, learning_rate=1e-3, max_new_tokens=6)
GRPO = GRPOConfig(updates=4, batch_size=8, learning_rate=1e-3, max_new_tokens=6)
METHODS = {"rloo": (train_rloo, RLOO, rloo.rloo_loss), "grpo": (train_grpo, GRPO, grpo.grpo_loss)}
both = pytest.mark.parametrize("method", METHODS)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def assert_same(first, second, atol=0.0, factor=1.0):
    for name in first:
        torch.testing.assert_close(first[name], factor * second[name], atol=atol, rtol=0)


def count_e(prompts, texts):
    return [float(text.count("e")) for text in texts]


def ten(prompt, text):
    return Mark(10.0 * text.count("e"), {})


def logprob(model, tokenizer, prompt, response):
    """log p(response with its end), one at a time and token by token."""
    p, r = tokenizer.encode(prompt), tokenizer.encode(" " + response) + [tokenizer.eos_token_id]
    logprobs = model(torch.tensor([p + r])).logits[0].log_softmax(-1)
    return sum(logprobs[len(p) - 1 + t, token] for t, token in enumerate(r))


def rollout_of(policy, tokenizer, config, update=1):
    """A rollout whose policy has moved away from the reference, with advantages that differ."""
    reference = frozen_copy(policy)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in reference.parameters():
            p += 0.02 * torch.randn(p.shape, generator=noise)
    rollout, _ = groups.collect(policy, reference, count_e, tokenizer, PROMPTS, config, update)
    advantages = torch.randn(len(rollout.texts) // config.group, config.group, generator=noise)
    rollout.advantages = groups.per_token(advantages, rollout.mask)
    return rollout


# ------------------------------------------------------------------------------ DPO


def test_dpo_starts_at_ln_2_with_nothing_told_apart(policy, tokenizer):
    record = next(train_dpo(policy, tokenizer, RANKED, DPO))
    assert record["loss/dpo"] == pytest.approx(math.log(2), abs=1e-5)
    for name in ("dpo/margin", "dpo/chosen", "dpo/rejected"):
        assert record[name] == pytest.approx(0, abs=1e-5)
    assert (record["stage"], record["episode"], record["steps"]) == ("dpo", 0, 1)


def test_dpo_loss_is_that_of_one_response_at_a_time(gpt2, tokenizer):
    """Unequal lengths in one batch, the mean over pairs and then over prompts, ties dropped."""
    ranked = [
        Ranking(PROMPTS[0], ("a", "a longer one", "b"), (1, 2, 2)),
        Ranking(PROMPTS[2], ("yes", "no"), (2, 1)),
    ]
    data, reference = dpo.compared(tokenizer, ranked), moved(gpt2)
    loss, scores = dpo.batch_gradients(
        gpt2, data, dpo.whole_logprobs(reference, data), make_accelerator("cpu"), DPO
    )

    def h(prompt, response):
        return 0.1 * (
            logprob(gpt2, tokenizer, prompt.text, response)
            - logprob(reference, tokenizer, prompt.text, response).detach()
        )

    def cost(prompt, chosen, rejected):
        return torch.log1p(torch.exp(h(prompt, rejected) - h(prompt, chosen)))

    first = (cost(PROMPTS[0], "a", "a longer one") + cost(PROMPTS[0], "a", "b")) / 2
    expected = (first + cost(PROMPTS[2], "no", "yes")) / 2
    assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
    assert scores[1, 0] == pytest.approx(float(h(PROMPTS[2], "yes").detach()), abs=1e-5)
    found = gradients(gpt2)
    expected.backward()
    assert_same(found, gradients(gpt2), atol=1e-5)


def moved(model):
    """A copy that differs a little."""
    other, noise = copy.deepcopy(model), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in other.parameters():
            p += 0.02 * torch.randn(p.shape, generator=noise, dtype=p.dtype)
    return other


@pytest.mark.parametrize("own", [None, maths.dpo_loss], ids=["whole groups", "pair by pair"])
def test_dpo_gradient_by_finite_differences(gpt2, tokenizer, own):
    model, data = gpt2.double(), dpo.compared(tokenizer, RANKED[:3])
    ref_logprobs = dpo.whole_logprobs(moved(model), data).double()
    loss = lambda: maths.kwise_loss(  # noqa: E731
        maths.dpo_scores(dpo.grouped_logprobs(model, data), ref_logprobs, 0.1), data.ranks
    )
    dpo.batch_gradients(model, data, ref_logprobs, make_accelerator("cpu"), DPO, own)
    checked = 0
    for name, p in model.named_parameters():
        flat, index = p.data.view(-1), p.grad.abs().argmax()
        kept, step = float(flat[index]), 1e-5
        with torch.no_grad():
            flat[index] = kept + step
            above = float(loss())
            flat[index] = kept - step
            below = float(loss())
            flat[index] = kept
        slope = float(p.grad.view(-1)[index])
        assert (above - below) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-9), name
        checked += abs(slope) > 1e-4
    assert checked > 20  # of 28 parameters: the test saw real slopes


def test_dpo_of_pairs_is_the_papers_loss(gpt2, tokenizer):
    ranked = [Ranking(p, ("good", "a bad one"), (1, 2)) for p in PROMPTS[:4]]
    data, reference = dpo.compared(tokenizer, ranked), moved(gpt2)
    ref = dpo.whole_logprobs(reference, data)
    loss, _ = dpo.batch_gradients(gpt2, data, ref, make_accelerator("cpu"), DPO)
    mine = dpo.whole_logprobs(gpt2, data)
    assert loss == pytest.approx(
        float(maths.dpo_loss(mine[:, 0], mine[:, 1], ref[:, 0], ref[:, 1], 0.1)), abs=1e-6
    )


def test_margins_by_hand():
    # h = 2 at dpo_beta .1 is a margin of .2 (reference, item 35); 2 of 3 pairs are in order.
    scores, ranks = torch.tensor([[0.1, -0.1, 0.0]]), torch.tensor([[1, 2, 3]])
    found = dpo.margins_of(scores, ranks)
    assert found["dpo/accuracy"] == pytest.approx(2 / 3)
    assert found["dpo/margin"] == pytest.approx((0.2 + 0.1 - 0.1) / 3, abs=1e-7)
    assert found["dpo/chosen"] == pytest.approx((0.1 + 0.1 - 0.1) / 3, abs=1e-7)
    assert found["dpo/rejected"] == pytest.approx((-0.1 + 0.0 + 0.0) / 3, abs=1e-7)
    pair = maths.kwise_loss(scores[:, :2], ranks[:, :2])
    assert float(pair) == pytest.approx(0.598139, abs=1e-6)


def test_dpo_learns_a_preference_and_says_so(gpt2, tokenizer):
    before = copy.deepcopy(gpt2)
    records = list(train_dpo(gpt2, tokenizer, RANKED, DPOConfig(10, 12, 1e-3, warmup=0), RANKED))
    assert records[-1]["dpo/held_out_accuracy"] == 1.0
    assert records[-1]["loss/held_out"] < 0.5 * math.log(2)
    with torch.no_grad():
        gain = {
            text: float(
                logprob(gpt2, tokenizer, "ab:", text) - logprob(before, tokenizer, "ab:", text)
            )
            for text in ("good", "worst")
        }
    assert gain["good"] > gain["worst"] + 5


def test_dpo_drops_what_compares_nothing(gpt2, tokenizer):
    tied = Ranking(PROMPTS[1], ("a", "b"), (1, 1))
    record = next(train_dpo(copy.deepcopy(gpt2), tokenizer, [tied, *RANKED[:2], tied], DPO))
    assert record["updates"] == 1 and record["loss/dpo"] == pytest.approx(math.log(2), abs=1e-5)
    for nothing in ([], [tied]):
        with pytest.raises(UserError, match="no comparisons"):
            next(train_dpo(gpt2, tokenizer, nothing, DPO))


def test_dpo_looks_at_what_it_says_only_when_asked(gpt2, tokenizer):
    asked = replace(DPO, sample_every=2)
    plain = list(train_dpo(copy.deepcopy(gpt2), tokenizer, RANKED, DPO, judge=ten))
    looked = list(train_dpo(copy.deepcopy(gpt2), tokenizer, RANKED, asked, judge=ten))
    seen = ("objective/kl", "objective/kl_se", "response/length", "response/ended", "judge/mark")
    assert not any(name in record for record in plain for name in seen)
    assert [all(name in record for name in seen) for record in looked] == [False, True, True]
    assert looked[-1]["objective/kl"] > 0
    for record, same in zip(looked, plain):  # and looking changes nothing
        assert {k: v for k, v in record.items() if k not in seen} == same


# ------------------------------------------------------------------------------ groups


@both
def test_first_update_starts_from_the_reference(method, policy, tokenizer):
    train, config, _ = METHODS[method]
    record = next(train(policy, count_e, tokenizer, PROMPTS, replace(config, temperature=0.7)))
    assert record["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert record["val/log_ratio_first"] < 1e-4
    assert record["policy/approxkl_avg"] == pytest.approx(0, abs=1e-9)
    assert record["policy/clipfrac_avg"] == 0
    assert record.get("loss/kl_avg", 0.0) == pytest.approx(0, abs=1e-6)
    assert (record["stage"], record["episode"], record["steps"]) == (method, 8, 1)


@both
def test_records_have_the_names_of_ppo_and_add_up(method, gpt2, tokenizer):
    train, config, _ = METHODS[method]
    config = replace(config, epochs=2, minibatches=2)
    records = list(train(copy.deepcopy(gpt2), count_e, tokenizer, PROMPTS, config, ten))
    same = PPOConfig(updates=1, batch_size=8, max_new_tokens=6)
    names = next(train_ppo(gpt2, count_e, tokenizer, PROMPTS, same, ten)).keys()
    of_values = {"loss/value_avg", "val/clipfrac_avg", "val/explained_variance"}
    assert of_values < names and names - of_values <= records[0].keys()
    assert [r["steps"] for r in records] == [4, 8, 12, 16]
    assert [r["episode"] for r in records] == [8, 16, 24, 32]
    for r in records:
        total = r["objective/scores"] + r["objective/non_score_reward"]
        assert r["objective/rlhf_reward"] == pytest.approx(total, abs=1e-5)


def test_both_methods_start_from_the_same_responses_in_groups(gpt2, tokenizer):
    first, again, later = (
        groups.collect(gpt2, gpt2, count_e, tokenizer, PROMPTS, config, update)[0]
        for config, update in ((RLOO, 1), (GRPO, 1), (GRPO, 2))
    )
    assert first.texts == again.texts != later.texts
    ids = [p.id for p in first.prompts]
    assert ids == 4 * ids[:1] + 4 * ids[4:5] and ids[0] != ids[4]
    assert len(set(first.texts[:4])) == 4
    alone = [
        groups.collect(gpt2, gpt2, count_e, tokenizer, PROMPTS[:1], RLOO, update)[0]
        for update in (1, 2)
    ]
    assert not set(alone[0].texts) & set(alone[1].texts)  # the same prompt, new luck


@pytest.mark.parametrize(
    "method, changes, expected",
    [
        ("rloo", {}, [1, -1 / 3, -1 / 3, -1 / 3]),
        ("grpo", {}, [1.4997, -0.4999, -0.4999, -0.4999]),
        ("grpo", {"divide": False}, [0.75, -0.25, -0.25, -0.25]),
    ],
)
def test_advantages_of_the_reference(method, changes, expected, gpt2, tokenizer, monkeypatch):
    """Item 36: one response of each four scores 1 more than the others."""
    train, config, _ = METHODS[method]
    config, seen = replace(config, beta=0.0, no_end_penalty=0.0, **changes), []

    def caught(policy, rollout, *_):
        seen.append(rollout)
        return {"loss/policy_avg": 0.0}

    monkeypatch.setattr({"rloo": rloo, "grpo": grpo}[method], "optimise", caught)
    next(
        train(
            gpt2,
            lambda p, texts: [float(-(i % 4 > 0)) for i in range(len(texts))],
            tokenizer,
            PROMPTS,
            config,
        )
    )
    wanted = torch.tensor(2 * expected)[:, None] * seen[0].mask  # on every token, 0 on padding
    torch.testing.assert_close(seen[0].advantages, wanted, atol=5e-5, rtol=0)


@both
def test_equal_scores_move_nothing(method, gpt2, tokenizer):
    train, config, _ = METHODS[method]
    before, config = weights(gpt2), replace(config, updates=1, beta=0.0, no_end_penalty=0.0)
    record = next(train(gpt2, lambda p, t: [-2.0] * len(t), tokenizer, PROMPTS, config))
    assert record["grad_norm"] == 0
    assert_same(weights(gpt2), before)


def test_rloo_gradient_is_that_of_a_hand_written_loop(gpt2, tokenizer):
    """-(1 / tokens) sum over responses of (R - mean of the others' R) grad log p(response)."""
    config = replace(RLOO, beta=0.3)
    rollout = rollout_of(gpt2, tokenizer, config)
    kl = maths.masked_sum(rollout.logprobs - rollout.ref_logprobs, rollout.mask)
    R = [float(s) - 0.3 * float(k) for s, k in zip(scored(rollout), kl)]
    rewards = maths.masked_sum(rollout.rewards, rollout.mask).view(-1, 4)
    rollout.advantages = groups.per_token(maths.rloo_advantages(rewards), rollout.mask)
    minibatch_gradients(
        rollout,
        group_loss(gpt2, rloo.rloo_loss, config),
        make_accelerator("cpu"),
        config.max_tokens,
    )
    found, loss = gradients(gpt2), 0.0
    for i in range(8):
        others = [R[j] for j in range(8) if j // 4 == i // 4 and j != i]
        loss = loss - (R[i] - sum(others) / 3) * sum(own_logprobs(gpt2, rollout, i))
    (loss / int(rollout.mask.sum())).backward()
    assert_same(found, gradients(gpt2), atol=1e-5)


def scored(rollout):
    """The scores, cut-off responses lowered: min(score, 0) - 1."""
    scores, ended = rollout.scores.tolist(), rollout.ended.tolist()
    return [s if e else min(s, 0.0) - 1 for s, e in zip(scores, ended)]


def own_logprobs(model, rollout, i):
    """The log-prob of each token of response i, from a forward pass of its own."""
    s = rollout.sequences.rows([i])
    start, end = int(s.starts[0]), int(s.lengths[0])
    logprobs = model(s.tokens).logits[0].log_softmax(-1)
    return [logprobs[t - 1, s.tokens[0, t]] for t in range(start, end)]


@pytest.mark.parametrize("average", ["tokens", "responses", "constant"])
@pytest.mark.parametrize("kl", ["k2", "k3", "reward"])
def test_grpo_gradient_is_that_of_a_hand_written_loop(kl, average, gpt2, tokenizer):
    config = replace(GRPO, kl=kl, average=average, beta=0.3, batch_size=12, max_new_tokens=9)
    rollout = rollout_of(gpt2, tokenizer, config)
    rollout = with_lengths(rollout, [9, 1, 4, 2, 9, 6, 3, 5, 1, 2, 8, 7])
    policy, tokens = moved(gpt2), int(rollout.mask.sum())
    metrics = minibatch_gradients(
        rollout,
        group_loss(policy, grpo.grpo_loss, config),
        make_accelerator("cpu"),
        config.max_tokens,
    )
    found, loss, clipped = gradients(policy), 0.0, 0
    for i in range(12):
        row = 0.0
        for t, new in enumerate(own_logprobs(policy, rollout, i)):
            A, old, ref = (
                float(x[i, t]) for x in (rollout.advantages, rollout.logprobs, rollout.ref_logprobs)
            )
            ratio, r = torch.exp(new - old), torch.exp(ref - new)
            held = min(max(float(ratio.detach()), 0.8), 1.2)
            cut = held * A < float(ratio.detach()) * A  # there the policy has no gradient
            row, clipped = row - (held if cut else ratio) * A, clipped + cut
            if kl != "reward":
                row = row + 0.3 * ((r - 1 - r.log()) if kl == "k3" else r.log() ** 2 / 2)
        share = {"tokens": tokens, "responses": 12 * int(rollout.mask[i].sum()), "constant": 12 * 9}
        loss = loss + row / share[average]
    loss.backward()
    assert clipped > 5
    assert metrics["policy/clipfrac_avg"] == pytest.approx(clipped / tokens, abs=1e-6)
    assert metrics["loss/policy_avg"] == pytest.approx(float(loss.detach()), abs=1e-5)
    assert_same(found, gradients(policy), atol=1e-5)


def with_lengths(rollout, lengths):
    """The rollout with its responses cut to these lengths."""
    s = rollout.sequences
    lengths = torch.minimum(torch.tensor(lengths), s.mask.sum(1))
    mask = torch.arange(s.mask.shape[1]) < lengths[:, None]
    attention = (torch.arange(s.tokens.shape[1]) < (s.starts + lengths)[:, None]).long()
    rollout.sequences = Sequences(s.tokens, attention, mask, s.starts)
    return rollout


def test_one_step_of_rloo_has_the_gradient_of_the_clipped_loss(gpt2, tokenizer):
    rollout, accelerator = rollout_of(gpt2, tokenizer, RLOO), make_accelerator("cpu")
    minibatch_gradients(
        rollout, group_loss(gpt2, rloo.rloo_loss, RLOO), accelerator, RLOO.max_tokens
    )
    once = gradients(gpt2)
    twice = replace(RLOO, epochs=2)
    minibatch_gradients(
        rollout, group_loss(gpt2, rloo.rloo_loss, twice), accelerator, twice.max_tokens
    )
    assert_same(once, gradients(gpt2), atol=1e-6)


@both
@pytest.mark.parametrize("average", ["tokens", "responses", "constant"])
def test_padding_and_micro_batches_change_nothing(method, average, gpt2, tokenizer):
    _, config, loss = METHODS[method]
    if method == "grpo":
        config = replace(config, average=average)
    rollout, accelerator = rollout_of(gpt2, tokenizer, config), make_accelerator("cpu")

    def run(rollout, config):
        metrics = minibatch_gradients(
            rollout,
            group_loss(gpt2, loss, config),
            accelerator,
            config.max_tokens,
            with_entropy=True,
        )
        return metrics, gradients(gpt2)

    metrics, plain = run(rollout, config)
    wide = copy.copy(rollout)
    wide.sequences = padded(rollout.sequences, tokenizer.pad_token_id)
    for name in ("logprobs", "ref_logprobs", "advantages"):
        setattr(wide, name, torch.cat([getattr(rollout, name), torch.full((8, 5), 7.0)], 1))
    for other in (run(wide, config), run(rollout, replace(config, max_tokens=20))):
        assert other[0] == pytest.approx(metrics, abs=1e-6)
        assert_same(plain, other[1], atol=1e-6)


def padded(s, pad):
    extra = torch.full((len(s.tokens), 5), pad)
    nothing = torch.zeros_like(extra)
    return Sequences(
        torch.cat([s.tokens, extra], 1),
        torch.cat([s.attention, nothing], 1),
        torch.cat([s.mask, nothing.bool()], 1),
        s.starts,
    )


def test_dpo_padding_and_micro_batches_change_nothing(gpt2, tokenizer):
    data, accelerator = dpo.compared(tokenizer, RANKED), make_accelerator("cpu")
    ref_logprobs = dpo.whole_logprobs(moved(gpt2), data)
    wide = replace(data, sequences=padded(data.sequences, tokenizer.pad_token_id))

    def run(data, config):
        loss, scores = dpo.batch_gradients(gpt2, data, ref_logprobs, accelerator, config)
        return loss, scores, gradients(gpt2)

    loss, scores, plain = run(data, DPO)
    for other in (run(wide, DPO), run(data, replace(DPO, max_tokens=100))):
        assert other[0] == pytest.approx(loss, abs=1e-6)
        torch.testing.assert_close(other[1], scores, atol=1e-5, rtol=0)
        assert_same(plain, other[2], atol=1e-6)
    torch.testing.assert_close(
        dpo.whole_logprobs(gpt2, wide), dpo.whole_logprobs(gpt2, data), atol=1e-5, rtol=0
    )


def run_of(method, policy, tokenizer, folder):
    model, kept = copy.deepcopy(policy), Checkpoint(folder, every=2)
    if method == "dpo":
        config = replace(DPO, epochs=2, sample_every=3)
        return train_dpo(model, tokenizer, RANKED, config, RANKED[:4], ten, kept)
    train, config, _ = METHODS[method]
    config = replace(config, updates=6, epochs=2, minibatches=2)
    return train(model, count_e, tokenizer, PROMPTS, config, ten, kept)


@pytest.mark.parametrize("method", ["dpo", "rloo", "grpo"])
def test_a_run_stopped_and_resumed_gives_the_same_metrics(method, gpt2, tokenizer, tmp_path):
    whole = list(run_of(method, gpt2, tokenizer, tmp_path / "whole"))
    stopped = run_of(method, gpt2, tokenizer, tmp_path / "stopped")
    first = [next(stopped) for _ in range(3)]  # a checkpoint after 2
    stopped.close()
    # Whatever is handed in now, the reference is the policy that the run began with.
    rest = list(run_of(method, moved(gpt2), tokenizer, tmp_path / "stopped"))
    assert [r["update"] for r in rest] == [r["update"] for r in whole[2:]]
    assert first[:2] + rest == whole


@pytest.mark.parametrize("method", ["dpo", "rloo", "grpo"])
def test_reference_never_changes_and_has_no_gradient(
    method, gpt2, tokenizer, monkeypatch, tmp_path
):
    seen, home = [], {"dpo": dpo, "rloo": rloo, "grpo": grpo}[method]
    monkeypatch.setattr(home, "frozen_copy", lambda p: seen.append(frozen_copy(p)) or seen[-1])
    before = weights(gpt2)
    list(run_of(method, gpt2, tokenizer, tmp_path))
    assert_same(weights(seen[0]), before)
    assert all(p.grad is None and not p.requires_grad for p in seen[0].parameters())


@both
def test_it_raises_a_score_and_beta_holds_it_back(method, gpt2, tokenizer):
    train, _, _ = METHODS[method]

    def run(beta):
        config = type(METHODS[method][1])(
            updates=25, batch_size=64, epochs=3, learning_rate=3e-3, beta=beta, max_new_tokens=6
        )
        return list(train(copy.deepcopy(gpt2), count_e, tokenizer, PROMPTS, config))

    free, held = run(0.0), run(5.0)
    assert free[-1]["objective/scores"] > free[0]["objective/scores"] + 0.3
    assert held[-1]["objective/kl"] < 0.5 * free[-1]["objective/kl"]


@both
def test_groups_that_cannot_be_are_refused(method, gpt2, tokenizer):
    train, config, _ = METHODS[method]
    start = train(gpt2, count_e, tokenizer, PROMPTS, replace(config, group=3))
    assert "multiple" in refusal(next, start)
    assert refusal(replace, config, group=1) == "group is 1: take 2 or more"
    with pytest.raises(UserError, match="not finite|nan"):
        list(train(gpt2, lambda p, t: [math.nan] * len(t), tokenizer, PROMPTS, config))
    assert all(torch.isfinite(p).all() for p in gpt2.parameters())


def test_a_kl_that_is_not_known_is_refused():
    assert refusal(replace, GRPO, kl="k1") == "kl is k1: take k2, k3 or reward"


# ------------------------------------------------------------------------------ best of n


def test_best_of_n_gives_the_highest_score_and_one_is_the_policy(gpt2, tokenizer):
    model, sampling = ScalarModel.from_policy(gpt2, 3), SamplingConfig(6)
    drawn = respond(gpt2, tokenizer, PROMPTS[:3], 4, seed=1, config=sampling)
    scores = scores_of(model, drawn).tolist()
    lowered = [
        [s if e else min(s, 0.0) - 1 for s, e in zip(*row)]
        for row in zip(scores, drawn.ended.tolist())
    ]
    expected = [texts[row.index(max(row))] for texts, row in zip(drawn.texts, lowered)]
    best = best_of_n(gpt2, model, tokenizer, PROMPTS[:3], 4, seed=1, judge=ten, sampling=sampling)
    assert [text for (text,) in best.texts] == expected
    assert best.mark_table()[:, 0].tolist() == [10.0 * text.count("e") for text in expected]
    one = best_of_n(gpt2, model, tokenizer, PROMPTS[:3], 1, seed=1, sampling=sampling)
    assert [text for (text,) in one.texts] == [row[0] for row in drawn.texts] and one.marks is None
    assert "at least 1" in refusal(best_of_n, gpt2, model, tokenizer, PROMPTS, 0)


def test_frontier_by_hand(gpt2, tokenizer):
    # Two prompts, four responses; the scores of the first are 1 to 4 and its marks the same.
    drawn = respond(gpt2, tokenizer, PROMPTS[:2], 4, config=SamplingConfig(6))
    drawn.marks = [[Mark(float(m), {}) for m in row] for row in ((1, 2, 3, 4), (0, 0, 0, 8))]
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]])
    one, two, four = frontier(drawn, scores, (1, 2, 4))
    assert two["objective/scores"] == pytest.approx((10 / 3 + 5) / 2, abs=1e-6)
    assert two["judge/mark"] == pytest.approx((10 / 3 + 2) / 2, abs=1e-6)  # ties share their chance
    assert one["judge/mark"] == pytest.approx((2.5 + 2) / 2)
    assert one["objective/kl"] == pytest.approx(0)
    # The best of 4 has chances (1, 15, 65, 175) / 256; equal scores cost no KL.
    kl = sum(w / 256 * math.log(4 * w / 256) for w in (1, 15, 65, 175))
    assert four["objective/kl"] == pytest.approx(kl / 2)
    assert four["objective/kl_bound"] == pytest.approx(0.6363, abs=5e-5)
    tokens = float(drawn.sequences.mask.sum()) / 8
    assert (four["use/samples"], four["use/tokens"]) == (4, pytest.approx(4 * tokens))
    assert four["steps"] == four["episode"] == 0
    assert four["judge/mark_low"] < four["judge/mark"] < four["judge/mark_high"]
    assert "1 <= n <= 4" in refusal(frontier, drawn, scores, (5,))
