"""Exercises of notebook 10: the loss of a batch that is read in pieces, and the best accuracy that
two people's ratings allow."""

import torch
from torch import Tensor

from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    """The sum of each row's real values, (B,)."""
    return values.masked_fill(~mask, 0.0).sum(1)


def _pieces(rows: Tensor, size: int) -> Tensor:
    """The sum of every `size` rows, the last ones perhaps fewer: (B,) -> (M,)."""
    return torch.stack([piece.sum() for piece in rows.split(size)])


def piece_losses(token_losses: Tensor, mask: Tensor, size: int) -> Tensor:
    """What each piece of `size` rows adds to the token mean of the batch: (B, N), bool (B, N) ->
    (M,)."""
    return _pieces(_masked(token_losses, mask), size) / mask.sum()


def _own_means(token_losses, mask, size):
    return _pieces(_masked(token_losses, mask), size) / _pieces(mask.sum(1), size)


def _row_means(token_losses, mask, size):
    return _pieces(_masked(token_losses, mask) / mask.sum(1), size) / len(mask)


def _whole_pieces(token_losses, mask, size):
    whole = len(mask) // size * size
    return _pieces(_masked(token_losses, mask)[:whole], size) / mask.sum()


PIECE_LOSSES = Exercise(
    "piece_losses",
    piece_losses,
    cases=(
        Case(
            "a piece of long responses and one of short ones",
            {
                "token_losses": torch.tensor(
                    [[1.0, 2.0, 3.0], [2.0, 2.0, 5.0], [4.0, 9.0, 9.0], [6.0, 9.0, 9.0]]
                ),
                "mask": torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 0], [1, 0, 0]]).bool(),
                "size": 2,
            },
        ),
        Case(
            "five responses in pieces of two: the last piece is smaller",
            {
                "token_losses": torch.tensor(
                    [[0.5, 1.5], [2.5, 7.0], [1.0, 3.0], [4.0, 7.0], [3.5, 2.0]]
                ),
                "mask": torch.tensor([[1, 1], [1, 0], [1, 1], [1, 0], [1, 1]]).bool(),
                "size": 2,
            },
        ),
        Case(
            "seven responses in pieces of three",
            {
                "token_losses": torch.tensor(
                    [
                        [0.2, 1.0, 8.0],
                        [3.0, 8.0, 8.0],
                        [1.1, 0.4, 2.0],
                        [0.7, 2.2, 8.0],
                        [5.0, 8.0, 8.0],
                        [0.3, 0.9, 1.6],
                        [2.4, 8.0, 8.0],
                    ]
                ),
                "mask": torch.tensor(
                    [[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]]
                ).bool(),
                "size": 3,
            },
        ),
    ),
    mistakes=(
        Mistake(
            _own_means,
            "It looks as if each piece gives its own token mean. Their gradients would be "
            "added, so the batch counts once for every piece. Divide by the tokens of the "
            "*whole batch*.",
        ),
        Mistake(
            lambda token_losses, mask, size: (
                _own_means(token_losses, mask, size) / len(mask.split(size))
            ),
            "It looks like the mean of the pieces' means. A token of a short piece then weighs "
            "more than one of a long piece, and how the batch was cut changes the gradient. "
            "Divide each piece's sum by the tokens of the *whole batch*.",
        ),
        Mistake(
            _row_means,
            "It looks as if each response was averaged first: then a token of a short response "
            "weighs more. That is a loss one can want, and it does not change with the pieces, "
            "but the token mean weighs all tokens alike.",
        ),
        Mistake(
            lambda token_losses, mask, size: (
                _pieces(_masked(token_losses, mask), size) / mask.numel()
            ),
            "It looks as if padding was counted among the tokens: divide by mask.sum().",
        ),
        Mistake(
            lambda token_losses, mask, size: _pieces(token_losses.sum(1), size) / mask.sum(),
            "It looks as if what stands at padding was added too: it means nothing. Keep the "
            "losses where the mask is True.",
        ),
        Mistake(
            lambda token_losses, mask, size: _pieces(token_losses.sum(1), size) / mask.numel(),
            "It looks as if the mask was not used at all: what stands at padding means nothing.",
        ),
        Mistake(
            lambda token_losses, mask, size: _pieces(_masked(token_losses, mask), size),
            "These are the pieces' sums: divide them by the tokens of the whole batch, or the "
            "learning rate would hang on the batch size.",
        ),
        Mistake(
            lambda token_losses, mask, size: _pieces(_masked(token_losses, mask), size) / len(mask),
            "It looks as if the sums were divided by the number of responses: the mean over "
            "*tokens* divides by the tokens.",
        ),
        Mistake(
            lambda token_losses, mask, size: (
                _pieces(_masked(token_losses, mask), size) / _pieces(mask.sum(1), size).max()
            ),
            "It looks as if every sum was divided by the tokens of the largest piece: divide by "
            "those of the whole batch.",
        ),
        Mistake(
            _whole_pieces,
            "It looks as if the last piece was dropped because it is smaller: it belongs to the "
            "batch.",
        ),
        Mistake(
            lambda token_losses, mask, size: (
                torch.stack([part.sum() for part in _masked(token_losses, mask).chunk(size)])
                / mask.sum()
            ),
            "It looks as if the batch was cut into `size` pieces: `size` is the number of "
            "responses in a piece, as for .split(size).",
        ),
        Mistake(
            lambda token_losses, mask, size: piece_losses(token_losses, mask, size).sum(),
            "That is their sum, the batch's loss: give one number for each piece.",
        ),
        Mistake(
            lambda token_losses, mask, size: piece_losses(token_losses, mask, size).cumsum(0),
            "It looks as if each number holds those before it: give what each piece adds.",
        ),
    ),
    use="In this form a batch gives the same gradient in one piece, in twenty, or spread over "
    "several "
    "processes: every loss of the lab is divided by what the whole batch holds.",
    mask="mask",
)


# ---- what people's ratings allow -----------------------------------------------------------------


def best_accuracy(first: Tensor, second: Tensor) -> Tensor:
    """How often the better guess is right about one rating of each of two texts, ties half:
    (A,), (B,) -> ()."""
    p = _preference(first, second)
    return torch.maximum(p, 1 - p)


def _preference(first: Tensor, second: Tensor) -> Tensor:
    """P(a rating of the first is higher) + P(equal) / 2, ()."""
    return ((first[:, None] > second).float() + 0.5 * (first[:, None] == second)).mean()


def _higher(first: Tensor, second: Tensor) -> Tensor:
    """P(a rating of the first is higher), ()."""
    return (first[:, None] > second).float().mean()


def _without_ties(first, second):
    up, down = _higher(first, second), _higher(second, first)
    return torch.maximum(up, down) / (up + down)


def _rank_for_rank(first, second):
    count = min(len(first), len(second))
    a, b = first[:count], second[:count]
    p = ((a > b).float() + 0.5 * (a == b)).mean()
    return torch.maximum(p, 1 - p)


BEST_ACCURACY = Exercise(
    "best_accuracy",
    best_accuracy,
    cases=(
        Case(
            "two texts that people like about alike",
            {"first": torch.tensor([1.0, 2.0, 3.0]), "second": torch.tensor([2.0, 2.0, 1.0, 1.0])},
        ),
        Case(
            "the second one is liked better",
            {
                "first": torch.tensor([-2.0, 0.0, 1.0, -3.0]),
                "second": torch.tensor([1.0, 2.0, 0.0]),
            },
        ),
        Case(
            "one person is far from the others",
            {
                "first": torch.tensor([1.0, 1.0, 1.0, 1.0, -4.0]),
                "second": torch.tensor([0.0, 0.0, 0.0, 2.0, 0.0]),
            },
        ),
        Case(
            "everybody says the same of both",
            {"first": torch.tensor([2.0, 2.0]), "second": torch.tensor([2.0, 2.0, 2.0])},
        ),
    ),
    mistakes=(
        Mistake(
            _preference,
            "That is how often the *first* is preferred. Whoever knows that this is less than "
            "half the time guesses the second, and is right more often: take the larger of p "
            "and 1 - p.",
        ),
        Mistake(
            lambda first, second: 1 - _preference(first, second),
            "That is how often the *second* is preferred. Take the larger of this and of how "
            "often the first is.",
        ),
        Mistake(
            lambda first, second: 1 - best_accuracy(first, second),
            "That is how often the best guess is wrong: take the larger of p and 1 - p.",
        ),
        Mistake(
            lambda first, second: torch.maximum(_higher(first, second), _higher(second, first)),
            "It looks as if ties count as wrong: two equal ratings count half, as for a coin.",
        ),
        Mistake(
            lambda first, second: torch.maximum(_higher(first, second), 1 - _higher(first, second)),
            "It looks as if every tie was given to the second text: two equal ratings count "
            "half to either side.",
        ),
        Mistake(
            lambda first, second: torch.maximum(_higher(second, first), 1 - _higher(second, first)),
            "It looks as if every tie was given to the first text (>= for >): two equal ratings "
            "count half to either side.",
        ),
        Mistake(
            _without_ties,
            "It looks as if ties were left out: here two equal ratings count half. (Both can be "
            "done; how far one is on the way from a coin to the ceiling comes out the same.)",
        ),
        Mistake(
            _rank_for_rank,
            "It looks as if the first rating of one was held against the first of the other, "
            "and so on. Different people gave them: *any* rating of the one can meet any of "
            "the other, so take all pairs, first[:, None] > second.",
        ),
        Mistake(
            lambda first, second: (first.mean() != second.mean()).float() * 0.5 + 0.5,
            "It looks as if the higher mean always wins. A draw is one rating of each, and often "
            "enough it is the other way round: count the pairs.",
        ),
        Mistake(
            lambda first, second: 2 * best_accuracy(first, second) - 1,
            "It looks like the lead over a coin, 2p - 1: asked for is the share that is right, "
            "which is 1/2 where nobody can know.",
        ),
        Mistake(
            lambda first, second: (
                (first[:, None] > second).float().sum()
                + 0.5 * (first[:, None] == second).float().sum()
            ),
            "These are counts: divide by the number of pairs, A * B.",
        ),
    ),
    use="Averaged over all pairs of texts that is the ceiling: no reward model, however large, can "
    "be "
    "right more often about what the next person says. (From few ratings it comes out too high, "
    "which docs/human-ratings.md corrects.)",
)
