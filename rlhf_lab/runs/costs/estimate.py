"""What a run will need, before it starts: parameters, memory and time.

Counted exactly: parameters, their gradients, Adam's two moments, the KV cache. Measured: what
autograd keeps of a few rows for the backward pass, which is proportional to the number of tokens,
and how fast this machine multiplies matrices. Computed: the buffers around the logits, the largest
item in a small model with a large vocabulary, and the FLOPs of all updates. docs/larger-models.md
compares the estimates with measured runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import reward, sft
from rlhf_lab.models import ScalarModel, frozen_copy, new_value_model
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.reward import RewardConfig, group_batches
from rlhf_lab.rollout import Scorer
from rlhf_lab.runs.costs.counting import (
    bytes_of,
    cache_bytes,
    count,
    forward,
    last_gradient,
    projection,
    saved,
    size,
    training,
    vocabulary,
)
from rlhf_lab.sampling import WholeDecoder, decoder_of
from rlhf_lab.sequences import Sequences, micro_batches
from rlhf_lab.sft import SFTConfig
from rlhf_lab.show.panels import HATCHES
from rlhf_lab.show.plots import STYLE, Picture
from rlhf_lab.text import encode_prompt
from rlhf_lab.training import epochs_of

SAMPLE = 256  # rows to look at; more would change little
REACHED = 0.5  # share of a matrix product's speed in training on 2 cores (benchmarks/README.md)
FLOAT = 4  # bytes of a logit, whatever the precision of the rest


@dataclass(frozen=True)
class Estimate:
    """What a stage needs. trained, held: numbers of trained and of all parameters, over all models,
    shared ones once. weights, gradients, adam, activations, cache: bytes. flops: multiplications
    and additions of all updates."""

    stage: str
    trained: int
    held: int
    weights: int
    gradients: int
    adam: int
    activations: int
    cache: int
    flops: float
    updates: int

    @property
    def memory(self) -> int:
        """Bytes at the peak: sampling has no gradients, and training has no cache."""
        return self.weights + self.adam + max(self.gradients + self.activations, self.cache)

    def lines(self, peak: float) -> str:
        """Two lines for the screen; peak: FLOPs a second of a matrix product."""
        parts = [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("Adam", self.adam),
            ("activations", self.activations),
        ]
        listed = ", ".join(f"{name} {size(n)}" for name, n in parts if n)
        if self.cache:  # exists only while sampling, so not part of that sum
            cache = f"KV cache {size(self.cache)}"
            listed += f"; while sampling {cache} in place of gradients and activations"
        early = ", if no response ends early," if self.stage == "ppo" else ""
        time = duration(self.flops / (REACHED * peak)) + early
        updates = f"{self.updates} update{'s' * (self.updates != 1)}"
        return (
            f"{self.stage}: trains {count(self.trained)} of {count(self.held)} parameters; "
            f"memory about {size(self.memory)} beside the libraries' own ({listed})\n"
            f"{self.stage}: about {time} for {updates}, at half the speed of a matrix product "
            f"here ({peak / 1e9:,.0f} GFLOP/s)"
        )


# ---- the three stages ----------------------------------------------------------------------------


def estimate_sft(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Sequence[Demonstration],
    config: SFTConfig = SFTConfig(),
    accelerator: Accelerator | None = None,
) -> Estimate:
    """What `train_sft` with these arguments needs."""
    some = sft.encode(tokenizer, evenly_spaced(data))
    kept, layer = saved(policy, some, accelerator)
    busy = [
        piece.tokens.numel() * kept
        + max(2 * logits_of(policy, piece) + last_gradient(policy), piece.tokens.numel() * layer)
        for piece in pieces(some, config.batch_size, config.max_tokens)
    ]
    step = training(policy, some) + projection(policy, some)
    return estimate(
        "sft",
        [policy],
        [],
        busy,
        0,
        config.epochs * len(data) * step,
        len(epochs_of(len(data), config.batch_size, config.epochs)),
    )


def estimate_reward(
    reward_model: ScalarModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Sequence[Ranking],
    config: RewardConfig = RewardConfig(),
    accelerator: Accelerator | None = None,
) -> Estimate:
    """What `train_reward` with these arguments needs."""
    some = reward.encode(tokenizer, evenly_spaced(data))
    per_token = sum(saved(reward_model, some.sequences, accelerator, at_last=True))
    batch = some.groups([i % len(some) for i in range(config.batch_size)])
    busy = [
        batch.groups(part).sequences.tokens.numel() * per_token
        for part in group_batches(batch, config.max_tokens)
    ]
    rows = config.epochs * len(data) * len(some.sequences.tokens) / len(some)
    step = training(reward_model, some.sequences)
    return estimate(
        "reward",
        [reward_model],
        [],
        busy,
        0,
        rows * step,
        len(epochs_of(len(data), config.batch_size, config.epochs)),
    )


def estimate_ppo(
    policy: PreTrainedModel,
    reward_model: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    config: PPOConfig = PPOConfig(),
    accelerator: Accelerator | None = None,
) -> Estimate:
    """What `train_ppo` with these arguments needs, if no response ends before max_new_tokens."""
    reference, value = (
        frozen_copy(policy),
        new_value_model(policy, reward_model, config.seed, config.shared_value),
    )
    scorers = [reward_model] if isinstance(reward_model, nn.Module) else []
    asked = [encode_prompt(tokenizer, p.text) for p in evenly_spaced(prompts)]
    N, B, pad = config.max_new_tokens, config.batch_size, tokenizer.pad_token_id
    some = Sequences.of_tokens(asked, [[pad] * N for _ in asked], pad)
    (kept, _), (more, layer) = (saved(model, some, accelerator) for model in (policy, value))
    warm = config.temperature != 1  # another buffer: the logits divided by it
    busy = []
    for piece in pieces(some, -(-B // config.minibatches), config.max_tokens):
        tokens, logits = piece.tokens.numel(), logits_of(policy, piece)
        entropy = tokens * kept + (5 + warm) * logits  # at its end, before the value network reads
        both = tokens * (kept + more)
        busy.append(
            max(
                entropy,
                both + (2 + warm) * logits + last_gradient(policy),
                both + logits + tokens * layer,
            )
        )
    whole = decoder_of(policy) is WholeDecoder  # no cache: it rereads all tokens for each new one
    cache = 0 if whole else cache_bytes(policy, B, max(map(len, asked)) + N)
    sampling = cache + 5 * FLOAT * B * vocabulary(policy)
    read = sum(forward(model, some) for model in (policy, reference, value, *scorers))
    read += whole * (N - 1) * forward(policy, some)
    read += 2 * projection(policy, some, backward=False)
    step = training(policy, some) + training(value, some) + projection(policy, some)
    return estimate(
        "ppo",
        [policy, value],
        [reference, *scorers],
        busy,
        sampling,
        config.updates * B * (read + config.epochs * step),
        config.updates,
    )


def estimate(
    stage: str,
    trained: list[nn.Module],
    others: list[nn.Module],
    busy: list[float],
    cache: int,
    flops: float,
    updates: int,
) -> Estimate:
    """The Estimate from the modules, each weight counted once, and the computed figures. busy:
    bytes in use besides weights, gradients and Adam, for each piece of a batch (with several
    processes, one may have no piece)."""
    held = {id(p): p for m in (*trained, *others) for p in m.parameters()}.values()
    moved = {id(p): p for m in trained for p in m.parameters() if p.requires_grad}.values()
    gradients = bytes_of(moved)
    return Estimate(
        stage,
        sum(p.numel() for p in moved),
        sum(p.numel() for p in held),
        bytes_of(held),
        gradients,
        2 * gradients + FLOAT * len(moved),
        round(max(busy, default=0)),
        cache,
        flops,
        updates,
    )


# ---- helpers -------------------------------------------------------------------------------------


def pieces(some: Sequences, batch_size: int, max_tokens: int) -> Iterator[Sequences]:
    """One batch of these rows, split into forward passes."""
    rows = torch.arange(batch_size) % len(some.tokens)
    return (some.rows(rows[part]) for part in micro_batches(some.lengths[rows], max_tokens))


def logits_of(policy: PreTrainedModel, piece: Sequences) -> int:
    """Bytes of one copy of the logits of a piece."""
    return FLOAT * int(piece.mask.sum()) * vocabulary(policy)


def evenly_spaced(rows: Sequence, most: int = SAMPLE) -> list:
    """At most so many of them, evenly spaced."""
    return list(rows[:: max(1, len(rows) // most)][:most])


def duration(seconds: float) -> str:
    """A duration in a suitable unit."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.0f} seconds"


PARTS = {
    "weights": "#0072B2",
    "gradients": "#56B4E9",
    "adam": "#009E73",
    "activations": "#E69F00",
    "cache": "#999999",
}


LABELS = {"adam": "Adam's moments", "cache": "KV cache, while sampling"}


def memory(estimates: Mapping[str, Estimate]) -> Picture:
    """A stacked bar of the parts of each estimate, in GB; a tick marks the peak.

    Sampling has no activations and training no cache, so a bar can be longer than the peak.
    """
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(8.4, 0.9 + 0.42 * len(estimates)))
        axes = figure.add_subplot()
        names, left = list(estimates), [0.0] * len(estimates)
        for (part, colour), hatch in zip(PARTS.items(), HATCHES):
            widths = [getattr(estimates[name], part) / 1e9 for name in names]
            axes.barh(
                names,
                widths,
                left=left,
                color=colour,
                edgecolor="white",
                linewidth=0,
                hatch=hatch,
                height=0.62,
                label=LABELS.get(part, part),
            )
            left = [start + width for start, width in zip(left, widths)]
        axes.plot(
            [estimates[name].memory / 1e9 for name in names],
            names,
            "k|",
            markersize=16,
            label="worst moment",
        )
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set(xlabel="GB beside the libraries' own")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
