"""How close the estimate that is printed before a run comes to the run.

    python benchmarks/estimate.py
    python benchmarks/estimate.py --models 124M --ways plain lora --updates 3

For random GPT-2s (the compact one, one of 30M parameters and one of GPT-2's 124M) each stage is
estimated by `rlhf_lab.runs.costs.estimate` and then run for a few updates, in processes of its own.
Shown is estimated / measured: 1 is right, above 1 means that the run needed less.

Memory is the peak of resident memory above what the process held after its imports: once as it
comes, and once with MALLOC_MMAP_THRESHOLD_=65536, under which the C library gives memory back as
soon as it is free, so that what is held is what is in use. Time is that of the updates after the
first, beside square products taken between them, because what else the machine does moves both.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlhf_lab.engine.adapters import MemoryConfig, prepare
from rlhf_lab.models import ScalarModel
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig, train_reward
from rlhf_lab.runs.costs.counting import matmul_speed, spending
from rlhf_lab.runs.costs.estimate import (
    REACHED,
    Estimate,
    estimate_ppo,
    estimate_reward,
    estimate_sft,
)
from rlhf_lab.sft import SFTConfig, train_sft

MODELS = {  # layers, width, heads, vocabulary, responses in a batch
    "compact": (4, 256, 4, 2048, 64),
    "30M": (6, 384, 6, 50257, 64),
    "124M": (12, 768, 12, 50257, 16),
}
WAYS = {
    "plain": MemoryConfig(),
    "lora": MemoryConfig(lora=16),
    "checkpointing": MemoryConfig(gradient_checkpointing=True),
}
NEW = 24  # tokens of a response; a prompt has 16 to 32
K = 4  # responses ranked per prompt


def main() -> None:
    args = parse_arguments()
    if args.one:
        print(json.dumps(measure(*args.one, args.updates)))
        return
    print(
        f"{args.updates} updates, {torch.get_num_threads()} threads, torch {torch.__version__}\n\n"
        "| model | stage | way | peak, MB | estimated / peak | estimated / in use | s an update "
        "| estimated / measured |\n|---|---|---|---|---|---|---|---|"
    )
    for model in args.models:
        for stage in args.stages:
            for way in args.ways:
                case = ["--one", model, stage, way, "--updates"]
                found = in_a_process([*case, str(args.updates)])
                used = in_a_process([*case, "2"], MALLOC_MMAP_THRESHOLD_="65536")
                print(
                    f"| {model} | {stage} | {way} | {found['mb']:,.0f} | {found['memory']:.2f} "
                    f"| {used['memory']:.2f} | {found['seconds']:.2f} | {found['time']:.2f} |",
                    flush=True,
                )


def in_a_process(arguments: list[str], **environment: str) -> dict[str, float]:
    """What `measure` finds in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(model: str, stage: str, way: str, updates: int) -> dict[str, float]:
    """Estimate and run one case, in this process."""
    torch.randn(600, 600, requires_grad=True).matmul(torch.randn(600, 600)).sum().backward()
    with spending() as before:
        pass
    foreseen, records = case(model, stage, WAYS[way], updates)
    gc.collect()
    next(records)
    speeds, times = [matmul_speed()], []
    with spending() as cost:
        while True:
            started = time.perf_counter()
            if next(records, None) is None:
                break
            times.append(time.perf_counter() - started)
            speeds.append(matmul_speed())
    seconds, speed = sum(times) / len(times), REACHED * sum(speeds) / len(speeds)
    mb = cost["peak_memory_mb"] - before["peak_memory_mb"]
    return {
        "mb": mb,
        "memory": foreseen.memory / 1e6 / mb,
        "seconds": seconds,
        "time": foreseen.flops / speed / foreseen.updates / seconds,
    }


def case(
    model: str, stage: str, memory: MemoryConfig, updates: int
) -> tuple[Estimate, Iterator[dict]]:
    """The estimate of a stage, and its run."""
    layers, width, heads, vocabulary, batch = MODELS[model]
    torch.manual_seed(0)
    policy = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=128,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            activation_function="gelu",
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    tokenizer, rows = byte_tokenizer(), updates * batch
    prompts = [Prompt(str(i), f"{i:04d}" + "p" * (12 + i % 17)) for i in range(rows)]
    if stage == "sft":
        prepare(policy, memory)
        data = [Demonstration(p, "r" * (NEW - 2)) for p in prompts]
        config = SFTConfig(epochs=1, batch_size=batch)
        return (
            estimate_sft(policy, tokenizer, data, config),
            train_sft(policy, tokenizer, data, config),
        )
    if stage == "reward":
        scorer = prepare(ScalarModel.from_policy(policy, 0), memory)
        del policy
        texts = ["r" * (NEW - 3) + str(k) for k in range(K)]
        ranked = [Ranking(p, tuple(texts), tuple(range(1, K + 1))) for p in prompts[: rows // K]]
        config = RewardConfig(epochs=1, batch_size=batch // K)
        return (
            estimate_reward(scorer, tokenizer, ranked, config),
            train_reward(scorer, tokenizer, ranked, config),
        )
    scorer = ScalarModel.from_policy(policy, 0).requires_grad_(False)
    prepare(policy, memory)
    config = PPOConfig(updates=updates, batch_size=batch, max_new_tokens=NEW)
    return (
        estimate_ppo(policy, scorer, tokenizer, prompts, config),
        train_ppo(policy, scorer, tokenizer, prompts, config),
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<end>", "<pad>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<pad>")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), choices=list(MODELS), help="which (all)"
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        default=["sft", "reward", "ppo"],
        choices=["sft", "reward", "ppo"],
        help="which (all)",
    )
    parser.add_argument(
        "--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="which (all)"
    )
    parser.add_argument(
        "--updates", type=int, default=4, help="of which the first is not timed (4)"
    )
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "STAGE", "WAY"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
