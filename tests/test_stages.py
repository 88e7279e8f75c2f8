"""The three stages on tiny random models: what they must do whatever the data."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from rlhf_lab import maths, reward
from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.errors import UserError
from rlhf_lab.models import ScalarModel, SharedValue, frozen_copy
from rlhf_lab.ppo import PPOConfig, collect, minibatch_gradients, ppo_loss, train_ppo
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig, train_reward
from rlhf_lab.rollout import batch_of
from rlhf_lab.sequences import Sequences
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.training import Optimiser, make_accelerator, shuffled

PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["ab:", "c:", "a long one:", "xyz:"] * 3)]
SHOWN = [Demonstration(p, "yes" if i % 2 else "no, never") for i, p in enumerate(PROMPTS)]
RANKED = [Ranking(p, ("good", "fair one", "bad", "worst"), (1, 2, 3, None)) for p in PROMPTS]
PPO = PPOConfig(
    updates=4,
    batch_size=8,
    epochs=2,
    minibatches=2,
    learning_rate=1e-3,
    max_new_tokens=6,
    value_epsilon=0.2,
)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(first, second, atol=0.0):
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=atol, rtol=0)


def count_e(prompts, texts):
    return [float(text.count("e")) for text in texts]


@pytest.mark.parametrize("minibatches", [3, 4, 6])
def test_means_are_over_all_minibatches_also_where_they_do_not_divide_a_batch(
    gpt2, tokenizer, minibatches
):
    config = replace(PPO, updates=1, batch_size=6, minibatches=minibatches, learning_rate=1e-9)
    record = next(train_ppo(gpt2, count_e, tokenizer, PROMPTS, config))
    assert record["val/ratio"] == pytest.approx(1, abs=1e-4)
    with pytest.raises(UserError, match="a minibatch of 0 cannot be shared by 1 process:"):
        next(train_ppo(gpt2, count_e, tokenizer, PROMPTS, replace(config, minibatches=7)))


# ------------------------------------------------------------------------------ SFT


def test_sft_loss_is_the_mean_over_response_tokens_with_the_end(gpt2, tokenizer):
    before = copy.deepcopy(gpt2)
    record = next(train_sft(gpt2, tokenizer, SHOWN[:3], SFTConfig(batch_size=3)))
    total, count = 0.0, 0
    for d in SHOWN[:3]:
        p = tokenizer.encode(d.prompt.text)
        r = tokenizer.encode(" " + d.response) + [tokenizer.eos_token_id]
        logprobs = before(torch.tensor([p + r])).logits[0].detach().log_softmax(-1)
        total -= sum(float(logprobs[len(p) - 1 + t, token]) for t, token in enumerate(r))
        count += len(r)
    assert record["loss/sft"] == pytest.approx(total / count, abs=1e-5)
    assert record["tokens"] == count


def test_sft_learns(gpt2, tokenizer):
    records = list(train_sft(gpt2, tokenizer, SHOWN, SFTConfig(30, 12, 1e-2, warmup=0), SHOWN[:4]))
    assert records[-1]["loss/sft"] < 0.5 * records[0]["loss/sft"]
    assert records[-1]["loss/held_out"] < records[0]["loss/held_out"]


@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
def test_the_gradient_does_not_depend_on_the_micro_batches(stage, gpt2, tokenizer):
    def after(max_tokens):
        model = copy.deepcopy(gpt2)
        if stage == "sft":
            next(
                train_sft(model, tokenizer, SHOWN, SFTConfig(batch_size=12, max_tokens=max_tokens))
            )
        elif stage == "reward":
            model = ScalarModel.from_policy(model, 0)
            next(
                train_reward(
                    model,
                    tokenizer,
                    RANKED,
                    RewardConfig(batch_size=12, learning_rate=1e-4, max_tokens=max_tokens),
                )
            )
        else:
            next(train_ppo(model, count_e, tokenizer, PROMPTS, replace(PPO, max_tokens=max_tokens)))
        for block in getattr(model, "backbone", model).base_model.h:
            block.attn.c_attn.bias.data[32:64] = 0
        return {name: w for name, w in weights(model).items() if name != "head.bias"}

    # Adam divides by the gradient's size, so compare where it is not all rounding: the biases of
    # keys, and of scores, move no loss.
    assert_same(after(10_000), after(30), atol=2e-4 if stage == "ppo" else 2e-5)


# ------------------------------------------------------------------------------ resuming


def run_of(stage, gpt2, tokenizer, folder):
    model, kept = copy.deepcopy(gpt2), Checkpoint(folder, every=2)
    if stage == "sft":
        return train_sft(model, tokenizer, SHOWN, SFTConfig(3, 4), SHOWN[:4], kept)
    if stage == "reward":
        return train_reward(
            ScalarModel.from_policy(model, 0),
            tokenizer,
            RANKED,
            RewardConfig(3, 4),
            RANKED[:4],
            kept,
        )
    config = replace(PPO, target_kl=0.1, updates=6)
    return train_ppo(model, count_e, tokenizer, PROMPTS, config, checkpoint=kept)


@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
def test_a_run_stopped_and_resumed_gives_the_same_metrics(stage, gpt2, tokenizer, tmp_path):
    whole = list(run_of(stage, gpt2, tokenizer, tmp_path / "whole"))
    stopped = run_of(stage, gpt2, tokenizer, tmp_path / "stopped")
    first = [next(stopped) for _ in range(3)]  # a checkpoint after 2
    stopped.close()
    rest = list(run_of(stage, gpt2, tokenizer, tmp_path / "stopped"))
    assert [r["update"] for r in rest] == [r["update"] for r in whole[2:]]
    assert first[:2] + rest == whole


def test_a_failed_save_leaves_the_previous_checkpoint(gpt2, tokenizer, tmp_path, monkeypatch):
    kept = Checkpoint(tmp_path / "kept", every=1)
    steps = train_sft(gpt2, tokenizer, SHOWN, SFTConfig(1, 4), checkpoint=kept)
    next(steps), next(steps)  # the checkpoint of an update follows its record
    monkeypatch.setattr("rlhf_lab.disk.checkpoint.save_file", full_disk)
    with pytest.raises(
        UserError, match="No space left on device: nothing was changed; free some space"
    ):
        next(steps)
    monkeypatch.undo()
    assert kept.restore({"policy": gpt2}, optimiser_of(gpt2))["update"] == 1


def full_disk(*_):
    raise OSError(28, "No space left on device")


def optimiser_of(model):
    return Optimiser(make_accelerator("cpu"), [model], 1e-3, 10)


# ------------------------------------------------------------------------------ reward model


def test_held_out_metrics_by_hand():
    # Sure to 0.8 (a margin of ln 4) four times, right three times; undecided once.
    margins = torch.tensor([1.0, 1.0, 1.0, -1.0, 0.0]) * math.log(4)
    found = reward.held_out_metrics(margins)
    assert found["reward/held_out_accuracy"] == pytest.approx(3.5 / 5)
    assert found["reward/held_out_calibration"] == pytest.approx(
        (4 * abs(0.8 - 0.75) + 0) / 5, abs=1e-6
    )


def test_reward_model_learns_an_order_and_is_normalised(gpt2, tokenizer):
    model = ScalarModel.from_policy(gpt2, 0)
    records = list(
        train_reward(model, tokenizer, RANKED, RewardConfig(20, 12, 1e-2, warmup=0), RANKED)
    )
    assert records[-1]["reward/held_out_accuracy"] == 1.0
    pairs = [(r.prompt.text, text) for r in RANKED for text in r.responses]
    reward.normalise(model, reward.score_texts(model, tokenizer, pairs))
    scores = reward.score_texts(model, tokenizer, pairs)
    assert scores.mean().abs() < 1e-4 and abs(scores.std() - 1) < 1e-4


def test_untrained_loss_is_that_of_its_scores_and_unranked_pairs_do_not_count(gpt2, tokenizer):
    model = ScalarModel.from_policy(gpt2, 0)
    ranking = Ranking(PROMPTS[0], ("a", "b", "c"), (1, None, None))  # two pairs, not three
    a, b, c = reward.score_texts(model, tokenizer, [(PROMPTS[0].text, t) for t in "abc"]).tolist()
    expected = (math.log1p(math.exp(b - a)) + math.log1p(math.exp(c - a))) / 2
    record = next(train_reward(model, tokenizer, [ranking]))
    assert record["loss/reward"] == pytest.approx(expected, abs=1e-5)


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(gpt2, tmp_path):
    def kept(**settings):
        return Checkpoint(tmp_path / "kept", settings=settings)

    optimiser = Optimiser(make_accelerator("cpu"), [gpt2], 1e-3, 5)
    kept(seed=0, width=32).save(3, {"model": gpt2}, optimiser, {"beta": 0.1})
    state = kept(seed=0, width=32).restore({"model": gpt2}, optimiser)
    assert (state["update"], state["beta"]) == (3, 0.1)
    with pytest.raises(UserError, match="seed was 0, now 3; width was 32, now 64"):
        kept(seed=3, width=64).restore({"model": gpt2}, optimiser)


def test_nothing_to_learn_from_is_said(gpt2, tokenizer):
    with pytest.raises(UserError, match="no demonstrations"):
        next(train_sft(gpt2, tokenizer, []))
    with pytest.raises(UserError, match="no prompts"):
        next(train_ppo(gpt2, count_e, tokenizer, []))


TIED = [Ranking(p, ("good", "fair"), (1, 1)) for p in PROMPTS[:7]]


@pytest.mark.parametrize("soft", [False, True])
def test_each_prompt_with_a_pair_weighs_the_same_ties_too_where_they_count(gpt2, tokenizer, soft):
    model = ScalarModel.from_policy(gpt2, 0)
    ranked = [*TIED, Ranking(PROMPTS[8], ("good", "bad"), (1, 2))]
    texts = [(r.prompt.text, text) for r in ranked for text in r.responses]
    scores = reward.score_texts(model, tokenizer, texts).view(-1, 2)
    whole = maths.kwise_loss(scores, torch.tensor([r.ranks for r in ranked]), soft)
    record = next(
        train_reward(model, tokenizer, ranked, RewardConfig(soft_ties=soft, max_tokens=40))
    )
    assert record["loss/reward"] == pytest.approx(float(whole), abs=1e-5)


def test_rankings_of_ties_alone_are_refused_unless_ties_count(gpt2, tokenizer):
    model = ScalarModel.from_policy(gpt2, 0)
    with pytest.raises(UserError, match="no ranking prefers"):
        next(train_reward(model, tokenizer, TIED))
    assert (
        next(train_reward(model, tokenizer, TIED, RewardConfig(soft_ties=True)))["loss/reward"] > 0
    )


def test_a_response_that_stands_twice_is_encoded_once(tokenizer):
    data = reward.encode(tokenizer, [Ranking(PROMPTS[0], ("a", "b", "a"), (1, 3, 1))])
    assert len(data.sequences.tokens) == 2 and data.index.tolist() == [[0, 1, 0]]


# ------------------------------------------------------------------------------ PPO


def test_first_update_starts_from_the_reference(policy, tokenizer):
    record = next(
        train_ppo(
            policy,
            count_e,
            tokenizer,
            PROMPTS,
            replace(PPO, epochs=1, minibatches=1, temperature=0.7),
        )
    )
    assert record["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert record["val/log_ratio_first"] < 1e-4
    assert record["policy/approxkl_avg"] == pytest.approx(0, abs=1e-9)
    assert record["policy/clipfrac_avg"] == 0


def test_reward_is_score_plus_non_score_reward(gpt2, tokenizer):
    for record in train_ppo(gpt2, count_e, tokenizer, PROMPTS, PPO):
        total = record["objective/scores"] + record["objective/non_score_reward"]
        assert record["objective/rlhf_reward"] == pytest.approx(total, abs=1e-5)


def test_ppo_raises_a_score_and_beta_holds_it_back(gpt2, tokenizer):
    def run(beta):
        config = PPOConfig(
            updates=25, batch_size=64, epochs=3, learning_rate=3e-3, beta=beta, max_new_tokens=6
        )
        return list(train_ppo(copy.deepcopy(gpt2), count_e, tokenizer, PROMPTS, config))

    free, held = run(0.0), run(5.0)
    assert free[-1]["objective/scores"] > free[0]["objective/scores"] + 0.3
    assert held[-1]["objective/kl"] < 0.5 * free[-1]["objective/kl"]


def test_reference_never_changes_and_has_no_gradient(gpt2, tokenizer, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "rlhf_lab.ppo.frozen_copy", lambda p: seen.append(frozen_copy(p)) or seen[0]
    )
    before = weights(gpt2)
    list(train_ppo(gpt2, count_e, tokenizer, PROMPTS, PPO))
    assert_same(weights(seen[0]), before)
    assert all(p.grad is None and not p.requires_grad for p in seen[0].parameters())
    assert any(not torch.equal(p, before[name]) for name, p in gpt2.named_parameters())


def test_padding_moves_no_metric_and_no_gradient(gpt2, tokenizer):
    accelerator, value = make_accelerator("cpu"), ScalarModel.from_policy(gpt2, 0)
    rollout = collect(gpt2, frozen_copy(gpt2), value, count_e, tokenizer, PROMPTS[:6], PPO, 1)
    rollout.advantages = torch.randn(rollout.mask.shape, generator=torch.Generator().manual_seed(0))
    rollout.returns = rollout.values + rollout.advantages

    def loss_of(piece, minibatch, with_entropy):
        return ppo_loss(gpt2, value, piece, PPO, with_entropy)

    def gradients(r):
        gpt2.zero_grad()
        metrics = minibatch_gradients(r, loss_of, accelerator, PPO.max_tokens, True)
        return metrics, {n: p.grad.clone() for n, p in gpt2.named_parameters()}

    metrics, plain = gradients(rollout)
    wide = copy.copy(rollout)
    wide.sequences = padded(rollout.sequences, tokenizer.pad_token_id)
    for name in ("logprobs", "ref_logprobs", "values", "rewards", "advantages", "returns"):
        garbage = torch.full((6, 5), 7.0)
        setattr(wide, name, torch.cat([getattr(rollout, name), garbage], 1))
    more, same = gradients(wide)
    assert more == pytest.approx(metrics, abs=1e-6)
    assert_same(plain, same, atol=1e-6)


def padded(s, pad):
    extra = torch.full((len(s.tokens), 5), pad)
    nothing = torch.zeros_like(extra)
    return Sequences(
        torch.cat([s.tokens, extra], 1),
        torch.cat([s.attention, nothing], 1),
        torch.cat([s.mask, nothing.bool()], 1),
        s.starts,
    )


def test_a_response_cut_off_never_gains_by_it(gpt2, tokenizer):
    scores = torch.tensor([2.0, -3.0])
    ended = maths.no_end_penalty(scores, torch.tensor([True, True]))
    cut = maths.no_end_penalty(scores, torch.tensor([False, False]))
    assert (cut <= ended - 1).all()


def test_shared_value_starts_at_zero_and_learns_through_the_trunk(gpt2, tokenizer):
    config = replace(PPO, shared_value=True)
    value = SharedValue(gpt2)
    rollout = collect(gpt2, frozen_copy(gpt2), value, count_e, tokenizer, PROMPTS[:4], config, 1)
    assert (rollout.values == 0).all()
    records = list(train_ppo(gpt2, count_e, tokenizer, PROMPTS, config, value_model=value))
    assert len(records) == 4 and value.head.weight.abs().sum() > 0


def test_a_reward_model_scores_the_tokens_that_were_sampled(gpt2, tokenizer):
    model = ScalarModel.from_policy(gpt2, 3)
    rollout = collect(
        gpt2, frozen_copy(gpt2), copy.deepcopy(model), model, tokenizer, PROMPTS[:4], PPO, 1
    )
    for row in range(4):
        one = rollout.sequences.rows([row])
        every = model(one.tokens, one.attention)[0]
        assert rollout.scores[row] == pytest.approx(float(every[-1]), abs=1e-5)


def test_prompts_come_round_in_a_fresh_order():
    first, second = batch_of(PROMPTS, 12, 0, 1), batch_of(PROMPTS, 12, 0, 2)
    assert (
        sorted(p.id for p in first) == sorted(p.id for p in PROMPTS) == sorted(p.id for p in second)
    )
    assert [p.id for p in first] != [p.id for p in second]


def test_judge_only_watches(gpt2, tokenizer):
    class Nine:
        mark = 9.0

    record = next(train_ppo(gpt2, count_e, tokenizer, PROMPTS, PPO, judge=lambda p, t: Nine))
    assert record["judge/mark"] == 9.0


def test_a_loss_that_is_not_finite_stops_with_advice(gpt2, tokenizer):
    with pytest.raises(UserError, match="not finite|nan"):
        list(train_ppo(gpt2, lambda p, t: [math.nan] * len(t), tokenizer, PROMPTS, PPO))
    assert all(torch.isfinite(p).all() for p in gpt2.parameters())


def test_asking_for_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no GPU"):
        make_accelerator("cuda")


def test_orders_depend_on_their_key_alone():
    assert shuffled(9, "a", 1) == shuffled(9, "a", 1) != shuffled(9, "a", 2)
    assert sorted(shuffled(9, "a", 1)) == list(range(9))


def test_learning_rate_warms_up_and_falls_to_zero(gpt2):
    optimiser = Optimiser(make_accelerator("cpu"), [gpt2], 1.0, updates=4, warmup=1)
    rates = []
    for _ in range(4):
        rates.append(optimiser.rate())
        optimiser.done += 1
    assert rates == [0.5, 0.75, 0.5, 0.25] and optimiser.rate() == 0


def test_ppo_warms_up_over_updates(gpt2, tokenizer):
    """Four steps an update: the rate rises over the eight of two updates, then falls."""
    config = replace(PPO, updates=6, warmup=2, learning_rate=1e-3)
    rates = [r["lr"] for r in train_ppo(gpt2, count_e, tokenizer, PROMPTS, config)]
    expected = [1 / 9, 5 / 9 * 20 / 24, 16 / 24, 12 / 24, 8 / 24, 4 / 24]
    assert rates == pytest.approx([1e-3 * x for x in expected])


def test_a_factor_multiplies_a_modules_learning_rate():
    slow, fast = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    parameters = [*slow.parameters(), *fast.parameters()]
    before = [p.detach().clone() for p in parameters]
    optimiser = Optimiser(
        make_accelerator("cpu"), [slow, fast], 1e-3, updates=10, factors=[1.0, 30.0]
    )
    fast(slow(torch.ones(1, 3))).sum().backward()
    optimiser.step()
    steps = [(p - old).abs().max().item() for p, old in zip(parameters, before)]
    # Adam's first step is the learning rate, whatever the gradient.
    assert steps == pytest.approx([1e-3, 1e-3, 3e-2, 3e-2], rel=1e-2)


# ------------------------------------------------------------------------------ one's own formulas


def test_a_formula_of_ones_own_trains_the_model(gpt2, tokenizer):
    """Each formula written out plainly, as a learner would; the run is the one of the package."""

    def label_mask(tokens, starts, end_id, pad_id):
        rows = [
            [c >= s and t != pad_id for c, t in enumerate(row)] for row, s in both(tokens, starts)
        ]
        return torch.tensor(rows)

    def both(tokens, starts):
        return zip(tokens.tolist(), starts.tolist())

    def pair_loss(chosen, rejected):
        return torch.log1p(torch.exp(rejected - chosen)).mean()

    def kl_rewards(scores, logprobs, ref_logprobs, mask, beta):
        rewards = -beta * (logprobs - ref_logprobs) * mask
        for row, last in enumerate(mask.sum(1) - 1):
            rewards[row, last] += scores[row]
        return rewards

    def gae(rewards, values, mask, gamma, lam):
        advantages = torch.zeros_like(rewards)
        for row, length in enumerate(mask.sum(1)):
            following, value_after = 0.0, 0.0
            for t in reversed(range(length)):
                delta = rewards[row, t] + gamma * value_after - values[row, t]
                following, value_after = delta + gamma * lam * following, values[row, t]
                advantages[row, t] = following
        return advantages, (advantages + values) * mask

    def whiten(x, mask):
        real = x[mask]
        return (x - real.mean()) / (real.var(correction=0) + 1e-8).sqrt() * mask

    def clipped_policy_loss(new_logprobs, logprobs, advantages, mask, epsilon):
        ratio = torch.exp(new_logprobs - logprobs)
        plain = ratio * advantages
        return -torch.minimum(plain, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)[
            mask
        ].mean()

    def clipped_value_loss(new_values, values, returns, mask, epsilon):
        held = values + (new_values - values).clamp(-epsilon, epsilon)
        errors = torch.maximum((new_values - returns) ** 2, (held - returns) ** 2)
        return errors[mask].mean() / 2

    own = dict(
        kl_rewards=kl_rewards,
        gae=gae,
        whiten=whiten,
        clipped_policy_loss=clipped_policy_loss,
        clipped_value_loss=clipped_value_loss,
    )

    def runs(sft, reward_model, ppo):
        model = ScalarModel.from_policy(gpt2, 0)
        sft_config = SFTConfig(1, 4, max_tokens=40)
        return [
            *train_sft(copy.deepcopy(gpt2), tokenizer, SHOWN, sft_config, **sft),
            *train_reward(model, tokenizer, RANKED, RewardConfig(1, 4), **reward_model),
            *train_ppo(copy.deepcopy(gpt2), count_e, tokenizer, PROMPTS, PPO, **ppo),
        ]

    packages = runs({}, {}, {})
    mine = runs({"label_mask": label_mask}, {"pair_loss": pair_loss}, own)
    for record, other in zip(mine, packages, strict=True):
        assert record == pytest.approx(other, abs=2e-3)


def test_a_formula_that_is_wrong_is_seen_in_the_run(gpt2, tokenizer):
    def backwards(*given):
        return -maths.clipped_policy_loss(*given)

    def last_score(**formula):
        model, config = copy.deepcopy(gpt2), PPOConfig(15, 64, 3, 1, 3e-3, beta=0, max_new_tokens=6)
        return list(train_ppo(model, count_e, tokenizer, PROMPTS, config, **formula))[-1]

    right, wrong = last_score(), last_score(clipped_policy_loss=backwards)
    assert right["objective/scores"] > wrong["objective/scores"] + 0.1


@pytest.mark.parametrize(
    ("formula", "function", "said"),
    [
        ("kl_rewards", lambda s, *_: s, r"kl_rewards returned shape \(8,\): return \(B, N\)"),
        ("whiten", lambda x, mask: x[mask], "whiten returned shape"),
        ("gae", lambda r, v, *_: (r, r[:, :1]), r"gae returned shape \(8, 1\)"),
        ("clipped_policy_loss", lambda new, *_: -new, "a loss has shape .*: return one number"),
    ],
)
def test_a_formula_of_another_shape_is_named(formula, function, said, gpt2, tokenizer):
    with pytest.raises(UserError, match=said):
        next(train_ppo(gpt2, count_e, tokenizer, PROMPTS, PPO, **{formula: function}))


@pytest.mark.parametrize(
    ("label_mask", "said"),
    [
        (lambda t, *_: t, "label_mask returned torch.int64"),
        (lambda t, *_: torch.ones_like(t, dtype=torch.bool), "a row's first token"),
        (lambda t, *_: torch.zeros_like(t, dtype=torch.bool), "marks no token"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(label_mask, said, gpt2, tokenizer):
    with pytest.raises(UserError, match=said):
        next(train_sft(gpt2, tokenizer, SHOWN, label_mask=label_mask))


def test_sft_can_learn_the_prompt_too(gpt2, tokenizer):
    """With every token but the first labelled the loss is that of transformers' own labels."""

    def all_but_the_first(tokens, starts, end_id, pad_id):
        return (torch.arange(tokens.shape[1]) > 0) & (tokens != pad_id)

    before = copy.deepcopy(gpt2)
    config = SFTConfig(batch_size=1)
    record = next(train_sft(gpt2, tokenizer, SHOWN[:1], config, label_mask=all_but_the_first))
    [shown] = SHOWN[:1]
    ids = tokenizer.encode(f"{shown.prompt.text} {shown.response}") + [tokenizer.eos_token_id]
    whole = before(torch.tensor([ids]), labels=torch.tensor([ids])).loss
    assert record["loss/sft"] == pytest.approx(float(whole), abs=1e-5)
    assert record["tokens"] == len(ids) - 1
