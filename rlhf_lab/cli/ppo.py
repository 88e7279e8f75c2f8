"""`rlhf-lab ppo`: stage three, optimise a policy against a reward model."""

import argparse
import sys

from rlhf_lab.cli import inputs
from rlhf_lab.cli.options import add_config, input_options, memory_options, read_config
from rlhf_lab.cli.stages import check_out, print_estimate, stage_run, train_and_log
from rlhf_lab.compare.standing import spent
from rlhf_lab.disk.storage import read_context
from rlhf_lab.engine.adapters import MemoryConfig, prepare
from rlhf_lab.models import ScalarModel, check_same_words, load_policy, load_tokenizer, save_policy
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.runs.costs.estimate import estimate_ppo
from rlhf_lab.tasks import load_task


def add_options(sub: argparse.ArgumentParser) -> None:
    input_options(sub, "prompts, alone or with responses", judged=True)
    sub.add_argument("--reward-model", required=True, help="folder of the reward model")
    add_config(sub, PPOConfig)
    memory_options(sub)


def run(options: argparse.Namespace) -> None:
    check_out(options)
    config, tokenizer = read_config(options, PPOConfig), load_tokenizer(options.model)
    check_same_words(options.model, options.reward_model)
    if warning := spent(options.reward_model):
        print(warning, file=sys.stderr)
    memory = read_config(options, MemoryConfig)
    data = inputs.prompts(
        options,
        tokenizer,
        read_context(options.model),
        config.max_new_tokens,
        ("train",),
        judged=True,
    )
    judge = load_task(options.task).judge if options.task else None
    with stage_run(options, config, data) as (run, checkpoint, accelerator):
        policy = prepare(load_policy(options.model, accelerator.device), memory, config.seed)
        model = ScalarModel.load(options.reward_model, accelerator.device).requires_grad_(False)
        if print_estimate(
            options, accelerator, estimate_ppo, policy, model, tokenizer, data, config
        ):
            return
        train_and_log(
            run,
            "ppo",
            train_ppo(policy, model, tokenizer, data, config, judge, checkpoint, accelerator),
        )
        save_policy(policy, tokenizer, run.policy)
        print(f"wrote {run.policy}")
