"""Sampling speed beside transformers' `generate`, on the same model, batch and lengths.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --threads 1 --rounds 15

A round runs every contender once, in turn, so that whatever else the machine does meets all of
them alike; the ratio is the median of the rounds' ratios. `generate` draws from the whole softmax
(top_k=0, top_p=1.0) with its KV cache. The model has the exact GELU, as the shipped one does: it is
the faster one for `generate`. Two cases: every response has all its tokens, and responses end by
themselves after --mean-length tokens on average, where only tokens up to the end count. The weights
are random: they make no difference to the time.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_lab.maths import response_mask
from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.text import pad_left

END, PAD, NEVER = 0, 1, -1


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    prompts = random_prompts(args)
    print(
        f"GPT-2 of {args.layers} layers, width {args.width}, {args.heads} heads, vocabulary"
        f" {args.vocab}, float32; {args.batch} prompts of {args.shortest} to {args.longest} tokens,"
        f" {args.new_tokens} new ones; {args.threads} threads, {args.rounds} rounds,"
        f" torch {torch.__version__}"
    )
    for title, model, end in (
        ("every response has all its tokens", build_model(args), NEVER),
        (
            f"responses end after {args.mean_length} tokens on average",
            build_model(args, 1 / args.mean_length),
            END,
        ),
    ):
        print(f"\n{title}")
        report(run_rounds(contenders(model, prompts, end, args), args.rounds))


def contenders(
    model: GPT2LMHeadModel, prompts: list[list[int]], end: int, args: argparse.Namespace
) -> dict[str, Callable[[], int]]:
    """By name, what to time: each draws a batch and returns how many tokens it drew."""
    tokens, attention = pad_left(prompts, PAD)
    tokenizer = SimpleNamespace(eos_token_id=end, pad_token_id=PAD)

    def generate() -> int:
        output = model.generate(
            input_ids=tokens,
            attention_mask=attention,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            use_cache=True,
            max_new_tokens=args.new_tokens,
            min_new_tokens=args.new_tokens if end == NEVER else None,
            eos_token_id=END,
            pad_token_id=PAD,
        )
        return count(output[:, tokens.shape[1] :], end)

    def ours() -> int:
        seeds = list(range(len(prompts)))
        config = SamplingConfig(args.new_tokens)
        samples = sample(model, tokenizer, prompts, seeds, config, batch_size=len(prompts))
        return int(samples.mask.sum())

    return {"generate": generate, "rlhf_lab": ours}


def run_rounds(runs: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each contender, one figure a round; the first round only warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            drawn = run()
            speeds[name].append(drawn / (time.perf_counter() - start))
    return {name: figures[1:] for name, figures in speeds.items()}


def report(speeds: dict[str, list[float]]) -> None:
    for name, figures in speeds.items():
        print(f"  {name:10}{statistics.median(figures):8.0f} tokens/s", end="")
        ratios = sorted(mine / other for mine, other in zip(speeds["rlhf_lab"], figures))
        if name == "rlhf_lab":
            print()
        else:
            low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
            median = statistics.median(ratios)
            print(f"   rlhf_lab is {median:.2f} times as fast (quartiles {low:.2f} to {high:.2f})")


def count(responses: Tensor, end: int) -> int:
    """Tokens up to and including the end token, over all responses (B, N)."""
    return int(response_mask(responses, end).sum())


def build_model(args: argparse.Namespace, end_probability: float | None = None) -> GPT2LMHeadModel:
    """A random model, which ends a response with about this probability at every token."""
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=args.vocab,
            n_positions=args.longest + args.new_tokens,
            n_embd=args.width,
            n_layer=args.layers,
            n_head=args.heads,
            activation_function="gelu",
            bos_token_id=END,
            eos_token_id=END,
            pad_token_id=PAD,
        )
    ).eval()
    if end_probability:  # a constant in every final state, which the end token's row reads
        odds = end_probability / (1 - end_probability)
        with torch.no_grad():
            model.transformer.ln_f.bias[0] = 10.0
            model.transformer.wte.weight[:, 0] = 0.0
            model.transformer.wte.weight[END, 0] = math.log(odds * (args.vocab - 1)) / 10.0
    return model


def random_prompts(args: argparse.Namespace) -> list[list[int]]:
    lengths = torch.randint(args.shortest, args.longest + 1, (args.batch,))
    return [torch.randint(2, args.vocab, (int(length),)).tolist() for length in lengths]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, what in (
        ("layers", 4, "of the model"),
        ("width", 256, "of the model"),
        ("heads", 4, "of the model"),
        ("vocab", 1024, "number of different tokens"),
        ("batch", 64, "number of prompts, all in one batch"),
        ("shortest", 15, "prompt, in tokens"),
        ("longest", 25, "prompt, in tokens"),
        ("new-tokens", 40, "drawn for each prompt, at most"),
        ("mean-length", 20, "of responses that end by themselves"),
        ("rounds", 9, "counted, after one to warm up"),
        ("threads", 2, "for torch"),
        ("seed", 0, "of weights and prompts"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    return parser.parse_args()


if __name__ == "__main__":
    main()
