"""Exercises of notebook 01: which tokens count in the loss, and a response's log-probability."""

from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake

END, PAD = 1, 0


def label_mask(
    tokens: Tensor,
    starts: Tensor,
    end_id: int,
    pad_id: int,
    *,
    shift: int = 0,
    own_start: bool = True,
    prompt: str = "out",
    stop: str = "end or padding",
) -> Tensor:
    """True on the tokens of the response with its end token: (B, T), (B,) -> bool (B, T).

    Unlike maths.label_mask it also serves where padding and end token share an id.
    """
    columns = torch.arange(tokens.shape[1])
    starts = starts if own_start else starts[:1].expand_as(starts)
    response = columns >= (starts + shift)[:, None]
    ends = (tokens == end_id) & response
    before = ends.cumsum(1) - ends.long() == 0
    real = {
        "end or padding": before & ((tokens != pad_id) | ends),
        "padding": tokens != pad_id,
        "end": before,
        "one further": F.pad(before & ((tokens != pad_id) | ends), (1, -1), value=True),
        "before the end": before & ~ends & (tokens != pad_id),
        "nowhere": torch.ones_like(response),
    }[stop]
    return real & {"out": response, "in": torch.ones_like(response), "alone": ~response}[prompt]


def _rows(*rows: list[int]) -> Tensor:
    return torch.tensor(rows)


def _batch(tokens: Tensor, *starts: int, end_id: int = END, pad_id: int = PAD) -> dict:
    return {"tokens": tokens, "starts": torch.tensor(starts), "end_id": end_id, "pad_id": pad_id}


def _some_rows(dice: Random) -> dict:
    """Three rows: prompts and responses of other lengths, of which the last has no end token."""
    rows, starts = [], []
    for ended in (True, True, False):
        starts.append(dice.randint(1, 4))
        written = dice.sample(range(11, 99), starts[-1] + dice.randint(1, 3))
        rows.append([*written, END] if ended else [*written, dice.randint(11, 99)])
    width = max(map(len, rows)) + dice.randint(0, 1)
    return _batch(_rows(*([*row, *[PAD] * (width - len(row))] for row in rows)), *starts)


LABEL_MASK = Exercise(
    "label_mask",
    label_mask,
    cases=(
        Case("a row without padding", _batch(_rows([11, 12, 13, 21, 22, END]), 3)),
        Case(
            "prompts and responses of different lengths",
            _batch(
                _rows(
                    [11, 12, 21, 22, 23, END, PAD],
                    [13, 14, 15, 16, 24, END, PAD],
                    [17, 25, 26, 27, 28, 29, END],
                ),
                *(2, 4, 1),
            ),
        ),
        Case(
            "responses that were cut off before their end token",
            _batch(
                _rows([11, 21, 22, 23, 24], [12, 13, 25, 9, 8], [14, 26, 27, 8, 8]),
                *(1, 2, 1),
                end_id=9,
                pad_id=8,
            ),
        ),
        Case(
            "padding that has the id of the end token",
            _batch(_rows([11, 21, 22, 7, 7, 7], [12, 13, 14, 23, 7, 7]), 1, 3, end_id=7, pad_id=7),
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if the whole row counts, prompt and padding included.",
            prompt="in",
            stop="nowhere",
        ),
        mistake(
            "It looks as if padding is recognised by its id alone. If padding and end token share "
            "an id, as in GPT-2, the end token is lost, and the model never learns to stop: the "
            "first end token of the response counts, and what follows it is padding.",
            stop="padding",
        ),
        mistake(
            "It looks as if the prompt counts too. Then the model is trained to write like "
            "a customer: compare the columns with starts.",
            prompt="in",
        ),
        mistake(
            "It looks as if the end token was left out. Then the model never learns to stop: the "
            "first end token of the response counts.",
            stop="before the end",
        ),
        mistake(
            "It looks as if padding counts. Then most of what the model learns is to write "
            "padding: leave it out.",
            stop="nowhere",
        ),
        mistake(
            "It looks as if only the end token ends a response: one that was cut off has none, and "
            "padding may still follow it. Leave out what equals pad_id as well.",
            stop="end",
        ),
        mistake(
            "It goes on one token too long: nothing counts after the end token.", stop="one further"
        ),
        mistake(
            "It begins one token too early: starts is the column of the response's first "
            "token, and the one before still belongs to the prompt. (The shift by one comes "
            "later, when the logits are read.)",
            shift=-1,
        ),
        mistake(
            "It begins one token too late: starts is the column of the response's first "
            "token, which counts (>=, not >).",
            shift=1,
        ),
        mistake("It is reversed: the prompt counts and the response does not.", prompt="alone"),
        mistake(
            "It is reversed: True and False are swapped.",
            after=lambda mask, inputs: ~mask if mask.dtype == torch.bool else mask,
        ),
        mistake(
            "It looks as if the first row's start was used for every row: starts[:, None] "
            "gives each row its own.",
            own_start=False,
        ),
    ),
    use="This is what keeps SFT from learning to write the customer's part, and teaches it "
    "to stop.",
    draw=_some_rows,
)


def sequence_logprob(
    logits: Tensor,
    tokens: Tensor,
    mask: Tensor,
    *,
    shift: int = 1,
    shift_mask: bool = True,
    scale: Callable[[Tensor], Tensor] = lambda logits: logits.log_softmax(-1),
    total: str = "sum",
) -> Tensor:
    """Log-probability of each response, in nats: (B, T, V), (B, T), (B, T) -> (B,)."""
    if shift == 1:
        logits, tokens, mask = (
            logits[:, :-1],
            tokens[:, 1:],
            mask[:, 1:] if shift_mask else mask[:, :-1],
        )
    elif shift == -1:
        logits, tokens, mask = (
            logits[:, 1:],
            tokens[:, :-1],
            mask[:, :-1] if shift_mask else mask[:, 1:],
        )
    logits = logits.masked_fill(~mask.unsqueeze(-1), 0)
    each = scale(logits).gather(-1, tokens.unsqueeze(-1)).squeeze(-1).masked_fill(~mask, 0)
    return {
        "sum": each.sum(-1),
        "mean": each.sum(-1) / mask.sum(-1),
        "mean over the row": each.mean(-1),
        "batch": each.sum(),
        "batch mean": each.sum() / mask.sum(),
    }[total]


def _logits(*shape: int, seed: int) -> Tensor:
    draws = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (2 * draws).mul(10).round().div(10)  # one decimal is easier to read


def _spoilt(logits: Tensor, *places: tuple[int, int, float]) -> Tensor:
    """The logits with another number at each (row, column)."""
    logits = logits.clone()
    for row, column, value in places:
        logits[row, column] = value
    return logits


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
                "logits": 60 * _logits(1, 4, 3, seed=3),
                "tokens": _rows([2, 0, 2, 1]),
                "mask": torch.tensor([[False, True, True, True]]),
            },
        ),
        Case(
            "logits that are large and close together",
            {
                "logits": 95 + _logits(2, 4, 3, seed=6),
                "tokens": _rows([2, 0, 2, 1], [2, 2, 0, 1]),
                "mask": torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]]).bool(),
            },
        ),
        Case(
            "padding that has the id of the end token",
            {
                "logits": _logits(3, 5, 3, seed=4),
                "tokens": _rows([2, 0, 1, 1, 1], [0, 2, 0, 1, 1], [2, 2, 0, 2, 1]),
                "mask": torch.tensor([[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 1, 1, 1, 1]]).bool(),
            },
        ),
        Case(
            "nan and inf on padding",
            {
                "logits": _spoilt(
                    _logits(2, 5, 4, seed=5),
                    (0, 3, torch.nan),
                    (0, 4, torch.inf),
                    (1, 4, torch.nan),
                ),
                "tokens": _rows([2, 3, 2, 1, 0], [3, 2, 3, 2, 1]),
                "mask": torch.tensor([[0, 0, 1, 1, 0], [0, 1, 1, 1, 1]]).bool(),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if the shift by one is missing: logits[:, t] predict token t + 1, "
            "so token t is read from logits[:, t - 1].",
            shift=0,
        ),
        mistake(
            "It is shifted the wrong way: token t is read from logits[:, t - 1], so drop "
            "the last logits and the first token.",
            shift=-1,
        ),
        mistake(
            "Logits and tokens are shifted, but the mask is not: it belongs to the tokens, "
            "so drop its first column, as theirs.",
            shift_mask=False,
        ),
        mistake(
            "It looks as if the mask is missing: prompt and padding are summed too.",
            before=lambda x: {**x, "mask": torch.ones_like(x["mask"])},
        ),
        mistake(
            "It looks like the mean over the tokens. A response's probability is the "
            "product of its tokens' probabilities, so the logs are summed.",
            total="mean",
        ),
        mistake(
            "It looks like the mean over the whole row: sum over the response's tokens.",
            total="mean over the row",
        ),
        mistake(
            "It looks like one sum over the whole batch: give one number for each row, .sum(-1).",
            total="batch",
        ),
        mistake(
            "It looks like one mean over the whole batch: give the sum of each row, .sum(-1).",
            total="batch mean",
        ),
        mistake(
            "It looks as if the softmax ran along the positions: it belongs to the last "
            "axis, the vocabulary.",
            scale=lambda logits: logits.log_softmax(1),
        ),
        mistake(
            "It looks as if the log is missing: probabilities are multiplied, and only "
            "their logs may be summed.",
            scale=lambda logits: logits.softmax(-1),
        ),
        mistake(
            "It looks as if the logits themselves were summed: log_softmax(-1) makes "
            "log-probabilities of them.",
            scale=lambda logits: logits,
        ),
        mistake(
            "It overflows where logits are large: softmax gives 0, and the log of 0 is minus "
            "infinity. log_softmax does both in one step.",
            scale=lambda logits: logits.softmax(-1).log(),
        ),
        mistake(
            "It overflows where logits are large: exp of them is infinite. log_softmax takes the "
            "largest one off first.",
            scale=lambda logits: logits - logits.exp().sum(-1, keepdim=True).log(),
        ),
        mistake(
            "It looks as if the logs of the logits were taken: log_softmax(-1) makes "
            "log-probabilities of them.",
            scale=lambda logits: logits.log(),
        ),
        mistake(
            "It looks like the loss: a log-probability is 0 or below, so leave the minus out.",
            after=lambda answer, inputs: -answer,
        ),
        mistake(
            "It looks like the probability, exp of what is wanted: give its log.",
            after=lambda answer, inputs: answer.exp(),
        ),
    ),
    use="Every later stage needs this number: PPO's ratio and the KL are differences of two "
    "of them.",
    gradient="logits",
    mask="mask",
)
