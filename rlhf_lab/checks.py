"""Whether a model is one that can be trained right here: a few tokens say so, before a long run.

Every stage calls `check_model` first. What it asks of a model is what the stages rely on: log-probs
are those of the model's own logits, padding changes nothing, it can be sampled, and a reward model
can be saved.
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
    """Raise UserError, in one line, if a policy or a reward model cannot be trained right here.

    It costs a few passes over a few tokens, once for each model object. What is no model, such as a
    function that scores, passes. to_save: a reward model must also be one that `save` can write.
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
    except Exception as error:  # each family raises something else where it is not like the others
        wrong = f"reading a few tokens fails with {first(error)}"
    if wrong:
        raise UserError(f"{type(trunk).__name__} cannot be used here: {wrong}")
    _passed.add(model)


def check_pad_token(trunk: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError unless there is a pad token that the model knows. GPT-2's readers here never
    look at padding."""
    pad, known = tokenizer.pad_token_id, vocabulary_of(trunk)
    if pad is None:
        raise UserError("the tokenizer has no pad token: use load_tokenizer, which adds one")
    if pad >= known and not packs(headless(trunk)):
        raise UserError(
            f"the tokenizer's pad token is number {pad}, and {type(trunk).__name__} knows {known} "
            "tokens: use load_policy or ScalarModel.load, which add a row for it"
        )


def wrong_in_logits(policy: PreTrainedModel) -> str:
    """What is wrong with the way in which a policy is read or sampled here; "" if nothing is."""
    rows = two_rows(policy)
    alone = [policy(input_ids=_tensor(policy, [row]), use_cache=False).logits[0] for row in rows]
    if not all(x.isfinite().all() for x in alone):
        return "its logits are not finite: the weights are broken, or training has diverged"
    for row, own in zip(rows, alone):
        read = read_logits(policy, [row])
        if not close(read, own):
            return f"with position ids its log-probabilities move by {nats(read, own):.2g} nats"
    own = torch.cat(alone)
    read = read_logits(policy, rows)
    if not close(read, own):
        return f"padding behind a row moves its log-probabilities by {nats(read, own):.2g} nats"
    tokens, attention = (x.to(policy.device) for x in pad_left(rows, rows[0][0]))
    places = position_ids(attention)
    padded = policy(
        input_ids=tokens, attention_mask=attention, position_ids=places, use_cache=False
    ).logits[attention.bool()]
    if not close(padded, own):
        return f"padding before a row moves its log-probabilities by {nats(padded, own):.2g} nats"
    if not agrees(policy, decoder_of(policy)):
        return "sampled token by token, it gives other logits than for the whole text"
    return ""


def wrong_in_scores(model: ScalarModel) -> str:
    """What is wrong with the way in which a scalar model is read here; "" if nothing is. It looks
    at the hidden states of which scores are made."""
    rows = two_rows(model.backbone)
    device = model.head.weight.device
    alone = [_tensor(model.backbone, [row]) for row in rows]
    states = torch.cat([model.last_states(row, torch.ones_like(row)) for row in alone])
    if not model.head(states).isfinite().all():
        return "its scores are not finite: the weights are broken, or training has diverged"
    for padded, side in ((pad_right, "behind"), (pad_left, "before")):
        tokens, attention = (x.to(device) for x in padded(rows, rows[0][0]))
        if not close(model.last_states(tokens, attention), states):
            return f"padding {side} a row changes its score"
    return ""


def two_rows(model: PreTrainedModel) -> list[list[int]]:
    """Two rows of a few ordinary tokens, of unlike length. They are padded with an ordinary token,
    too: the pad token's embedding may be 0 and hide that padding is read."""
    return [few_tokens(model, 9), few_tokens(model, 5, first=1)]


def read_logits(policy: PreTrainedModel, rows: list[list[int]]) -> Tensor:
    """The logits of all tokens as training reads them, row after row, padded on the right."""
    batch = Sequences.of_tokens(rows, [[] for _ in rows], rows[0][0]).to(policy.device)
    return token_logits(policy, batch, batch.attention.bool())


def nats(one: Tensor, other: Tensor) -> float:
    """By how much two rows of logits (M, V) differ in a log-probability, at most."""
    difference = one.float().log_softmax(-1) - other.float().log_softmax(-1)
    return float(difference.abs().max())


def _tensor(model: PreTrainedModel, rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows, device=model.device)
