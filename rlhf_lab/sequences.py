"""Prompts with their responses as one padded tensor, and what a model says about each token.

Training reads prompt and response together, padded on the right. A model's number for response
token t is read at the position before it (a policy's logits, a value), a score at the last token.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab.engine import parallel
from rlhf_lab.engine.packed import headless, hidden_states, in_float32
from rlhf_lab.engine.recompute import recomputing
from rlhf_lab.engine.trial import context_of, projects
from rlhf_lab.errors import UserError
from rlhf_lab.maths import entropy, logprobs_of
from rlhf_lab.models import Ensemble, ScalarModel, ValueModel
from rlhf_lab.sampling import Samples
from rlhf_lab.text import encode_behind, encode_prompt, pad_right, position_ids

M = TypeVar("M", bound=nn.Module)
Written = tuple[str, str] | tuple[str, str, bool]  # prompt, response and whether that ended


@dataclass(frozen=True)
class Sequences:
    """B prompts, each followed by its response.

    tokens, attention: (B, T), padded on the right. mask: (B, N), 1 on response tokens up to and
    including the end token. starts: (B,), the column in which each response begins.
    """

    tokens: Tensor
    attention: Tensor
    mask: Tensor
    starts: Tensor

    @classmethod
    def of_tokens(
        cls, prompts: Sequence[list[int]], responses: Sequence[list[int]], pad_id: int
    ) -> "Sequences":
        """From encoded prompts and responses, pair by pair."""
        tokens, attention = pad_right(
            [p + r for p, r in zip(prompts, responses, strict=True)], pad_id
        )
        _, mask = pad_right(responses, pad_id)
        return cls(tokens, attention, mask.bool(), torch.tensor([len(p) for p in prompts]))

    @classmethod
    def of_text(cls, tokenizer: PreTrainedTokenizerBase, written: Sequence[Written]) -> "Sequences":
        """From (prompt, response) or (prompt, response, ended) texts, see `text.encode_behind`."""
        before = {prompt: encode_prompt(tokenizer, prompt) for prompt, *_ in written}
        responses = [encode_behind(tokenizer, p, before[p], *rest) for p, *rest in written]
        return cls.of_tokens([before[p] for p, *_ in written], responses, tokenizer.pad_token_id)

    @classmethod
    def of_samples(cls, samples: Samples, pad_id: int) -> "Sequences":
        """From what the sampler drew: the left padding is taken out."""
        P, keep = samples.prompt_length, samples.attention.bool()
        prompts = [row[real].tolist() for row, real in zip(samples.tokens[:, :P], keep[:, :P])]
        responses = [
            row[real].tolist() for row, real in zip(samples.tokens[:, P:], samples.mask.bool())
        ]
        return cls.of_tokens(prompts, responses, pad_id)

    @property
    def lengths(self) -> Tensor:
        """Real tokens of each row, (B,)."""
        return self.attention.sum(1)

    @property
    def response_tokens(self) -> Tensor:
        """The response tokens, (B, N); those on padding mean nothing."""
        return self.tokens.gather(1, self.columns)

    @property
    def columns(self) -> Tensor:
        """The column of each response token, (B, N); those of padding stay inside the row."""
        n = torch.arange(self.mask.shape[1], device=self.starts.device)
        return (self.starts[:, None] + n).clamp(max=self.tokens.shape[1] - 1)

    @property
    def labels(self) -> Tensor:
        """Where the real response tokens are, (B, T) bool."""
        column = torch.arange(self.tokens.shape[1], device=self.starts.device)
        first = self.starts[:, None]
        return (column >= first) & (column < first + self.mask.sum(1, keepdim=True))

    def rows(self, index: Tensor | list[int]) -> "Sequences":
        """Some of the rows, without the padding that only the others needed."""
        index = torch.as_tensor(index, device=self.tokens.device)
        attention, mask = self.attention[index], self.mask[index]
        T, N = int(attention.sum(1).max()), int(mask.sum(1).max())
        return Sequences(self.tokens[index, :T], attention[:, :T], mask[:, :N], self.starts[index])

    def to(self, device: torch.device | str) -> "Sequences":
        return Sequences(
            *(x.to(device) for x in (self.tokens, self.attention, self.mask, self.starts))
        )


def check_fits(model: PreTrainedModel | ScalarModel, batch: Sequences) -> None:
    """Raise UserError if a row is longer than the model's context."""
    context = context_of(model.backbone if isinstance(model, ScalarModel) else model)
    longest = int(batch.lengths.argmax())
    if context and batch.lengths[longest] > context:
        raise UserError(
            f"row {longest + 1} of the data has {int(batch.lengths[longest])} tokens with its "
            f"response, but the model reads at most {context}: shorten it"
        )


def micro_batches(lengths: Tensor, max_tokens: int) -> Iterator[Tensor]:
    """Batches of rows of similar length, at most `max_tokens` including the little padding.

    With several processes, each gets its own rows: together they have every row once.
    """
    order = parallel.shard(lengths.argsort(stable=True))
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and lengths[order[stop]] * (stop + 1 - start) <= max_tokens:
            stop += 1
        yield order[start:stop]
        start = stop


def positions_before(labels: Tensor) -> Tensor:
    """The positions at which these tokens are predicted, each one to the left: bool (B, T)."""
    return nn.functional.pad(labels[:, 1:], (0, 1))


def label_logprobs(policy: PreTrainedModel, batch: Sequences, labels: Tensor) -> Tensor:
    """Log-probability of each labelled token, row after row: bool (B, T) -> (M,). Nothing
    predicts a row's first token, so it cannot be labelled."""
    logits = token_logits(policy, batch, positions_before(labels))
    return logprobs_of(logits, batch.tokens[labels])


def response_logits(policy: PreTrainedModel, batch: Sequences) -> Tensor:
    """Logits for the real response tokens alone, row after row: (M, V), M = mask.sum()."""
    return token_logits(policy, batch, positions_before(batch.labels))


def token_logits(policy: PreTrainedModel, batch: Sequences, wanted: Tensor) -> Tensor:
    """`plain_logits(policy, batch)[wanted]`, row after row: bool (B, T) -> (M, V).

    If the model's logits are just a projection of its last hidden state, `engine.packed` computes
    them, without the padding and the positions that are not wanted.
    """
    if not projects(policy):
        return plain_logits(policy, batch)[wanted]
    hidden = hidden_states(headless(policy), batch.tokens, batch.attention, wanted)  # (M, D)
    return in_float32(policy.get_output_embeddings(), hidden)


def plain_logits(policy: PreTrainedModel, batch: Sequences) -> Tensor:
    """Logits at every position, as transformers' own forward pass gives them, (B, T, V). The
    faster paths are tested against it."""
    with recomputing(policy):
        return policy(
            input_ids=batch.tokens,
            attention_mask=batch.attention,
            position_ids=position_ids(batch.attention),
            use_cache=False,
        ).logits


def response_logprobs(
    policy: PreTrainedModel, batch: Sequences, temperature: float = 1.0, with_entropy: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Log-probability of each response token and, if asked, the entropy there; (B, N), 0 on
    padding.

    `sampling.choose` computes the same for the tokens that it draws: the ratio at the first update
    is 1 as long as the two agree.
    """
    logits = response_logits(policy, batch)
    logprobs = logprobs_of(logits, batch.response_tokens[batch.mask], temperature)
    entropies = scatter(entropy(logits.detach(), temperature), batch.mask) if with_entropy else None
    return scatter(logprobs, batch.mask), entropies


def response_values(value_model: ValueModel, batch: Sequences) -> Tensor:
    """The value before each response token is written, (B, N), 0 on padding."""
    return scatter(
        value_model.at(batch.tokens, batch.attention, positions_before(batch.labels)), batch.mask
    )


def response_scores(reward_model: ScalarModel | Ensemble, batch: Sequences) -> Tensor:
    """The score of each response, read at its last real token, (B,)."""
    return reward_model.score(batch.tokens, batch.attention)


def scatter(flat: Tensor, mask: Tensor) -> Tensor:
    """Put (M,) numbers where the mask (B, N) is 1, and 0 elsewhere."""
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)


@torch.no_grad()
def in_batches(
    function: Callable[[M, Sequences], Tensor], model: M, batch: Sequences, max_tokens: int = 3072
) -> Tensor:
    """function(model, rows) for all rows without gradients, in their order, on the CPU.

    function gives (b,) or (b, n); n is padded with 0 to N. Several processes share the rows, and
    each gets the numbers of all.
    """
    device = next(model.parameters()).device
    parts = list(micro_batches(batch.lengths, max_tokens))
    out: Tensor | None = None
    for index in parts or [torch.tensor([0])]:  # a process without rows reads one for the shape
        value = function(model, batch.rows(index).to(device)).float().cpu()
        if out is None:
            out = torch.zeros(len(batch.tokens), *batch.mask.shape[1:][: value.dim() - 1])
        if parts:
            missing = [0, out.shape[1] - value.shape[1]] if value.dim() > 1 else []
            out[index] = nn.functional.pad(value, missing)
    assert out is not None  # at least one part was read
    return parallel.total(out)
