"""The three stages with SmolLM2-135M-Instruct: data and settings, for any seed.

The support desk, in English that the model knows. To hold the time of two CPU cores: short prompts
and responses, and of the 30 layers the last 8 are trained. The settings were chosen with seed 100;
the tests use another seed and other prompts.
"""

import random

from rlhf_lab import load_task
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.reward import RewardConfig
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sft import SFTConfig
from rlhf_lab.tasks.labellers import rank_all
from rlhf_lab.tasks.support_desk import grammar
from rlhf_lab.text import encode_response

TRAINED = 8  # layers of 30
SHORT = 24  # tokens of a demonstration at most, its end token included
WORD = "please"
WRITERS = ("helpful", "curt", "rude", "vague", "promising", "wrong product")

SFT = SFTConfig(epochs=1, batch_size=16, learning_rate=2e-4, warmup=3)
REWARD = RewardConfig(epochs=1, batch_size=16, learning_rate=1e-4, warmup=3)
PPO = PPOConfig(
    updates=12,
    batch_size=32,
    epochs=2,
    minibatches=2,
    learning_rate=5e-5,
    beta=0.1,
    no_end_penalty=0.0,
    max_new_tokens=SHORT,
)
SAMPLING = SamplingConfig(SHORT, PPO.temperature)


def train_top(policy):
    """Let training change the last layers alone; returns the policy."""
    policy.requires_grad_(False)
    for module in (*policy.model.layers[-TRAINED:], policy.model.norm):
        module.requires_grad_(True)
    return policy


def demonstrations(tokenizer, seed: int, count: int):
    """Short ones."""
    drawn = load_task("support_desk").demonstrations(seed, 4 * count)
    fitting = [
        d for d in drawn if len(encode_response(tokenizer, d.prompt.text, d.response)) <= SHORT
    ]
    return fitting[:count]


def rankings(seed: int, count: int):
    """Two responses to each prompt, by writers of different kinds, ranked by the desk's simulated
    labellers in turn, slips included."""
    task, rng = load_task("support_desk"), random.Random(seed)
    prompts = task.prompts(seed, count)
    pairs = []
    for prompt in prompts:
        about = grammar.facts_of(task.world, prompt)
        pairs.append(
            [grammar.response(task.world, rng, *about, writer) for writer in rng.sample(WRITERS, 2)]
        )
    return rank_all(prompts, pairs, task.labellers, task.judge, seed)


def says_please(prompts, texts) -> list[float]:
    """The sparse reward: 1 for a response with the word in it, otherwise 0."""
    return [float(WORD in text.lower()) for text in texts]
