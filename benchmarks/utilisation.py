"""Share of this machine's matrix-multiply peak that a training step reaches.

    python benchmarks/utilisation.py
    python benchmarks/utilisation.py --threads 1 --rounds 15

Counted are the multiplications and additions that the step cannot do without: for every real token
(padding is not counted) 2 for each weight of the model's matrices; for attention 4 per layer, unit
of width and pair of a token with itself or an earlier one; for the vocabulary 2 for each of its
weights at the positions that predict a response token. Three times that for a training step: the
backward pass needs the gradients of inputs and of weights. Not counted: embeddings, norms,
activations, softmax, the loss, clipping, Adam, and anything computed twice. The time is that of the
whole step all the same, from choosing its rows to the metrics.

The peak is that of a square float32 multiplication in the same process, before every step; a share
is the median of the rounds' shares. Each stage runs with its default settings, PPO from responses
drawn at temperature 1, its optimisation alone and the whole update.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from material import demonstrations_and_rankings, write_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlhf_lab import ppo, reward, sft
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.sequences import Sequences, micro_batches
from rlhf_lab.tasks import load_task
from rlhf_lab.training import Optimiser, batches, make_accelerator

Steps = Callable[[], tuple[dict[str, tuple[float, float]], float]]


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
"""
