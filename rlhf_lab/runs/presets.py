"""Presets: settings of all three stages for a model of a certain size.

`compact` is the shipped model with the defaults of every config class. The others take their
figures from publications about models of similar size; "own" marks our own choices.

gpt2, 124M parameters
- SFT: learning rate 6.25e-5, batch 32, 3 epochs, linear decay, as Radford et al. (2018) fine-tuned
  GPT-1, a model of nearly this shape. (Ouyang et al. 2022 train for 16 epochs.)
- Reward model: learning rate 5e-5, batch 32, one epoch, the same rate for head and trunk: Ziegler
  et al. (2019) in their released code for the 124M model (openai/lm-human-preferences, launch.py).
- PPO: learning rate 1e-5, batch 512, a beta of .15 that adapts to a KL of 6 nats over a horizon of
  10,000 episodes, 4 epochs of one minibatch, temperature .7: the same code. (TRL's GPT-2 sentiment
  example uses 1.41e-5.) At most 53 tokens a response, as for summaries of TL;DR (Stiennon et al.
  2020, by Huang et al. 2024, "The N+ implementation details of RLHF with PPO"); Ziegler et al. have
  24. Rewards are not whitened, as in Huang et al. Own: 200 updates, about 100,000 episodes, where
  Ziegler et al. take a million.

gpt2-medium, 355M parameters: nobody has published all three stages for this size, so the learning
rates are our own, between those above and the 3e-6 that Huang et al. use in every stage for models
of 1B parameters and more. Batches, epochs and beta are those of gpt2.

All presets compute in bf16 on a GPU that supports it and in float32 elsewhere (own). max_tokens
(own) is what fits a GPU of 16 GB according to `estimate.py` (gpt2-medium's PPO only with --lora);
it does not change the result. Nothing here has been run with the real GPT-2
(docs/larger-models.md).
"""

from dataclasses import dataclass, fields

from rlhf_lab.ppo import PPOConfig
from rlhf_lab.reward import RewardConfig
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sft import SFTConfig


@dataclass(frozen=True)
class Preset:
    """A model to start from (None: the shipped one) and how to train it in each stage."""

    model: str | None
    sft: SFTConfig
    reward: RewardConfig
    ppo: PPOConfig
    precision: str = "auto"

    @property
    def sampling(self) -> SamplingConfig:
        """How to sample the responses to rank: as PPO samples."""
        return SamplingConfig(self.ppo.max_new_tokens, self.ppo.temperature)

    def defaults(self, stage: str) -> dict:
        """The preset's defaults for the command-line options of a stage ("sft", "reward",
        "ppo")."""
        config = getattr(self, stage)
        values = {item.name: getattr(config, item.name) for item in fields(config)}
        return values | {"precision": self.precision}


PRESETS = {
    "compact": Preset(None, SFTConfig(), RewardConfig(), PPOConfig()),
    "gpt2": Preset(
        "gpt2",
        SFTConfig(epochs=3, batch_size=32, learning_rate=6.25e-5, max_tokens=4096),
        RewardConfig(epochs=1, batch_size=32, learning_rate=5e-5, head_factor=1.0, max_tokens=4096),
        PPOConfig(
            updates=200,
            batch_size=512,
            epochs=4,
            learning_rate=1e-5,
            beta=0.15,
            target_kl=6.0,
            temperature=0.7,
            max_new_tokens=53,
            max_tokens=4096,
        ),
    ),
    "gpt2-medium": Preset(
        "gpt2-medium",
        SFTConfig(epochs=3, batch_size=32, learning_rate=3e-5, max_tokens=2048),
        RewardConfig(
            epochs=1, batch_size=32, learning_rate=1.5e-5, head_factor=1.0, max_tokens=2048
        ),
        PPOConfig(
            updates=200,
            batch_size=512,
            epochs=4,
            learning_rate=5e-6,
            beta=0.15,
            target_kl=6.0,
            temperature=0.7,
            max_new_tokens=53,
            max_tokens=2048,
        ),
    ),
}
