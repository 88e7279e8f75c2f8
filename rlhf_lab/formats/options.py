"""The options of the commands that read data, and the reading itself."""

import argparse
import sys
from collections.abc import Callable
from itertools import islice

from transformers import PreTrainedTokenizerBase

from rlhf_lab.errors import UserError
from rlhf_lab.formats.reading import Reading

WHERE = "a file (JSON lines, CSV, Parquet) or hub:owner/name[:split]; see docs/data-formats.md"


def data_options(sub: argparse.ArgumentParser, what: str, required: bool = True,
                 rows: bool = True) -> None:  # fmt: skip
    """Where the data is and how it is read. what: the columns it should have. rows: whether to ask
    how many to take; False if the command has an option of its own for that."""
    sub.add_argument("--data", required=required, help=f"{what}: {WHERE}")
    sub.add_argument("--layout", help="the layout of --data, where its columns fit several")
    sub.add_argument("--columns", metavar="YOURS=KNOWN,...", help="other names for columns of "
                     "--data, such as question=prompt,answer=response")
    if rows:
        sub.add_argument("--rows", type=int, help="take only so many rows of --data, from the top")
    sub.add_argument("--max-prompt-tokens", type=int, help="longest prompt; of a longer one, and "
                     "of one that the model has no room for, the end is kept")
    sub.add_argument("--skip-bad-rows", action="store_true", help="pass over rows of --data that "
                     "cannot be used, and count them, in place of stopping")


def read_data(options: argparse.Namespace, read: Callable[..., Reading],
              tokenizer: PreTrainedTokenizerBase, context: int | None, new_tokens: int = 0,
              count: int | None = None) -> list:  # fmt: skip
    """The data that was asked for; what came of it is said on standard error.

    context: tokens the model reads, None if there is no limit. new_tokens: how many of them to keep
    free, as the response is yet to be written; 0 if it is in the data. count: how many to take, if
    not as many as --rows says.
    """
    from tqdm import tqdm

    longest, count = options.max_prompt_tokens, count or getattr(options, "rows", None)
    for name, value in (("--rows", count), ("--max-prompt-tokens", longest)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: take 1 or more")
    if new_tokens and context:
        if new_tokens >= context:
            raise UserError(f"responses of {new_tokens} tokens leave no room for a prompt: the "
                            f"model reads {context} in all")
        longest = min(longest or context, context - new_tokens)
    reading = read(options.data, tokenizer, max_tokens=None if new_tokens else context,
                   max_prompt_tokens=longest, skip_bad=options.skip_bad_rows, layout=options.layout,
                   columns=_columns(options.columns))  # fmt: skip
    with tqdm(islice(reading, count), "reading", unit=" rows", delay=2, leave=False) as rows:
        data = list(rows)
    print(reading, file=sys.stderr)
    return data


def _columns(text: str | None) -> dict[str, str]:
    pairs = [part.split("=") for part in text.split(",")] if text else []
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise UserError(f"--columns {text}: write yours=known, such as question=prompt")
    return {yours.strip(): known.strip() for yours, known in pairs}
