"""The command line: `rlhf-lab demo` runs everything, the other commands one stage each."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, fields, replace
from pathlib import Path

from rlhf_lab import parallel
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
COUNTED = ("epochs", "batch_size", "updates", "minibatches", "max_tokens")  # each at least 1
SHARED = ("demo", "pretrain", "sft", "reward", "ppo")  # what several processes can do together


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it went well, 1 with one line on standard error if not."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser(arguments[0] if arguments else "").parse_args(arguments)
    try:
        options = with_defaults(arguments, options)
        with one_voice(options):
            options.run(options)
    except UserError as error:
        print(f"{voice()}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if parallel.is_main():
            print("rlhf-lab: stopped; the last checkpoint is kept, run the same command again to go on",
                  file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def with_defaults(arguments: list[str], options: argparse.Namespace) -> argparse.Namespace:
    """The options again, with what a preset and, before that, the folder of a task of one's own say
    as defaults."""
    defaults = {}
    if getattr(options, "preset", None):
        defaults |= preset_defaults(arguments[0], options.preset)
    if getattr(options, "task", None):
        from rlhf_lab import own_task

        defaults |= own_task.defaults(options)
    return build_parser(arguments[0], **defaults).parse_args(arguments) if defaults else options


def preset_defaults(command: str, name: str) -> dict:
    """What a preset says of a command's options. It names a model where a run begins with one: later
    stages begin with what the earlier ones made."""
    from rlhf_lab.data import base_model
    from rlhf_lab.presets import PRESETS

    preset = PRESETS[name]
    start = {"model": preset.model or os.path.relpath(base_model())}
    if command == "demo":
        return start | {"beta": preset.ppo.beta, "updates": preset.ppo.updates}
    return preset.defaults(command) | (start if command == "sft" else {})


def build_parser(chosen: str, **defaults) -> argparse.ArgumentParser:
    """All commands; the `chosen` one with its options, as those of a stage need torch to be read.
    defaults: of options, in place of the usual ones."""
    parser = argparse.ArgumentParser(
        prog="rlhf-lab", description="Learn, try and teach RLHF: supervised fine-tuning, a reward "
        "model learned from rankings, and PPO. Start with `rlhf-lab demo`; `rlhf-lab COMMAND --help` "
        "lists a command's options.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command, add_options, text in (
        (demo, demo_options, "run all three stages on the shipped model and show the outcome"),
        (pretrain, pretrain_options, "train tokenizer and base model from a task's raw text"),
        (sft, sft_options, "stage one: fine-tune a model on demonstrations"),
        (reward, reward_options, "stage two: train a reward model on rankings"),
        (ppo, ppo_options, "stage three: optimise a policy against a reward model"),
        (sample, sample_options, "let a model answer prompts"),
        (compare, compare_options, "compare runs or models in one table: by a task's judge or, on data "
         "of your own, by a reward model trained on rankings that nothing else has seen"),
        (blind, blind_options, "compare two models yourself without knowing which is which, on the "
         "terminal"),
        (report, report_options, "write report.html for a run"),
        (task, task_options, "begin a task of your own, and see how far it is"),
        (rank, rank_options, "rank samples on the terminal"),
        (feedback, feedback_options, "merge, export, import and look at stores of rankings"),
        (ratings, ratings_options, "fetch real people's ratings, and show what they allow"),
        (fetch, fetch_options, "get a real pretrained model of 135 million parameters, without a hub"),
        (study, study_options, "run the arms of a study behind the notebooks, some minutes each"),
        (course, course_options, "write the notebooks for a class, without solutions or to grade by"),
    ):  # fmt: skip
        sub = commands.add_parser(command.__name__, help=text,
                                  description=text[0].upper() + text[1:] + ".",
                                  formatter_class=Help)
        sub.set_defaults(run=command)
        if command.__name__ == chosen:
            add_options(sub)
            sub.set_defaults(**defaults)
    return parser


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says a default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        none = action.default is None or action.required
        return action.help if none else super()._get_help_string(action)


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
    sub.add_argument("--run", dest="folder", default="runs/demo", help="folder of the run")


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


def task_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab import own_task

    own_task.task_options(sub)


def rank_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.feedback import terminal

    terminal.rank_options(sub)


def feedback_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.feedback import commands

    commands.feedback_options(sub)


def ratings_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.ratings import commands

    commands.ratings_options(sub)


def fetch_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab import pretrained

    pretrained.fetch_options(sub)


def study_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab.studies import command

    command.study_options(sub)


def course_options(sub: argparse.ArgumentParser) -> None:
    from rlhf_lab import course as editions

    editions.course_options(sub)


def read_config(options: argparse.Namespace, config: type):
    """A config object from the options. Raises UserError for a count of nothing."""
    given = {item.name: getattr(options, item.name) for item in fields(config)}
    for name in COUNTED:
        if given.get(name, 1) < 1:
            raise UserError(f"--{name.replace('_', '-')} {given[name]}: take 1 or more")
    return config(**given)


# ------------------------------------------------------------------------------ the commands


def demo(options: argparse.Namespace) -> None:
    from rlhf_lab.data import base_model
    from rlhf_lab.pipeline import Pipeline, PipelineConfig, smoke
    from rlhf_lab.presets import PRESETS
    from rlhf_lab.report import print_table, write_report
    from rlhf_lab.run_folder import RunFolder
    from rlhf_lab.tasks import load_judged

    chosen = load_judged(options.task)
    base = options.model or os.path.relpath(base_model())  # relative: a run names no machine's paths
    preset = PRESETS[options.preset or "compact"]
    config = PipelineConfig(base, device=options.device, sft=preset.sft, reward=preset.reward,
                            ppo=preset.ppo, sampling=preset.sampling)
    config = replace(config, ppo=replace(config.ppo, beta=options.beta, updates=options.updates))
    config = config.seeded(options.seed)
    if options.smoke:
        config = smoke(config)
    settings = asdict(config) | {"task": options.task}
    del settings["device"]  # a run may go on elsewhere
    with RunFolder.open(options.out, settings) as run:
        Pipeline(chosen, config, run, watch).run_all()
        print_table(run.read_summary())
        parallel.once(write_report, run)
        print(f"\nThe whole story: {run.report}")


def pretrain(options: argparse.Namespace) -> None:
    from rlhf_lab.models import save_policy
    from rlhf_lab.pretrain import PretrainConfig, new_model, train_base, train_tokenizer
    from rlhf_lab.tasks import load_judged
    from rlhf_lab.training import Checkpoint, make_accelerator

    config, task = read_config(options, PretrainConfig), load_judged(options.task)
    tokenizer = train_tokenizer(task.raw_text(config.seed, config.tokenizer_documents), config.vocabulary)
    model = new_model(tokenizer, config)
    kept = Checkpoint(Path(options.out + ".checkpoint"), every=100)
    for _ in watch("pretrain", train_base(model, tokenizer, task, config, kept,
                                          make_accelerator(options.device))):
        pass
    save_policy(model, tokenizer, options.out, half=True)
    kept.remove()
    print(f"wrote {options.out}")


def sft(options: argparse.Namespace) -> None:
    from rlhf_lab import own_task
    from rlhf_lab.adapters import MemoryConfig, prepare
    from rlhf_lab.estimate import estimate_sft
    from rlhf_lab.models import load_policy, load_tokenizer, save_policy
    from rlhf_lab.sft import SFTConfig, train_sft
    from rlhf_lab.storage import read_context

    if not options.model:
        raise UserError("no model: give --model, a folder or a hub id, or a --preset that names one")
    config, tokenizer = read_config(options, SFTConfig), load_tokenizer(options.model)
    memory = read_config(options, MemoryConfig)
    data, apart = own_task.demonstrations(options, tokenizer, read_context(options.model))
    with stage_run(options, config, data) as (run, checkpoint, accelerator):
        policy = prepare(load_policy(options.model, accelerator.device), memory, config.seed)
        if foretold(options, accelerator, estimate_sft, policy, tokenizer, data, config):
            return
        train_and_log(run, "sft", train_sft(policy, tokenizer, data, config, apart, checkpoint, accelerator))
        save_policy(policy, tokenizer, run.sft)
        print(f"wrote {run.sft}")


def reward(options: argparse.Namespace) -> None:
    from rlhf_lab import own_task
    from rlhf_lab.adapters import MemoryConfig, prepare
    from rlhf_lab.compare.standing import tested_as
    from rlhf_lab.estimate import estimate_reward
    from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
    from rlhf_lab.reward import RewardConfig, normalise, score_texts, train_reward
    from rlhf_lab.storage import read_context

    config, tokenizer = read_config(options, RewardConfig), load_tokenizer(options.model)
    memory = read_config(options, MemoryConfig)
    data, apart = own_task.rankings(options, tokenizer, read_context(options.model))
    with stage_run(options, config, data) as (run, checkpoint, accelerator):
        model = ScalarModel.from_policy(load_policy(options.model, accelerator.device), config.seed)
        prepare(model, memory, config.seed)
        if foretold(options, accelerator, estimate_reward, model, tokenizer, data, config):
            return
        train_and_log(run, "reward",
                      train_reward(model, tokenizer, data, config, apart, checkpoint, accelerator))
        pairs = [(r.prompt.text, text) for r in data for text in r.responses]
        normalise(model, score_texts(model, tokenizer, pairs))
        model.save(run.reward_model, tokenizer)
        if apart:
            run.write_json("tested.json", own_task.tested(model, tokenizer, apart))
            print(tested_as(run.reward_model))
        print(f"wrote {run.reward_model}")


def ppo(options: argparse.Namespace) -> None:
    from rlhf_lab import own_task
    from rlhf_lab.adapters import MemoryConfig, prepare
    from rlhf_lab.estimate import estimate_ppo
    from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy
    from rlhf_lab.ppo import PPOConfig, train_ppo
    from rlhf_lab.storage import read_context
    from rlhf_lab.tasks import load_task

    config, tokenizer = read_config(options, PPOConfig), load_tokenizer(options.model)
    memory = read_config(options, MemoryConfig)
    data = own_task.prompts(options, tokenizer, read_context(options.model), config.max_new_tokens,
                            ("train",), judged=True)
    judge = load_task(options.task).judge if options.task else None
    with stage_run(options, config, data) as (run, checkpoint, accelerator):
        policy = prepare(load_policy(options.model, accelerator.device), memory, config.seed)
        model = ScalarModel.load(options.reward_model, accelerator.device).requires_grad_(False)
        if foretold(options, accelerator, estimate_ppo, policy, model, tokenizer, data, config):
            return
        train_and_log(run, "ppo", train_ppo(policy, model, tokenizer, data, config, judge, checkpoint,
                                            accelerator))
        save_policy(policy, tokenizer, run.policy)
        print(f"wrote {run.policy}")


def sample(options: argparse.Namespace) -> None:
    import json

    from rlhf_lab import own_task
    from rlhf_lab.evaluate import answer
    from rlhf_lab.models import load_policy, load_tokenizer
    from rlhf_lab.records import Prompt
    from rlhf_lab.sampling import SamplingConfig
    from rlhf_lab.storage import read_context
    from rlhf_lab.tasks.support_desk.grammar import PROMPT

    texts = (options.prompt or []) + [PROMPT.format(message=m) for m in options.message or []]
    prompts = [Prompt(f"given-{i}", text) for i, text in enumerate(texts)]
    if not prompts and not options.data and not options.task:
        raise UserError("nothing to answer: give --prompt, --message, --data or --task")
    config, tokenizer = read_config(options, SamplingConfig), load_tokenizer(options.model)
    if options.data or options.task:
        prompts = own_task.prompts(options, tokenizer, read_context(options.model),
                                   config.max_new_tokens, ("train", "second")) + prompts
    answers = answer(load_policy(options.model, options.device if options.device != "auto" else "cpu"),
                     tokenizer, prompts, options.responses, options.seed, config=config)
    made = {"model": options.model, "settings": asdict(config) | {"seed": options.seed}}
    rows = [{"id": p.id, "prompt": p.text, "facts": p.facts, "responses": texts} | made
            for p, texts in zip(prompts, answers.texts)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    if options.out:
        from rlhf_lab.jsonl import write_whole

        write_whole(Path(options.out), "\n".join(lines) + "\n")
        print(f"wrote {options.out}")
    else:
        print("\n".join(lines))


def compare(options: argparse.Namespace) -> None:
    from rlhf_lab.compare import command
    from rlhf_lab.sampling import SamplingConfig
    from rlhf_lab.training import make_accelerator

    command.compare_models(options, read_config(options, SamplingConfig),
                           make_accelerator(options.device).device)


def blind(options: argparse.Namespace) -> None:
    from rlhf_lab.compare import command
    from rlhf_lab.sampling import SamplingConfig
    from rlhf_lab.training import make_accelerator

    command.ask_blind(options, read_config(options, SamplingConfig),
                      make_accelerator(options.device).device)


def report(options: argparse.Namespace) -> None:
    from rlhf_lab.report import write_report
    from rlhf_lab.run_folder import RunFolder

    print(f"wrote {write_report(RunFolder.view(options.folder))}")


def task(options: argparse.Namespace) -> None:
    options.action(options)


def rank(options: argparse.Namespace) -> None:
    from rlhf_lab.feedback import terminal

    terminal.rank(options)


def feedback(options: argparse.Namespace) -> None:
    from rlhf_lab.feedback import commands

    commands.feedback(options)


def ratings(options: argparse.Namespace) -> None:
    from rlhf_lab.ratings import commands

    commands.ratings(options)


def fetch(options: argparse.Namespace) -> None:
    from rlhf_lab import pretrained

    pretrained.command(options)


def study(options: argparse.Namespace) -> None:
    from rlhf_lab.studies import command

    command.study(options)


def course(options: argparse.Namespace) -> None:
    from rlhf_lab import course as editions

    editions.course(options)


# ------------------------------------------------------------------------------ helpers


@contextmanager
def one_voice(options: argparse.Namespace) -> Iterator[None]:
    """Meet the other processes, if `accelerate launch` has started several, and let the main one
    alone print. Raises UserError for a command that they would all do again, not together."""
    command = options.run.__name__
    if command not in SHARED:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UserError(f"{command} works in one process: start it without accelerate launch")
        yield
        return
    from rlhf_lab.training import make_accelerator

    make_accelerator(options.device, getattr(options, "precision", "auto"))
    if parallel.is_main():
        if parallel.count() > 1:
            print(f"{parallel.count()} processes share the work", file=sys.stderr)
        yield
    else:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield


def voice() -> str:
    """Who speaks on standard error."""
    return f"rlhf-lab (process {parallel.number()})" if parallel.count() > 1 else "rlhf-lab"


def watch(stage: str, records: Iterator[dict]) -> Iterable[dict]:
    """Show the progress of a stage with the time left and its most telling numbers."""
    from tqdm import tqdm

    shown = {"loss/pretrain": "loss", "loss/sft": "loss", "loss/reward": "loss",
             "reward/accuracy": "accuracy", "objective/scores": "score", "objective/kl": "KL",
             "judge/mark": "mark"}
    with tqdm(desc=f"{stage:8s}", unit="update", dynamic_ncols=True, smoothing=0.1) as bar:
        for number, record in enumerate(records):
            if number == 0:  # what an earlier run did took none of this one's time
                bar.initial = record["update"] - 1
            bar.total, bar.n = record["updates"], record["update"]
            bar.set_postfix({short: f"{record[name]:.2f}" for name, short in shown.items()
                             if record.get(name) is not None})
            yield record


def train_and_log(run, stage: str, records: Iterator[dict]) -> None:
    """Run one stage to its end, into the run's metrics."""
    def logged():
        for number, record in enumerate(records):
            if number == 0:
                run.rewind(stage, record["update"] - 1)
            run.log(record)
            yield record

    for _ in watch(stage, logged()):
        pass


def foretold(options: argparse.Namespace, accelerator, estimate: Callable, *arguments) -> bool:
    """Say what a run will need; whether that is all that was asked for. An estimate that fails, as it
    may for a model of a kind unknown here, stops no run."""
    from rlhf_lab.costs import matmul_speed

    try:
        needs = estimate(*arguments, accelerator)
        print(needs.lines(matmul_speed(accelerator.device) * parallel.count()), flush=True)
    except Exception as error:
        reason = f"no estimate for this model and data: {type(error).__name__}: {error}".splitlines()[0]
        if options.estimate:
            raise UserError(f"{reason}; run it for a few updates instead") from error
        print(reason, file=sys.stderr)
    return options.estimate


@contextmanager
def stage_run(options: argparse.Namespace, config, data: list):
    """A run folder for one stage, its checkpoint and its device. Where only an estimate is wanted the
    folder is one for the moment."""
    from tempfile import TemporaryDirectory

    from rlhf_lab import own_task
    from rlhf_lab.adapters import MemoryConfig
    from rlhf_lab.files import fingerprint
    from rlhf_lab.run_folder import RunFolder
    from rlhf_lab.training import Checkpoint, make_accelerator

    settings = asdict(config) | {"model": options.model, "data": options.data}
    settings |= own_task.settings(options)
    usual = asdict(MemoryConfig()) | {"precision": "auto"}
    settings |= {name: getattr(options, name) for name in usual if getattr(options, name) != usual[name]}
    accelerator = make_accelerator(options.device, options.precision)
    with TemporaryDirectory() as nowhere:
        place = nowhere if options.estimate else options.out
        with RunFolder.open(place, settings, data={"data": fingerprint(data)}) as run:
            yield run, Checkpoint(run.checkpoints / "stage"), accelerator
