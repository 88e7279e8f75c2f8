"""Options that several commands share, and the config objects that they become."""

import argparse
from dataclasses import fields

from rlhf_lab.cli.inputs import TASK, data_options
from rlhf_lab.engine.adapters import MemoryConfig
from rlhf_lab.errors import UserError
from rlhf_lab.runs.presets import PRESETS
from rlhf_lab.sampling import SamplingConfig

# What each setting means, for --help; the defaults stand in the stages' config classes.
HELP = {
    "epochs": "passes over the data",
    "batch_size": "items in one update",
    "learning_rate": "Adam's learning rate at the start",
    "head_factor": "how much faster the new head learns than the trunk",
    "late_from": "the update after which the task's late text is read",
    "warmup": "updates over which the learning rate rises",
    "seed": "the seed of everything random",
    "updates": "how many updates to make",
    "beta": "price of a nat of KL: higher keeps the policy nearer to where it began",
    "target_kl": "let beta adapt so that the KL stays near this many nats",
    "temperature": "sampling temperature",
    "max_new_tokens": "longest response, in tokens",
    "lam": "lambda of the advantage estimate (GAE)",
    "gamma": "discount",
    "epsilon": "clip range of the policy's ratio",
    "no_end_penalty": "what a response that does not end costs at least",
    "top_k": "sample from the k likeliest tokens only (0: all)",
    "top_p": "sample from the likeliest tokens that reach this probability (1: all)",
    "soft_ties": "pull tied responses together instead of passing them over",
    "weight_decay": "weight decay of the matrices",
    "max_tokens": "tokens read in one forward pass; changes speed and memory, not the result",
    "minibatches": "steps in one pass over a batch of responses",
    "horizon": "episodes over which an adaptive beta moves",
    "value_epsilon": "clip range of the values",
    "value_coefficient": "weight of the value loss",
    "whiten_rewards": "scale rewards to unit variance before the advantages",
    "shared_value": "put the value head on the policy's own trunk",
    "lora": "train adapters of this rank (16, say) in place of the weights, at about ten times the "
    "learning rate; 0: none",
    "lora_alpha": "scale of the adapters: alpha / rank",
    "gradient_checkpointing": "work layers out again in the backward pass: less memory, more time",
}
COUNTED = ("epochs", "batch_size", "updates", "minibatches", "max_tokens", "horizon")  # at least 1
ABOVE_0 = ("learning_rate", "head_factor", "target_kl", "epsilon", "value_epsilon")
NOT_BELOW_0 = ("warmup", "weight_decay", "beta", "value_coefficient", "no_end_penalty", "lora")
SHARES = ("gamma", "lam")  # from 0 to 1


def device_option(sub: argparse.ArgumentParser) -> None:
    """The option that says where to compute."""
    sub.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda"], help="where to compute"
    )


def sampling_options(sub: argparse.ArgumentParser) -> None:
    """How responses are sampled, and where to compute."""

    sub.add_argument("--seed", type=int, default=0, help=HELP["seed"])
    add_config(sub, SamplingConfig)
    device_option(sub)


def preset_option(sub: argparse.ArgumentParser) -> None:
    """The option that names a preset."""

    sub.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="settings that go with a model of a certain "
        "size (docs/larger-models.md); what you give yourself comes before them",
    )


def memory_options(sub: argparse.ArgumentParser) -> None:
    """Options for models that are large for the machine."""

    add_config(sub, MemoryConfig)
    sub.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "float32", "bf16"],
        help="of the arithmetic; auto: bf16 on a GPU that has it, else float32",
    )
    sub.add_argument(
        "--estimate",
        action="store_true",
        help="say what memory and time the run will need, and stop",
    )


def input_options(
    sub: argparse.ArgumentParser, what: str, judged: bool = False, begins: bool = False
) -> None:
    """Options that every single stage has. what: the columns of its data. judged: whether --task
    may also name a task whose judge watches. begins: whether a preset's model will do."""

    sub.add_argument(
        "--model",
        required=not begins,
        help="folder or hub id of a causal language model"
        + "; if not given, the preset's" * begins,
    )
    preset_option(sub)
    data_options(sub, what, required=False)
    sub.add_argument("--task", help=TASK + "; or, beside it, a task whose judge watches" * judged)
    sub.add_argument("--out", required=True, help="folder of the run")
    device_option(sub)


def add_config(sub: argparse.ArgumentParser, config: type) -> None:
    """One option for every field of a config class, unless there is one already."""
    taken = {action.dest for action in sub._actions}
    for item in fields(config):
        if item.name in taken:
            continue
        flag, text = (
            "--" + item.name.replace("_", "-"),
            HELP.get(item.name, item.name.replace("_", " ")),
        )
        if isinstance(item.default, bool):
            sub.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=item.default, help=text
            )
        else:
            kind = float if item.default is None else type(item.default)
            sub.add_argument(flag, type=kind, default=item.default, help=text)


def read_config(options: argparse.Namespace, config: type):
    """A config object from the options. Raises UserError for a number that makes no sense, such as
    a count of nothing."""
    given = {item.name: getattr(options, item.name) for item in fields(config)}
    for names, fits, advice in (
        (COUNTED, lambda x: x >= 1, "take 1 or more"),
        (ABOVE_0, lambda x: x > 0, "take more than 0"),
        (NOT_BELOW_0, lambda x: x >= 0, "take 0 or more"),
        (SHARES, lambda x: 0 <= x <= 1, "take 0 to 1"),
    ):
        for name in names:
            if given.get(name) is not None and not fits(given[name]):
                raise UserError(f"--{name.replace('_', '-')} {given[name]}: {advice}")
    return config(**given)
