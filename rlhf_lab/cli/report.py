"""`rlhf-lab report`: write report.html for a run."""

import argparse

from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.errors import UserError
from rlhf_lab.runs.report import write_report


def add_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "folder", nargs="?", metavar="RUN", help="folder of the run; if not given, runs/demo"
    )
    sub.add_argument("--run", dest="named", metavar="RUN", help="the same as RUN")


def run(options: argparse.Namespace) -> None:
    if options.folder and options.named:
        raise UserError(
            f"{options.folder} and --run {options.named} both name a run: give only one"
        )
    run = RunFolder.view(options.folder or options.named or "runs/demo")
    print(f"wrote {write_report(run)}")
