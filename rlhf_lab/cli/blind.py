"""`rlhf-lab blind`: choose between two models yourself, without knowing which is which."""

import argparse
from pathlib import Path

from rlhf_lab.cli.compare import MODEL, asked, prompt_options
from rlhf_lab.cli.options import read_config, sampling_options
from rlhf_lab.compare.blind.comparison import BlindComparison, drawn
from rlhf_lab.compare.contestants import contestants_of
from rlhf_lab.evaluate import respond
from rlhf_lab.feedback.store import check_store
from rlhf_lab.models import load_policy, load_tokenizer
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.tasks.labellers import GENERAL
from rlhf_lab.training import make_accelerator


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("models", nargs=2, metavar="MODEL", help=MODEL)
    prompt_options(sub)
    sampling_options(sub)
    sub.add_argument("--count", type=int, default=20, help="how many choices to make")
    sub.add_argument(
        "--store",
        help="feedback store to keep the choices in, created if missing, so that you can stop "
        "and continue later, also with a larger --count",
    )
    sub.add_argument("--labeller", default="me", help="your name in the store; any name will do")


def run(options: argparse.Namespace) -> None:
    """Let the person choose on the terminal, then print the result."""
    if options.store:
        check_store(Path(options.store))
    config = read_config(options, SamplingConfig)
    device = make_accelerator(options.device).device
    models = contestants_of(options.models)
    task, prompts, _ = asked(options, models)
    enough = 3 * options.count + 20  # for some both models give the same response
    prompts = [prompts[place] for place in drawn(prompts, options.seed)[:enough]]
    first, second = (
        respond(
            load_policy(m.folder, device),
            load_tokenizer(m.folder),
            prompts,
            1,
            options.seed,
            config=config,
        )
        for m in models
    )
    BlindComparison(
        first,
        second,
        options.count,
        options.seed,
        (models[0].name, models[1].name),
        options.store,
        options.labeller,
        task.guidelines if task else GENERAL,
    ).ask()
