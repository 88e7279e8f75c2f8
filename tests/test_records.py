"""Settings: what each means and which values it may have stand beside it, and nowhere else."""

import argparse
import math
from dataclasses import fields, replace

import pytest
from helpers import refusal

from rlhf_lab.alternatives.dpo import DPOConfig
from rlhf_lab.alternatives.grpo import GRPOConfig
from rlhf_lab.alternatives.rloo import RLOOConfig
from rlhf_lab.cli.options import add_config, read_config
from rlhf_lab.engine.adapters import MemoryConfig
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.records import range_of
from rlhf_lab.reward import RewardConfig
from rlhf_lab.runs.pretrain import PretrainConfig
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.sft import SFTConfig

CONFIGS = (
    SFTConfig,
    RewardConfig,
    PPOConfig,
    DPOConfig,
    GRPOConfig,
    RLOOConfig,
    SamplingConfig,
    PretrainConfig,
    MemoryConfig,
)
each = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)


@each
def test_every_setting_says_what_it_is_and_its_option_says_the_same(config):
    parser = argparse.ArgumentParser()
    add_config(parser, config)
    shown = {action.dest: action.help for action in parser._actions}
    for item in fields(config):
        assert item.metadata["help"] and shown[item.name].startswith(item.metadata["help"])
        assert range_of(item) in shown[item.name]


@each
def test_options_that_are_not_given_are_the_defaults(config):
    parser = argparse.ArgumentParser()
    add_config(parser, config)
    assert read_config(parser.parse_args([]), config) == config()


@each
def test_just_outside_its_range_a_setting_is_refused_and_just_inside_it_is_taken(config):
    for item in fields(config):
        limits, step = item.metadata, 1 if isinstance(item.default, int) else 1e-9
        inside, outside = [], [math.nan] if isinstance(item.default, float) else []
        if item.metadata["at_least"] is not None:
            inside, outside = [limits["at_least"]], [*outside, limits["at_least"] - step]
        elif item.metadata["above"] is not None:
            inside, outside = [limits["above"] + step], [*outside, limits["above"]]
        if limits["at_most"] is not None:
            inside, outside = [*inside, limits["at_most"]], [*outside, limits["at_most"] + step]
        for value in inside:
            assert getattr(replace(config(), **{item.name: value}), item.name) == value
        for value in outside if inside else ():
            assert refusal(replace, config(), **{item.name: value}).startswith(
                f"{item.name} is {value}: take "
            )


def test_a_refusal_names_the_option_on_the_command_line_and_what_to_take():
    parser = argparse.ArgumentParser()
    add_config(parser, PPOConfig)

    def refused(*arguments: str) -> str:
        return refusal(read_config, parser.parse_args(arguments), PPOConfig)

    assert refused("--batch-size", "0") == "--batch-size 0: take 1 to 1,000,000"
    assert refused("--gamma", "1.5") == "--gamma 1.5: take 0 to 1"
    assert refused("--target-kl", "0") == "--target-kl 0.0: take more than 0"
    assert refusal(SamplingConfig, top_p=0) == "top_p is 0: take more than 0, at most 1"
    assert refusal(GRPOConfig, kl="k1") == "kl is k1: take k2, k3 or reward"
