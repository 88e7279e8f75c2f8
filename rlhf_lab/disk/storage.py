"""Model folders: reading with errors that say what to do, and atomic writing.

Only safetensors are loaded: pickle files can run code.
"""

import hashlib
import json
import math
import re
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
import transformers
from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import cached_file, logging

from rlhf_lab.disk.places import MODEL_FILES, check_place, other_than_model, replacing
from rlhf_lab.engine import parallel
from rlhf_lab.engine.adapters import (
    ADAPTER_CONFIG,
    PREFIX,
    adapter_tensors,
    merge_adapters,
    write_adapter,
)
from rlhf_lab.errors import UserError

AutoModel = (
    type[AutoModelForCausalLM]
    | type[AutoModelForSequenceClassification]
    | type[transformers.AutoModel]
)

NO_CODE = {"trust_remote_code": False}  # without it, transformers asks, and a "y" runs the code
MOST_LAYERS = 1000  # allowed for a model whose weights have fewer tensors
SPARE = 10**7  # parameters a config may ask for beyond twice those in the weights
HEAD_FILE = "reward_head.safetensors"  # of a reward model that is not a sequence classifier


def read_tokenizer(path_or_id: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub id. Raises UserError if there is none."""
    folder = Path(path_or_id)
    if folder.is_dir() and not any(folder.glob("*token*")) and not any(folder.glob("vocab*")):
        if base := base_of(folder):
            with _naming(folder, base):
                return read_tokenizer(base)
        _refuse_outer(folder, "tokenizer")
        raise UserError(f"no tokenizer in '{folder}': put one there with its save_pretrained")
    with _explaining(path_or_id, "tokenizer"):
        return AutoTokenizer.from_pretrained(str(path_or_id), **_where(folder))


def read_end_ids(path_or_id: str | Path) -> list[int]:
    """The token ids that end a response, from the generation config or config of a model (a folder
    or hub id); [] if neither has any. Raises UserError if one is not a number."""
    where: Any = _where(Path(path_or_id))
    ends: Any = None
    for kind in (GenerationConfig, AutoConfig):
        with suppress(OSError, ValueError):  # no such file, as beside a tokenizer alone
            ends = ends or getattr(
                kind.from_pretrained(str(path_or_id), **where), "eos_token_id", None
            )
    ids = ends if isinstance(ends, list) else [ends] if ends is not None else []
    for end in ids:
        if not isinstance(end, int):
            raise UserError(
                f"the model '{path_or_id}' has {end!r} as eos_token_id: write a number there, in "
                "generation_config.json or config.json"
            )
    return ids


def read_context(path_or_id: str | Path) -> int | None:
    """The context length, in tokens, of a model (a folder or hub id); None if its config has none.

    Raises UserError if there is no such model.
    """
    if base := base_of(path_or_id):
        with _naming(path_or_id, base):
            return read_context(base)
    with _explaining(path_or_id, "model"):
        config = AutoConfig.from_pretrained(str(path_or_id), **_where(Path(path_or_id)))
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def read_model(
    auto_class: AutoModel,
    path_or_id: str | Path,
    dtype: torch.dtype,
    what: str,
    coming: Collection[str] = (),
) -> PreTrainedModel:
    """Load a model (a folder or hub id) with one of transformers' Auto classes. If the folder holds
    LoRA adapters, load the model they were trained on and merge them into it.

    what: the kind of model, for messages. coming: weights that may be missing, because the adapters
    bring them. Raises UserError if there is no such model, or if weights are missing.
    """
    folder = Path(path_or_id)
    if base := base_of(folder):
        with _naming(folder, base), _explaining(folder, what), _quiet():
            names = {name.removeprefix(PREFIX) for name in adapter_tensors(folder)}
            if any(name.startswith("score.") for name in names) and (
                auto_class is AutoModelForCausalLM
            ):
                raise UserError("the adapters are a reward model's: give a policy's folder")
            return merge_adapters(read_model(auto_class, base, dtype, what, names), folder)
    _refuse_outer(folder, what)
    if folder.is_dir() and not (folder / "config.json").exists():
        raise UserError(f"no config.json in '{folder}': name a folder that holds a {what}")
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise UserError(
            f"no safetensors file in '{folder}': only safetensors are loaded, as pickle "
            "files can run code; convert the weights with save_pretrained"
        )
    with _explaining(path_or_id, what), _quiet():
        if folder.is_dir():
            check_sizes(folder)
        loaded: Any = auto_class.from_pretrained(
            str(path_or_id),
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **({"num_labels": 1} if "score.weight" in coming else {}),
            **_where(folder),
        )
    model, report = loaded  # a pair, as the loading info was asked for
    scored = any(name.startswith("score.") for name in report["unexpected_keys"])
    if scored or (auto_class is AutoModelForCausalLM and (folder / HEAD_FILE).exists()):
        raise UserError(f"'{path_or_id}' is a reward model, not a {what}: give a policy's folder")
    if more := _layers_left_out(model, report["unexpected_keys"]):
        raise UserError(
            f"the weights in '{path_or_id}' have more layers than its config.json says ({more}): "
            "use the two files that were saved together"
        )
    if lacking := set(report["missing_keys"]) - set(coming):
        missing = ", ".join(sorted(lacking)[:3])
        raise UserError(
            f"'{path_or_id}' is not a complete {what}: its weights lack {missing}; give another "
            "folder, or copy it again"
        )
    return model


def _layers_left_out(model: PreTrainedModel, left_over: Collection[str]) -> str:
    """The first tensor in the weights that belongs to a layer the model does not have; "" if there
    is none. The name of such a tensor has a number after the name of a list of layers."""
    lists = {name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    lists |= {name.removeprefix(f"{model.base_model_prefix}.") for name in lists}
    for name in sorted(left_over):
        if any(name[: number.start()] in lists for number in re.finditer(r"\.\d+\.", name)):
            return name
    return ""


def read_head(path_or_id: str | Path) -> dict[str, Tensor] | None:
    """The weight and bias of the head of a reward model that is stored as a trunk and a head; None
    for any other model. Raises UserError if the file cannot be read."""
    with _explaining(path_or_id, "reward model"):
        found = cached_file(
            str(path_or_id),
            HEAD_FILE,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            local_files_only=_offline(Path(path_or_id)),
        )
        if found is None:
            return None
        head = load_file(found)
        if set(head) != {"weight", "bias"} or head["weight"].shape[:1] != (1,):
            raise ValueError(f"{HEAD_FILE} must hold one row of weights and a bias")
        return head


def base_of(path_or_id: str | Path) -> str | None:
    """The model that the LoRA adapters in a folder were trained on: a hub id or a folder. None if
    the folder holds no adapters, or a whole model beside them.

    Raises UserError if the adapters do not name their model, or if that folder holds only adapters.
    """
    folder = Path(path_or_id)
    file = folder / ADAPTER_CONFIG
    if not file.is_file() or any(folder.glob("model*.safetensors")):
        return None
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{file} is not a configuration that peft wrote: copy it again") from error
    if not base or not isinstance(base, str):
        raise UserError(
            f"'{folder}' holds LoRA adapters that do not name their base model: write its folder "
            f"or hub id into {file} as base_model_name_or_path"
        )
    if (Path(base) / ADAPTER_CONFIG).is_file() and not any(Path(base).glob("model*.safetensors")):
        raise UserError(
            f"'{folder}' holds LoRA adapters of '{base}', which itself holds only adapters: "
            "merge those first (peft: merge_and_unload, then save_pretrained)"
        )
    return base


@contextmanager
def _naming(folder: str | Path, base: str) -> Iterator[None]:
    """Add to errors of loading the base model that the folder holds adapters of it."""
    try:
        yield
    except UserError as error:
        raise UserError(
            f"'{folder}' holds LoRA adapters of '{base}', and both are needed: {error}. Or merge "
            "them on a machine that has that model (peft: merge_and_unload, then save_pretrained)"
        ) from error


def fingerprint(path_or_id: str | Path) -> str:
    """The sha256 of a model's weights in a folder; "" for a hub id. For LoRA adapters it covers the
    model that they were trained on too."""
    total = hashlib.sha256()
    if base := base_of(path_or_id):
        total.update(fingerprint(base).encode())
    for file in sorted(Path(path_or_id).glob("*.safetensors")):
        with file.open("rb") as weights:
            total.update(hashlib.file_digest(weights, "sha256").digest())
    return total.hexdigest() if Path(path_or_id).is_dir() else ""


def noted(path_or_id: str | Path, what: str = "model") -> dict[str, str]:
    """What a run records of a model that it begins with: the sha256 of its weights, and the sha256
    of its config and tokenizer; "" for a hub id."""
    rest = f"{what} config and tokenizer"
    return {what: fingerprint(path_or_id), rest: _fingerprint_of_rest(Path(path_or_id))}


def _fingerprint_of_rest(folder: Path) -> str:
    if not folder.is_dir():
        return ""
    total = hashlib.sha256()
    if base := base_of(folder):
        total.update(_fingerprint_of_rest(Path(base)).encode())
    for file in sorted(folder.iterdir()):
        read = MODEL_FILES.fullmatch(file.name) or file.name == ADAPTER_CONFIG
        if read and file.is_file() and file.suffix != ".safetensors":
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{file.name} {content}\n".encode())
    return total.hexdigest()


def write_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    adapted: PreTrainedModel | None = None,
    head: dict[str, Tensor] | None = None,
) -> None:
    """Write a folder that plain transformers loads, atomically; it replaces a model that was there.
    With several processes, only the main one writes.

    adapted: the model whose adapters were merged into this one; the adapters are also written to
    the subfolder "adapter". head: the tensors of a reward model's head, for a separate file. Raises
    UserError, and changes nothing, if the folder holds anything that is not part of a model, or if
    it cannot be written, as on a full disk.
    """
    parallel.once(_write_model, model, tokenizer, Path(folder), adapted, head)


def _write_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    adapted: PreTrainedModel | None,
    head: dict[str, Tensor] | None,
) -> None:
    check_place(folder, other_than_model, folder=True)
    with replacing(folder) as fresh, _quiet():
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        if adapted is not None:
            write_adapter(adapted, fresh / "adapter")
        if head is not None:
            tensors = {name: x.contiguous().cpu() for name, x in head.items()}
            save_file(tensors, fresh / HEAD_FILE, {"format": "pt"})
        for weights in fresh.rglob("*.safetensors"):  # else only the owner could read them
            shutil.copymode(fresh / "config.json", weights)


def _refuse_outer(folder: Path, what: str) -> None:
    """Raise UserError for a folder, such as a run's, that holds models only in its subfolders."""
    inside = sorted({str(file.parent) for file in folder.glob("*/model*.safetensors")})
    if inside and not any(folder.glob("model*.safetensors")):
        raise UserError(
            f"no {what} in '{folder}' itself: give one of the folders in it: {' or '.join(inside)}"
        )


@contextmanager
def _explaining(path_or_id: str | Path, what: str) -> Iterator[None]:
    """Turn any failure to read a model into a UserError: one line that says what to do."""
    name, folder = str(path_or_id), Path(path_or_id)
    if folder.is_file():
        raise UserError(f"{name} is a file: name the folder of a model")
    if not folder.is_dir() and (folder.is_absolute() or name[:1] in ".~" or name.count("/") > 1):
        raise UserError(f"no folder '{name}': check its name, or create it first")
    if folder.is_dir():
        check_files(folder)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a strange folder can make a library raise anything
        if "ignore_mismatched_sizes" in str(error):
            raise UserError(
                f"the weights in '{name}' do not have the sizes in its config.json: use "
                "the two files that were saved together"
            ) from error
        reason = _reason(error)
        if folder.is_dir():
            raise UserError(f"cannot load a {what} from '{name}': {reason}") from error
        if HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set: unset it and download the model once"
        elif _offline(folder):
            reason = (
                f"{ENDPOINT} cannot be reached from here: run `hf download {name}` once where it "
                "can be"
            )
        else:
            reason = (
                f"as a hub id it gave the error: {reason.rstrip('.')}. Run `hf download {name}` "
                "once with a connection"
            )
        raise UserError(
            f"'{name}' is neither a folder here nor a downloaded {what}; {reason}, or copy a "
            "model's folder from another machine (save_pretrained writes one) and give its path"
        ) from error


def _reason(error: Exception) -> str:
    """What a library says, in one line of at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    if not isinstance(error, OSError | ValueError | ImportError | SafetensorError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 200 else text[:199] + "…"


def check_files(folder: Path) -> None:
    """Raise UserError for a model folder that is not safe to load: a config that is not JSON, an
    index that names anything but safetensors in the same folder, or a model that comes with its own
    code."""
    found = {}
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        if (folder / name).exists():
            found[name] = _json_object(folder / name)
    for index in folder.glob("*.index.json"):
        weights = _json_object(index).get("weight_map")
        for file in set(weights.values()) if isinstance(weights, dict) else {None}:
            if not isinstance(file, str) or not re.fullmatch(r"[\w.-]+\.safetensors", file):
                raise UserError(
                    f"{index} lists {str(file)[:60]!r} as a weights file: only safetensors "
                    "files in the same folder are read"
                )
    config = found.get("config.json", {})
    if config.get("auto_map") and config.get("model_type") not in CONFIG_MAPPING:
        raise UserError(
            f"{folder / 'config.json'} loads code that comes with the model (auto_map), and this "
            "lab never runs such code: use a model of a family that transformers knows"
        )


def check_sizes(folder: Path) -> None:
    """Raise UserError if a model's configuration asks for much more than its weights hold, before
    memory is set aside for it."""
    file = folder / "config.json"
    config = _json_object(file)
    layers = config.get("n_layer", config.get("num_hidden_layers"))
    stored = [shape for file in folder.glob("*.safetensors") for shape in _shapes_in(file)]
    if isinstance(layers, int) and layers > max(len(stored), MOST_LAYERS):
        raise UserError(
            f"{file} asks for {layers:,} layers, and the weights beside it are only {len(stored)} "
            "tensors: use the two files that were saved together"
        )
    asked, there = _numbers_asked(config), sum(map(math.prod, stored))
    if asked > 2 * there + SPARE:
        raise UserError(
            f"{file} asks for {asked:,} parameters, and the weights beside it have {there:,}: use "
            "the two files that were saved together"
        )


def _numbers_asked(config: dict[str, Any]) -> int:
    """The number of parameters in the trunk of a model with this config, found without allocating
    it; 0 if unknown."""
    if config.get("model_type") not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return 0
    with suppress(Exception), torch.device("meta"), _quiet():  # errors show again in loading
        trunk = transformers.AutoModel.from_config(AutoConfig.for_model(**config), **NO_CODE)
        return sum(p.numel() for p in trunk.parameters())
    return 0


def _shapes_in(weights: Path) -> list[list[int]]:
    """The shapes of the tensors in a file of weights. Raises UserError if it cannot be read."""
    try:
        with safe_open(weights, "pt") as opened:
            return [opened.get_slice(name).get_shape() for name in opened.keys()]  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{weights} is damaged, or not a safetensors file ({_reason(error)}): copy it again"
        ) from error


def _json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder. Raises UserError if it holds anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({_reason(error)}): copy it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} does not hold a JSON object: copy it again")
    return found


def _where(folder: Path) -> dict[str, Any]:
    """Arguments of from_pretrained that never run code that comes with a model. Without a network a
    hub id is looked for only among the downloaded files: the hub's client would first retry for
    half a minute."""
    if _offline(folder):
        return NO_CODE | {"local_files_only": True}
    return dict(NO_CODE)


def _offline(folder: Path) -> bool:
    """Whether this is a hub id, and the hub cannot be reached."""
    if folder.is_dir() or HF_HUB_OFFLINE or getproxies():
        return False
    try:
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, None)
    except OSError:
        return True
    return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars, and its table of missing and unexpected weights, which
    `read_model` checks."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
