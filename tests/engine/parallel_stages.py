"""What test_parallel.py runs in one process and, by `accelerate launch` of this file, in two.

Every stage on a tiny model, with batches that two processes cannot share evenly: of 5 rows, and of
1 row, of which the second process gets nothing.
"""

import json
import sys
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file

from rlhf_lab import ppo
from rlhf_lab.alternatives import grpo, rloo
from rlhf_lab.alternatives.dpo import DPOConfig, train_dpo
from rlhf_lab.alternatives.grpo import GRPOConfig
from rlhf_lab.alternatives.rloo import RLOOConfig
from rlhf_lab.cli import main
from rlhf_lab.disk import checkpoint
from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.engine import parallel
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import respond, scores_of
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig, train_reward
from rlhf_lab.runs.pretrain import PretrainConfig, train_base
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.training import Optimiser, make_accelerator

TEXTS = ["ab:", "c:", "a rather long one, this:", "xyz:", "?"] * 2 + ["the last:"]
PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(TEXTS)]
SHOWN = [Demonstration(p, "yes" if i % 2 else "no, never ever") for i, p in enumerate(PROMPTS)]
RANKED = [
    Ranking(p, ("good", "a fair one", "bad", "worst")[: 2 + i % 3], (1, 2, 3, None)[: 2 + i % 3])
    for i, p in enumerate(PROMPTS)
]
RANKED[3] = Ranking(PROMPTS[3], ("as good", "as this"), (1, 1))  # nothing to learn from
SAMPLED = dict(updates=2, learning_rate=1e-3, max_new_tokens=6)
PPO = PPOConfig(
    **SAMPLED, batch_size=5, epochs=2, minibatches=2, target_kl=0.1, horizon=20, whiten_rewards=True
)
RLOO = RLOOConfig(**SAMPLED, batch_size=6, group=3, epochs=2)
GRPO = GRPOConfig(**SAMPLED, batch_size=6, group=2, minibatches=2)
DPO = DPOConfig(batch_size=5, learning_rate=1e-3, sample_every=2, watched=3, max_new_tokens=6)
STAGES = ("pretrain", "sft", "reward", "ppo", "rloo", "grpo", "dpo")
RESUMED = ("sft", "reward", "ppo")
SEEN = ("logprobs", "ref_logprobs", "values", "scores", "rewards", "advantages", "returns")


def score(prompts, texts):
    """Something that differs between random texts; below 0, as those that do not end get no
    more."""
    return [-float(sum(text.encode()) % 7) for text in texts]


class Chatter:
    """A task of which only the raw text is needed."""

    @staticmethod
    def raw_text(seed: int, count: int, late: bool = False) -> list[str]:
        return ["word " * (1 + (seed + i) % 5) for i in range(count)]


def steps_of(stage: str, model, tokenizer, kept: Checkpoint | None):
    """The generator of a stage; `model` is what it trains."""
    accelerator = make_accelerator("cpu")
    if stage == "pretrain":
        config = PretrainConfig(updates=2, batch_size=5, context=32)
        return train_base(model, tokenizer, Chatter, config, kept, accelerator)
    if stage == "sft":
        return train_sft(model, tokenizer, SHOWN, SFTConfig(1, 5), SHOWN[:3], kept, accelerator)
    if stage == "reward":
        config = RewardConfig(1, 5, soft_ties=True)
        return train_reward(model, tokenizer, RANKED, config, RANKED[:1], kept, accelerator)
    if stage == "dpo":
        return train_dpo(model, tokenizer, RANKED, DPO, RANKED[:2], None, kept, accelerator)
    train, config = {
        "ppo": (ppo.train_ppo, PPO),
        "rloo": (rloo.train_rloo, RLOO),
        "grpo": (grpo.train_grpo, GRPO),
    }[stage]
    scorer = ScalarModel.from_policy(model, 1) if stage == "ppo" else score
    return train(model, scorer, tokenizer, PROMPTS, config, None, kept, accelerator)


def run(stage: str, folder: Path, kept: Checkpoint | None = None, stop_after: int = 0) -> dict:
    """Run a stage, or its first updates and what a checkpoint needs. The records, the gradients of
    every step once they are summed, the weights at the end, and what was sampled."""
    tokenizer, model = load_tokenizer(folder / "model"), load_policy(folder / "model")
    if stage == "reward":
        model = ScalarModel.from_policy(model, 0)
    found, gradients, rollouts = [], [], []

    def summed(parameters):
        SUM(parameters)
        gradients.append([p.grad.clone() for p in parameters if p.grad is not None])

    def watched(optimise):
        return lambda *a: (
            rollouts.extend(x for x in a if isinstance(x, ppo.Rollout)),
            optimise(*a),
        )[1]

    SUM = parallel.sum_gradients
    with (
        mock.patch.object(parallel, "sum_gradients", summed),
        mock.patch.object(ppo, "optimise", watched(ppo.optimise)),
        mock.patch.object(rloo, "optimise", watched(rloo.optimise)),
        mock.patch.object(grpo, "optimise", watched(grpo.optimise)),
    ):
        for record in steps_of(stage, model, tokenizer, kept):
            found.append(record)
            if len(found) == stop_after + 1 > 1:  # the checkpoint of an update follows its record
                break
    tensors = {f"weights/{name}": p.detach().clone() for name, p in model.named_parameters()}
    for step, some in enumerate(gradients):
        tensors |= {f"gradients/{step}/{i}": g for i, g in enumerate(some)}
    for update, rollout in enumerate(rollouts):
        tensors[f"sampled/{update}/tokens"] = rollout.sequences.tokens
        tensors[f"sampled/{update}/mask"] = rollout.mask
        for name in SEEN:
            if hasattr(rollout, name):
                tensors[f"rollout/{update}/{name}"] = getattr(rollout, name)
    return {"records": found, "tensors": {n: x.contiguous() for n, x in tensors.items()}}


def answers_of(folder: Path) -> dict:
    """Responses to three prompts and to one alone, and a reward model's scores of them."""
    policy, tokenizer = load_policy(folder / "model"), load_tokenizer(folder / "model")
    found = {}
    for name, prompts in (("three", PROMPTS[:3]), ("one", PROMPTS[2:3])):
        given = respond(policy, tokenizer, prompts, config=SamplingConfig(6))
        scores = scores_of(ScalarModel.from_policy(policy, 1), given)
        found[name] = {"texts": given.texts, "scores": scores.tolist()}
    return found


def refusals(folder: Path) -> dict[str, str]:
    """What two processes say that differ in their weights, in what they find on disk, or that are
    more than there are rows."""
    policy, accelerator = load_policy(folder / "model"), make_accelerator("cpu")
    optimiser = Optimiser(accelerator, [policy], 1e-3, 1)
    own = Checkpoint(folder / f"own-{parallel.number()}")
    if parallel.is_main():
        own._write(1, {"policy": policy}, optimiser, None)
    messages = {"checkpoint": refused(own.restore, {"policy": policy}, optimiser)}
    policy.transformer.ln_f.bias.data += 0.1 * parallel.number()
    messages["weights"] = refused(Optimiser, accelerator, [policy], 1e-3, 1)
    return messages | {"rows": refused(parallel.check_minibatches, 5, 3)}


def refused(call, *arguments) -> str:
    try:
        call(*arguments)
    except UserError as error:
        return str(error)
    return "nothing was refused"


def command_line(folder: Path) -> list[int]:
    """The three stages as commands, on files in the folder; their exit statuses."""
    common = ["--model", str(folder / "model"), "--device", "cpu", "--batch-size", "5"]
    out = [
        ["--data", str(folder / f"{name}.jsonl"), "--out", str(folder / "cli" / name)]
        for name in RESUMED
    ]
    return [
        main(["sft", *common, *out[0], "--epochs", "1"]),
        main(["reward", *common, *out[1], "--epochs", "1"]),
        main(
            [
                "ppo",
                *common,
                *out[2],
                "--updates",
                "2",
                "--max-new-tokens",
                "5",
                "--epochs",
                "1",
                "--reward-model",
                str(folder / "cli/reward/reward_model"),
            ]
        ),
    ]


def worker(folder: Path) -> None:
    """One of several processes: all of the above, into files of its own, and then one of them
    fails while the other waits for it."""
    make_accelerator("cpu")
    place, saved = folder / f"process-{parallel.number()}", []
    place.mkdir()
    write = checkpoint.save_file
    with mock.patch.object(
        checkpoint, "save_file", lambda *a: (saved.append(str(a[1])), write(*a))
    ):
        for stage in STAGES:
            keep(place / stage, run(stage, folder))
        for stage in RESUMED:  # from one process's checkpoint, and to one for one process
            keep(
                place / f"resumed-{stage}",
                run(stage, folder, Checkpoint(folder / f"one-{stage}", 1)),
            )
            run(stage, folder, Checkpoint(folder / f"two-{stage}", 1), stop_after=1)
    report = {
        "processes": parallel.count(),
        "saved": len(saved),
        "answers": answers_of(folder),
        "cli": command_line(folder),
        "refusals": refusals(folder),
    }
    (place / "report.json").write_text(json.dumps(report))
    parallel.once(print, "all done")
    if not parallel.is_main():
        sys.exit("this process fails")
    parallel.total(1.0)  # waits for the other


def keep(place: Path, outcome: dict) -> None:
    save_file(outcome["tensors"], place.with_suffix(".safetensors"))
    place.with_suffix(".json").write_text(json.dumps(outcome["records"]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    worker(Path(sys.argv[1]))
