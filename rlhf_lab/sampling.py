"""Draw responses from a policy, in batches, each from its own seed.

A decoder reads the prompts; then, at each step, it takes one more token for each row and gives the
logits of the next. Three decoders give the same logits: GPT2Decoder, which is fast; LibraryDecoder,
which uses the cache of transformers; and WholeDecoder, which is slow but simple, for models whose
cache cannot be used row by row.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab.engine import parallel
from rlhf_lab.engine.fast_gpt2 import GPT2Decoder, supports
from rlhf_lab.engine.packed import headless, in_float32
from rlhf_lab.engine.trial import close, context_of, few_tokens, projects, trying
from rlhf_lab.errors import UserError
from rlhf_lab.maths import response_mask
from rlhf_lab.models import evaluating
from rlhf_lab.records import check_settings, setting
from rlhf_lab.text import decode_response, end_ids, pad_left, position_ids


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample.

    The log-probabilities returned are always those of the full softmax at this temperature, even if
    top_k or top_p left tokens out. Training needs both off, which is the default.
    """

    max_new_tokens: int = setting(64, "longest response, in tokens", at_least=1, at_most=10**6)
    temperature: float = setting(1.0, "the logits are divided by it", above=0)
    top_k: int = setting(0, "sample from the k likeliest tokens (0: all)", at_least=0)
    top_p: float = setting(
        1.0,
        "sample from the likeliest tokens that together have this probability",
        above=0,
        at_most=1,
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Samples:
    """Prompts and the responses drawn for them.

    tokens: (B, P + N) long, prompts padded on the left and responses on the right.
    attention: (B, P + N) long, 1 on real tokens.
    mask: (B, N) bool, true on response tokens up to and including the end token.
    logprobs: (B, N), of each response token, in nats; 0 on padding.
    ended: (B,) bool, whether a token that ends a response was drawn.
    N is the length of the longest response. All are on the CPU.
    """

    tokens: Tensor
    attention: Tensor
    mask: Tensor
    logprobs: Tensor
    ended: Tensor

    @property
    def prompt_length(self) -> int:
        """P: the column in which every response begins."""
        return self.tokens.shape[1] - self.mask.shape[1]

    def texts(self, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """Each response as text, without the token that ended it."""
        responses = self.tokens[:, self.prompt_length :]
        return [decode_response(tokenizer, row[real]) for row, real in zip(responses, self.mask)]


class LibraryDecoder:
    """The same as GPT2Decoder, for any causal language model of transformers whose cache can be
    selected by row."""

    def __init__(
        self, policy: PreTrainedModel, tokens: Tensor, attention: Tensor, copies: Tensor, n: int
    ):
        self.policy = policy
        self.cache = DynamicCache(config=policy.config)
        self.tokens, self.attention, self.copies = tokens, attention, copies

    def read(self) -> Tensor:
        """Read the prompts; logits of each row's first response token, (B, V)."""
        logits = self._logits(self.tokens)[self.copies]
        self.keep(self.copies)
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token (B,) to each row; logits of the next, (B, V)."""
        self.attention = F.pad(self.attention, (0, 1), value=1)
        return self._logits(tokens[:, None])

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows, in this order."""
        self.cache.batch_select_indices(rows)
        self.attention = self.attention[rows]

    def _logits(self, tokens: Tensor) -> Tensor:
        read = {
            "input_ids": tokens,
            "attention_mask": self.attention,
            "position_ids": position_ids(self.attention)[:, -tokens.shape[1] :],
            "past_key_values": self.cache,
            "use_cache": True,
        }
        if torch.is_autocast_enabled(tokens.device.type) and projects(self.policy):
            hidden = headless(self.policy)(**read).last_hidden_state[:, -1]  # (B, D)
            return in_float32(self.policy.get_output_embeddings(), hidden)
        return self.policy(**read, logits_to_keep=1).logits[:, -1]


class WholeDecoder:
    """The same for any causal language model: it has no cache, and reads prompt and response again
    at each step."""

    def __init__(
        self, policy: PreTrainedModel, tokens: Tensor, attention: Tensor, copies: Tensor, n: int
    ):
        self.policy = policy
        self.tokens, self.attention, self.copies = tokens, attention, copies

    def read(self) -> Tensor:
        """Read the prompts; logits of each row's first response token, (B, V)."""
        logits = self._logits()[self.copies]
        self.keep(self.copies)
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token (B,) to each row; logits of the next, (B, V)."""
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        self.attention = F.pad(self.attention, (0, 1), value=1)
        return self._logits()

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows, in this order."""
        self.tokens, self.attention = self.tokens[rows], self.attention[rows]

    def _logits(self) -> Tensor:
        return self.policy(
            input_ids=self.tokens,
            attention_mask=self.attention,
            position_ids=position_ids(self.attention),
            use_cache=False,
            logits_to_keep=1,
        ).logits[:, -1]


Decoder = GPT2Decoder | LibraryDecoder | WholeDecoder

_caches: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def decoder_of(policy: PreTrainedModel) -> Callable[..., Decoder]:
    """The fastest decoder that works for the policy; a model that is not a GPT-2 is tested once."""
    if supports(policy):
        return GPT2Decoder
    if policy not in _caches:
        try:
            _caches[policy] = agrees(policy, LibraryDecoder)
        except Exception:  # a cache that cannot be used fails in many ways
            _caches[policy] = False
    return LibraryDecoder if _caches[policy] else WholeDecoder


def agrees(policy: PreTrainedModel, make_decoder: Callable[..., Decoder]) -> bool:
    """Whether a decoder, step by step, gives two rows of different lengths the same logits as
    reading each row alone and in full."""
    rows = [few_tokens(policy, count, first) for count, first in ((10, 0), (6, 1))]
    drawn = min(2, len(rows[1]) - 1)  # the tokens of each row that follow its prompt
    prompts = [row[: len(row) - drawn] for row in rows]
    device = policy.device
    tokens, attention = (x.to(device) for x in pad_left(prompts, rows[0][0]))
    copies, kept = torch.tensor([1, 0, 1], device=device), torch.tensor([2, 1], device=device)
    with trying(policy):
        decoder = make_decoder(policy, tokens, attention, copies, drawn + 1)
        found = [decoder.read()[kept]]
        decoder.keep(kept)
        for t in range(drawn):
            following = [row[len(row) - drawn + t] for row in reversed(rows)]
            found.append(decoder.step(torch.tensor(following, device=device)))
        wanted = [
            policy(input_ids=torch.tensor([row], device=device), use_cache=False).logits[
                0, len(row) - drawn - 1 :
            ]
            for row in reversed(rows)
        ]
    return close(torch.stack(found, dim=1), torch.stack(wanted))


def sample(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    seeds: list[int],
    config: SamplingConfig = SamplingConfig(),
    batch_size: int = 64,
) -> Samples:
    """Draw one response to each prompt, from its own seed.

    prompts: token ids, one list for each response. seeds: one integer for each response, taken
    modulo 2^64. A sample depends only on its own prompt and seed, not on the rest of the batch, its
    order, or the batch size (up to rounding: different batches multiply matrices in a different
    order, which can decide a draw that falls within about 1e-6 of the border between two tokens).

    Dropout is off, whatever mode the policy is in, and no gradient is kept. Several processes share
    the prompts, and each gets all samples. Returns the samples in the order of the prompts, on the
    CPU. Raises UserError for an empty prompt, one that leaves no room for max_new_tokens, unequal
    numbers of prompts and seeds, or a policy whose logits are not finite.
    """
    N, device, pad = config.max_new_tokens, policy.device, tokenizer.pad_token_id
    ends = torch.tensor(end_ids(tokenizer), device=device)
    _check(policy, ends, pad, prompts, seeds, config)
    uniforms = uniform_numbers(seeds, N).to(device)
    responses = torch.zeros(len(prompts), N, dtype=torch.long, device=device)
    logprobs = torch.zeros(len(prompts), N, device=device)
    with torch.inference_mode(), evaluating(policy):
        for batch in _batches(prompts, batch_size):
            read = *_distinct([prompts[row] for row in batch], pad, device), N
            decoder = decoder_of(policy)(policy, *read)
            rows = torch.tensor(batch, device=device)
            responses[rows] = pad
            logits = decoder.read()
            for t in range(N):
                tokens, chosen_logprobs = choose(logits, uniforms[rows, t], config)
                responses[rows, t], logprobs[rows, t] = tokens, chosen_logprobs
                alive = _alive(~torch.isin(tokens, ends))
                if len(alive) == 0 or t == N - 1:
                    break
                if len(alive) < len(rows):
                    decoder.keep(alive)
                    rows, tokens = rows[alive], tokens[alive]
                logits = decoder.step(tokens)
    responses, logprobs = parallel.total(responses).cpu(), parallel.total(logprobs).cpu()
    return _assemble(prompts, responses, logprobs, ends.cpu(), pad)


def choose(logits: Tensor, uniforms: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor]:
    """One token for each row of logits (B, V), and its log-probability in nats; both (B,).

    A number u in [0, 1) picks the token whose interval of the cumulative distribution it falls in,
    so only u decides, and no shared random state. The sums are float64: on a GPU, float32 sums
    depend on the order of addition. Raises UserError if the logits are not finite.
    """
    probabilities = torch.softmax(logits.float() / config.temperature, dim=-1)
    total = restrict(probabilities, config).cumsum(dim=-1, dtype=torch.float64)  # (B, V)
    if not total[:, -1].isfinite().all():
        raise UserError("the policy's logits are not finite: it diverged; lower the learning rate")
    tokens = torch.searchsorted(total, uniforms[:, None] * total[:, -1:], right=True)
    return tokens.squeeze(1), probabilities.gather(1, tokens).log().squeeze(1)


def restrict(probabilities: Tensor, config: SamplingConfig) -> Tensor:
    """Set the probabilities (B, V) of tokens that top-k or top-p leaves out to 0; keep the others.

    All tokens as likely as the k-th are kept.
    """
    if 0 < config.top_k < probabilities.shape[-1]:
        kth = probabilities.topk(config.top_k).values[:, -1:]
        probabilities = probabilities.where(probabilities >= kth, 0.0)
    if config.top_p < 1:
        ordered, tokens = probabilities.sort(descending=True)
        likelier = ordered.cumsum(dim=-1, dtype=torch.float64) - ordered
        limit = config.top_p * ordered.sum(dim=-1, keepdim=True)
        ordered = ordered.where(likelier < limit, 0.0)
        probabilities = torch.zeros_like(ordered).scatter(1, tokens, ordered)
    return probabilities


def uniform_numbers(seeds: Sequence[int], n: int) -> Tensor:
    """n numbers in [0, 1) from each of B seeds, float64 (B, n): SplitMix64 (Steele et al. 2014).

    Number t of a row is a hash of seed + (t + 1) * step modulo 2^64, so the whole table is one
    computation on the CPU, the same whichever device samples.
    """
    mask, step = 2**64 - 1, 0x9E3779B97F4A7C15
    start = np.array([seed & mask for seed in seeds], dtype=np.uint64)
    z = start[:, None] + np.uint64(step) * np.arange(1, n + 1, dtype=np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return torch.from_numpy((z >> np.uint64(11)) * 2.0**-53)


def _batches(prompts: list[list[int]], batch_size: int) -> Iterator[list[int]]:
    """This process's rows in batches of similar length, equal prompts side by side."""
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), prompts[row]))
    order = parallel.shard(order)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _distinct(
    prompts: list[list[int]], pad: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """The different prompts, tokens and attention (U, P), and which of them each row has, (B,)."""
    index: dict[tuple[int, ...], int] = {}
    copies = [index.setdefault(tuple(prompt), len(index)) for prompt in prompts]
    tokens, attention = pad_left(list(index), pad)
    return tokens.to(device), attention.to(device), torch.tensor(copies, device=device)


def _alive(going: Tensor) -> Tensor:
    """The rows that continue, (A,), ordered so that few rows move: the last ones fill the gaps."""
    alive = going.nonzero().squeeze(1)
    gaps = (~going[: len(alive)]).nonzero().squeeze(1)
    rows = torch.arange(len(alive), device=going.device)
    rows[gaps] = alive[len(alive) - len(gaps) :]
    return rows


def _assemble(
    prompts: list[list[int]], responses: Tensor, logprobs: Tensor, ends: Tensor, pad: int
) -> Samples:
    mask = response_mask(responses, ends)
    n = int(mask.sum(dim=1).max())
    mask = mask[:, :n]
    tokens, attention = pad_left(prompts, pad)
    return Samples(
        tokens=torch.cat([tokens, responses[:, :n]], dim=1),
        attention=torch.cat([attention, mask.long()], dim=1),
        mask=mask,
        logprobs=logprobs[:, :n],
        ended=torch.isin(responses, ends).any(dim=1),
    )


def _check(
    policy: PreTrainedModel,
    ends: Tensor,
    pad: int | None,
    prompts: list[list[int]],
    seeds: list[int],
    config: SamplingConfig,
) -> None:
    if pad is None or pad in ends:
        raise UserError(
            "the tokenizer needs a pad token that is not an end token: load it with load_tokenizer"
        )
    if not prompts:
        raise UserError("no prompts to sample for: give at least one")
    if len(prompts) != len(seeds):
        raise UserError(f"{len(prompts)} prompts but {len(seeds)} seeds: give each prompt a seed")
    context = context_of(policy)
    for index, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise UserError(f"prompt {index} is empty: give it at least one token")
        if context and len(prompt) + config.max_new_tokens > context:
            raise UserError(
                f"prompt {index} has {len(prompt)} tokens, which with max_new_tokens"
                f" {config.max_new_tokens} exceeds the model's context {context}: shorten the"
                " prompt or lower max_new_tokens"
            )
