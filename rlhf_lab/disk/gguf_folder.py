"""Convert a GGUF file to a model folder: `python -m rlhf_lab.disk.gguf_folder FILE FOLDER` writes a
folder that plain transformers loads, and prints a checksum of its weights.

transformers dequantises the weights when it reads the file, but keeps the quantisation setting in
the config, and a model with that setting can be neither saved nor trained. So the weights are
copied, unchanged, into a float32 model without that setting. Needs the package `gguf`.
"""

import copy
import hashlib
import sys
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlhf_lab.disk.storage import write_model


def convert(file: Path, folder: Path) -> str:
    """Write the model and the tokenizer in a GGUF file as a folder; returns the checksum."""
    model = plain_model(file)
    write_model(model, plain_tokenizer(file, model.config.max_position_embeddings), folder)
    return checksum(model)


def plain_model(file: Path) -> PreTrainedModel:
    """The model in a GGUF file, in float32 and without the quantisation setting."""
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype="float32")
    config = copy.deepcopy(read.config)
    del config.quantization_config
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    return model.eval()


def plain_tokenizer(file: Path, context: int) -> PreTrainedTokenizerBase:
    """The tokenizer in a GGUF file, for at most `context` tokens.

    The file names its pre-tokenizer, which splits text before the BPE merges, but transformers
    ignores that name. SmolLM's pre-tokenizer splits off each digit and then splits as GPT-2's does.
    Without it, two spaces before a number would give other tokens than the model was trained on.
    """
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = context
    return tokenizer


def checksum(model: PreTrainedModel) -> str:
    """sha256 of the names and numbers of all weights, tied ones once."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(weight.detach().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    print(convert(Path(sys.argv[1]), Path(sys.argv[2])))
