"""`rlhf-lab demo`: run all three stages on the shipped model, and print the result."""

import argparse
import sys
from dataclasses import asdict, replace

from rlhf_lab.cli.options import add_config, check_options, device_option, preset_option
from rlhf_lab.cli.progress import watch
from rlhf_lab.disk.data import base_model_name
from rlhf_lab.disk.run_folder import RunFolder, check_run_place
from rlhf_lab.disk.storage import noted
from rlhf_lab.engine import parallel
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.runs.pipeline import Pipeline, PipelineConfig, smoke
from rlhf_lab.runs.presets import PRESETS
from rlhf_lab.runs.report import check_report, print_table, write_report
from rlhf_lab.tasks import SHIPPED, check_base, load_judged


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--out", default="runs/demo", help="folder of the run")
    add_config(sub, PPOConfig, only=("seed", "beta", "updates"))
    sub.add_argument("--model", help="base model to start from; if not given, the shipped one")
    preset_option(sub)
    sub.add_argument("--task", default=SHIPPED, help="task with a judge")
    sub.add_argument(
        "--smoke", action="store_true", help="run for one minute only, to test the installation"
    )
    device_option(sub)


def run(options: argparse.Namespace) -> None:
    check_options(options, PPOConfig)
    check_run_place(options.out)
    check_report(RunFolder(options.out))
    chosen = load_judged(options.task)
    if not options.model:
        check_base(chosen)
    base = options.model or base_model_name(chosen.base)
    preset = PRESETS[options.preset or "compact"]
    longest = min(preset.ppo.max_new_tokens, chosen.longest_response)
    config = PipelineConfig(
        base,
        device=options.device,
        sft=preset.sft,
        reward=preset.reward,
        ppo=replace(preset.ppo, max_new_tokens=longest),
        sampling=replace(preset.sampling, max_new_tokens=longest),
    )
    config = replace(config, ppo=replace(config.ppo, beta=options.beta, updates=options.updates))
    config = config.seeded(options.seed)
    if options.smoke:
        config = smoke(config)
    settings = asdict(config) | {"task": options.task}
    del settings["device"]  # a run may resume on another device
    defaults = asdict(PipelineConfig(base))
    with RunFolder.open(options.out, settings, data=noted(base), defaults=defaults) as run:
        if note := run.other_versions():
            print(note, file=sys.stderr)
        Pipeline(chosen, config, run, watch).run_all()
        print_table(run.read_summary())
        parallel.once(write_report, run)
        print(f"\nThe full report: {run.report}")
