"""What the commands do: the three stages, one by one or all together, and what goes with them.

What a command needs is imported when it runs, so that `rlhf-lab --help` is quick.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from rlhf_lab import parallel
from rlhf_lab.errors import UserError
from rlhf_lab.options import read_config


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
    from rlhf_lab.jsonl import plain
    from rlhf_lab.models import save_policy
    from rlhf_lab.pretrain import PretrainConfig, new_model, train_base, train_tokenizer
    from rlhf_lab.storage import check_place
    from rlhf_lab.tasks import load_judged
    from rlhf_lab.training import Checkpoint, make_accelerator

    check_place(options.out)
    config, task = read_config(options, PretrainConfig), load_judged(options.task)
    tokenizer = train_tokenizer(task.raw_text(config.seed, config.tokenizer_documents), config.vocabulary)
    model = new_model(tokenizer, config)
    kept = Checkpoint(Path(options.out + ".checkpoint"), every=100,
                      settings=plain(asdict(config)) | {"task": options.task})
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
    from rlhf_lab.evaluate import ranking_accuracy
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
            run.write_json("tested.json", ranking_accuracy(model, tokenizer, apart))
            print(tested_as(run.reward_model))
        print(f"wrote {run.reward_model}")


def ppo(options: argparse.Namespace) -> None:
    from rlhf_lab import own_task
    from rlhf_lab.adapters import MemoryConfig, prepare
    from rlhf_lab.compare.standing import spent
    from rlhf_lab.estimate import estimate_ppo
    from rlhf_lab.models import (
        ScalarModel, check_same_words, load_policy, load_tokenizer, save_policy,
    )
    from rlhf_lab.ppo import PPOConfig, train_ppo
    from rlhf_lab.storage import read_context
    from rlhf_lab.tasks import load_task

    config, tokenizer = read_config(options, PPOConfig), load_tokenizer(options.model)
    check_same_words(options.model, options.reward_model)
    if warning := spent(options.reward_model):
        print(warning, file=sys.stderr)
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
    from rlhf_lab.training import make_accelerator

    texts = (options.prompt or []) + [PROMPT.format(message=m) for m in options.message or []]
    prompts = [Prompt(f"given-{i}", text) for i, text in enumerate(texts)]
    if not prompts and not options.data and not options.task:
        raise UserError("nothing to answer: give --prompt, --message, --data or --task")
    if options.out:
        own_task.check_replaceable(Path(options.out), options.data)
    config, tokenizer = read_config(options, SamplingConfig), load_tokenizer(options.model)
    if options.data or options.task:
        prompts = own_task.prompts(options, tokenizer, read_context(options.model),
                                   config.max_new_tokens, ("train", "second")) + prompts
    policy = load_policy(options.model, make_accelerator(options.device).device)
    answers = answer(policy, tokenizer, prompts, options.responses, options.seed, config=config)
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

    if options.folder and options.named:
        raise UserError(f"{options.folder} and --run {options.named} both name a run: give one")
    run = RunFolder.view(options.folder or options.named or "runs/demo")
    print(f"wrote {write_report(run)}")


def fetch(options: argparse.Namespace) -> None:
    from rlhf_lab import pretrained

    pretrained.command(options)


# ---- one stage in a folder of its own --------------------------------------------------------------


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
    if sum(1 for _ in watch(stage, run.logged(stage, records))) == 0:
        print(f"nothing was left to train: the run in {run.path} was at its end already")


def foretold(options: argparse.Namespace, accelerator, estimate: Callable, *arguments) -> bool:
    """Say what a run will need; whether that is all that was asked for. An estimate that fails, as it
    may for a model of a kind unknown here, stops no run."""
    from rlhf_lab.costs import matmul_speed

    try:
        needs = estimate(*arguments, accelerator)
        print(needs.lines(matmul_speed(accelerator) * parallel.count()), flush=True)
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

    from rlhf_lab import own_task, storage
    from rlhf_lab.adapters import MemoryConfig
    from rlhf_lab.files import fingerprint
    from rlhf_lab.run_folder import RunFolder
    from rlhf_lab.training import Checkpoint, make_accelerator

    settings = asdict(config) | {"model": options.model, "data": options.data}
    settings |= own_task.settings(options)
    learned = {"data": fingerprint(data), "model": storage.fingerprint(options.model)}
    if "reward_model" in options:
        settings["reward_model"] = options.reward_model
        learned["reward model"] = storage.fingerprint(options.reward_model)
    usual = asdict(MemoryConfig()) | {"precision": "auto"}
    settings |= {name: getattr(options, name) for name in usual if getattr(options, name) != usual[name]}
    accelerator = make_accelerator(options.device, options.precision)
    with TemporaryDirectory() as nowhere:
        place = nowhere if options.estimate else options.out
        with RunFolder.open(place, settings, data=learned) as run:
            yield run, Checkpoint(run.checkpoints / "stage"), accelerator
