"""`rlhf-lab compare`: compare models by a judge or a reward model. `blind` shares its options."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rlhf_lab.cli.inputs import check_room, data_options, read_data
from rlhf_lab.cli.options import read_config, sampling_options
from rlhf_lab.cli.progress import each
from rlhf_lab.compare.comparison_table import terminal_lines
from rlhf_lab.compare.contestants import Contestant, contestants_of
from rlhf_lab.compare.measure import Comparison, compare
from rlhf_lab.compare.page import TITLE, Setup, page
from rlhf_lab.compare.standing import standing_of
from rlhf_lab.disk.jsonl import plain, strict_json, write_whole
from rlhf_lab.disk.places import check_place
from rlhf_lab.disk.storage import read_context
from rlhf_lab.errors import UserError
from rlhf_lab.formats.reading import read_prompts
from rlhf_lab.models import load_tokenizer
from rlhf_lab.records import Prompt
from rlhf_lab.runs.report import other_than_page
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.show.markup import name_alone
from rlhf_lab.tasks import FolderTask, Task, load_task
from rlhf_lab.training import make_accelerator

MODEL = "a run's folder (its final policy), a model's folder, or a hub id; NAME=FOLDER gives a name"
TABLE = {"rows", "groups", "examples", "key"}  # what --out holds
NOTE = """\
Figures in brackets or after ± are 95 % intervals, with each prompt counted once"""
RIVAL = """; difference and wins
compare with {rival} on the same prompts, and a tie is half a win"""
SEEDS = " For several seeds: mean [lowest, highest]."


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help=f"{MODEL}; the others are compared with the first; "
        "runs that differ only in their seed form a group",
    )
    prompt_options(sub)
    sampling_options(sub)
    sub.add_argument(
        "--reference",
        help="model from which the KL is measured; if not given, the one compared with",
    )
    sub.add_argument(
        "--reward-model", help="a second reward model as judge, trained on other rankings"
    )
    sub.add_argument("--samples", type=int, default=4, help="responses to each prompt")
    sub.add_argument(
        "--blind",
        type=int,
        default=0,
        help="how many blind pairs of the first two models to write beside --out, for a person "
        "to choose from",
    )
    sub.add_argument("--html", help="file for the whole comparison as a web page")
    sub.add_argument("--out", help="file for the table as JSON")


def prompt_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--task",
        help="task whose judge and held-out prompts to use; if neither this nor --data is given, "
        "the runs' task",
    )
    sub.add_argument(
        "--set", help="which set of the task's held-out prompts to use; if not given, the main one"
    )
    data_options(
        sub,
        "prompts, alone or with responses, used in place of the task's",
        required=False,
        rows=False,
    )
    sub.add_argument("--prompts", type=int, help="use only the first PROMPTS prompts")


def run(options: argparse.Namespace) -> None:
    """Print the table; write the page and the JSON that were asked for."""
    if options.blind and not options.out:
        raise UserError("--blind writes its pairs beside the --out file: give --out FILE too")
    pairs = Path(options.out).with_suffix(".pairs.json") if options.blind else None
    read = {"--data": options.data, "--out": options.out}
    if options.html:
        check_place(options.html, other_than_page(TITLE), read=read)
    if options.out:
        check_place(options.out, _other_than_table, read={"--data": options.data})
    if pairs:  # never replaced: it may hold somebody's choices
        check_place(pairs, read={"--data": options.data, "--html": options.html})
    config = read_config(options, SamplingConfig)
    device = make_accelerator(options.device).device
    models = contestants_of(options.models)
    task, prompts, source = asked(options, models)
    judge = task.judge if task else None
    if judge is None and not options.reward_model:
        raise UserError(f"nothing to compare by: {_why_no_judge(options, task)}")
    known = standing_of(options.reward_model, models)
    print("\n".join(known), end="\n" * bool(known), file=sys.stderr)
    result = compare(
        options.models,
        prompts,
        judge,
        options.reward_model,
        options.samples,
        options.blind,
        options.seed,
        config,
        device,
        options.reference,
        lambda all_: each(all_, "answering", "model"),
    )
    unit = "mark" if judge else "score"
    print("\n".join(terminal_lines(result, unit)))
    print(_note(result))
    if options.html:
        judged_by = (
            f"the judge of {task.name.replace('_', ' ')}"
            if judge and task
            else "; ".join([f"the reward model {options.reward_model}", *known]).replace(
                options.reward_model, name_alone(options.reward_model)
            )
        )
        setup = Setup(
            name_alone(source),
            len(prompts),
            options.samples,
            options.seed,
            config,
            judged_by,
            unit,
            held_out=not options.data,
        )
        _write(options.html, page(result, setup))
    if options.out:
        _write(
            options.out,
            _json({name: value for name, value in vars(result).items() if name != "pairs"}),
        )
    if result.pairs:
        _write(str(pairs), _json(result.pairs))
        print(
            f'"key" in {options.out} says which model is which in {pairs}; to choose on the '
            "terminal instead, run `rlhf-lab blind`"
        )


def asked(
    options: argparse.Namespace, models: Sequence[Contestant]
) -> tuple[Task | FolderTask | None, list[Prompt], str]:
    """The task, the prompts and where they come from.

    Raises UserError if there are no prompts, or no such set.
    """
    named = ((model.settings or {}).get("task") for model in models)
    names = sorted({name for name in named if name is not None})
    name = options.task or (None if options.data or len(names) != 1 else names[0])
    task = load_task(name) if name else None
    if options.prompts is not None and options.prompts < 1:
        raise UserError(f"--prompts {options.prompts}: take 1 or more")
    if options.data:
        prompts, source = _read(options, models), options.data
    elif task is None:
        raise UserError(f"no prompts: give --task or --data ({_why_no_task(models, names)})")
    else:
        sets = task.held_out()
        chosen = options.set or next(iter(sets))
        if chosen not in sets:
            raise UserError(
                f"there is no set '{chosen}' of held-out prompts: choose one of {', '.join(sets)}"
            )
        prompts, source = sets[chosen], f"{task.name.replace('_', ' ')}, {chosen}"
        if isinstance(task, FolderTask):
            _check_room(task, prompts[: options.prompts], models, options.max_new_tokens)
    return task, prompts[: options.prompts], source


def _read(options: argparse.Namespace, models: Sequence[Contestant]) -> list[Prompt]:
    """The prompts in --data, short enough for every model. Chat messages use the first model's
    template."""

    contexts = [context for m in models if (context := read_context(m.folder))]
    return read_data(
        options,
        read_prompts,
        load_tokenizer(models[0].folder),
        min(contexts, default=None),
        options.max_new_tokens,
        options.prompts,
    )


def _check_room(
    task: FolderTask, prompts: Sequence[Prompt], models: Sequence[Contestant], new_tokens: int
) -> None:
    """Raise UserError if a prompt of a task folder and its response are too long for a model."""

    for folder in dict.fromkeys(model.folder for model in models):
        check_room(
            task.sources[0],
            [(p, []) for p in prompts],
            load_tokenizer(folder),
            read_context(folder),
            new_tokens,
        )


def _why_no_task(models: Sequence[Contestant], names: Sequence[str]) -> str:
    places = ", ".join(dict.fromkeys(m.folder for m in models))
    return (
        f"the runs are of several tasks: {', '.join(names)}"
        if names
        else f"no task is recorded in {places}"
    )


def _why_no_judge(options: argparse.Namespace, task: Task | FolderTask | None) -> str:
    if not isinstance(task, FolderTask):
        return "give --task with a task that has a judge, or --reward-model"
    return (
        f"the task in {task.folder} has no judge: give --reward-model with the result of `rlhf-lab "
        f"reward --task {task.folder} --part second`, or choose yourself with `rlhf-lab blind`"
    )


def _note(comparison: Comparison) -> str:
    rivals = {row["rival"] for row in comparison.rows} - {None}
    rival = "the first model of the same seed" if len(rivals) > 1 else "".join(rivals)
    several = any(len(group["models"]) > 1 for group in comparison.groups)
    return NOTE + RIVAL.format(rival=rival) * bool(rivals) + "." + SEEDS * several


def _other_than_table(place: Path) -> str:
    try:
        content = strict_json(str(place), place.read_bytes())
    except UserError:
        content = None
    ours = isinstance(content, dict) and content.keys() >= TABLE
    return "" if ours else "holds no comparison"


def _json(value) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"


def _write(file: str, text: str) -> None:
    write_whole(Path(file), text)
    print(f"wrote {file}")
