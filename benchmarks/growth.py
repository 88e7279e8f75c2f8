"""How cost grows with the model, the batch and the length.

    python benchmarks/growth.py
    python benchmarks/growth.py --rounds 5 --what size

For three random GPT-2s (the compact one, one of 30M parameters and one of GPT-2's 124M), several
batches and several lengths: a training step as SFT takes it (both passes, clipping, Adam), and
sampling of responses that all have their full length. A row is half prompt, half response. A round
takes every case once, in turn, each beside a square product in the same moment, so that whatever
else the machine does meets all of them alike; shown are the medians over the rounds. The share of
the peak counts what `utilisation.py` counts.
"""

import argparse
import statistics
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from transformers import GPT2Config, GPT2LMHeadModel
from utilisation import matmul_flops, trunk_flops, vocabulary_flops

from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.sequences import Sequences, micro_batches, response_logprobs
from rlhf_lab.training import Optimiser, make_accelerator

PAD, NEVER = 0, -1
MODELS = {  # layers, width, heads, vocabulary
    "compact, 3.7M": (4, 256, 4, 2048),
    "30M": (6, 384, 6, 50257),
    "124M": (12, 768, 12, 50257),
}


@dataclass
class Case:
    """One line of a table: what varies, and what each round found."""

    name: str
    policy: GPT2LMHeadModel
    batch: int
    length: int
    training: list[tuple[float, float, float]] = field(default_factory=list)
    sampling: list[float] = field(default_factory=list)

    def __post_init__(self):
        rows = torch.randint(1, self.policy.config.vocab_size, (self.batch, self.length)).tolist()
        half = self.length // 2
        self.prompts = [row[:half] for row in rows]
        self.data = Sequences.of_tokens(self.prompts, [row[half:] for row in rows], PAD)
        self.optimiser = Optimiser(make_accelerator("cpu"), [self.policy], 1e-6, 1_000_000)
        self.flops = 3 * (
            trunk_flops(self.policy.base_model, self.data)
            + vocabulary_flops(self.policy, self.data)
        )

    def round(self) -> None:
        """Take one training step and sample one batch, each beside a square product."""
        peak, seconds = matmul_flops(1024), timed(self.train)
        self.training.append(
            (self.batch * self.length / seconds, self.flops / seconds / peak, seconds)
        )
        tokens = self.batch * (self.length - self.length // 2)
        self.sampling.append(tokens / timed(self.sample))

    def train(self) -> None:
        tokens = int(self.data.mask.sum())
        for part in micro_batches(self.data.lengths, 3072):
            logprobs, _ = response_logprobs(self.policy, self.data.rows(part))
            (-logprobs.sum() / tokens).backward()
        self.optimiser.step()

    def sample(self) -> None:
        tokenizer = SimpleNamespace(eos_token_id=NEVER, pad_token_id=PAD)
        sample(
            self.policy,
            tokenizer,
            self.prompts,
            list(range(self.batch)),
            SamplingConfig(max_new_tokens=self.length - self.length // 2),
        )

    def line(self) -> str:
        tokens, share, seconds = (statistics.median(x) for x in zip(*self.training))
        return (
            f"| {self.name} | {self.batch} | {self.length} | {seconds:.2f} | {tokens:,.0f} "
            f"| {share:.0%} | {statistics.median(self.sampling):,.0f} |"
        )


def timed(do) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def new_model(name: str, longest: int) -> GPT2LMHeadModel:
    layers, width, heads, vocabulary = MODELS[name]
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=longest,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()


def cases(what: str) -> list[Case]:
    if what == "size":
        return [Case(name, new_model(name, 64), 32, 48) for name in MODELS]
    compact = next(iter(MODELS))
    if what == "batch":
        return [Case(compact, new_model(compact, 64), batch, 48) for batch in (1, 4, 16, 64, 256)]
    return [
        Case(compact, new_model(compact, 512), 3072 // length, length)
        for length in (24, 48, 96, 192, 384)
    ]


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    print(
        f"{args.threads} threads, {args.rounds} rounds, float32, torch {torch.__version__}; "
        f"square product {matmul_flops(1024) / 1e9:.0f} GFLOP/s"
    )
    for what in args.what:
        print(
            f"\nby {what}\n\n| model | batch | length | s a step | tokens/s trained "
            "| share of peak | tokens/s sampled |\n|---|---|---|---|---|---|---|"
        )
        lines = cases(what)
        for number in range(-1, args.rounds):
            for case in lines:
                case.round()
                if number < 0:  # the first is to warm up
                    case.training.clear()
                    case.sampling.clear()
        for case in lines:
            print(case.line(), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--what",
        nargs="+",
        default=["size", "batch", "length"],
        choices=["size", "batch", "length"],
        help="what varies (all)",
    )
    parser.add_argument("--rounds", type=int, default=9, help="that count (9)")
    parser.add_argument("--threads", type=int, default=2, help="for torch (2)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
