"""`rlhf-lab sample`: let a model answer prompts."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rlhf_lab.cli import inputs
from rlhf_lab.cli.inputs import TASK, data_options
from rlhf_lab.cli.options import add_config, device_option, read_config, seed_option
from rlhf_lab.disk.places import check_place
from rlhf_lab.disk.storage import read_context
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import respond
from rlhf_lab.models import load_policy, load_tokenizer
from rlhf_lab.records import Prompt
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.tasks import SHIPPED, load_task
from rlhf_lab.tasks.folder import is_folder
from rlhf_lab.training import make_accelerator


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", required=True, help="folder or hub id of a causal language model")
    data_options(sub, "prompts, alone or with responses", required=False)
    sub.add_argument("--task", help=f"{TASK}: the prompts to rank responses to")
    sub.add_argument("--prompt", action="append", help="a prompt; may be given several times")
    sub.add_argument(
        "--message",
        action="append",
        help="a message in plain words; it is formatted as a prompt of --task, a task's folder "
        f"or the name of a task of the lab (if not given, {SHIPPED}); may be given several times",
    )
    sub.add_argument("--responses", type=int, default=1, help="responses to each prompt")
    sub.add_argument("--out", help="file for the responses; if not given, they are printed")
    seed_option(sub)
    add_config(sub, SamplingConfig)
    device_option(sub)


def run(options: argparse.Namespace) -> None:
    texts, messages = options.prompt or [], options.message or []
    if messages:
        texts = texts + [load_task(options.task or SHIPPED).prompt_of(m) for m in messages]
    form_alone = messages and not is_folder(options.task)  # --task only formats the messages
    prompts = [Prompt(f"given-{i}", text) for i, text in enumerate(texts)]
    if not prompts and not options.data and not options.task:
        raise UserError("nothing to answer: give --prompt, --message, --data or --task")
    if options.out:
        check_place(options.out, inputs.other_than_samples, read={"--data": options.data})
    config, tokenizer = read_config(options, SamplingConfig), load_tokenizer(options.model)
    if options.data or (options.task and not form_alone):
        prompts = (
            inputs.prompts(
                options,
                tokenizer,
                read_context(options.model),
                config.max_new_tokens,
                ("train", "second"),
                judged=bool(messages),
            )
            + prompts
        )
    policy = load_policy(options.model, make_accelerator(options.device).device)
    answers = respond(policy, tokenizer, prompts, options.responses, options.seed, config=config)
    made = {"model": options.model, "settings": asdict(config) | {"seed": options.seed}}
    rows = [
        {"id": p.id, "prompt": p.text, "facts": p.facts, "responses": texts}
        | made
        | ({} if all(ended) else {"ended": ended})
        for p, texts, ended in zip(prompts, answers.texts, answers.ended.tolist())
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    if options.out:
        from rlhf_lab.disk.jsonl import write_whole

        write_whole(Path(options.out), "\n".join(lines) + "\n")
        print(f"wrote {options.out}")
    else:
        print("\n".join(lines))
