"""Share of this machine's matrix-multiply peak that a training step reaches.

    python benchmarks/utilisation.py
    python benchmarks/utilisation.py --threads 1 --rounds 15

Counted are the multiplications and additions that a GPT-2's step cannot do without. 2 for each
weight of its matrices and each token that somebody needs: in the last layer, beyond keys and
values, those are only the positions whose state is read (a policy and a value network are read
before every response token, a reward model at the last token); padding and the token behind the
last position read count nowhere. For attention, 4 per unit of width for such a position paired with
itself and with each earlier one. For the vocabulary, 2 for each of its weights and each response
token. Three times all that for a training step, because the backward pass needs the gradients of
inputs and of weights. Not counted: embeddings, norms, activations, softmax, the loss, clipping,
Adam, and whatever is done twice. The time is that of the whole step all the same, from the choice
of its rows to its metrics.

The peak is that of a square float32 product in the same process, taken before every step; a share
is the median of the rounds' shares. Stages run with their default settings, on the support desk's
texts. PPO is shown twice: its optimisation alone, and the whole update with sampling.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from material import read_texts, write_material
from torch import Tensor, nn
from transformers import GPT2Model
from transformers.pytorch_utils import Conv1D

from rlhf_lab import models, ppo, reward, sft
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.sequences import Sequences, micro_batches
from rlhf_lab.training import Optimiser, epochs_of, make_accelerator

EPOCHS = 100  # more than any run takes


@dataclass
class Step:
    """What a step had to compute, and what it read: FLOPs, real tokens, tokens with padding."""

    flops: float
    real: int
    padded: int


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_material(folder, args.model)
        print(f"model {read_texts(folder)['base']}, {args.threads} threads, {args.rounds} rounds")
        for stage in args.stages:
            report(stage, STAGES[stage](folder), args)


def report(title: str, steps: Iterator[tuple[Step, Callable]], args: argparse.Namespace) -> None:
    """Time each step beside a square product, and print the medians."""
    shares, peaks, padding = [], [], []
    for number in range(-args.warmup, args.rounds):
        step, run = next(steps)
        peak = matmul_flops(args.size)
        started = time.perf_counter()
        run()
        speed = step.flops / (time.perf_counter() - started)
        if number >= 0:
            shares.append(speed / peak)
            peaks.append(peak)
            padding.append(1 - step.real / step.padded)
    low, middle, high = statistics.quantiles(shares, n=4)
    print(
        f"{title:11} {middle:6.1%} of peak (quartiles {low:.1%} to {high:.1%}); peak"
        f" {statistics.median(peaks) / 1e9:.0f} GFLOP/s; padding {statistics.mean(padding):.1%}"
    )


def sft_steps(folder: Path) -> Iterator[tuple[Step, Callable]]:
    """Updates of train_sft, with what each needs."""
    policy, tokenizer = load_policy(folder / "policy"), load_tokenizer(folder / "policy")
    data = [
        Demonstration(Prompt("", prompt), response)
        for prompt, response in read_texts(folder)["demonstration_texts"]
    ]
    config = sft.SFTConfig(epochs=EPOCHS)
    records = sft.train_sft(policy, tokenizer, data, config)
    encoded = sft.encode(tokenizer, data)
    for _, rows, _ in epochs_of(len(data), config.batch_size, EPOCHS, "sft", config.seed):
        batch = encoded.rows(rows)
        flops = 3 * (trunk_flops(policy.base_model, batch) + vocabulary_flops(policy, batch))
        parts = micro_batches(batch.lengths, config.max_tokens)
        yield Step(flops, *read(batch, parts)), lambda: next(records)


def reward_steps(folder: Path) -> Iterator[tuple[Step, Callable]]:
    """Updates of train_reward, with what each needs."""
    tokenizer = load_tokenizer(folder / "policy")
    model = ScalarModel.load(folder / "reward").requires_grad_(True)
    data = [
        Ranking(Prompt("", prompt), tuple(responses), tuple(range(1, len(responses) + 1)))
        for prompt, responses in read_texts(folder)["ranking_texts"]
    ]
    config = reward.RewardConfig(epochs=EPOCHS)
    records = reward.train_reward(model, tokenizer, data, config)
    encoded = reward.encode(tokenizer, data)
    for _, rows, _ in epochs_of(len(data), config.batch_size, EPOCHS, "reward", config.seed):
        batch = encoded.groups(rows)
        parts = (
            batch.index[part].unique() for part in reward.group_batches(batch, config.max_tokens)
        )
        yield (
            Step(
                3 * trunk_flops(model.backbone, batch.sequences, at_last=True),
                *read(batch.sequences, parts),
            ),
            lambda: next(records),
        )


def ppo_steps(folder: Path, whole: bool = False) -> Iterator[tuple[Step, Callable]]:
    """PPO's epochs over a rollout and, if `whole`, the rollout too."""
    policy, tokenizer = load_policy(folder / "policy"), load_tokenizer(folder / "policy")
    scorer = ScalarModel.load(folder / "reward").requires_grad_(False)
    prompts = [Prompt(str(i), text) for i, text in enumerate(read_texts(folder)["prompts"])]
    config, reference = ppo.PPOConfig(), models.frozen_copy(policy)
    value = models.new_value_model(policy, scorer, config.seed)
    optimiser = Optimiser(make_accelerator("cpu"), [policy, value], 1e-6, EPOCHS * config.epochs)
    for update in range(1, EPOCHS):
        batch = ppo.batch_of(prompts, config.batch_size, config.seed, update)

        def collect(batch=batch, update=update) -> ppo.Rollout:
            rollout = ppo.collect(
                policy, reference, value, scorer, tokenizer, batch, config, update
            )
            rollout.advantages = rollout.returns = rollout.logprobs * 0 + 1.0
            return rollout

        def optimise(rollout: ppo.Rollout, update=update) -> None:
            ppo.optimise(policy, value, rollout, optimiser, config, update)

        rollout = collect()  # the same again each time: a sample depends on its seed
        sequences = rollout.sequences
        trunk = trunk_flops(policy.base_model, sequences)
        vocabulary = vocabulary_flops(policy, sequences)
        flops = config.epochs * 3 * (2 * trunk + vocabulary)  # policy and value network
        tokens = read(sequences, micro_batches(sequences.lengths, config.max_tokens))
        if whole:  # drawn by the policy; read by reference, value network and reward model
            score = trunk_flops(policy.base_model, sequences, at_last=True)
            yield (
                Step(flops + 3 * trunk + score + 2 * vocabulary, *tokens),
                lambda collect=collect, optimise=optimise: optimise(collect()),
            )
        else:
            yield Step(flops, *tokens), lambda rollout=rollout, optimise=optimise: optimise(rollout)


def trunk_flops(trunk: GPT2Model, batch: Sequences, at_last: bool = False) -> float:
    """Of a forward pass read before every response token, or at the last token of each row."""
    lengths, width, last = batch.lengths.double(), trunk.config.hidden_size, trunk.h[-1]
    first = lengths if at_last else batch.starts.double()  # the first position read, counted from 1
    end = lengths if at_last else lengths - 1  # the last one
    tokens, positions = end.sum(), (end - first + 1).sum()
    whole_layers = sum(map(weights, trunk.h)) - weights(last)
    keys_and_values = 2 * width * width
    products = whole_layers * tokens + keys_and_values * tokens
    products += (weights(last) - keys_and_values) * positions
    pairs, pairs_read = end * (end + 1) / 2, (end * (end + 1) - first * (first - 1)) / 2
    attention = 2 * width * ((len(trunk.h) - 1) * pairs + pairs_read).sum()
    return float(2 * (products + attention))


def weights(module: nn.Module) -> int:
    """Of the matrices that a layer multiplies with."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, (nn.Linear, Conv1D)))


def vocabulary_flops(policy: nn.Module, batch: Sequences) -> float:
    """Of the logits that predict the response tokens."""
    return 2 * policy.get_output_embeddings().weight.numel() * int(batch.mask.sum())


def read(batch: Sequences, parts: Iterator[Tensor]) -> tuple[int, int]:
    """Real tokens, and tokens with the padding, when rows are read in these parts."""
    lengths = [batch.lengths[part] for part in parts]
    return (
        int(sum(part.sum() for part in lengths)),
        int(sum(part.max() * len(part) for part in lengths)),
    )


def matmul_flops(size: int, repeats: int = 3) -> float:
    """FLOPs a second of a square float32 product, the best of a few."""
    a, b, best = torch.randn(size, size), torch.randn(size, size), float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


STAGES = {
    "sft": sft_steps,
    "reward": reward_steps,
    "ppo": ppo_steps,
    "ppo-update": functools.partial(ppo_steps, whole=True),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, help="a policy's folder (data/base; if missing, random)"
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        default=list(STAGES),
        choices=list(STAGES),
        help="ppo is its optimisation alone, ppo-update the sampling too (all)",
    )
    for name, default, what in (
        ("rounds", 9, "steps that count"),
        ("warmup", 2, "steps before those"),
        ("threads", 2, "for torch"),
        ("size", 1024, "side of the square product"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    return parser.parse_args()


if __name__ == "__main__":
    main()
