"""Each alarm: raised by the fault it is for, silent one step short of it, silent on a real run."""

import gzip
import json
import random
import re
from pathlib import Path

import pytest
import torch

from rlhf_lab import maths, rollout
from rlhf_lab.alternatives.grpo import GRPOConfig, train_grpo
from rlhf_lab.alternatives.rloo import RLOOConfig, train_rloo
from rlhf_lab.disk.data import base_model, data_folder, shipped
from rlhf_lab.models import load_policy, load_tokenizer
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.sequences import Sequences, in_batches, response_logprobs
from rlhf_lab.show.alarms import RULES, alarms, ratio_not_one, score_up_mark_down
from rlhf_lab.tasks import load_task
from rlhf_lab.text import encode_prompt

ROOT = Path(__file__).resolve().parents[2]


def run(updates=20, **changes):
    """Records of a run in which all is well, but for `changes`: {metric: f(update)}."""
    well = {
        "objective/kl": lambda u: 0.2 * (u - 1),
        "objective/kl_se": lambda u: 0.1,
        "objective/scores": lambda u: 0.1 * u + 0.01 * (u % 2),
        "objective/rlhf_reward": lambda u: 0.08 * u + 0.01 * (u % 2),
        "policy/entropy_avg": lambda u: 0.5 - 0.01 * u,
        "response/ended": lambda u: 0.99,
        "val/approxkl_first": lambda u: 1e-13,
        "val/clipfrac_first": lambda u: 0.0,
        "val/log_ratio_first": lambda u: 5e-6,
        "judge/mark": lambda u: 6 + 0.1 * u + 0.01 * (u % 2),
    }
    named = {name.replace("_per_", "/"): f for name, f in changes.items()}
    return [
        {"stage": "ppo", "update": u, "updates": updates}
        | {name: f(u) for name, f in (well | named).items()}
        for u in range(1, updates + 1)
    ]


def raised(*records):
    return [alarm.name for alarm in alarms(*records)]


def test_a_healthy_run_raises_none_at_any_point():
    assert all(raised(run()[:n]) == [] for n in range(21))


def test_the_shipped_run_raises_none_at_any_point():
    rows = [json.loads(line) for line in shipped("metrics.jsonl").read_text().splitlines()]
    ppo = [row for row in rows if row["stage"] == "ppo"]
    assert len(ppo) == 50
    assert all(raised(rows[:n]) == [] for n in range(len(rows) - 50, len(rows) + 1))


def test_a_real_run_that_games_its_reward_model_is_told_of_before_half_is_lost():
    """Sixty rankings and no price on the KL: the mark rises from 6.6 to 8.5 and falls to 2."""
    path = data_folder() / "hacking/60_rankings-beta_0/0/metrics.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    rows = [r | {"stage": "ppo", "objective/rlhf_reward": r["objective/scores"]} for r in rows]
    first = next(n for n in range(len(rows)) if "score-up-mark-down" in raised(rows[:n]))
    marks = [row["judge/mark"] for row in rows]
    assert min(marks[:first]) > (max(marks) + min(marks)) / 2


@pytest.mark.parametrize(
    "name, metric, fault, short_of_it",
    [
        ("ratio-not-one", "val/approxkl_first", lambda u: 3e-4, lambda u: 1e-4),
        ("ratio-not-one", "val/clipfrac_first", lambda u: 0.02, lambda u: 0.005),
        ("ratio-not-one", "val/log_ratio_first", lambda u: 0.6, lambda u: 0.3),
        (
            "kl-negative",
            "objective/kl",
            lambda u: -0.3,
            lambda u: -0.22,
        ),  # the standard error is 0.1
        ("kl-negative", "objective/kl", lambda u: -0.3, lambda u: -0.3 if u == 20 else 0.1),
        ("kl-runaway", "objective/kl", lambda u: 1.15**u, lambda u: 0.45 * u),
        ("kl-runaway", "objective/kl", lambda u: 21.0, lambda u: 19.0),
        ("responses-never-end", "response/ended", lambda u: 0.79, lambda u: 0.81),
        (
            "entropy-collapse",
            "policy/entropy_avg",
            lambda u: 0.5 if u == 1 else 0.07,
            lambda u: 0.5 if u == 1 else 0.08,
        ),
        (
            "score-up-mark-down",
            "judge/mark",
            lambda u: 6 + 0.1 * min(u, 20 - u),
            lambda u: 6 + 0.1 * min(u, 10),
        ),
        ("reward-flat", "objective/rlhf_reward", lambda u: 0.1 * (u % 2), lambda u: 0.02 * u),
    ],
)
def test_a_fault_raises_its_alarm_and_a_smaller_one_does_not(name, metric, fault, short_of_it):
    assert raised(run(**{metric.replace("/", "_per_"): fault})) == [name]
    assert raised(run(**{metric.replace("/", "_per_"): short_of_it})) == []


def test_a_falling_mark_is_no_alarm_while_the_score_falls_too():
    there_and_back = lambda u: 6 + 0.1 * min(u, 20 - u)  # noqa: E731
    both = run(judge_per_mark=there_and_back, objective_per_scores=there_and_back)
    assert "score-up-mark-down" not in raised(both)


def test_without_a_judge_and_in_other_stages_nothing_is_said_of_marks():
    records = run(judge_per_mark=lambda u: 9 - 0.1 * u)
    assert raised([{k: v for k, v in r.items() if k != "judge/mark"} for r in records]) == []
    assert raised([{"stage": "sft", "update": 1, "updates": 1, "loss/sft": 2.0}]) == []


@pytest.mark.parametrize("stage", ["rloo", "grpo"])
def test_other_policy_gradients_raise_the_same_alarms(stage):
    records = [r | {"stage": stage} for r in run(objective_per_kl=lambda u: -0.3)]
    assert raised(records) == ["kl-negative"]


def test_the_words_hold_the_figures():
    text = alarms(run(objective_per_kl=lambda u: -0.3))[0].text
    assert "-0.30 nats" in text
    text = alarms(run(judge_per_mark=lambda u: 6 + 0.1 * min(u, 20 - u)))[0].text
    # The windows of updates 8 to 12 and 16 to 20: marks 6.88 and 6.2, scores 1.0 and 1.8.
    assert "Since update 12" in text and "risen by 0.80" in text and "fell by 0.68" in text


def test_every_alarm_has_its_paragraph():
    page = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
    assert re.findall(r'<a id="(.+?)">', page) == list(RULES)
    assert re.findall(r"\]\(#(.+?)\)", page) == list(RULES)


# ---- the ratio before anything is learned --------------------------------------------------------

FAULTS = ("temperature", "dropout", "one late", "padding")


@pytest.fixture(scope="module")
def first_minibatches():
    """{fault: (log-probs of training, of sampling, mask)} of 520 responses of the shipped SFT
    policy; "none" is the policy as it should be."""
    policy, tokenizer = load_policy(shipped("sft")), load_tokenizer(base_model())
    prompts = [encode_prompt(tokenizer, p.text) for p in load_task("support_desk").prompts(0, 520)]
    torch.manual_seed(0)

    def drawn(temperature):
        config = SamplingConfig(16, temperature)
        samples = sample(policy, tokenizer, prompts, range(520), config, batch_size=520)
        return Sequences.of_samples(samples, tokenizer.pad_token_id), samples.logprobs

    def read(model, s, shift=0, left=False):
        """Plain transformers, without telling it the positions."""
        rows = []
        for some in torch.arange(520).split(104):
            part, width = s.rows(some), int(s.rows(some).lengths.max())
            pads = width - part.lengths if left else torch.zeros(104, dtype=torch.long)
            columns = torch.arange(width)[None] - pads[:, None]
            tokens = part.tokens.gather(1, columns.clamp(0, part.tokens.shape[1] - 1))
            ids = torch.arange(width).expand(104, width)
            logits = model(tokens, attention_mask=(columns >= 0).long(), position_ids=ids).logits
            N = s.mask.shape[1]
            at = (part.starts + pads)[:, None] + torch.arange(N) - 1
            before = (at + shift).clamp(max=width - 1)
            own = tokens.gather(1, (at + 1).clamp(max=width - 1))
            every = logits[torch.arange(104)[:, None], before].log_softmax(-1)
            rows.append(every.gather(-1, own[..., None])[..., 0])
        return torch.cat(rows)

    with torch.no_grad():
        s, logprobs = drawn(1.0)
        cool, cool_logprobs = drawn(0.7)

        def own(model, rows):
            return response_logprobs(model, rows)[0]

        found = {
            "none": (in_batches(own, policy, s, 3072), logprobs, s.mask),
            "temperature": (in_batches(own, policy, cool, 3072), cool_logprobs, cool.mask),
            "one late": (read(policy, s, shift=1), logprobs, s.mask),
            "padding": (read(policy, s, left=True), logprobs, s.mask),
        }
        assert (read(policy, s) - logprobs)[
            s.mask
        ].abs().max() < 1e-4  # with no fault, no difference
        for module in policy.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
        found["dropout"] = (read(policy.train(), s), logprobs, s.mask)
    return found


@pytest.mark.parametrize("fault", ["none", *FAULTS])
@pytest.mark.parametrize("batch", [64, 512])
def test_a_mismatch_is_seen_in_every_batch_and_nothing_where_there_is_none(
    fault, batch, first_minibatches
):
    new, old, mask = first_minibatches[fault]
    alarmed = 0
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        rows = torch.randperm(520, generator=draw)[:batch]
        advantages = torch.randn(batch, new.shape[1], generator=draw)
        found = maths.policy_metrics(new[rows], old[rows], advantages, mask[rows])
        record = {
            "update": 1,
            "val/approxkl_first": float(found["policy/approxkl_avg"]),
            "val/clipfrac_first": float(found["policy/clipfrac_avg"]),
            "val/log_ratio_first": float(maths.largest_log_ratio(new[rows], old[rows], mask[rows])),
        }
        alarmed += bool(ratio_not_one([record]))
    assert alarmed == (0 if fault == "none" else 20)


@pytest.mark.parametrize("asked, told", [(0.7, True), (1.0, False)])
@pytest.mark.parametrize(
    "train, config", [(train_ppo, PPOConfig), (train_rloo, RLOOConfig), (train_grpo, GRPOConfig)]
)
def test_a_sampler_that_is_too_cool_raises_it_in_every_stage(
    train, config, asked, told, monkeypatch
):
    """The whole way: what the first minibatch showed is logged, and the alarm reads it."""

    def cool(policy, tokenizer, prompts, seeds, sampling, batch_size):
        sampling = SamplingConfig(sampling.max_new_tokens, asked)
        return sample(policy, tokenizer, prompts, seeds, sampling, batch_size=batch_size)

    monkeypatch.setattr(rollout, "sample", cool)
    records = train(
        load_policy(shipped("sft")),
        lambda prompts, texts: [float(len(text)) for text in texts],
        load_tokenizer(base_model()),
        load_task("support_desk").prompts(0, 16),
        config(updates=1, batch_size=16, max_new_tokens=12),
    )
    assert ("ratio-not-one" in raised([next(iter(records))])) == told


# ---- what chance does ----------------------------------------------------------------------------


@pytest.mark.parametrize("noise_grows", [False, True])
def test_a_level_mark_raises_no_alarm_in_19_of_20_runs(noise_grows):
    """200 runs of 50 updates, asked at every one, while the score rises; 87 % of them once did."""
    draw, alarmed = random.Random(0), 0
    for _ in range(200):
        records = [
            {
                "update": u,
                "judge/mark": draw.gauss(8, 0.3 * (1 + u / 50 if noise_grows else 1)),
                "objective/scores": 0.02 * u,
            }
            for u in range(1, 51)
        ]
        alarmed += any(score_up_mark_down(records[:n]) for n in range(15, 51))
    assert alarmed <= 10


def test_of_the_shipped_runs_as_many_are_told_as_the_page_says():
    """Real runs of the study of hacking: the rule is for those that were expected to be hacked."""
    told = {True: [], False: []}
    for path in (data_folder() / "hacking").glob("*/*/metrics.jsonl.gz"):
        rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        expected = json.loads((path.parent / "summary.json").read_text())["arm"]["hacked"]
        raised_once = any(score_up_mark_down(rows[:n]) for n in range(15, len(rows) + 1))
        told[expected].append(raised_once)
    page = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
    assert not any(told[False])
    assert (
        f"{sum(told[True])} of the {len(told[True])} that were expected to be hacked raise it, and "
        f"none of the {len(told[False])} others" in page
    )


def test_a_kl_of_zero_is_called_negative_in_few_runs():
    draw, alarmed = random.Random(0), 0
    for _ in range(300):
        kls = [draw.gauss(0, 0.1) for _ in range(200)]
        records = [{"objective/kl": kl, "objective/kl_se": 0.1} for kl in kls]
        alarmed += any(RULES["kl-negative"](records[n - 2 : n]) for n in range(2, 201))
    assert alarmed <= 15
