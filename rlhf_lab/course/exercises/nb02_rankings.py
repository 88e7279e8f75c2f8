"""Exercises of notebook 02: what a ranking says of each pair, and how far two people agree."""

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake


def _pairs(ranks: Tensor) -> tuple[Tensor, Tensor]:
    return ranks.unsqueeze(-1), ranks.unsqueeze(-2)


def _signs(ranks: Tensor) -> Tensor:
    """Of each pair once, which is better: (B, K) -> (B, pairs) of -1, 0, 1."""
    first, second = torch.triu_indices(ranks.shape[1], ranks.shape[1], offset=1)
    return (ranks[:, second] - ranks[:, first]).sign()


def _agreement(first: Tensor, second: Tensor) -> Tensor:
    return (1 - (_signs(first) - _signs(second)).abs() / 2).float().mean()


def _ties_as_disagreement(first, second):
    return (_signs(first) == _signs(second)).float().mean()


def _ties_as_agreement(first, second):
    return (_signs(first) * _signs(second) >= 0).float().mean()


def _ties_dropped(first, second):
    both = (_signs(first) != 0) & (_signs(second) != 0)
    return (_signs(first) == _signs(second))[both].float().mean()


def _equal_ranks(first, second):
    return (first == second).float().mean()


def _with_itself(first, second):
    (a, b), (c, d) = _pairs(first), _pairs(second)
    return (1 - ((a - b).sign() - (c - d).sign()).abs() / 2).float().mean()


def _best_alone(first, second):
    return (first.argmin(1) == second.argmin(1)).float().mean()


def _off_diagonal(first: Tensor) -> Tensor:
    return ~torch.eye(first.shape[1], dtype=torch.bool)


PREFERRED = Exercise(
    "preferred",
    maths.comparisons,
    cases=(
        Case("one ranking of three", {"ranks": torch.tensor([[2, 1, 3]])}),
        Case("a tie", {"ranks": torch.tensor([[1, 1, 3]])}),
        Case("two unranked ones (0)", {"ranks": torch.tensor([[1, 0, 0, 2]])}),
        Case(
            "two rankings at once, with ties and unranked ones",
            {"ranks": torch.tensor([[1, 2, 2, 0], [0, 1, 0, 1]])},
        ),
    ),
    mistakes=(
        Mistake(
            lambda ranks: maths.comparisons(ranks).transpose(-2, -1),
            "It looks as if rows and columns changed places: [b, i, j] is True where i beats "
            "j, and the smaller rank is the better.",
        ),
        Mistake(
            lambda ranks: (lambda i, j: i < j)(*_pairs(ranks)),
            "It looks as if 0 was taken for a rank better than 1: it means unranked, and "
            "every ranked response beats it.",
        ),
        Mistake(
            lambda ranks: (lambda i, j: (i > 0) & (j > 0) & (i < j))(*_pairs(ranks)),
            "It looks as if unranked responses were left out: every ranked one beats them, "
            "and only two unranked ones are not compared.",
        ),
        Mistake(
            lambda ranks: (lambda i, j: _off_diagonal(ranks) & (i > 0) & ((i <= j) | (j == 0)))(
                *_pairs(ranks)
            ),
            "It looks as if a tie counted as a win, even for both sides: equal ranks are no "
            "comparison.",
        ),
        Mistake(
            lambda ranks: (lambda i, j: _off_diagonal(ranks) & (((i > 0) & (i < j)) | (j == 0)))(
                *_pairs(ranks)
            ),
            "It looks as if an unranked response beat another unranked one: nobody compared them.",
        ),
        Mistake(
            lambda ranks: (lambda i, j: ((i > 0) & (i < j) & (j - i == 1)) | ((i > 0) & (j == 0)))(
                *_pairs(ranks)
            ),
            "It looks as if only neighbours were compared: rank 1 beats rank 3 as well.",
        ),
    ),
    use="A ranking of four holds up to six such comparisons, and the reward model learns them all.",
)

AGREEMENT = Exercise(
    "agreement",
    _agreement,
    cases=(
        Case(
            "one pair of three turned round",
            {"first": torch.tensor([[1, 2, 3]]), "second": torch.tensor([[2, 1, 3]])},
        ),
        Case(
            "a tie against a preference",
            {"first": torch.tensor([[1, 1, 3]]), "second": torch.tensor([[1, 2, 3]])},
        ),
        Case(
            "two ties, which are one opinion",
            {"first": torch.tensor([[1, 1, 3]]), "second": torch.tensor([[2, 2, 1]])},
        ),
        Case(
            "two prompts with four responses",
            {
                "first": torch.tensor([[1, 2, 3, 4], [4, 1, 1, 3]]),
                "second": torch.tensor([[1, 3, 2, 4], [3, 1, 2, 4]]),
            },
        ),
    ),
    mistakes=(
        Mistake(
            _ties_as_disagreement,
            "It looks as if a tie against a preference counted nothing: it is half an agreement.",
        ),
        Mistake(
            _ties_as_agreement,
            "It looks as if a tie against a preference counted in full: it is half an agreement.",
        ),
        Mistake(
            _ties_dropped,
            "It looks as if pairs with a tie were left out: two ties agree, and "
            "a tie against a preference is half an agreement.",
        ),
        Mistake(
            _equal_ranks,
            "It looks as if you compared the ranks one by one: what two people "
            "can agree on is which of two responses is better.",
        ),
        Mistake(
            _with_itself,
            "It looks as if each response was compared with itself too: there "
            "everybody agrees, which makes the share too high.",
        ),
        Mistake(_best_alone, "It looks as if only the best response counted: all pairs do."),
        Mistake(
            lambda first, second: 1 - _agreement(first, second),
            "It looks like the share of pairs on which they differ.",
        ),
    ),
    use="Real labellers reached 0.72 to 0.73; two who toss coins, with no ties, would reach 0.5.",
)
