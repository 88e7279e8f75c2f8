"""What a benchmark runs on: one model and one set of texts, as files that any library can read.

    python benchmarks/material.py FOLDER [--model data/base]

The texts are the support desk's. The model is the one given or, where there is none yet, a random
GPT-2 of the same shape: weights make no difference to the time a step takes, and little to how
long responses are when their length is fixed.
"""

import argparse
import json
from pathlib import Path

from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy
from rlhf_lab.runs.pretrain import PretrainConfig, new_model, train_tokenizer
from rlhf_lab.tasks import load_task
from rlhf_lab.text import encode_prompt, encode_response

ROOT = Path(__file__).resolve().parents[1]
TOKENIZER_DOCUMENTS = 4000  # for the random model's tokenizer


def write_material(
    folder: Path, model: Path | None = None, count: int = 512, group: int = 4
) -> None:
    """Write policy/, reward/ (a scalar head on the policy's trunk) and texts.json to `folder`.

    count: prompts, demonstrations and rankings; group: responses ranked per prompt. The responses
    to rank are demonstrations, so that their lengths are those of real ones.
    """
    task = load_task("support_desk")
    base = model or ROOT / "data" / "base"
    if base.exists():
        tokenizer, policy = load_tokenizer(base), load_policy(base)
    else:
        config = PretrainConfig()
        tokenizer = train_tokenizer(task.raw_text(0, TOKENIZER_DOCUMENTS), config.vocabulary)
        policy = new_model(tokenizer, config).eval()
    save_policy(policy, tokenizer, folder / "policy")
    ScalarModel.from_policy(policy, seed=0).save(folder / "reward", tokenizer)

    shown = [(d.prompt.text, d.response) for d in task.demonstrations(0, count)]
    responses = [d.response for d in task.demonstrations(1, count * group)]
    rankings = [
        (prompt, responses[i * group : (i + 1) * group]) for i, (prompt, _) in enumerate(shown)
    ]
    prompts = task.prompts(0, count)
    texts = {
        "prompts": [p.text for p in prompts],
        "demonstrations": [encode(tokenizer, *pair) for pair in shown],
        "rankings": [[encode(tokenizer, prompt, r) for r in ranked] for prompt, ranked in rankings],
        "demonstration_texts": shown,
        "ranking_texts": rankings,
        "prompt_tokens": sum(len(encode_prompt(tokenizer, p.text)) for p in prompts) / count,
        "base": base.name if base.exists() else "random weights",
    }
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def read_texts(folder: Path) -> dict:
    """What `write_material` wrote to texts.json."""
    return json.loads((Path(folder) / "texts.json").read_text(encoding="utf-8"))


def encode(tokenizer, prompt: str, response: str) -> dict[str, list[int]]:
    """Tokens, and 1 on those of the response: both sides train on exactly these."""
    first, second = encode_prompt(tokenizer, prompt), encode_response(tokenizer, prompt, response)
    return {"input_ids": first + second, "completion_mask": [0] * len(first) + [1] * len(second)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="a policy's folder (data/base, if it exists)")
    arguments = parser.parse_args()
    write_material(arguments.folder, arguments.model)
