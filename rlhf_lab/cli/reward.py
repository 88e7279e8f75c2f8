"""`rlhf-lab reward`: stage two, train a reward model on rankings."""

import argparse

from rlhf_lab.cli import inputs
from rlhf_lab.cli.options import add_config, input_options, memory_options, read_config
from rlhf_lab.cli.stages import check_out, print_estimate, stage_run, train_and_log
from rlhf_lab.compare.standing import tested_as
from rlhf_lab.disk.storage import read_context
from rlhf_lab.engine.adapters import MemoryConfig, prepare
from rlhf_lab.evaluate import ranking_accuracy
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.reward import RewardConfig, normalise, score_texts, train_reward
from rlhf_lab.runs.costs.estimate import estimate_reward


def add_options(sub: argparse.ArgumentParser) -> None:
    input_options(
        sub, "prompt, chosen and rejected; or prompt, responses and ranking; or whole dialogues"
    )
    sub.add_argument(
        "--part",
        default="train",
        choices=["train", "second"],
        help="with --task: which "
        "rankings to use; train: for the reward model that PPO optimises, second: for the one that "
        "judges",
    )
    sub.add_argument(
        "--labellers", nargs="+", help="with --task: use only the rankings of these labellers"
    )
    add_config(sub, RewardConfig)
    memory_options(sub)


def run(options: argparse.Namespace) -> None:
    check_out(options)
    config, tokenizer = read_config(options, RewardConfig), load_tokenizer(options.model)
    memory = read_config(options, MemoryConfig)
    data, apart = inputs.rankings(options, tokenizer, read_context(options.model))
    with stage_run(options, config, data) as (run, checkpoint, accelerator):
        model = ScalarModel.from_policy(load_policy(options.model, accelerator.device), config.seed)
        prepare(model, memory, config.seed)
        if print_estimate(options, accelerator, estimate_reward, model, tokenizer, data, config):
            return
        if task := inputs.folder_task(options):
            inputs.note_use(task.store, options.out, {r.labeller for r in [*data, *apart]})
        train_and_log(
            run,
            "reward",
            train_reward(model, tokenizer, data, config, apart, checkpoint, accelerator),
        )
        written = [each for r in data for each in r.written()]
        normalise(model, score_texts(model, tokenizer, written))
        model.save(run.reward_model, tokenizer)
        if apart:
            run.write_json("tested.json", ranking_accuracy(model, tokenizer, apart))
            print(tested_as(run.reward_model))
        print(f"wrote {run.reward_model}")
