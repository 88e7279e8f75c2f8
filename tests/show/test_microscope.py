"""The microscope's numbers: what PPO computed, identities that hold, and a file that keeps all."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers import refusal

from rlhf_lab import maths, ppo
from rlhf_lab.disk.data import shipped
from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Prompt
from rlhf_lab.sequences import Sequences, response_logprobs, response_values
from rlhf_lab.show.microscope import (
    PER_TOKEN,
    SavedRollout,
    Settings,
    load_rollout,
    recompute,
    save_rollout,
    saved_rollout,
    spread_by_score,
    token_table,
    token_texts,
)

PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["ab:", "c:", "a long one:", "xyz:"] * 2)]
CONFIG = ppo.PPOConfig(
    updates=2,
    batch_size=8,
    epochs=1,
    learning_rate=3e-3,
    max_new_tokens=12,
    beta=0.1,
    lam=0.9,
    gamma=0.95,
    epsilon=0.1,
    value_epsilon=0.3,
)

CLOSE = dict(atol=1e-5, rtol=0)


def by_hand() -> SavedRollout:
    """Two responses of 3 and 2 tokens; the padding holds nan, which must show up nowhere."""
    nan = float("nan")
    mask = torch.tensor([[True, True, True], [True, True, False]])
    tokens = torch.tensor([[1, 5, 6, 0], [1, 7, 0, 9]])
    attention = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    sequences = Sequences(tokens, attention, mask, torch.tensor([1, 1]))
    return SavedRollout(
        prompts=("p", "q"),
        texts=("ab", "c"),
        token_texts=(("a", "b", "END"), ("c", "END")),
        sequences=sequences,
        ended=torch.tensor([True, False]),
        scores=torch.tensor([1.0, 0.5]),
        logprobs=torch.tensor([[-1.0, -2.0, -0.5], [-1.0, -1.0, nan]]),
        ref_logprobs=torch.tensor([[-2.0, -1.5, -0.5], [-1.0, -3.0, nan]]),
        new_logprobs=torch.tensor([[-0.5, -2.0, -0.5], [-2.0, -1.0, nan]]),
        values=torch.tensor([[0.2, 0.4, 0.6], [0.1, 0.3, nan]]),
        new_values=torch.tensor([[0.2, 0.4, 0.6], [0.1, 0.3, nan]]),
        settings=Settings(beta=0.1, gamma=1.0, lam=0.95, epsilon=0.2),
        metrics={},
    )


@pytest.fixture
def trained(gpt2, tokenizer, monkeypatch):
    """The second update of a tiny PPO run: (rollout as PPO left it, SavedRollout, its record)."""
    seen, optimise = [], ppo.optimise
    monkeypatch.setattr(
        ppo,
        "optimise",
        lambda policy, value, rollout, *rest: (
            seen.append(rollout),
            optimise(policy, value, rollout, *rest),
        )[1],
    )
    reference = copy.deepcopy(gpt2)
    value_model = ScalarModel.from_policy(reference, 3)
    run = ppo.train_ppo(
        gpt2,
        lambda prompts, texts: [t.count("e") - 1.0 for t in texts],
        tokenizer,
        PROMPTS,
        CONFIG,
        value_model=value_model,
    )
    next(run)
    record = next(run)
    rollout = seen[-1]
    new_logprobs, _ = response_logprobs(gpt2, rollout.sequences)
    new_values = response_values(value_model, rollout.sequences)
    saved = saved_rollout(rollout, CONFIG, tokenizer, new_logprobs, new_values, record)
    return rollout, saved, record


def test_the_saved_settings_give_what_ppo_computed(trained):
    rollout, saved, record = trained
    numbers = recompute(saved)
    for name in ("rewards", "advantages", "returns"):
        torch.testing.assert_close(getattr(numbers, name), getattr(rollout, name), **CLOSE)
    assert float(numbers.scores.mean()) == pytest.approx(record["objective/scores"], abs=1e-5)
    assert float(numbers.kl.sum(1).mean()) == pytest.approx(record["objective/kl"], abs=1e-5)
    # One epoch and one minibatch: the loss that the run logged is that of the unmoved policy.
    unmoved = recompute(replace(saved, new_logprobs=saved.logprobs, new_values=saved.values))
    assert unmoved.policy_loss == pytest.approx(record["loss/policy_avg"], abs=1e-5)
    assert unmoved.value_loss == pytest.approx(record["loss/value_avg"], abs=1e-5)
    assert (numbers.ratio - 1).abs().max() > 1e-3  # and the update did move it


def test_without_an_update_every_ratio_is_one(trained, tokenizer):
    rollout, _, _ = trained
    numbers = recompute(saved_rollout(rollout, CONFIG, tokenizer))
    assert (numbers.ratio == 1).all() and not numbers.clipped.any()


def test_the_run_s_own_beta_counts_where_it_adapts(trained, tokenizer):
    rollout, _, record = trained
    saved = saved_rollout(rollout, CONFIG, tokenizer, metrics=record | {"objective/beta": 0.3})
    assert saved.settings.beta == 0.3


def test_by_hand():
    numbers = recompute(by_hand())
    # The second response was cut off: min(0.5, 0) - 1.
    torch.testing.assert_close(numbers.scores, torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(numbers.rewards[0], torch.tensor([-0.1, 0.05, 1.0]))
    torch.testing.assert_close(numbers.raw_advantages[0], torch.tensor([0.6985, 0.63, 0.4]))
    torch.testing.assert_close(numbers.rewards[1], torch.tensor([0.0, -1.2, 0.0]))
    # delta = -1.2 - 0.3, then 0.3 - 0.1 + 0.95 * -1.5
    torch.testing.assert_close(numbers.raw_advantages[1], torch.tensor([-1.225, -1.5, 0.0]))
    # Ratios e^0.5 with A > 0 and e^-1 with A < 0: for both the clip takes the gradient away.
    assert numbers.clipped.tolist() == [[True, False, False], [True, False, False]]
    assert numbers.clip_share == pytest.approx(2 / 5)
    torch.testing.assert_close(numbers.pull[0, 1:], numbers.advantages[0, 1:])  # ratio 1
    for name, number in vars(numbers).items():
        assert name == "settings" or not torch.as_tensor(number).isnan().any(), name


def test_a_clip_range_wide_enough_clips_nothing():
    assert not recompute(by_hand(), epsilon=0.7).clipped.any()


def test_a_token_far_off_in_the_bad_direction_keeps_its_pull():
    """(ratio 1.65, A < 0) is beyond the range, and yet the clip must not take its gradient."""
    rollout = replace(by_hand(), scores=torch.tensor([-5.0, 5.0]), ended=torch.tensor([True, True]))
    numbers = recompute(rollout)
    assert numbers.advantages[0, 0] < 0 and numbers.ratio[0, 0] > 1.2
    assert not numbers.clipped[0, 0]
    expected = numbers.advantages[0, 0] * numbers.ratio[0, 0]
    torch.testing.assert_close(numbers.pull[0, 0], expected)


SETTINGS = [
    {},
    {"beta": 0.0},
    {"beta": 1.0, "lam": 0.0},
    {"gamma": 0.9, "lam": 1.0, "epsilon": 0.05},
]


@pytest.mark.parametrize("given", SETTINGS, ids=str)
def test_identities_on_the_shipped_rollout(given):
    rollout = load_rollout(shipped("rollout.safetensors"))
    numbers, mask = recompute(rollout, **given), rollout.mask
    s = numbers.settings
    assert {name: getattr(s, name) for name in given} == given
    assert [getattr(s, n) for n in ("beta", "gamma", "lam", "epsilon") if n not in given] == [
        getattr(rollout.settings, n) for n in ("beta", "gamma", "lam", "epsilon") if n not in given
    ]
    earned = numbers.scores - s.beta * numbers.kl.sum(1)
    torch.testing.assert_close(numbers.rewards.sum(1), earned, **CLOSE)
    returns = (numbers.raw_advantages + rollout.values) * mask
    torch.testing.assert_close(numbers.returns, returns, **CLOSE)
    following = torch.nn.functional.pad(rollout.values[:, 1:], (0, 1))
    surprise = (numbers.rewards + s.gamma * following - rollout.values) * mask
    later = torch.nn.functional.pad(numbers.raw_advantages[:, 1:], (0, 1))
    expected = surprise + s.gamma * s.lam * later
    torch.testing.assert_close(numbers.raw_advantages, expected, **CLOSE)
    real = numbers.advantages[mask]
    assert float(real.mean()) == pytest.approx(0, abs=1e-4)
    assert float(real.std(unbiased=False)) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(numbers.ratio, (rollout.new_logprobs - rollout.logprobs).exp())
    assert float(numbers.clipped.sum() / mask.sum()) == pytest.approx(numbers.clip_share, abs=1e-6)
    for name in ("kl", "rewards", "raw_advantages", "advantages", "returns", "pull", "clipped"):
        assert not getattr(numbers, name)[~mask].any(), name


def test_with_lambda_and_gamma_one_the_advantage_is_what_came_later_minus_the_value():
    rollout = load_rollout(shipped("rollout.safetensors"))
    numbers = recompute(rollout, gamma=1.0, lam=1.0)
    later = numbers.rewards.flip(1).cumsum(1).flip(1)
    expected = (later - rollout.values) * rollout.mask
    torch.testing.assert_close(numbers.raw_advantages, expected, **CLOSE)


def test_the_shipped_rollout_is_that_of_its_record():
    rollout = load_rollout(shipped("rollout.safetensors"))
    numbers, record = recompute(rollout), rollout.metrics
    assert len(rollout.texts) == 32 and 0 < record["update"] < record["updates"]
    assert float(numbers.scores.mean()) == pytest.approx(record["objective/scores"], abs=1e-4)
    assert float(numbers.kl.sum(1).mean()) == pytest.approx(record["objective/kl"], abs=1e-4)
    earned = float(numbers.rewards.sum(1).mean())
    assert earned == pytest.approx(record["objective/rlhf_reward"], abs=1e-4)
    for texts, text, real in zip(rollout.token_texts, rollout.texts, rollout.mask, strict=True):
        assert len(texts) == int(real.sum())
        assert "".join(texts).removesuffix("<|endoftext|>").strip() == text


def test_the_table_has_a_line_for_every_real_token_and_no_more():
    rollout = by_hand()
    table = token_table(rollout, 1)
    assert table["text"].tolist() == ["c", "END"]
    assert table["logprob"].tolist() == [-1.0, -1.0]
    assert table["kl"].tolist() == [0.0, 2.0]
    assert table["ratio"].tolist() == pytest.approx([0.36788, 1.0], abs=1e-4)
    assert table["clipped"].tolist() == [True, False]
    assert not table.isna().any().any()
    assert token_table(rollout, 1, recompute(rollout, beta=0.0))["reward"].tolist() == [0.0, -1.0]
    for row in (2, -1, 0.0, True, "0"):
        assert "a row from 0 to 1" in refusal(token_table, rollout, row)


def test_rows_are_spread_from_the_lowest_to_the_highest_score():
    rollout = load_rollout(shipped("rollout.safetensors"))
    rows = spread_by_score(rollout, 12)
    scores = rollout.scores[rows]
    assert len(set(rows)) == 12 and (scores.diff() >= 0).all()
    assert scores[0] == rollout.scores.min() and scores[-1] == rollout.scores.max()
    assert sorted(spread_by_score(rollout, 99)) == list(range(32))


def test_a_file_keeps_everything(trained, tmp_path):
    _, saved, _ = trained
    path = tmp_path / "mine.safetensors"
    save_rollout(saved, path)
    back = load_rollout(path)
    for name in ("prompts", "texts", "token_texts", "settings", "metrics"):
        assert getattr(back, name) == getattr(saved, name)
    for name in (*PER_TOKEN, "scores", "ended"):
        assert torch.equal(getattr(back, name), getattr(saved, name))
    for name in ("tokens", "attention", "mask", "starts"):
        first, second = getattr(back.sequences, name), getattr(saved.sequences, name)
        assert torch.equal(first, second) and first.dtype == second.dtype


def test_files_that_are_no_rollout_are_refused(tmp_path):
    assert "missing" in refusal(load_rollout, tmp_path / "missing.safetensors")
    (tmp_path / "text").write_text("hello")
    assert "could not read" in refusal(load_rollout, tmp_path / "text")
    assert "is not a rollout" in refusal(load_rollout, shipped("sft") / "model.safetensors")


def test_token_texts_add_up_to_the_whole(tokenizer):
    ids = tokenizer.encode("a b\n  c") + [tokenizer.eos_token_id]
    assert "".join(token_texts(tokenizer, ids)) == "a b\n  c<|end|>"
    halves = token_texts(tokenizer, tokenizer.encode("aé!"))  # two bytes, two tokens
    assert (halves[0], halves[-1], len(halves)) == ("a", "!", 4)
    assert all(halves)


def test_the_clip_agrees_with_its_definition():
    rollout = load_rollout(shipped("rollout.safetensors"))
    numbers = recompute(rollout, epsilon=0.1)
    up = (numbers.advantages > 0) & (numbers.ratio > 1.1)
    down = (numbers.advantages < 0) & (numbers.ratio < 0.9)
    assert torch.equal(numbers.clipped, (up | down) & rollout.mask)
    assert numbers.clipped.any() and maths.masked_mean(numbers.pull.abs(), rollout.mask) > 0
