"""The options of every command, and the config objects that they become."""

import argparse
from dataclasses import fields

from rlhf_lab.errors import UserError

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


def demo_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.ppo import PPOConfig

    sub.add_argument("--out", default="runs/demo", help="folder of the run")
    sub.add_argument("--seed", type=int, default=0, help=HELP["seed"])
    sub.add_argument("--model", help="base model to start from; if not given, the shipped one")
    presets(sub)
    sub.add_argument("--task", default="support_desk", help="the task")
    sub.add_argument("--beta", type=float, default=PPOConfig().beta, help=HELP["beta"])
    sub.add_argument("--updates", type=int, default=PPOConfig().updates, help="PPO updates")
    sub.add_argument("--smoke", action="store_true", help="a run of a minute, to see that it works")
    device(sub)


def pretrain_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.pretrain import PretrainConfig

    sub.add_argument("--task", default="support_desk", help="the task")
    sub.add_argument("--out", required=True, help="folder for the base model")
    add_config(sub, PretrainConfig)
    device(sub)


def sft_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.sft import SFTConfig

    source(sub, "prompt and response, or whole dialogues", begins=True)
    add_config(sub, SFTConfig)
    lean(sub)


def reward_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.reward import RewardConfig

    source(sub, "prompt, chosen and rejected, or prompt, responses and ranking, or whole dialogues")
    sub.add_argument("--part", default="train", choices=["train", "second"], help="with --task: whose "
                     "rankings, the reward model's that PPO optimises or the one's that judges")
    sub.add_argument("--labellers", nargs="+", help="with --task: of these alone")
    add_config(sub, RewardConfig)
    lean(sub)


def ppo_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.ppo import PPOConfig

    source(sub, "prompts, alone or with responses", judged=True)
    sub.add_argument("--reward-model", required=True, help="folder of the reward model")
    add_config(sub, PPOConfig)
    lean(sub)


def sample_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.formats.options import data_options
    from rlhf_lab.own_task import TASK
    from rlhf_lab.sampling import SamplingConfig

    sub.add_argument("--model", required=True, help="folder or hub id of a causal language model")
    data_options(sub, "prompts, alone or with responses", required=False)
    sub.add_argument("--task", help=f"{TASK}: the prompts that are to be ranked")
    sub.add_argument("--prompt", action="append", help="a prompt; may be given several times")
    sub.add_argument("--message", action="append", help="a customer's message to the support desk")
    sub.add_argument("--responses", type=int, default=1, help="responses to each prompt")
    sub.add_argument("--out", help="file for the responses; if not given, the screen")
    sub.add_argument("--seed", type=int, default=0, help=HELP["seed"])
    add_config(sub, SamplingConfig)
    device(sub)


def compare_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.compare import command

    command.compare_options(sub)
    sampled(sub)


def blind_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.compare import command

    command.blind_options(sub)
    sampled(sub)


def report_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", nargs="?", metavar="RUN", help="folder of the run; if not given, "
                     "runs/demo")
    sub.add_argument("--run", dest="named", metavar="RUN", help="the same")


def fetch_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab import pretrained

    pretrained.fetch_options(sub)


def device(sub: argparse.ArgumentParser) -> None:
    """The option that says where to compute."""
    sub.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where to compute")


def sampled(sub: argparse.ArgumentParser) -> None:
    """How responses are sampled, and where to compute."""
    from rlhf_lab.sampling import SamplingConfig

    sub.add_argument("--seed", type=int, default=0, help=HELP["seed"])
    add_config(sub, SamplingConfig)
    device(sub)


def presets(sub: argparse.ArgumentParser) -> None:
    """The option that names a preset."""
    from rlhf_lab.presets import PRESETS

    sub.add_argument("--preset", choices=list(PRESETS), help="settings that go with a model of a certain "
                     "size (docs/larger-models.md); what you give yourself comes before them")


def lean(sub: argparse.ArgumentParser) -> None:
    """Options for models that are large for the machine."""
    from rlhf_lab.adapters import MemoryConfig

    add_config(sub, MemoryConfig)
    sub.add_argument("--precision", default="auto", choices=["auto", "float32", "bf16"],
                     help="of the arithmetic; auto: bf16 on a GPU that has it, else float32")
    sub.add_argument("--estimate", action="store_true", help="say what memory and time the run will need, "
                     "and stop")


def source(sub: argparse.ArgumentParser, what: str, judged: bool = False, begins: bool = False) -> None:
    """Options that every single stage has. what: the columns of its data. judged: whether --task may
    also name a task whose judge watches. begins: whether a preset's model will do."""
    from rlhf_lab.formats.options import data_options
    from rlhf_lab.own_task import TASK

    sub.add_argument("--model", required=not begins, help="folder or hub id of a causal language model"
                     + "; if not given, the preset's" * begins)
    presets(sub)
    data_options(sub, what, required=False)
    sub.add_argument("--task", help=TASK + "; or, beside it, a task whose judge watches" * judged)
    sub.add_argument("--out", required=True, help="folder of the run")
    device(sub)


def add_config(sub: argparse.ArgumentParser, config: type) -> None:
    """One option for every field of a config class, unless there is one already."""
    taken = {action.dest for action in sub._actions}
    for item in fields(config):
        if item.name in taken:
            continue
        flag, text = "--" + item.name.replace("_", "-"), HELP.get(item.name, item.name.replace("_", " "))
        if isinstance(item.default, bool):
            sub.add_argument(flag, action=argparse.BooleanOptionalAction, default=item.default, help=text)
        else:
            kind = float if item.default is None else type(item.default)
            sub.add_argument(flag, type=kind, default=item.default, help=text)


def read_config(options: argparse.Namespace, config: type):
    """A config object from the options. Raises UserError for a number that makes no sense, such as a
    count of nothing."""
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
