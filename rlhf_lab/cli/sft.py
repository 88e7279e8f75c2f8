"""`rlhf-lab sft`: stage one, fine-tune a model on demonstrations."""

import argparse

from rlhf_lab.cli import inputs
from rlhf_lab.cli.options import add_config, input_options, memory_options, read_config
from rlhf_lab.cli.stages import check_out, print_estimate, stage_run, train_and_log
from rlhf_lab.disk.storage import read_context
from rlhf_lab.engine.adapters import MemoryConfig, prepare
from rlhf_lab.errors import UserError
from rlhf_lab.models import load_policy, load_tokenizer, save_policy
from rlhf_lab.runs.costs.estimate import estimate_sft
from rlhf_lab.sft import SFTConfig, train_sft


def add_options(sub: argparse.ArgumentParser) -> None:
    input_options(sub, "prompt and response, or whole dialogues", begins=True)
    add_config(sub, SFTConfig)
    memory_options(sub)


def run(options: argparse.Namespace) -> None:
    check_out(options)
    if not options.model:
        raise UserError(
            "no model: give --model (a folder or hub id), or a --preset that has a model"
        )
    config, tokenizer = read_config(options, SFTConfig), load_tokenizer(options.model)
    memory = read_config(options, MemoryConfig)
    data, apart = inputs.demonstrations(options, tokenizer, read_context(options.model))
    with stage_run(options, config, data) as (run, checkpoint, accelerator):
        policy = prepare(load_policy(options.model, accelerator.device), memory, config.seed)
        if print_estimate(options, accelerator, estimate_sft, policy, tokenizer, data, config):
            return
        train_and_log(
            run, "sft", train_sft(policy, tokenizer, data, config, apart, checkpoint, accelerator)
        )
        save_policy(policy, tokenizer, run.sft)
        print(f"wrote {run.sft}")
