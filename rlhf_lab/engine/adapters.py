"""LoRA: freeze a model's weights and train a low-rank product beside each matrix.

A layer W x becomes W x + (alpha / rank) B A x, where A (rank, in) starts at random and B (out,
rank) at 0, so that nothing changes until something is learned (Hu et al. 2021). Adam then keeps its
two moments for A and B alone, and the reference costs nothing: it is the same weights without A and
B. `peft` makes the layers; the model keeps its class, so that all other code here can use it.
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

NAME = "default"  # peft's name for the adapter: a model has only one
PREFIX = "base_model.model."  # what peft puts before the name of each tensor
ADAPTER_CONFIG, ADAPTER_FILE = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class MemoryConfig:
    """Settings for training with little memory.

    Adapters (LoRA), of rank 16 for example, need about ten times the learning rate. With gradient
    checkpointing the layers are computed again in the backward pass.
    """

    lora: int = setting(
        0, "rank of LoRA adapters to train instead of the weights (0: none)", at_least=0
    )
    lora_alpha: float = setting(32.0, "LoRA adapters are scaled by alpha / rank", above=0)
    gradient_checkpointing: bool = setting(
        False, "compute layers again in the backward pass: less memory, more time"
    )

    def __post_init__(self) -> None:
        check_settings(self)


def prepare(model: M, config: MemoryConfig, seed: int = 0) -> M:
    """Prepare `model`, a policy or a scalar model, for training with these settings; returns it."""
    if config.lora:
        add_lora(model, config.lora, config.lora_alpha, seed)
    return recompute_layers(model) if config.gradient_checkpointing else model


def add_lora(model: M, rank: int, alpha: float = 32.0, seed: int = 0) -> M:
    """Add adapters to every matrix of the layers, and freeze everything else except a scalar
    model's head; returns the model, whose outputs have not changed yet.

    Schulman et al. (2025, "LoRA Without Regret") found it best to adapt every matrix, not only
    attention's, with alpha 32 at any rank and about ten times the usual learning rate. Raises
    UserError if `peft` is not installed, for a rank below 1 or an alpha that is not above 0 (the
    adapters would do nothing), if there are adapters already, or if peft has none for the family.
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
        except ValueError as error:  # it has none for Mamba's layers, for example
            raise UserError(
                f"peft has no adapters for {type(trunk).__name__}: leave --lora out"
            ) from error
    return model.train(False) if not trunk.training else model


def has_lora(model: nn.Module) -> bool:
    """Whether `model` has adapters."""
    return next(_layers(model), None) is not None


def without_lora(model: M) -> M:
    """The model without its adapters: a new model that shares the same weights. A model without
    adapters is returned as it is."""
    return _plain(model, merge=False)


def merged(model: M) -> M:
    """The model with its adapters merged into the weights: a plain model with the same outputs.

    It shares weights without adapters, such as embeddings, with `model`. A model without adapters
    is returned as it is.
    """
    return _plain(model, merge=True)


def frozen_twin(model: M) -> M:
    """A frozen plain model with the present outputs of `model`. It shares the weights without the
    adapters while every B is 0, and has merged weights once the adapters have been trained."""
    fresh = not any(B.any() for layer in _layers(model) for B in layer.lora_B.parameters())
    return (without_lora(model) if fresh else merged(model)).eval().requires_grad_(False)


def trainable_copy(model: M, like: nn.Module, seed: int = 0) -> M:
    """A copy of a scalar model that is trained in the same way as the policy `like`: all of it or,
    if `like` has adapters, only its head and new adapters. In the second case it shares the other
    weights with `model`: do not train `model`. Its layers are checkpointed if those of `like`
    are."""
    model, beside = merged(model), next(_layers(like), None)
    if beside is None:
        twin = copy.deepcopy(model).requires_grad_(True)
    else:
        twin = share(model)
        twin.head = copy.deepcopy(model.head).requires_grad_(True)
        add_lora(twin, beside.r[NAME], beside.lora_alpha[NAME], seed)
    return recompute_layers(twin) if any(map(recomputed, like.modules())) else twin


def share(model: M) -> M:
    """A second model that shares the same weights, so that only one of them gets adapters."""
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


# The settings of an adapter that are passed on to peft, and those that change nothing here. Any
# other setting is refused: some change the base weights, load modules by name, or unpickle.
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
    """Merge the LoRA adapters in a folder, as peft writes them, and any weights trained with them,
    into the model that they were trained on; returns the plain model.

    Raises UserError if `peft` is not installed; ValueError if the adapters are of another kind, not
    safetensors, or of another model.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError(
            "loading them needs the package peft: pip install 'rlhf-lab[hub]'"
        ) from error
    settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    odd = [name for name, x in settings.items() if x and name not in KNOWN + IDLE]
    kind = settings.get("peft_type"), settings.get("init_lora_weights", True)
    if kind[0] != "LORA" or kind[1] not in (True, False, "gaussian") or odd:
        named = odd[0] if odd else f"{kind[0]}, {kind[1]}"
        raise ValueError(f"this kind of adapter is not supported ({named})")
    tensors = adapter_tensors(folder)
    embedding = model.get_input_embeddings()
    names = [name for name, module in model.named_modules() if module is embedding]
    rows = [len(tensors[key]) for name in names if (key := f"{PREFIX}{name}.weight") in tensors]
    if rows and rows[0] != len(next(embedding.parameters())):  # tokens were added before training
        model.resize_token_embeddings(rows[0], mean_resizing=False)
    try:
        with warnings.catch_warnings():  # peft uses deprecated parts of transformers
            warnings.simplefilter("ignore", FutureWarning)
            config = peft.LoraConfig(**{name: settings[name] for name in KNOWN if name in settings})
            adapted: Any = peft.get_peft_model(model, config)
        report: Any = peft.set_peft_model_state_dict(adapted, tensors)
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"the adapters do not fit the model: {reason}") from error
    lacking = [name for name in report.missing_keys if ".lora_" in name]
    twice = (".modules_to_save.", ".original_module.")  # peft also writes them under these names
    left = [name for name in report.unexpected_keys if not any(word in name for word in twice)]
    if odd := [*left, *lacking]:
        raise ValueError(f"the adapters do not fit the model: {', '.join(odd[:2])}")
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
    """Recognise peft's layers by their attributes: a model without adapters needs no peft."""
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
