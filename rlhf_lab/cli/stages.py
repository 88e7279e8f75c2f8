"""One stage in its own run folder: the folder, checkpoint and device, and the estimate."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from tempfile import TemporaryDirectory

from rlhf_lab.cli import inputs
from rlhf_lab.cli.progress import watch
from rlhf_lab.disk import storage
from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.disk.files import fingerprint
from rlhf_lab.disk.run_folder import RunFolder, check_run_place
from rlhf_lab.engine import parallel
from rlhf_lab.engine.adapters import MemoryConfig
from rlhf_lab.errors import UserError
from rlhf_lab.runs.costs.counting import check_memory, matmul_speed
from rlhf_lab.training import make_accelerator

LESS = (
    "lower --max-tokens or --batch-size, take --lora 16 or --gradient-checkpointing, or a smaller "
    "model (--estimate says what each takes)"
)


def train_and_log(run, stage: str, records: Iterator[dict]) -> None:
    """Run one stage to its end, and log its records in the run's metrics."""
    if sum(1 for _ in watch(stage, run.logged(stage, records))) == 0:
        print(f"nothing to train: the run in {run.path} is already finished")


def print_estimate(
    options: argparse.Namespace, accelerator, estimate: Callable, *arguments
) -> bool:
    """Print what a run will need; returns whether to stop after that (--estimate). The estimate may
    fail for an unknown kind of model: then the run continues without it."""
    try:
        needs = estimate(*arguments, accelerator)
        print(needs.lines(matmul_speed(accelerator) * parallel.count()), flush=True)
    except Exception as error:
        reason = (
            f"no estimate for this model and data: {type(error).__name__}: {error}".splitlines()[0]
        )
        if options.estimate:
            raise UserError(f"{reason}; run it for a few updates instead") from error
        print(reason, file=sys.stderr)
    else:
        if not options.estimate:
            check_memory(
                f"{needs.stage} with these settings", needs.memory, accelerator.device, LESS
            )
    return options.estimate


def check_out(options: argparse.Namespace) -> None:
    """Raise UserError unless the run may be written to --out. --estimate writes nothing there."""
    if not options.estimate:
        check_run_place(options.out)


@contextmanager
def stage_run(options: argparse.Namespace, config, data: list):
    """The run folder of one stage, its checkpoint and its device. With --estimate the folder is a
    temporary one."""
    settings = asdict(config) | {"model": options.model, "data": options.data}
    settings |= inputs.settings(options)
    learned = {"data": fingerprint(data)} | storage.noted(options.model)
    if "reward_model" in options:
        settings["reward_model"] = options.reward_model
        learned |= storage.noted(options.reward_model, "reward model")
    usual = asdict(MemoryConfig()) | {"precision": "auto"}
    settings |= {
        name: getattr(options, name) for name in usual if getattr(options, name) != usual[name]
    }
    accelerator = make_accelerator(options.device, options.precision)
    with TemporaryDirectory() as temporary:
        place = temporary if options.estimate else options.out
        defaults = asdict(type(config)()) | usual
        with RunFolder.open(place, settings, data=learned, defaults=defaults) as run:
            if note := run.other_versions():
                print(note, file=sys.stderr)
            yield run, Checkpoint(run.checkpoints / "stage"), accelerator
