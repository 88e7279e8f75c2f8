"""PPO against TRL's PPOTrainer on the same responses: what docs/from-trl.md says of the numbers.

TRL is no dependency: install the last release that has the trainer (1.12.0) beside the lab to run
these.
"""

from dataclasses import fields, replace
from functools import partial
from inspect import signature

import pytest
import torch

theirs = pytest.importorskip(
    "trl.experimental.ppo.ppo_trainer",
    reason="TRL 1.12.0, the last release with a PPO trainer, is not installed",
)

from datasets import Dataset
from test_from_trl import names, rows
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, TrainerCallback

from rlhf_lab import maths, ppo, rollout
from rlhf_lab.models import ScalarModel
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Prompt
from rlhf_lab.sampling import Samples
from rlhf_lab.sequences import Sequences, response_logprobs
from rlhf_lab.text import encode_prompt, pad_left, pad_right
from rlhf_lab.training import shuffled

TEXTS = ["ab:", "c:", "a long one:", "xyz:", "de:", "f:", "another one:", "w w"]
PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(TEXTS)]
LENGTHS = [10, 3, 5, 10, 7, 2, 1, 4]  # of responses, end token and all
CONFIG = PPOConfig(
    updates=10**6,  # so that the learning rate does not fall within the one update that is made
    batch_size=8,
    epochs=2,
    minibatches=2,
    learning_rate=1e-3,
    temperature=0.7,
    max_new_tokens=10,
    beta=0.3,
)
OBJECTIVE = [
    "objective/kl",
    "objective/entropy",
    "objective/scores",
    "objective/non_score_reward",
    "objective/rlhf_reward",
]
STEPS = [
    "policy/approxkl_avg",
    "policy/clipfrac_avg",
    "loss/policy_avg",
    "loss/value_avg",
    "val/clipfrac_avg",
    "val/ratio",
]


class Both:
    """One update by either trainer, from the same models and on the same responses."""

    def __init__(self, monkeypatch, folder, policy, reference, tokenizer):
        self.patch, self.folder, self.tokenizer = monkeypatch, folder, tokenizer
        policy.save_pretrained(folder / "policy")
        reference.save_pretrained(folder / "reference")
        for seed, name in enumerate(("reward", "value"), start=5):
            ScalarModel.from_policy(policy, seed).save(folder / name, tokenizer)
        self.say(LENGTHS)

    def say(self, lengths: list[int], end: bool = True) -> None:
        """Let the policy answer so: random letters, then the end token or, unless `end`, one more
        letter where there is no room for another token."""
        draw = torch.Generator().manual_seed(0)
        self.said, longest = {}, CONFIG.max_new_tokens
        for prompt, length in zip(PROMPTS, lengths, strict=True):
            row = torch.randint(97, 123, (length,), generator=draw).tolist()
            if end or length < longest:
                row[-1] = self.tokenizer.eos_token_id
            self.said[tuple(encode_prompt(self.tokenizer, prompt.text))] = row

    def run(self, config: PPOConfig):
        """TRL's metrics, the lab's record, and the lab's rollout."""
        logged, rows = self.trl(config)
        return logged, *self.lab(config, rows)

    def load(self, kind, name):
        return kind.from_pretrained(self.folder / name)

    def trl(self, config: PPOConfig, copies: int = 1, **settings):
        """The metrics of TRL's update, and the prompts in the order of its batch. copies: of the
        prompts in its data. settings: more of TRL's."""
        rows, logged, orders = [], {}, iter(range(config.epochs))

        def generation(model, queries, size, pad, generation_config):
            rows.extend(tuple(query[query != pad].tolist()) for query in queries)
            responses, _ = pad_right([self.said[row] for row in rows], pad)
            whole = torch.cat([queries, responses], 1)
            logits = theirs.forward(model, whole, pad).logits[:, queries.shape[1] - 1 : -1]
            return whole, logits / (config.temperature + 1e-7)

        class Keep(TrainerCallback):
            def on_log(self, args, state, control, logs=None, **kwargs):
                logged.update(logs)

        def permutation(count):
            return shuffled(count, "ppo", config.seed, 1, next(orders))

        self.patch.setattr(theirs, "batch_generation", generation)
        self.patch.setattr(theirs.np.random, "permutation", permutation)
        theirs.PPOTrainer(
            args=theirs.PPOConfig(**arguments(config, self.folder) | settings),
            processing_class=self.tokenizer,
            model=self.load(AutoModelForCausalLM, "policy"),
            ref_model=self.load(AutoModelForCausalLM, "reference"),
            reward_model=self.load(AutoModelForSequenceClassification, "reward"),
            value_model=self.load(AutoModelForSequenceClassification, "value"),
            train_dataset=Dataset.from_list([{"input_ids": list(r)} for r in self.said] * copies),
            data_collator=self.padded,
            callbacks=[Keep()],
        ).train()
        return logged, rows

    def padded(self, rows) -> dict:
        """A batch of prompts as TRL wants it."""
        return {
            "input_ids": pad_left([r["input_ids"] for r in rows], self.tokenizer.pad_token_id)[0]
        }

    def lab(self, config: PPOConfig, rows: list[tuple[int, ...]]):
        """The lab's record of the same update, and its rollout."""
        prompts = {tuple(encode_prompt(self.tokenizer, p.text)): p for p in PROMPTS}
        kept, optimise = [], ppo.optimise

        def sample(policy, tokenizer, encoded, seeds, settings, batch_size):
            said = [self.said[tuple(row)] for row in encoded]
            return samples_of(policy, tokenizer, encoded, said, settings)

        def keep(policy, value_model, rolled, *more):
            kept.append(rolled)
            return optimise(policy, value_model, rolled, *more)

        with self.patch.context() as patch:
            patch.setattr(rollout, "sample", sample)
            patch.setattr(ppo, "batch_of", lambda *_: [prompts[row] for row in rows])
            patch.setattr(ppo, "optimise", keep)
            record = next(
                train_ppo(
                    self.load(AutoModelForCausalLM, "policy"),
                    ScalarModel.load(self.folder / "reward").requires_grad_(False),
                    self.tokenizer,
                    PROMPTS,
                    config,
                    value_model=self.value_model(),
                    reference=self.load(AutoModelForCausalLM, "reference"),
                    whiten=maths.whiten,  # which a test may have changed
                )
            )
        return record, kept[0]

    def value_model(self) -> ScalarModel:
        """The lab's, whose head has a bias that here stays 0: TRL's has none."""
        model = ScalarModel.load(self.folder / "value")
        model.head.bias.requires_grad_(False)
        return model


def arguments(config: PPOConfig, folder) -> dict:
    """The lab's settings under TRL's names, as the page has them; one update, no reports."""
    return {
        "output_dir": str(folder / "out"),
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "total_episodes": config.batch_size,
        "per_device_train_batch_size": config.batch_size,
        "num_ppo_epochs": config.epochs,
        "num_mini_batches": config.minibatches,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "adam_epsilon": 1e-5,
        "kl_coef": config.beta,
        "gamma": config.gamma,
        "lam": config.lam,
        "cliprange": config.epsilon,
        "cliprange_value": config.value_epsilon,
        "vf_coef": config.value_coefficient,
        "missing_eos_penalty": config.no_end_penalty,
        "whiten_rewards": config.whiten_rewards,
        "temperature": config.temperature,
        "response_length": config.max_new_tokens,
        "stop_token": "eos",
    }


def samples_of(policy, tokenizer, prompts, said, settings) -> Samples:
    """Given responses as if they had been drawn."""
    pad = tokenizer.pad_token_id
    sequences = Sequences.of_tokens(prompts, said, pad)
    logprobs, _ = response_logprobs(policy, sequences, settings.temperature)
    (before, attention), (behind, real) = pad_left(prompts, pad), pad_right(said, pad)
    return Samples(
        torch.cat([before, behind], 1),
        torch.cat([attention, real], 1),
        sequences.mask,
        logprobs,
        torch.tensor([tokenizer.eos_token_id in row for row in said]),
    )


@pytest.fixture
def both(monkeypatch, tmp_path, make_gpt2, tokenizer) -> Both:
    policy = make_gpt2(tokenizer, initializer_range=0.1)
    reference = make_gpt2(tokenizer, initializer_range=0.11)
    return Both(monkeypatch, tmp_path, policy, reference, tokenizer)


@pytest.fixture
def as_trl_steps(monkeypatch):
    """The lab without its gradient clipping, and with whitening by n - 1 where it takes n."""

    def whiten(x, mask, keep_mean=False):
        n, mean = mask.sum(), maths.masked_mean(x, mask) if keep_mean else 0.0
        return ((plain(x, mask, keep_mean) - mean) * ((n - 1) / n).sqrt() + mean) * mask

    plain = maths.whiten
    monkeypatch.setattr(maths, "whiten", whiten)
    monkeypatch.setattr(ppo, "Optimiser", partial(ppo.Optimiser, max_norm=1e9))


@pytest.fixture
def advantages(monkeypatch) -> list:
    """TRL's advantages before they are whitened."""

    def whiten(values, mask, shift_mean=True):
        kept.append(values.clone())
        return plain(values, mask, shift_mean)

    kept, plain = [], theirs.masked_whiten
    monkeypatch.setattr(theirs, "masked_whiten", whiten)
    return kept


def close(found, wanted):
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("minibatches", "whiten_rewards"), [(2, False), (1, True)])
def test_all_is_the_same_where_all_responses_are_equally_long(
    both, as_trl_steps, minibatches, whiten_rewards
):
    both.say([10] * 8)
    config = replace(CONFIG, minibatches=minibatches, whiten_rewards=whiten_rewards)
    logged, record, _ = both.run(config)
    assert record["policy/clipfrac_avg"] > 0.1 and record["val/clipfrac_avg"] > 0.1
    for name in OBJECTIVE + STEPS:
        close(logged[name], record[name])
    assert logged["episode"] == record["episode"] and logged["lr"] == record["lr"]


def test_entropy_is_that_of_the_first_epoch_here_and_of_all_there(both, as_trl_steps):
    both.say([10] * 8)
    name = "policy/entropy_avg"
    once, twice = both.run(replace(CONFIG, epochs=1)), both.run(CONFIG)
    close(once[0][name], once[1][name])
    close(twice[1][name], once[1][name])
    assert abs(twice[0][name] - once[0][name]) > 1e-3


def test_the_objective_is_the_same_whatever_the_lengths(both):
    logged, record, _ = both.run(CONFIG)
    for name in OBJECTIVE:
        close(logged[name], record[name])
    assert logged["val/num_eos_tokens"] == 8 * record["response/ended"]


def test_trl_puts_the_score_one_place_behind_the_end(both, advantages):
    logged, _, rolled = both.run(replace(CONFIG, epochs=1, minibatches=1))
    sequences, mask, (B, N) = rolled.sequences, rolled.mask, rolled.mask.shape
    lengths, rows = mask.sum(1), torch.arange(B)
    longer = torch.arange(N) <= lengths[:, None]  # one place more, where there is room
    last = lengths.clamp(max=N - 1)
    with torch.no_grad():
        every = both.value_model()(sequences.tokens, sequences.attention)
    values, rewards = rolled.values.clone(), -CONFIG.beta * (rolled.logprobs - rolled.ref_logprobs)
    values[rows, last] = every[rows, sequences.starts + last - 1]
    rewards[rows, last] += rolled.scores
    raw, _ = maths.gae(rewards, values, longer, CONFIG.gamma, CONFIG.lam)
    torch.testing.assert_close(advantages[0][mask], raw[mask], atol=1e-5, rtol=1e-4)
    close(logged["loss/value_avg"], float(maths.masked_mean(raw.square(), longer)) / 2)

    # So the score weighs less by lam, and the rest is the value after the end (gamma is 1).
    mine, _ = maths.gae(rolled.rewards, rolled.values, mask, CONFIG.gamma, CONFIG.lam)
    ends = (lengths < N).nonzero().squeeze(1)
    difference = (1 - CONFIG.lam) * (values[rows, last] - rolled.scores)
    torch.testing.assert_close(
        (advantages[0] - mine)[ends, lengths[ends] - 1], difference[ends], atol=1e-5, rtol=1e-4
    )
    assert difference[ends].abs().max() > 1e-3


def test_trl_counts_padding_in_ratio_and_approxkl(both, advantages, as_trl_steps, monkeypatch):
    """On TRL's advantages, as those differ (see above)."""
    gae = maths.gae
    monkeypatch.setattr(maths, "gae", lambda *args: (advantages[0], gae(*args)[1]))
    logged, record, rolled = both.run(replace(CONFIG, minibatches=1))
    share = float(rolled.mask.float().mean())
    assert share < 0.6 and record["policy/approxkl_avg"] > 0.01
    close(logged["policy/approxkl_avg"], share * record["policy/approxkl_avg"])
    close(logged["val/ratio"], share * record["val/ratio"] + 1 - share)
    close(logged["policy/clipfrac_avg"], record["policy/clipfrac_avg"])
    close(logged["loss/policy_avg"], record["loss/policy_avg"])


def test_a_missing_end_is_subtracted_there_and_costs_at_least_that_here(both):
    both.say(LENGTHS, end=False)
    logged, record, rolled = both.run(CONFIG)
    assert int((~rolled.ended).sum()) == 2 and rolled.scores[~rolled.ended].max() > 0
    close(logged["objective/scores"], float((rolled.scores - (~rolled.ended).float()).mean()))
    held = torch.where(rolled.ended, rolled.scores, rolled.scores.clamp(max=0) - 1)
    close(record["objective/scores"], float(held.mean()))


def test_trl_clips_no_gradient(both, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("clipped")

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", refuse)
    monkeypatch.setattr(theirs.Accelerator, "clip_grad_norm_", refuse)
    logged, _ = both.trl(CONFIG, max_grad_norm=1e-3)
    assert logged["policy/approxkl_avg"] > 0


@pytest.mark.parametrize(("rows", "pieces", "steps"), [(8, 1, 4), (4, 2, 2)])
def test_in_trl_accumulation_undoes_minibatches(both, monkeypatch, rows, pieces, steps):
    """Two epochs of two minibatches are four steps; with two accumulated pieces, two. And what is
    logged is then half of it."""
    made, step = [], torch.optim.AdamW.step

    def counted(*args, **more):
        made.append(1)
        return step(*args, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    sizes = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": pieces}
    logged, _ = both.trl(
        CONFIG, copies=2, **sizes
    )  # at its data's end TRL makes a step in any case
    assert len(made) == steps
    assert logged["val/ratio"] == pytest.approx(1 / pieces, abs=0.2)


def test_the_page_has_every_setting_of_trl_with_its_default():
    table = [row for row in rows("Settings") if len(row) == 5]
    stated = {name: row[1] for row in table for name in names(row[0])}
    for item in fields(theirs.PPOConfig):
        if item.name in theirs.PPOConfig.__annotations__ or item.name in stated:
            assert item.name in stated, item.name
            value = stated[item.name]
            default = float(value) if isinstance(item.default, float) else value.strip('"')
            assert default == item.default or default == str(item.default), item.name
    arguments = {name for row in rows("Settings") if len(row) == 3 for name in names(row[0])}
    assert set(signature(theirs.PPOTrainer).parameters) <= arguments


def test_the_page_has_every_metric_of_trl(both):
    logged, _ = both.trl(CONFIG)
    assert logged.keys() <= {name for row in rows("Metrics") for name in names(row[0])}
