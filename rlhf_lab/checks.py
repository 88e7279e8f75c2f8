"""Check with a few tokens, before a long run, that a model can be trained correctly here.

Every stage calls `check_model` first. It tests what the stages rely on: log-probabilities match the
model's own logits, padding changes nothing, the model can be sampled, and a reward model can be
saved.
"""

from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab.engine.adapters import without_lora
from rlhf_lab.engine.packed import headless, packs
from rlhf_lab.engine.trial import close, few_tokens, first, trying, vocabulary_of
from rlhf_lab.errors import UserError
from rlhf_lab.models import Ensemble, ScalarModel
from rlhf_lab.sampling import agrees, decoder_of
from rlhf_lab.sequences import Sequences, token_logits
from rlhf_lab.text import pad_left, pad_right, position_ids

_passed: WeakSet[nn.Module] = WeakSet()
_saved: WeakSet[nn.Module] = WeakSet()


def check_model(model: object, tokenizer: PreTrainedTokenizerBase, to_save: bool = False) -> None:
    """Raise UserError, in one line, if a policy or a reward model cannot be trained correctly here.

    It costs a few passes over a few tokens, once for each model object. Anything that is not a
    model, such as a scoring function, passes. to_save: check also that `save` can write a reward
    model.
    """
    if isinstance(model, Ensemble):
        for member in model.members:
            check_model(member, tokenizer, to_save)
    if not isinstance(model, PreTrainedModel | ScalarModel):
        return
    if to_save and isinstance(model, ScalarModel) and model not in _saved:
        without_lora(model).classifier(tokenizer)
        _saved.add(model)
    if model in _passed:
        return
    trunk = model.backbone if isinstance(model, ScalarModel) else model
    check_pad_token(trunk, tokenizer)
    try:
        with trying(model):
            if isinstance(model, ScalarModel):
                wrong = wrong_in_scores(model)
            else:
                wrong = wrong_in_logits(model)
    except Exception as error:  # unusual families fail in many ways
        wrong = f"reading a few tokens fails with {first(error)}"
    if wrong:
        raise UserError(f"{type(trunk).__name__} cannot be used here: {wrong}; use another model")
    _passed.add(model)


def check_pad_token(trunk: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError unless there is a pad token and the model has an embedding for it. GPT-2 may
    lack the embedding, as its padding is never read here."""
    pad, known = tokenizer.pad_token_id, vocabulary_of(trunk)
    if pad is None:
        raise UserError("the tokenizer has no pad token: use load_tokenizer, which adds one")
    if pad >= known and not packs(headless(trunk)):
        raise UserError(
            f"the tokenizer's pad token has id {pad}, but {type(trunk).__name__} has only {known} "
            "embeddings: load it with load_policy or ScalarModel.load, which add a row"
        )


def wrong_in_logits(policy: PreTrainedModel) -> str:
    """What goes wrong when a policy is read or sampled here; "" if nothing does."""
    rows = two_rows(policy)
    alone = [policy(input_ids=_tensor(policy, [row]), use_cache=False).logits[0] for row in rows]
    if not all(x.isfinite().all() for x in alone):
        return "its logits are not finite: the weights are broken, or training has diverged"
    for row, own in zip(rows, alone):
        read = read_logits(policy, [row])
        if not close(read, own):
            return f"position ids change its log-probabilities by {nats(read, own):.2g} nats"
    own = torch.cat(alone)
    read = read_logits(policy, rows)
    if not close(read, own):
        return f"padding after a row changes its log-probabilities by {nats(read, own):.2g} nats"
    tokens, attention = (x.to(policy.device) for x in pad_left(rows, rows[0][0]))
    places = position_ids(attention)
    padded = policy(
        input_ids=tokens, attention_mask=attention, position_ids=places, use_cache=False
    ).logits[attention.bool()]
    if not close(padded, own):
        return f"padding before a row changes its log-probabilities by {nats(padded, own):.2g} nats"
    if not agrees(policy, decoder_of(policy)):
        return "its logits token by token differ from those for the whole text"
    return ""


def wrong_in_scores(model: ScalarModel) -> str:
    """What goes wrong when a scalar model is read here; "" if nothing does. It compares the hidden
    states from which scores are computed."""
    rows = two_rows(model.backbone)
    device = model.head.weight.device
    alone = [_tensor(model.backbone, [row]) for row in rows]
    states = torch.cat([model.last_states(row, torch.ones_like(row)) for row in alone])
    if not model.head(states).isfinite().all():
        return "its scores are not finite: the weights are broken, or training has diverged"
    for padded, side in ((pad_right, "after"), (pad_left, "before")):
        tokens, attention = (x.to(device) for x in padded(rows, rows[0][0]))
        if not close(model.last_states(tokens, attention), states):
            return f"padding {side} a row changes its score"
    return ""


def two_rows(model: PreTrainedModel) -> list[list[int]]:
    """Two rows of a few ordinary tokens, of different lengths. The checks also pad them with an
    ordinary token: a pad token's embedding may be 0, which would hide that padding is read."""
    return [few_tokens(model, 9), few_tokens(model, 5, first=1)]


def read_logits(policy: PreTrainedModel, rows: list[list[int]]) -> Tensor:
    """The logits of all tokens as training reads them, row after row, padded on the right."""
    batch = Sequences.of_tokens(rows, [[] for _ in rows], rows[0][0]).to(policy.device)
    return token_logits(policy, batch, batch.attention.bool())


def nats(one: Tensor, other: Tensor) -> float:
    """The largest difference between the log-probabilities of two tables of logits, (M, V) each."""
    difference = one.float().log_softmax(-1) - other.float().log_softmax(-1)
    return float(difference.abs().max())


def _tensor(model: PreTrainedModel, rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows, device=model.device)
