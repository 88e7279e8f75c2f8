"""Stage two, the reward model: learn from rankings which response people prefer.

A copy of the policy's trunk with one number per response, trained so that the preferred of two
responses scores higher (Bradley-Terry). A ranking of K responses gives all its pairs at once, each
response is encoded once, and each prompt weighs the same (Ouyang et al. 2022, eq. 1).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.checks import check_model
from rlhf_lab.disk.checkpoint import Checkpoint, resumable
from rlhf_lab.engine import parallel
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.pairs import CHANCE_PICKS
from rlhf_lab.feedback.selection import distinct, split_by_prompt
from rlhf_lab.feedback.store import FeedbackStore, by_people
from rlhf_lab.models import Ensemble, ScalarModel
from rlhf_lab.records import Prompt, Ranking, check_settings, seed_setting, setting
from rlhf_lab.sequences import Sequences, Written, check_fits, in_batches, response_scores
from rlhf_lab.training import (
    Metrics,
    Optimiser,
    Record,
    accumulate,
    check_finite,
    epochs_of,
    on_device,
)


@dataclass(frozen=True)
class RewardConfig:
    """The settings of reward modelling.

    head_factor: a new head learns faster than the trunk, because otherwise it would distort the
    trunk's features before it has learned to use them (Kumar et al. 2022).
    """

    epochs: int = setting(2, "passes over the rankings", at_least=1)
    batch_size: int = setting(8, "prompts in one update", at_least=1, at_most=10**6)
    learning_rate: float = setting(1e-4, "peak learning rate; it falls linearly to 0", above=0)
    head_factor: float = setting(30.0, "the head's learning rate divided by the trunk's", above=0)
    warmup: int = setting(10, "updates over which the learning rate rises", at_least=0)
    weight_decay: float = setting(0.0, "weight decay of the weight matrices", at_least=0)
    soft_ties: bool = setting(False, "train tied responses towards equal scores")
    seed: int = seed_setting("random seed of the data order")
    max_tokens: int = setting(3072, "most tokens in a forward pass; changes no result", at_least=1)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class RankedData:
    """G prompts with up to K ranked responses each: sequences has the rows, index (G, K) says
    which row is which response, ranks (G, K) are 1 for the best, UNRANKED or ABSENT."""

    sequences: Sequences
    index: Tensor
    ranks: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def groups(self, rows: list[int]) -> "RankedData":
        """Some of the prompts, with their responses."""
        index, ranks = self.index[rows], self.ranks[rows]
        used, place = index.unique(return_inverse=True)
        return RankedData(self.sequences.rows(used), place, ranks)


def train_reward(
    reward_model: ScalarModel,
    tokenizer: PreTrainedTokenizerBase,
    rankings: Sequence[Ranking] = (),
    config: RewardConfig = RewardConfig(),
    held_out: Sequence[Ranking] = (),
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
    store: FeedbackStore | None = None,
    labellers: Sequence[str] | None = None,
    kwise_loss: Callable[..., Tensor] = maths.kwise_loss,
    pair_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Iterator[Record]:
    """Train `reward_model` in place; yields one metrics record an update.

    loss/reward is the k-wise loss in nats (ln 2 at chance), reward/accuracy the share of the
    batch's pairs ordered as the labellers did, before the update. At the end of every epoch,
    the record also has the `held_out_metrics` of `held_out`, whose prompts should be other ones.

    store: adds its rankings, by these labellers or (None) by all, split by `rankings_from`.
    kwise_loss: the loss, with the arguments of the one in `maths`; or pass pair_loss, with those of
    `maths.pair_loss`, which is averaged over the pairs of each prompt. Raises UserError if there is
    nothing to train on.
    """
    if store is not None:
        ranked, apart = rankings_from(store, labellers)
        rankings, held_out = [*rankings, *ranked], [*held_out, *apart]
    if not rankings:
        raise UserError("no rankings to train on: give rankings, or a store that has some")
    accelerator = on_device(accelerator, reward_model)
    check_model(reward_model, tokenizer, to_save=True)
    kwise_loss = maths.kwise_of(pair_loss) if pair_loss else kwise_loss
    data = encode(tokenizer, rankings)
    check_fits(reward_model, data.sequences)
    if not maths.prompts_compared(data.ranks, config.soft_ties):
        raise UserError(
            "no ranking prefers one response to another: give rankings that are not all ties"
        )
    later = encode(tokenizer, held_out) if held_out else None
    order = epochs_of(len(data), config.batch_size, config.epochs, "reward", config.seed)
    updates = len(order)
    optimiser = Optimiser(
        accelerator,
        [reward_model.backbone, reward_model.head],
        config.learning_rate,
        updates,
        config.warmup,
        config.weight_decay,
        factors=[1.0, config.head_factor],
    )

    for update in resumable(checkpoint, {"model": reward_model}, optimiser, updates):
        epoch, rows, last = order[update - 1]
        batch = data.groups(rows)
        loss, scores = batch_gradients(reward_model, batch, config, accelerator, kwise_loss)
        check_finite("the loss", loss, update)
        record: Record = {
            "stage": "reward",
            "update": update,
            "updates": updates,
            "epoch": epoch,
            "loss/reward": loss,
            "lr": optimiser.rate(),
            "grad_norm": optimiser.step(),
            "reward/accuracy": float(maths.pair_accuracy(scores, batch.ranks)),
        }
        if later and last:
            margins = maths.pair_margins(score_groups(reward_model, later), later.ranks)
            record |= held_out_metrics(margins)
        yield record


def batch_gradients(
    reward_model: ScalarModel,
    batch: RankedData,
    config: RewardConfig,
    accelerator: Accelerator,
    kwise_loss: Callable[..., Tensor] = maths.kwise_loss,
) -> tuple[float, Tensor]:
    """Add the gradients of the k-wise loss over a batch; returns the loss and the scores, (G, K).

    The batch is read in pieces of similar length, each response once. Each piece's loss is weighted
    by its share of the batch's prompts that have a pair, so that the split changes nothing.
    """
    prompts = max(1, maths.prompts_compared(batch.ranks, config.soft_ties))
    ties = {"soft_ties": True} if config.soft_ties else {}
    scores = torch.zeros(batch.ranks.shape)

    def share_of_loss(part: list[int]) -> tuple[Tensor, Metrics]:
        piece = batch.groups(part)
        flat = response_scores(reward_model, piece.sequences.to(accelerator.device)).float()
        piece_scores, ranks = flat[piece.index.to(flat.device)], piece.ranks.to(flat.device)
        scores[part] = piece_scores.detach().cpu()  # (g, K)
        share = maths.prompts_compared(ranks, config.soft_ties) / prompts
        return share * kwise_loss(piece_scores, ranks, **ties), {}

    loss, _ = accumulate(accelerator, group_batches(batch, config.max_tokens), share_of_loss)
    return loss, parallel.total(scores)


def rankings_from(
    store: FeedbackStore, labellers: Sequence[str] | None = None
) -> tuple[list[Ranking], list[Ranking]]:
    """Split the rankings of a store by prompt: those to train on, and a fifth to test on.

    The test rankings are only of prompts picked at random or given to everybody: prompts that a
    model chose because it was unsure, and repeats, would bias the test. Raises UserError if these
    labellers (None: all people) have ranked nothing, or are not in the store.
    """
    rankings, apart = split_by_prompt(by_people(store, labellers))
    prompts = {ranking.prompt.text for ranking in apart}
    fair = store.rankings(labellers, CHANCE_PICKS)
    return rankings, [ranking for ranking in fair if ranking.prompt.text in prompts]


def held_out_metrics(margins: Tensor) -> Record:
    """Accuracy and expected calibration error over the comparisons of rankings that were not
    trained on; margins: score of the preferred minus score of the other, (M,).

    Calibrated means: when the model is 80 % sure, it is right in 80 % of the pairs.
    """
    right = (margins.sign() + 1) / 2
    sure = torch.sigmoid(margins.abs())
    return {
        "reward/held_out_accuracy": float(right.mean()),
        "reward/held_out_calibration": float(maths.calibration_error(sure, right)),
    }


def encode(tokenizer: PreTrainedTokenizerBase, rankings: Sequence[Ranking]) -> RankedData:
    """Rankings as tensors; a response that occurs twice for a prompt is encoded once."""
    written: dict[Written, int] = {}
    index, ranks = tables(
        rankings, lambda one, k: written.setdefault(one.written()[k], len(written))
    )
    return RankedData(Sequences.of_text(tokenizer, list(written)), index, ranks)


def tables(
    rankings: Sequence[Ranking], row: Callable[[Ranking, int], int]
) -> tuple[Tensor, Tensor]:
    """index and ranks of `RankedData`, both (G, K). row: the row of a ranking's response k."""
    K = max(len(ranking.ranks) for ranking in rankings)
    index = torch.zeros(len(rankings), K, dtype=torch.long)
    ranks = torch.full((len(rankings), K), maths.ABSENT)
    for g, ranking in enumerate(rankings):
        for k, rank in enumerate(ranking.ranks):
            index[g, k] = row(ranking, k)
            ranks[g, k] = maths.UNRANKED if rank is None else rank
    return index, ranks


def group_batches(data: RankedData, max_tokens: int) -> Iterator[list[int]]:
    """Batches of prompts of similar length, each with all its responses, at most `max_tokens` a
    batch; with several processes, each gets its own prompts."""
    longest = data.sequences.lengths[data.index].amax(1)  # (G,)
    order, K = parallel.shard(longest.argsort(stable=True).tolist()), data.index.shape[1]
    start = 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or longest[order[stop]] * K * (stop + 1 - start) > max_tokens:
            yield order[start:stop]
            start = stop


def score_groups(reward_model: ScalarModel, data: RankedData) -> Tensor:
    """The score of every response, (G, K)."""
    return in_batches(response_scores, reward_model, data.sequences)[data.index]


def score_texts(
    reward_model: ScalarModel, tokenizer: PreTrainedTokenizerBase, written: Sequence[Written]
) -> Tensor:
    """The score of each (prompt, response) or (prompt, response, ended), (B,)."""
    return in_batches(response_scores, reward_model, Sequences.of_text(tokenizer, written))


def uncertainty_of(
    reward_model: ScalarModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[tuple[Prompt, Sequence[str]]],
) -> dict[str, float]:
    """How unsure the model is of the order of each prompt's responses, by the prompt's text, in
    nats (`maths.uncertainty`). An active `Selection` uses it.

    Responses that look alike count once: neither of two equal ones is better.
    """
    texts = [[responses[i] for i in distinct(responses)] for _, responses in items]
    flat = score_texts(
        reward_model,
        tokenizer,
        [(prompt.text, text) for (prompt, _), row in zip(items, texts) for text in row],
    )
    scores = torch.nn.utils.rnn.pad_sequence(
        flat.cpu().split([len(row) for row in texts]), batch_first=True, padding_value=torch.nan
    )
    nats = maths.uncertainty(scores).tolist()
    return {prompt.text: value for (prompt, _), value in zip(items, nats)}


def normalise(reward_model: ScalarModel | Ensemble, scores: Tensor) -> None:
    """Shift and scale the model so that `scores`, which it gave the SFT policy's own responses,
    have mean 0 and standard deviation 1; no ranking changes (Stiennon et al. 2020).

    A weak reward model is amplified too: compare runs at equal KL, not at equal beta.
    """
    reward_model.normalise(float(scores.mean()), float(scores.std()))
