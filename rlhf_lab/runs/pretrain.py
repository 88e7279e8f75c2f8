"""Before stage one, the base model: train a tokenizer and a compact GPT-2 on raw text.

This was done once, and the result is shipped in data/. A task can generate any amount of raw text,
so no document is seen twice and the model cannot overfit. Every document starts at position 0 and
ends with the end token; documents of similar length share a batch.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.engine import parallel
from rlhf_lab.engine.packed import hidden_states
from rlhf_lab.records import check_settings, seed_setting, setting
from rlhf_lab.runs.costs.counting import check_memory, count
from rlhf_lab.tasks import Task
from rlhf_lab.text import END, pad_right
from rlhf_lab.training import Optimiser, Record, check_finite, make_accelerator, shuffled

PAD = "<|pad|>"
CHUNK = 40  # batches of text drawn and sorted by length at a time


@dataclass(frozen=True)
class PretrainConfig:
    """The model and its training."""

    layers: int = setting(4, "layers of the model", at_least=1, at_most=10**4)
    width: int = setting(256, "width of the model", at_least=1, at_most=10**5)
    heads: int = setting(4, "attention heads", at_least=1, at_most=10**4)
    context: int = setting(256, "tokens the model can read", at_least=1, at_most=10**6)
    vocabulary: int = setting(2048, "tokens in the vocabulary, at most", at_least=1, at_most=10**7)
    tokenizer_documents: int = setting(20_000, "documents the tokenizer learns from", at_least=1)
    updates: int = setting(3000, "how many updates to make", at_least=1)
    late_from: int = setting(
        1600, "update after which the task's late raw text is used", at_least=0
    )
    batch_size: int = setting(64, "documents in one update", at_least=1, at_most=10**6)
    learning_rate: float = setting(
        2e-3, "learning rate at the start; it falls linearly to 0", above=0
    )
    warmup: int = setting(100, "updates over which the learning rate rises", at_least=0)
    weight_decay: float = setting(0.05, "weight decay of the matrices", at_least=0)
    seed: int = seed_setting()

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Mixture:
    """The raw text of several tasks, the same number of documents from each, in shuffled order."""

    tasks: Sequence[Task]

    def raw_text(self, seed: int, count: int, late: bool = False) -> list[str]:
        """As `Task.raw_text`. Of a single task, exactly its own text."""
        if len(self.tasks) == 1:
            return self.tasks[0].raw_text(seed, count, late)
        each = -(-count // len(self.tasks))
        texts = [text for task in self.tasks for text in task.raw_text(seed, each, late)]
        return Random(f"mixture/{seed}").sample(texts, count)


def train_tokenizer(documents: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, like GPT-2's, with an end token and a padding token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        documents,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[END, PAD],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END, eos_token=END, pad_token=PAD
    )


def new_model(tokenizer: PreTrainedTokenizerBase, config: PretrainConfig) -> GPT2LMHeadModel:
    """A compact GPT-2 with random weights. Raises UserError if training it would need far more
    memory than this machine has."""
    parameters = config.layers * 12 * config.width**2
    parameters += (len(tokenizer) + config.context) * config.width
    advice = "lower --width, --layers, --context or --vocabulary"
    needed = 4 * 4 * parameters  # weights, gradients and Adam's two, in float32
    check_memory(f"a model of {count(parameters)} parameters", needed, torch.device("cpu"), advice)
    torch.manual_seed(config.seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=config.context,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train_base(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task | Mixture,
    config: PretrainConfig = PretrainConfig(),
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
) -> Iterator[Record]:
    """Train `model` in place on the task's raw text; yields one metrics record an update.

    loss/pretrain is the mean cross-entropy per token of the batch, in nats.
    """
    accelerator = accelerator or make_accelerator()
    parallel.check_minibatches(config.batch_size, 1)
    model.to(accelerator.device).train()
    optimiser = Optimiser(
        accelerator,
        [model],
        config.learning_rate,
        config.updates,
        config.warmup,
        config.weight_decay,
        betas=(0.9, 0.98),
    )
    done = checkpoint.restore({"model": model}, optimiser)["update"] if checkpoint else 0
    texts = text_batches(task, tokenizer, config, first=done)
    for update, rows in zip(range(done + 1, config.updates + 1), texts):
        count = sum(len(row) - 1 for row in rows)
        padded = pad_right(parallel.shard(rows), tokenizer.pad_token_id)
        tokens, attention = (x.to(accelerator.device) for x in padded)
        real = attention[:, 1:].bool()  # the tokens to predict, each from the position before it
        with accelerator.autocast():
            hidden = hidden_states(model.transformer, tokens[:, :-1], attention[:, 1:], real)
            loss = (
                F.cross_entropy(model.lm_head(hidden).float(), tokens[:, 1:][real], reduction="sum")
                / count
            )
        accelerator.backward(loss)
        whole = parallel.total(loss.item())
        check_finite("the loss", whole, update)
        rate, norm = optimiser.rate(), optimiser.step()
        yield {
            "stage": "pretrain",
            "update": update,
            "updates": config.updates,
            "loss/pretrain": whole,
            "lr": rate,
            "grad_norm": norm,
            "tokens": count,
        }
        if checkpoint and checkpoint.due(update, config.updates):
            checkpoint.save(update, {"model": model}, optimiser)


def text_batches(
    task: Task | Mixture, tokenizer: PreTrainedTokenizerBase, config: PretrainConfig, first: int
) -> Iterator[list[list[int]]]:
    """An endless sequence of batches of encoded documents, from batch number `first` on."""
    for chunk in itertools.count(first // CHUNK):
        batches = chunk_of_text(task, tokenizer, config, chunk)
        yield from batches[first % CHUNK :]
        first = 0


def chunk_of_text(
    task: Task | Mixture, tokenizer, config: PretrainConfig, chunk: int
) -> list[list[list[int]]]:
    """CHUNK batches in shuffled order, each of documents of similar length."""
    documents = task.raw_text(
        1 + chunk + 100_000 * (config.seed + 1),
        CHUNK * config.batch_size,
        late=chunk * CHUNK >= config.late_from,
    )
    rows = tokenizer([d + END for d in documents])["input_ids"]
    rows = sorted((row[: config.context] for row in rows), key=len)
    order = shuffled(CHUNK, "pretrain", config.seed, chunk)
    return [rows[i * config.batch_size : (i + 1) * config.batch_size] for i in order]
