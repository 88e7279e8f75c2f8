"""LoRA: leave a model's weights as they are and train a thin product beside each matrix.

A layer W x becomes W x + (alpha / rank) B A x, where A (rank, in) starts at random and B (out,
rank) at 0, so that nothing changes until something is learned (Hu et al. 2021). Adam then keeps its
two moments for A and B alone, and the reference costs nothing: it is the same weights without A and
B. `peft` makes the layers; the model stays the class it was, so that everything else here can read
it.
"""

import copy
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_lab.engine.recompute import recompute_layers, recomputed
from rlhf_lab.errors import UserError
from rlhf_lab.records import check_settings, setting

if TYPE_CHECKING:
    from peft.tuners.lora import Linear as LoraLinear

M = TypeVar("M", bound=nn.Module)
P = TypeVar("P", bound=PreTrainedModel)

NAME = "default"  # peft's name of the adapter: a model has one
PREFIX = "base_model.model."  # what peft puts before the name of each tensor
ADAPTER_CONFIG, ADAPTER_FILE = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class MemoryConfig:
    """What a model is trained with when memory is short.

    Adapters (LoRA) of rank 16, say, take about ten times the learning rate. With gradient
    checkpointing the layers are computed again in the backward pass.
    """

    lora: int = setting(
        0, "rank of adapters to train in place of the weights (0: none)", at_least=0
    )
    lora_alpha: float = setting(32.0, "scale of the adapters: alpha / rank", above=0)
    gradient_checkpointing: bool = setting(False, "less memory, more time")

    def __post_init__(self) -> None:
        check_settings(self)


def prepare(model: M, config: MemoryConfig, seed: int = 0) -> M:
    """Make `model`, a policy or a scalar model, ready to be trained so; returns it."""
    if config.lora:
        add_lora(model, config.lora, config.lora_alpha, seed)
    return recompute_layers(model) if config.gradient_checkpointing else model


def add_lora(model: M, rank: int, alpha: float = 32.0, seed: int = 0) -> M:
    """Put adapters beside every matrix of the layers, and freeze all else but a scalar model's
    head; returns the model, which gives what it gave before.

    Every matrix, not attention's alone, and alpha 32 at whatever rank are what Schulman et al.
    (2025, "LoRA Without Regret") found best; they found about ten times the usual learning rate
    best, too. Raises UserError if `peft` is not installed, for a rank below 1 or an alpha that is
    not above 0 (no adapter would act), if there are adapters already, or if peft has none for the
    family.
    """
    peft = _peft()
    if rank < 1:
        raise UserError(f"the adapters' rank is {rank}: use at least 1")
    if not alpha > 0:
        raise UserError(
            f"lora_alpha is {alpha:g}: it must be above 0 (adapters are scaled by alpha / rank)"
        )
    if has_lora(model):
        raise UserError("the model has adapters already: train those, or merge them first")
    trunk = getattr(model, "backbone", model)
    transposed = any(isinstance(m, Conv1D) for m in trunk.modules())  # as GPT-2 stores its matrices
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        fan_in_fan_out=transposed,
    )
    with torch.random.fork_rng(devices=[]):  # the same A in every process
        torch.manual_seed(seed)
        try:
            peft.inject_adapter_in_model(config, trunk, adapter_name=NAME)
        except ValueError as error:  # it has none for Mamba's layers, say
            raise UserError(
                f"peft makes no adapters for {type(trunk).__name__}: leave --lora out"
            ) from error
    return model.train(False) if not trunk.training else model


def has_lora(model: nn.Module) -> bool:
    """Whether `model` has adapters."""
    return next(_layers(model), None) is not None


def without_lora(model: M) -> M:
    """The model as it was before its adapters: another one that holds the same weights, not a copy
    of them. What has no adapters is given back."""
    return _plain(model, merge=False)


def merged(model: M) -> M:
    """The model with its adapters worked into the weights: a plain one that gives the same numbers.

    What the adapters leave alone, such as embeddings, it shares with `model`. What has no adapters
    is given back.
    """
    return _plain(model, merge=True)


def frozen_twin(model: M) -> M:
    """A plain model that gives what `model` with its adapters gives now, and always will: the same
    weights without them while every B is 0, and merged ones where they have learned already."""
    fresh = not any(B.any() for layer in _layers(model) for B in layer.lora_B.parameters())
    return (without_lora(model) if fresh else merged(model)).eval().requires_grad_(False)


def trainable_copy(model: M, like: nn.Module, seed: int = 0) -> M:
    """A copy of a scalar model to train as the policy `like` is trained: whole or, where that has
    adapters, by its head and new adapters, on weights that it shares with `model`: do not train
    those. Its layers are worked out again if those of `like` are."""
    model, beside = merged(model), next(_layers(like), None)
    if beside is None:
        twin = copy.deepcopy(model).requires_grad_(True)
    else:
        twin = share(model)
        twin.head = copy.deepcopy(model.head).requires_grad_(True)
        add_lora(twin, beside.r[NAME], beside.lora_alpha[NAME], seed)
    return recompute_layers(twin) if any(map(recomputed, like.modules())) else twin


def share(model: M) -> M:
    """A second model that holds the same weights: one may get adapters and the other not."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(x): x for x in tensors})


def write_adapter(model: nn.Module, folder: Path) -> None:
    """Write the adapters alone, as `peft.PeftModel.from_pretrained` reads them beside the model
    that they were trained on: safetensors and a configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    trunk: Any = getattr(model, "backbone", model)  # peft gave it a peft_config
    tensors = {
        f"{PREFIX}{name.replace(f'.{NAME}.', '.')}": x.detach().contiguous()
        for name, x in trunk.named_parameters()
        if f".{NAME}." in name
    }
    save_file(tensors, folder / ADAPTER_FILE, {"format": "pt"})
    config = copy.copy(trunk.peft_config[NAME])
    config.base_model_name_or_path, config.inference_mode = trunk.name_or_path or None, True
    config.task_type = None if trunk is not model else "CAUSAL_LM"
    config.save_pretrained(str(folder))


# What of an adapter's configuration is passed on to peft, and what changes nothing here. Any other
# setting is refused: some change the weights beneath, load modules by name, or unpickle.
KNOWN = (
    "r lora_alpha target_modules exclude_modules fan_in_fan_out bias use_rslora use_dora lora_bias"
    " rank_pattern alpha_pattern modules_to_save layers_to_transform layers_pattern"
    " target_parameters trainable_token_indices"
).split()
IDLE = (
    "peft_type task_type base_model_name_or_path revision inference_mode auto_mapping peft_version"
    " lora_dropout megatron_core init_lora_weights ensure_weight_tying qalora_group_size"
).split()


def merge_adapters(model: P, folder: Path) -> P:
    """Put the LoRA adapters in a folder, as peft writes them, and what was trained beside them,
    into the model that they were trained on; returns the plain model.

    Raises UserError if `peft` is not installed; ValueError if they are of another kind, no
    safetensors, or of another model.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError(
            "to read them takes the package peft: pip install 'rlhf-lab[hub]', or merge them where "
            "it is (merge_and_unload, then save_pretrained)"
        ) from error
    settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    odd = [name for name, x in settings.items() if x and name not in KNOWN + IDLE]
    kind = settings.get("peft_type"), settings.get("init_lora_weights", True)
    if kind[0] != "LORA" or kind[1] not in (True, False, "gaussian") or odd:
        named = odd[0] if odd else f"{kind[0]}, {kind[1]}"
        raise ValueError(f"they are adapters of a kind that is not read here ({named})")
    tensors = adapter_tensors(folder)
    embedding = model.get_input_embeddings()
    names = [name for name, module in model.named_modules() if module is embedding]
    rows = [len(tensors[key]) for name in names if (key := f"{PREFIX}{name}.weight") in tensors]
    if rows and rows[0] != len(next(embedding.parameters())):  # tokens were added before training
        model.resize_token_embeddings(rows[0], mean_resizing=False)
    try:
        with warnings.catch_warnings():  # of what peft asks of transformers
            warnings.simplefilter("ignore", FutureWarning)
            config = peft.LoraConfig(**{name: settings[name] for name in KNOWN if name in settings})
            adapted: Any = peft.get_peft_model(model, config)
        report: Any = peft.set_peft_model_state_dict(adapted, tensors)
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"they do not fit it: {str(error).splitlines()[-1].strip()}") from error
    lacking = [name for name in report.missing_keys if ".lora_" in name]
    twice = (".modules_to_save.", ".original_module.")  # peft also writes them under these names
    left = [name for name in report.unexpected_keys if not any(word in name for word in twice)]
    if odd := [*left, *lacking]:
        raise ValueError(f"they do not fit it: {', '.join(odd[:2])}")
    return adapted.merge_and_unload().requires_grad_(True)  # peft had frozen it


def adapter_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of the adapters in a folder. Raises ValueError if they are not safetensors."""
    if not (folder / ADAPTER_FILE).is_file():
        raise ValueError(
            f"there is no {ADAPTER_FILE}; only safetensors are loaded: pickle files can run code"
        )
    return load_file(folder / ADAPTER_FILE)


def _plain(model: M, merge: bool) -> M:
    if not has_lora(model):
        return model
    twin = share(model)
    for parent in list(twin.modules()):
        for name, layer in list(parent.named_children()):
            if _is_lora(layer):
                plain = layer.get_base_layer()
                if merge:
                    delta = layer.get_delta_weight(NAME).detach()
                    weight = layer.weight.detach()  # that of `plain`
                    plain.weight = nn.Parameter(weight + delta.to(weight.dtype))
                setattr(parent, name, plain)
        if hasattr(parent, "peft_config"):
            del parent.peft_config
    return twin


def _layers(model: nn.Module) -> "Iterator[LoraLinear]":
    return (m for m in model.modules() if _is_lora(m))


def _is_lora(module: nn.Module) -> "TypeGuard[LoraLinear]":
    """By what peft's layers have, so that a model without adapters needs no peft."""
    return hasattr(module, "lora_A") and hasattr(module, "get_delta_weight")


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise UserError(
            "adapters (--lora) need the package peft: pip install 'rlhf-lab[hub]', or "
            "leave --lora out"
        ) from error
    return peft
