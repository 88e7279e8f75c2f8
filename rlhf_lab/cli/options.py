"""Options that several commands share, and the config objects made from them."""

import argparse
from collections.abc import Collection
from dataclasses import fields

from rlhf_lab.cli.inputs import TASK, data_options
from rlhf_lab.engine.adapters import MemoryConfig
from rlhf_lab.errors import UserError
from rlhf_lab.records import HIGHEST_SEED, out_of_range, range_of
from rlhf_lab.runs.presets import PRESETS
from rlhf_lab.sampling import SamplingConfig


def device_option(sub: argparse.ArgumentParser) -> None:
    """Add the option for the device."""
    sub.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda"], help="device to compute on"
    )


def seed_option(sub: argparse.ArgumentParser) -> None:
    """Add the option for the seed, for commands whose config class has none."""
    help = f"seed of all random choices [0 to {HIGHEST_SEED:,}]"
    sub.add_argument("--seed", type=_seed, default=0, help=help)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > HIGHEST_SEED:
        raise UserError(f"--seed {text}: take a whole number from 0 to {HIGHEST_SEED:,}")
    return int(text)


def sampling_options(sub: argparse.ArgumentParser) -> None:
    """Add the options for sampling responses, and for the device."""

    seed_option(sub)
    add_config(sub, SamplingConfig)
    device_option(sub)


def preset_option(sub: argparse.ArgumentParser) -> None:
    """Add the option for a preset."""

    sub.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="settings for a model of a certain size (docs/larger-models.md); options that you "
        "give override them",
    )


def memory_options(sub: argparse.ArgumentParser) -> None:
    """Add the options for models that are large for the machine."""

    add_config(sub, MemoryConfig)
    sub.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "float32", "bf16"],
        help="precision of the arithmetic; auto: bf16 on a GPU that supports it, else float32",
    )
    sub.add_argument(
        "--estimate",
        action="store_true",
        help="print the memory and time that the run will need, and stop",
    )


def input_options(
    sub: argparse.ArgumentParser, what: str, judged: bool = False, begins: bool = False
) -> None:
    """Add the options of every stage. what: the columns of its data. judged: whether --task may
    also name a task whose judge marks the responses. begins: whether a preset may supply the
    model."""

    sub.add_argument(
        "--model",
        required=not begins,
        help="folder or hub id of a causal language model"
        + "; if not given, the preset's" * begins,
    )
    preset_option(sub)
    data_options(sub, what, required=False)
    sub.add_argument(
        "--task",
        help=TASK + "; or, together with --data, a task whose judge marks the responses" * judged,
    )
    sub.add_argument("--out", required=True, help="folder of the run")
    device_option(sub)


def add_config(sub: argparse.ArgumentParser, config: type, only: Collection[str] = ()) -> None:
    """Add an option for every setting of a config class (or those in `only`) that has none yet."""
    taken = {action.dest for action in sub._actions}
    for item in fields(config):
        if item.name in taken or (only and item.name not in only):
            continue
        flag, limits = option_of(item.name), range_of(item)
        text = item.metadata["help"] + (f" [{limits}]" if limits else "")
        if isinstance(item.default, bool):
            sub.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=item.default, help=text
            )
        else:
            kind = float if item.default is None else type(item.default)
            sub.add_argument(flag, type=kind, default=item.default, help=text)


def read_config(options: argparse.Namespace, config: type):
    """A config object from the options. Raises UserError, with the option's name, for a value out
    of its range, such as a count of 0."""
    check_options(options, config)
    return config(**{item.name: getattr(options, item.name) for item in fields(config)})


def check_options(options: argparse.Namespace, config: type) -> None:
    """Raise UserError for an option that is a setting of a config class and out of its range."""
    for item in fields(config):
        value = getattr(options, item.name, None)
        if advice := out_of_range(item, value):
            raise UserError(f"{option_of(item.name)} {value}: {advice}")


def option_of(name: str) -> str:
    """The option of a setting."""
    return "--" + name.replace("_", "-")
