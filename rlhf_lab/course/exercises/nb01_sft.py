"""Exercises of notebook 01: which tokens count in the loss, and a response's log-probability."""

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake
from rlhf_lab.maths import label_mask

END, PAD = 1, 0


def columns(tokens: Tensor) -> Tensor:
    return torch.arange(tokens.shape[1])


def _rows(*rows: list[int]) -> Tensor:
    return torch.tensor(rows)


LABEL_MASK = Exercise(
    "label_mask",
    label_mask,
    cases=(
        Case(
            "a row without padding",
            {
                "tokens": _rows([11, 12, 13, 21, 22, END]),
                "starts": torch.tensor([3]),
                "end_id": END,
                "pad_id": PAD,
            },
        ),
        Case(
            "prompts and responses of different lengths",
            {
                "tokens": _rows(
                    [11, 12, 21, 22, 23, END, PAD],
                    [13, 14, 15, 16, 24, END, PAD],
                    [17, 25, 26, 27, 28, 29, END],
                ),
                "starts": torch.tensor([2, 4, 1]),
                "end_id": END,
                "pad_id": PAD,
            },
        ),
        Case(
            "a response that was cut off before its end token",
            {
                "tokens": _rows([11, 21, 22, 23, 24], [12, 13, 25, END, PAD]),
                "starts": torch.tensor([1, 2]),
                "end_id": END,
                "pad_id": PAD,
            },
        ),
    ),
    mistakes=(
        Mistake(
            lambda tokens, starts, end_id, pad_id: tokens != pad_id,
            "It looks as if the prompt counts too. Then the model is trained to write like "
            "a customer: compare the columns with starts.",
        ),
        Mistake(
            lambda tokens, starts, end_id, pad_id: (
                label_mask(tokens, starts, end_id, pad_id) & (tokens != end_id)
            ),
            "It looks as if the end token was left out, as happens when padding and end "
            "share an id. Then the model never learns to stop: the end token counts.",
        ),
        Mistake(
            lambda tokens, starts, end_id, pad_id: columns(tokens) >= starts[:, None],
            "It looks as if padding counts. Then most of what the model learns is to write "
            "padding: leave out the tokens equal to pad_id.",
        ),
        Mistake(
            lambda tokens, starts, end_id, pad_id: torch.ones_like(tokens, dtype=torch.bool),
            "It looks as if the whole row counts, prompt and padding included.",
        ),
        Mistake(
            lambda tokens, starts, end_id, pad_id: label_mask(tokens, starts - 1, end_id, pad_id),
            "It begins one token too early: starts is the column of the response's first "
            "token, and the one before still belongs to the prompt. (The shift by one comes "
            "later, when the logits are read.)",
        ),
        Mistake(
            lambda tokens, starts, end_id, pad_id: label_mask(tokens, starts + 1, end_id, pad_id),
            "It begins one token too late: starts is the column of the response's first "
            "token, which counts (>=, not >).",
        ),
        Mistake(
            lambda tokens, starts, end_id, pad_id: (
                (columns(tokens) < starts[:, None]) & (tokens != pad_id)
            ),
            "It is turned round: the prompt counts and the response does not.",
        ),
        Mistake(
            lambda tokens, starts, end_id, pad_id: label_mask(
                tokens, starts[:1].expand_as(starts), end_id, pad_id
            ),
            "It looks as if the first row's start was used for every row: starts[:, None] "
            "gives each row its own.",
        ),
    ),
    use="This is what keeps SFT from learning to write the customer's part, and teaches it "
    "to stop.",
)


def sequence_logprob(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each response, in nats: (B, T, V), (B, T), (B, T) -> (B,)."""
    return maths.masked_sum(maths.logprobs_of(logits[:, :-1], tokens[:, 1:]), mask[:, 1:])


def _summed(each: Tensor, mask: Tensor) -> Tensor:
    return (each * mask).sum(-1)


def _picked(table: Tensor, tokens: Tensor) -> Tensor:
    return table.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _logits(*shape: int, seed: int) -> Tensor:
    draws = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (2 * draws).mul(10).round().div(10)  # one decimal is easier to read


def _shifted(logits: Tensor, tokens: Tensor) -> Tensor:
    return _picked(logits[:, :-1].log_softmax(-1), tokens[:, 1:])


SEQUENCE_LOGPROB = Exercise(
    "sequence_logprob",
    sequence_logprob,
    cases=(
        Case(
            "one short row",
            {
                "logits": _logits(1, 4, 3, seed=1),
                "tokens": _rows([2, 0, 2, 1]),
                "mask": torch.tensor([[False, False, True, True]]),
            },
        ),
        Case(
            "two rows with padding",
            {
                "logits": _logits(2, 5, 4, seed=2),
                "tokens": _rows([2, 3, 2, 1, 0], [3, 2, 3, 2, 1]),
                "mask": torch.tensor(
                    [[False, True, True, True, False], [False, False, False, True, True]]
                ),
            },
        ),
        Case(
            "large logits",
            {
                "logits": 40 * _logits(1, 4, 3, seed=3),
                "tokens": _rows([2, 0, 2, 1]),
                "mask": torch.tensor([[False, True, True, True]]),
            },
        ),
    ),
    mistakes=(
        Mistake(
            lambda logits, tokens, mask: _summed(_picked(logits.log_softmax(-1), tokens), mask),
            "It looks as if the shift by one is missing: logits[:, t] predict token t + 1, "
            "so token t is read from logits[:, t - 1].",
        ),
        Mistake(
            lambda logits, tokens, mask: _summed(
                _picked(logits[:, 1:].log_softmax(-1), tokens[:, :-1]), mask[:, :-1]
            ),
            "It is shifted the wrong way: token t is read from logits[:, t - 1], so drop "
            "the last logits and the first token.",
        ),
        Mistake(
            lambda logits, tokens, mask: _summed(_shifted(logits, tokens), mask[:, :-1]),
            "Logits and tokens are shifted, but the mask is not: it belongs to the tokens, "
            "so drop its first column, as theirs.",
        ),
        Mistake(
            lambda logits, tokens, mask: _shifted(logits, tokens).sum(-1),
            "It looks as if the mask is missing: prompt and padding are summed too.",
        ),
        Mistake(
            lambda logits, tokens, mask: (
                _summed(_shifted(logits, tokens), mask[:, 1:]) / mask[:, 1:].sum(-1)
            ),
            "It looks like the mean over the tokens. A response's probability is the "
            "product of its tokens' probabilities, so the logs are summed.",
        ),
        Mistake(
            lambda logits, tokens, mask: _summed(
                _picked(logits[:, :-1].log_softmax(1), tokens[:, 1:]), mask[:, 1:]
            ),
            "It looks as if the softmax ran along the positions: it belongs to the last "
            "axis, the vocabulary.",
        ),
        Mistake(
            lambda logits, tokens, mask: _summed(
                _picked(logits[:, :-1].softmax(-1), tokens[:, 1:]), mask[:, 1:]
            ),
            "It looks as if the log is missing: probabilities are multiplied, and only "
            "their logs may be summed.",
        ),
        Mistake(
            lambda logits, tokens, mask: _summed(
                _picked(logits[:, :-1], tokens[:, 1:]), mask[:, 1:]
            ),
            "It looks as if the logits themselves were summed: log_softmax(-1) makes "
            "log-probabilities of them.",
        ),
        Mistake(
            lambda logits, tokens, mask: _summed(
                _picked(logits[:, :-1].softmax(-1), tokens[:, 1:]).log(), mask[:, 1:]
            ),
            "The log of a softmax is -inf where the probability is too small for a float: "
            "log_softmax does both in one step and stays finite.",
        ),
        Mistake(
            lambda logits, tokens, mask: -sequence_logprob(logits, tokens, mask),
            "The sign is turned round: this is the loss. A log-probability is 0 or below.",
        ),
    ),
    use="Every later stage needs this number: PPO's ratio and the KL are differences of two "
    "of them.",
    gradient="logits",
)
