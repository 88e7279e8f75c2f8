"""`rlhf-lab pretrain`: train a tokenizer and a base model on a task's raw text."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from rlhf_lab.cli.options import add_config, device_option, read_config
from rlhf_lab.cli.progress import watch
from rlhf_lab.disk.checkpoint import Checkpoint, other_than_checkpoint
from rlhf_lab.disk.jsonl import plain
from rlhf_lab.disk.places import check_place, other_than_model, tidy
from rlhf_lab.models import save_policy
from rlhf_lab.runs.pretrain import Mixture, PretrainConfig, new_model, train_base, train_tokenizer
from rlhf_lab.tasks import SHIPPED, load_judged
from rlhf_lab.training import make_accelerator


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--task",
        dest="tasks",
        nargs="+",
        default=[SHIPPED],
        help="task whose raw text the model reads; of several, equal numbers of documents",
    )
    sub.add_argument("--out", required=True, help="folder for the base model")
    add_config(sub, PretrainConfig)
    device_option(sub)


def run(options: argparse.Namespace) -> None:
    out = Path(options.out)  # Path drops a slash at the end
    kept = Path(f"{out}.checkpoint")
    check_place(out, lambda place: _other_than_base(place, kept), folder=True)
    check_place(kept, other_than_checkpoint, folder=True)
    config, task = (
        read_config(options, PretrainConfig),
        Mixture(list(map(load_judged, options.tasks))),
    )
    tokenizer = train_tokenizer(
        task.raw_text(config.seed, config.tokenizer_documents), config.vocabulary
    )
    model = new_model(tokenizer, config)
    checkpoint = Checkpoint(
        kept,
        every=100,
        settings=plain(asdict(config)) | {"task": " ".join(options.tasks)},
        defaults=plain(asdict(PretrainConfig())),
    )
    tidy(out.parent, out.name)
    if note := checkpoint.other_versions():
        print(note, file=sys.stderr)
    for _ in watch(
        "pretrain",
        train_base(model, tokenizer, task, config, checkpoint, make_accelerator(options.device)),
    ):
        pass
    save_policy(model, tokenizer, out, half=True)
    checkpoint.remove()
    print(f"wrote {out}")


def _other_than_base(place: Path, kept: Path) -> str:
    """Why a base model must not replace this folder, "" if it may. A finished model is never
    replaced, only what this command left when it was stopped."""
    free = kept.exists() or not any(place.iterdir())
    return other_than_model(place) or ("" if free else "already holds a model")
