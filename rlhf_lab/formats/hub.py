"""Rows of a data set on the Hugging Face hub: hub:owner/name, hub:owner/name/part:split."""

import re
from collections.abc import Iterator

from rlhf_lab.errors import UserError
from rlhf_lab.formats.fields import Fields

SOURCE = re.compile(r"hub:(?P<name>\w[\w.-]*/\w[\w.-]*)(/(?P<part>[^:]+))?(:(?P<split>[\w.-]+))?")


def hub_rows(source: str) -> Iterator[Fields]:
    """The rows of a split ("train" if none is named) of a data set or of one part (configuration)
    of it. They are fetched as they are read, and nothing is stored; without a network, what an
    earlier download by `datasets` left is read.

    Raises UserError if there is no such data set, it cannot be reached, or `datasets` is not
    installed.
    """
    match = SOURCE.fullmatch(source)
    if not match:
        raise UserError(f"'{source}' names no data set: write hub:owner/name or "
                        "hub:owner/name:split")  # fmt: skip
    split = match["split"] or "train"
    number = 0
    try:
        for number, fields in enumerate(_load(source, match["name"], match["part"], split), 1):
            yield Fields(f"{source}, row {number}", dict(fields))
    except UserError:
        raise
    except Exception as error:  # every layer below, down to the network, has errors of its own
        raise UserError(_explanation(source, error, number)) from error


def _load(source: str, name: str, part: str | None, split: str):
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"reading {source} takes the package datasets: "
                        "pip install 'rlhf-lab[hub]'") from error  # fmt: skip
    online = not datasets.config.HF_HUB_OFFLINE
    return datasets.load_dataset(name, part, split=split, streaming=online)


def _explanation(source: str, error: Exception, number: int) -> str:
    why = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    after = f", after row {number}" if number else ""
    return (f"cannot read {source}{after}: {why}: check the name, the split and the network, or "
            "fetch the files on a machine with one and give their path instead")  # fmt: skip
