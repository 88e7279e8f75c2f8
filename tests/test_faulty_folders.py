"""Model folders from strangers: each fault ends in one line that names it, before any training, and
nothing in a folder is ever executed."""

import io
import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhf_lab.checks import check_model
from rlhf_lab.errors import UserError
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy


@pytest.fixture(scope="module")
def sound(make_gpt2, make_llama, tokenizer, tmp_path_factory):
    """{family: folder} of models that load; tests work on copies."""
    place = tmp_path_factory.mktemp("sound")
    for name, make in (("gpt2", make_gpt2), ("llama", make_llama)):
        save_policy(make(tokenizer), tokenizer, place / name)
    return {name: place / name for name in ("gpt2", "llama")}


def rewritten(file, **changes):
    """Write a JSON file anew, with some keys changed; those that are `...` are taken out."""
    content = json.loads(file.read_text("utf-8")) | changes
    kept = {key: value for key, value in content.items() if value is not ...}
    file.write_text(json.dumps(kept), "utf-8")


def fault_in_config(**changes):
    return lambda folder: rewritten(folder / "config.json", **changes)


def text_in(name, text):
    return lambda folder: (folder / name).write_text(text, "utf-8")


def bytes_in(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def in_tensors(change):
    """Apply a change to the tensors of the weights."""

    def apply(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return apply


def index(**weight_map):
    def apply(folder):
        names = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        files = dict.fromkeys(names, "model-00001-of-00001.safetensors")
        changed = files | dict.fromkeys(list(names)[:1], weight_map["file"])
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": weight_map.get("whole", changed)})
        )

    return apply


def cut(name, count):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:count])


TYPES = {"text": "many", "none": None, "list": [1, 2], "negative": -1, "nought": 0, "half": 0.5}
SIZES = {
    "gpt2": ("n_embd", "n_layer", "n_head", "vocab_size", "n_positions"),
    "llama": (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_parameters",
    ),
}
FAULTS = {
    f"{family}-{key}-{kind}": (family, fault_in_config(**{key: value}))
    for family, keys in SIZES.items()
    for key in keys
    for kind, value in TYPES.items()
} | {
    f"{family}-{name}": (family, fault)
    for family in SIZES
    for name, fault in {
        "config-empty": text_in("config.json", ""),
        "config-list": text_in("config.json", "[]"),
        "config-number": text_in("config.json", "7"),
        "config-cut": cut("config.json", 60),
        "config-not-utf8": bytes_in("config.json", b"\xff\xfe{"),
        "config-nested": text_in("config.json", "[" * 100_000),
        "family-unknown": fault_in_config(model_type="nobody"),
        "family-number": fault_in_config(model_type=7),
        "family-other": fault_in_config(model_type="bert"),
        "family-missing": fault_in_config(model_type=...),
        "activation-unknown": fault_in_config(activation_function="nobody", hidden_act="nobody"),
        "dtype-unknown": fault_in_config(dtype="float7", torch_dtype="float7"),
        "architectures-number": fault_in_config(architectures=3),
        "end-text": fault_in_config(eos_token_id="end"),
        "end-far": fault_in_config(eos_token_id=10**9),
        "labels-number": fault_in_config(id2label=3),
        "quantised": fault_in_config(quantization_config={"quant_method": "nobody"}),
        "heads-odd": fault_in_config(n_head=3, num_attention_heads=3),
        "layers-half": fault_in_config(n_layer=1, num_hidden_layers=1),
        "layers-more": fault_in_config(n_layer=3, num_hidden_layers=3),
        "layers-millions": fault_in_config(n_layer=10**8, num_hidden_layers=10**8),
        "width-millions": fault_in_config(n_embd=10**7, hidden_size=10**7),
        "words-billions": fault_in_config(vocab_size=10**10),
        "context-billions": fault_in_config(n_positions=10**10),
        "weights-empty": text_in("model.safetensors", ""),
        "weights-cut": cut("model.safetensors", 5000),
        "weights-garbage": bytes_in("model.safetensors", bytes(range(256)) * 40),
        "weights-header-long": bytes_in("model.safetensors", b"\xff" * 8 + b"{" * 1000),
        "weights-folder": lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors").mkdir(),
        ),
        "weights-renamed": in_tensors(
            lambda t: [t.__setitem__(f"x.{name}", t.pop(name)) for name in list(t)]
        ),
        "weights-one-missing": in_tensors(lambda t: t.pop(sorted(t)[3])),
        "weights-nan": in_tensors(lambda t: t[sorted(t)[3]].fill_(torch.nan)),
        "weights-integers": in_tensors(
            lambda t: t.__setitem__(sorted(t)[3], t[sorted(t)[3]].to(torch.int64))
        ),
        "index-elsewhere": index(file="../../other.safetensors"),
        "index-absolute": index(file="/etc/hostname"),
        "index-pickle": index(file="pytorch_model.bin"),
        "index-missing": index(file="model-00002-of-00002.safetensors"),
        "index-number": index(file=7),
        "index-list": index(file="x", whole=[1]),
        "tokenizer-empty": text_in("tokenizer.json", ""),
        "tokenizer-list": text_in("tokenizer.json", "[]"),
        "tokenizer-cut": cut("tokenizer.json", 200),
        "tokenizer-config-list": text_in("tokenizer_config.json", "[]"),
        "tokenizer-config-cut": cut("tokenizer_config.json", 10),
        "tokenizer-class-unknown": lambda f: rewritten(
            f / "tokenizer_config.json", tokenizer_class="Nobody"
        ),
        "tokenizer-end-unknown": lambda f: rewritten(f / "tokenizer_config.json", eos_token=7),
        "template-broken": text_in("chat_template.jinja", "{% for x in %}"),
        "template-endless": text_in(
            "chat_template.jinja", "{% for x in range(10**12) %}a{% endfor %}"
        ),
        "template-reaches-out": text_in(
            "chat_template.jinja", "{{ ''.__class__.__mro__[1].__subclasses__() }}"
        ),
        "generation-config-cut": text_in("generation_config.json", "{"),
        "generation-config-list": text_in("generation_config.json", "[]"),
        "generation-end-text": text_in("generation_config.json", '{"eos_token_id": "end"}'),
        "generation-end-far": text_in("generation_config.json", '{"eos_token_id": 999999999}'),
    }.items()
}


def read(folder):
    """What every stage does with a folder before it trains."""
    policy, tokenizer = load_policy(folder), load_tokenizer(folder)
    check_model(policy, tokenizer)


# These load: the library passes over what is wrong, and nothing here reads it.
HARMLESS = {
    "llama-max_position_embeddings-nought",
    "llama-context-billions",
    "llama-rms_norm_eps-half",
    "llama-rope_parameters-none",
} | {
    f"{family}-{name}"
    for family in SIZES
    for name in (
        "architectures-number",
        "end-far",
        "generation-end-far",
        "quantised",
        "weights-integers",
        "tokenizer-class-unknown",
        "template-endless",
        "template-reaches-out",
    )
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_folder_is_refused_in_one_line(name, sound, tmp_path):
    family, fault = FAULTS[name]
    shutil.copytree(sound[family], tmp_path / "model")
    fault(tmp_path / "model")
    try:
        read(tmp_path / "model")
    except UserError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 500
        assert any(word in text for word in ("model", "LMHead", "ForCausalLM", "tokenizer"))
        assert name not in HARMLESS
    else:
        assert name in HARMLESS


CODE = "from pathlib import Path\n\nPath({marker!r}).touch()\n"


@pytest.mark.parametrize("family", ["gpt2", "nobody"])
@pytest.mark.parametrize("load", [load_policy, load_tokenizer, ScalarModel.load])
def test_code_in_a_folder_is_never_run_whatever_is_answered(
    family, load, sound, tmp_path, monkeypatch
):
    """A family that transformers knows loads without the code; another is refused in one line."""
    folder, marker = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(sound["gpt2"], folder)
    if load == ScalarModel.load:
        ScalarModel.from_policy(load_policy(folder), 0).save(folder, load_tokenizer(folder))
    (folder / "modeling_own.py").write_text(CODE.format(marker=str(marker)))
    own = {name: f"modeling_own.{name}" for name in ("AutoConfig", "AutoModelForCausalLM")}
    own |= {"AutoModel": "modeling_own.A", "AutoModelForSequenceClassification": "modeling_own.B"}
    rewritten(folder / "config.json", auto_map=own, model_type=family)
    rewritten(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": [None, "modeling_own.T"]},
        tokenizer_class="PreTrainedTokenizerFast" if family == "gpt2" else "T",
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    if family == "gpt2":
        load(folder)
    else:
        with pytest.raises(UserError, match="is never run|does not|custom code|code") as caught:
            load(folder)
        assert "\n" not in str(caught.value)
    assert not marker.exists()
