"""The lab's side of against_trl.py: one training step at each turn (see turns.py).

python benchmarks/worker_lab.py '{"stage": "ppo", "setting": "same", "folder": ...}'
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from turns import Turns

from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig, train_reward
from rlhf_lab.sft import SFTConfig, train_sft

FOREVER = 200  # epochs or updates: more than any comparison takes


class Endless:
    """A tokenizer none of whose tokens ends a response, so that all responses are equally long."""

    eos_token_id = -1

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def ppo(options: dict, texts: dict, tokenizer):
    """PPO with a value network of its own, which starts from the reward model."""
    policy = load_policy(options["folder"] + "/policy")
    scorer = ScalarModel.load(options["folder"] + "/reward").requires_grad_(False)
    prompts = [Prompt(str(i), text) for i, text in enumerate(texts["prompts"])]
    config = PPOConfig(updates=FOREVER, batch_size=options["batch"])
    if options["setting"] == "same":
        config = replace(
            config,
            epochs=options["epochs"],
            max_new_tokens=options["new_tokens"],
            minibatches=options["minibatches"],
            max_tokens=options["max_tokens"] or config.max_tokens,
        )
        tokenizer = Endless(tokenizer)
    return config, config.batch_size, train_ppo(policy, scorer, tokenizer, prompts, config)


def sft(options: dict, texts: dict, tokenizer):
    """Supervised fine-tuning, the loss on the responses alone."""
    policy = load_policy(options["folder"] + "/policy")
    data = [Demonstration(Prompt("", p), r) for p, r in texts["demonstration_texts"]]
    config = SFTConfig(epochs=FOREVER)
    if options["setting"] == "same":
        config = replace(
            config,
            batch_size=options["batch"],
            max_tokens=options["max_tokens"] or config.max_tokens,
        )
    return config, config.batch_size, train_sft(policy, tokenizer, data, config)


def reward(options: dict, texts: dict, tokenizer):
    """The reward model: pairs in the same setting, rankings of four by default."""
    model = ScalarModel.load(options["folder"] + "/reward").requires_grad_(True)
    config, K = RewardConfig(epochs=FOREVER), 4
    if options["setting"] == "same":
        K = 2
        config = replace(
            config,
            batch_size=options["batch"],
            max_tokens=options["max_tokens"] or config.max_tokens,
        )
    data = [
        Ranking(Prompt("", prompt), tuple(responses[:K]), tuple(range(1, K + 1)))
        for prompt, responses in texts["ranking_texts"]
    ]
    return config, config.batch_size, train_reward(model, tokenizer, data, config)


def main() -> None:
    turns = Turns()
    options = json.loads(sys.argv[1])
    torch.set_num_threads(options["threads"])
    texts = json.loads(Path(options["folder"], "texts.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(options["folder"] + "/policy")
    stage = {"ppo": ppo, "sft": sft, "reward": reward}[options["stage"]]
    config, items, records = stage(options, texts, tokenizer)
    turns.ready(items=items, settings=asdict(config))
    for _ in records:
        turns.end()


if __name__ == "__main__":
    main()
