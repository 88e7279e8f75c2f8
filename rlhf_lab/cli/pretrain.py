"""`rlhf-lab pretrain`: tokenizer and base model from a task's raw text."""

import argparse
from dataclasses import asdict
from pathlib import Path

from rlhf_lab.cli.options import add_config, device_option, read_config
from rlhf_lab.cli.stages import watch
from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.disk.jsonl import plain
from rlhf_lab.disk.storage import check_place
from rlhf_lab.models import save_policy
from rlhf_lab.runs.pretrain import PretrainConfig, new_model, train_base, train_tokenizer
from rlhf_lab.tasks import SHIPPED, load_judged
from rlhf_lab.training import make_accelerator


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--task", default=SHIPPED, help="the task")
    sub.add_argument("--out", required=True, help="folder for the base model")
    add_config(sub, PretrainConfig)
    device_option(sub)


def run(options: argparse.Namespace) -> None:
    check_place(options.out)
    config, task = read_config(options, PretrainConfig), load_judged(options.task)
    tokenizer = train_tokenizer(
        task.raw_text(config.seed, config.tokenizer_documents), config.vocabulary
    )
    model = new_model(tokenizer, config)
    kept = Checkpoint(
        Path(options.out + ".checkpoint"),
        every=100,
        settings=plain(asdict(config)) | {"task": options.task},
        defaults=plain(asdict(PretrainConfig())),
    )
    for _ in watch(
        "pretrain",
        train_base(model, tokenizer, task, config, kept, make_accelerator(options.device)),
    ):
        pass
    save_policy(model, tokenizer, options.out, half=True)
    kept.remove()
    print(f"wrote {options.out}")
