"""Does PPO learn here what it learns in TRL 1.12.0, from the same models on the same prompts?

    TRL_PYTHON benchmarks/learning.py

For a Python that has the lab beside TRL (see benchmarks/README.md). Both begin with the shipped SFT
model and reward model and take the lab's default settings, TRL by the names that docs/from-trl.md
gives them; each draws its own responses. Printed for every update: score (on the lab's scale),
KL from the SFT model, entropy, and the share of responses that end.
"""

import argparse
import os
import tempfile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import numpy
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, TrainerCallback
from trl.experimental.ppo import PPOConfig as TRLConfig
from trl.experimental.ppo import PPOTrainer

from rlhf_lab.disk.data import shipped
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.tasks import load_task
from rlhf_lab.text import encode_prompt

SHOWN = ("objective/scores", "objective/kl", "objective/entropy", "response/ended")


def lab(config: PPOConfig, prompts: list):
    """The lab's records."""
    scorer = ScalarModel.load(shipped("reward_model")).requires_grad_(False)
    yield from train_ppo(
        load_policy(shipped("sft")), scorer, load_tokenizer(shipped("sft")), prompts, config
    )


class Keep(TrainerCallback):
    """What TRL logs."""

    def __init__(self):
        self.records = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.records.append(logs)


def trl(config: PPOConfig, prompts: list) -> list[dict]:
    """TRL's records, the scores with the constant that its reward models have no place for."""
    tokenizer, keep = load_tokenizer(shipped("sft")), Keep()
    tokenizer.padding_side = "left"
    numpy.random.seed(config.seed)  # of its minibatches; its own seed does not set it
    whole = {"dtype": torch.float32}  # the shipped weights are stored in half precision
    reward_model, value_model = (
        AutoModelForSequenceClassification.from_pretrained(shipped("reward_model"), **whole)
        for _ in range(2)
    )
    with tempfile.TemporaryDirectory() as folder:
        PPOTrainer(
            args=TRLConfig(**arguments(config, folder)),
            processing_class=tokenizer,
            model=AutoModelForCausalLM.from_pretrained(shipped("sft"), **whole),
            ref_model=AutoModelForCausalLM.from_pretrained(shipped("sft"), **whole),
            reward_model=reward_model,
            value_model=value_model,
            train_dataset=Dataset.from_list(
                [{"input_ids": encode_prompt(tokenizer, p.text)} for p in prompts]
            ),
            callbacks=[keep],
        ).train()
    return [
        record
        | {
            "objective/scores": record["objective/scores"] + reward_model.config.reward_bias,
            "response/ended": record["val/num_eos_tokens"] / config.batch_size,
        }
        for record in keep.records
    ]


def arguments(config: PPOConfig, folder: str) -> dict:
    """The lab's settings under TRL's names."""
    return {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "seed": config.seed,
        "total_episodes": config.updates * config.batch_size,
        "per_device_train_batch_size": config.batch_size,
        "num_ppo_epochs": config.epochs,
        "num_mini_batches": config.minibatches,
        "learning_rate": config.learning_rate,
        "adam_epsilon": 1e-5,
        "kl_coef": config.beta,
        "gamma": config.gamma,
        "lam": config.lam,
        "cliprange": config.epsilon,
        "cliprange_value": config.value_epsilon,
        "vf_coef": config.value_coefficient,
        "missing_eos_penalty": config.no_end_penalty,
        "temperature": config.temperature,
        "response_length": config.max_new_tokens,
        "stop_token": "eos",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64, help="episodes an update (64)")
    parser.add_argument("--new-tokens", type=int, default=64, help="of a response at most (64)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sides", nargs="+", default=["lab", "trl"], choices=["lab", "trl"])
    parser.add_argument("--threads", type=int, default=2, help="for torch (2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prompts = load_task("support_desk").prompts(seed=1, count=4000)
    for seed in options.seeds:
        config = PPOConfig(
            updates=options.updates,
            batch_size=options.batch,
            max_new_tokens=options.new_tokens,
            seed=seed,
        )
        for side in options.sides:
            print(f"\n{side}, seed {seed}\nupdate  " + "  ".join(f"{n:>17}" for n in SHOWN))
            for number, record in enumerate({"lab": lab, "trl": trl}[side](config, prompts), 1):
                values = "  ".join(f"{record[name]:17.3f}" for name in SHOWN)
                print(f"{number:6}  {values}", flush=True)


if __name__ == "__main__":
    main()
