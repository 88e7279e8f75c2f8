"""TRL's side of against_trl.py: one training step at each turn (see turns.py).

TRL_PYTHON benchmarks/worker_trl.py '{"stage": "ppo", "setting": "same", "folder": ...}'
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.experimental.ppo import PPOConfig, PPOTrainer
from turns import Turns

FOREVER = 1_000_000  # epochs or episodes; the other end stops asking
PLAIN = {"gradient_checkpointing": False, "bf16": False}  # what `same` turns off


class Step(TrainerCallback):
    """A turn is the time from the end of one step to the end of the next."""

    def __init__(self, turns: Turns):
        self.turns = turns

    def on_step_end(self, args, state, control, **kwargs):
        self.turns.end()


def arguments(**settings) -> dict:
    """What every trainer gets: the CPU, no reports and no checkpoints."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        **settings,
    }


def classifier(folder: str):
    """A model with one score: the reward model, or the value network that starts from it."""
    return AutoModelForSequenceClassification.from_pretrained(folder + "/reward", num_labels=1)


def ppo(options: dict, texts: dict, tokenizer):
    """PPO with a value network of its own, which starts from the reward model."""
    folder, batch = options["folder"], options["batch"]
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder + "/policy") for _ in range(2))
    prompts = Dataset.from_list(
        [{"input_ids": tokenizer(p)["input_ids"]} for p in texts["prompts"]]
    )
    if options["setting"] == "same":  # no stop token: every response has all its tokens
        rows = options["micro_batch"] or batch
        settings = PLAIN | {
            "num_ppo_epochs": options["epochs"],
            "num_mini_batches": options["minibatches"],
            "response_length": options["new_tokens"],
            "temperature": 1.0,
            "num_sample_generations": 0,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": batch // rows,
            "local_rollout_forward_batch_size": batch,
        }
    else:
        settings = {
            "stop_token": "eos",
            "missing_eos_penalty": 1.0,
            "per_device_train_batch_size": batch,
        }
    config = PPOConfig(**arguments(total_episodes=FOREVER, **settings))
    tokenizer.padding_side = "left"
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=classifier(folder),
        value_model=classifier(folder),
        train_dataset=prompts,
    )
    return settings, batch, trainer


def sft(options: dict, texts: dict, tokenizer):
    """Supervised fine-tuning, the loss on the responses alone."""
    settings = same(options) if options["setting"] == "same" else {}
    config = SFTConfig(**arguments(num_train_epochs=FOREVER, **settings))
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(options["folder"] + "/policy"),
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(texts["demonstrations"]),
    )
    return settings, config.train_batch_size * config.gradient_accumulation_steps, trainer


def reward(options: dict, texts: dict, tokenizer):
    """The reward model: pairs in the same setting; by default the six pairs of each four."""
    settings = same(options) if options["setting"] == "same" else {}
    K = 2 if settings else 4
    pairs = [
        {"chosen_ids": ranked[i]["input_ids"], "rejected_ids": ranked[j]["input_ids"]}
        for ranked in texts["rankings"]
        for i in range(K)
        for j in range(i + 1, K)
    ]
    config = RewardConfig(**arguments(num_train_epochs=FOREVER, **settings))
    trainer = RewardTrainer(
        model=classifier(options["folder"]),
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(pairs),
    )
    rankings = config.train_batch_size * config.gradient_accumulation_steps / (K * (K - 1) // 2)
    return settings, rankings, trainer


def same(options: dict) -> dict:
    """The lab's batch, in pieces of as many rows as asked for."""
    rows = options["micro_batch"] or options["batch"]
    return PLAIN | {
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": options["batch"] // rows,
    }


def main() -> None:
    turns = Turns()
    options = json.loads(sys.argv[1])
    torch.set_num_threads(options["threads"])
    texts = json.loads(Path(options["folder"], "texts.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(options["folder"] + "/policy")
    stage = {"ppo": ppo, "sft": sft, "reward": reward}[options["stage"]]
    settings, items, trainer = stage(options, texts, tokenizer)
    trainer.add_callback(Step(turns))
    turns.ready(items=items, settings=settings)
    trainer.train()


if __name__ == "__main__":
    main()
