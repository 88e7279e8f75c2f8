"""rlhf_lab: supervised fine-tuning, a reward model from rankings, and PPO, to read and to run.

The parts, in the order in which data flows: tasks, sft, sampling, feedback, reward, ppo, evaluate.
Every formula of training is in `maths`. A public name is imported from its module on first use.
"""

from importlib import import_module

__version__ = "0.3.0"

_HOMES = {
    "UserError": "errors",
    "base_model": "disk.data",
    "shipped": "disk.data",
    "load_task": "tasks",
    "load_policy": "models",
    "load_tokenizer": "models",
    "save_policy": "models",
    "ScalarModel": "models",
    "SamplingConfig": "sampling",
    "sample": "sampling",
    "SFTConfig": "sft",
    "train_sft": "sft",
    "RewardConfig": "reward",
    "train_reward": "reward",
    "normalise": "reward",
    "score_texts": "reward",
    "PPOConfig": "ppo",
    "train_ppo": "ppo",
    "rank_all": "tasks.labellers",
    "DPOConfig": "alternatives.dpo",
    "train_dpo": "alternatives.dpo",
    "RLOOConfig": "alternatives.rloo",
    "train_rloo": "alternatives.rloo",
    "GRPOConfig": "alternatives.grpo",
    "train_grpo": "alternatives.grpo",
    "BlindComparison": "compare.blind.comparison",
    "respond": "evaluate",
    "answer": "evaluate",  # the name of `respond` until 0.2.0
    "win_rate": "evaluate",
    "interval": "intervals",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """Import a public name from its module on first use, so that `rlhf-lab --help` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rlhf_lab' has no attribute '{name}'")
    return getattr(import_module(f"rlhf_lab.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
