"""Save one rollout from the middle of a PPO run, with the update made on it, into data/demo.

    python tests/tools/save_rollout.py

Starts from the shipped SFT and reward models, trains for twelve updates of 32 responses each, and
saves the thirteenth rollout, whole: advantages are whitened over the batch, so a part of it would
not give the numbers that the run saw.
"""

import itertools
from pathlib import Path

import torch

from rlhf_lab.disk.data import shipped
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, new_value_model
from rlhf_lab.ppo import PPOConfig, collect, train_ppo
from rlhf_lab.rollout import batch_of
from rlhf_lab.sequences import in_batches, response_logprobs, response_values
from rlhf_lab.show.microscope import save_rollout, saved_rollout
from rlhf_lab.tasks import load_task

BEFORE = 12  # updates before the one that is saved
CONFIG = PPOConfig(updates=24, batch_size=32)
DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"


def main() -> None:
    torch.set_num_threads(1)  # the same sums, in the same order, on every machine of this kind
    tokenizer, policy = load_tokenizer(shipped("sft")), load_policy(shipped("sft"))
    reference, reward_model = load_policy(shipped("sft")), ScalarModel.load(shipped("reward_model"))
    value_model = new_value_model(policy, reward_model, CONFIG.seed)
    prompts = load_task("support_desk").prompts(seed=5, count=2000)
    run = train_ppo(policy, reward_model, tokenizer, prompts, CONFIG, value_model=value_model)
    for record in itertools.islice(run, BEFORE):
        print(
            f"update {record['update']}: score {record['objective/scores']:.2f}, "
            f"KL {record['objective/kl']:.2f}"
        )
    # What the next update will sample, drawn a moment before: a sample hangs on its seed alone.
    rollout = collect(
        policy,
        reference,
        value_model,
        reward_model,
        tokenizer,
        batch_of(prompts, CONFIG.batch_size, CONFIG.seed, BEFORE + 1),
        CONFIG,
        BEFORE + 1,
    )
    record = next(run)
    new_logprobs = in_batches(
        lambda model, rows: response_logprobs(model, rows)[0], policy, rollout.sequences
    )
    new_values = in_batches(response_values, value_model, rollout.sequences)
    saved = saved_rollout(rollout, CONFIG, tokenizer, new_logprobs, new_values, record)
    save_rollout(saved, DEMO / "rollout.safetensors")
    print(
        f"saved update {record['update']}: {len(saved.texts)} responses, "
        f"{int(saved.mask.sum())} tokens"
    )


if __name__ == "__main__":
    main()
