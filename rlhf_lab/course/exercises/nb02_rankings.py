"""Exercises of notebook 02: what a ranking says of each pair, and how often two people agree."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake


def preferred(
    ranks: Tensor,
    *,
    better: Callable[[Tensor, Tensor], Tensor] = torch.lt,
    guarded: bool = True,
    unranked_lose: bool = True,
    diagonal: bool = False,
    of_prompt: Callable[[Tensor], Tensor] = lambda ranks: ranks,
) -> Tensor:
    """True where response i beats response j: (B, K) -> bool (B, K, K)."""
    ranks = of_prompt(ranks)
    i, j = ranks.unsqueeze(-1), ranks.unsqueeze(-2)
    compared = (i > 0) & (j > 0) if guarded else torch.ones_like(i == j)
    beats = better(i, j) & compared
    if unranked_lose:
        beats = beats | ((j == 0) & (i > 0 if guarded else i >= 0))
    return beats if diagonal else beats & ~torch.eye(ranks.shape[-1], dtype=torch.bool)


TOO_FEW_PAIRS = (
    mistake(
        "It looks as if only neighbours were compared: rank 1 beats rank 3 as well.",
        better=lambda i, j: j - i == 1,
    ),
    mistake(
        "It looks as if only the best response was compared with the others: a ranking "
        "also says which of the others is better.",
        better=lambda i, j: (i == 1) & (i < j),
    ),
)
PREFERRED_MISTAKES = (
    mistake(
        "It looks as if 0 was taken for a rank better than 1: it means unranked, and "
        "every ranked response beats it.",
        guarded=False,
        unranked_lose=False,
    ),
    mistake(
        "It looks as if unranked responses were left out: every ranked one beats them, "
        "and only two unranked ones are not compared.",
        unranked_lose=False,
    ),
    mistake(
        "It looks as if a tie counted as a win for both sides: equal ranks are no comparison "
        "(<, not <=).",
        better=torch.le,
    ),
    mistake(
        "It looks as if every response beat itself: <= is also true on the diagonal, and for "
        "ties. Use <.",
        better=torch.le,
        diagonal=True,
    ),
    mistake(
        "It looks as if an unranked response beat other unranked ones: nobody compared them.",
        better=lambda i, j: (i > 0) & (i < j),
        guarded=False,
    ),
    mistake(
        "It looks as if an unranked response beat the unranked ones, itself included: nobody "
        "compared them.",
        better=lambda i, j: (i > 0) & (i < j),
        guarded=False,
        diagonal=True,
    ),
    mistake(
        "It looks as if the larger rank won: 1 is the best, so the smaller rank wins.",
        better=torch.gt,
    ),
    mistake(
        "It looks as if every pair counted both ways, won and lost: only where i has the smaller "
        "rank does i beat j.",
        better=torch.ne,
    ),
    *TOO_FEW_PAIRS,
    mistake(
        "It looks as if the first ranking was used for every prompt: each has its own.",
        of_prompt=lambda ranks: ranks[:1].expand_as(ranks),
    ),
)


def _some_ranks(dice: Random) -> dict[str, Tensor]:
    """Two rankings of four responses, one with a tie and one with unranked responses."""
    rows = [dice.choice(([1, 2, 2, 4], [1, 1, 3, 4])), dice.choice(([1, 2, 0, 0], [1, 2, 3, 0]))]
    return {"ranks": torch.tensor([dice.sample(row, 4) for row in rows])}


PREFERRED = Exercise(
    "preferred",
    preferred,
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
        mistake(
            "It looks as if rows and columns are swapped: [b, i, j] is True where i beats "
            "j, and the smaller rank is the better.",
            after=lambda beats, inputs: beats.transpose(-2, -1),
        ),
        *PREFERRED_MISTAKES,
        mistake(
            "It is reversed: True and False are swapped.",
            after=lambda beats, inputs: ~beats if beats.dtype == torch.bool else beats,
        ),
    ),
    use="A ranking of four holds up to six such comparisons, and the reward model learns them all.",
    draw=_some_ranks,
)


def agreement(
    first: Tensor,
    second: Tensor,
    *,
    tie: float = 0.5,
    two_ties: float = 1.0,
    pairs: str = "once",
    count: str = "all",
) -> Tensor:
    """The share of pairs ordered alike, ties half: int (B, K), int (B, K) -> ()."""
    K = first.shape[1]
    a, b = torch.triu_indices(K, K, offset=1)
    if pairs == "with itself":
        a, b = (
            x.flatten() for x in torch.meshgrid(torch.arange(K), torch.arange(K), indexing="ij")
        )
    elif pairs == "upper half":
        a, b = torch.triu_indices(K, K)
    elif pairs == "neighbours":
        a, b = torch.arange(K - 1), torch.arange(1, K)
    elif pairs == "with the first":
        a, b = torch.zeros(K - 1, dtype=torch.long), torch.arange(1, K)
    one, other = (x[:, b].sub(x[:, a]).sign() for x in (first, second))
    tied = (one == 0) ^ (other == 0)
    alike = (one == other) * torch.where(one == 0, two_ties, 1.0) + tie * tied
    if count == "decided":
        decided = (one != 0) & (other != 0)
        return alike[decided].mean()
    return {"all": alike.mean(), "number": alike.sum(), "number each": alike.sum(1).mean()}[count]


def _some_pair_of_rankings(dice: Random) -> dict[str, Tensor]:
    """Two people's rankings of three responses to three prompts, some with ties."""
    orders = ([1, 2, 3], [1, 2, 2], [1, 1, 3])
    rows = [[dice.sample(dice.choice(orders), 3) for _ in range(3)] for _ in range(2)]
    return {"first": torch.tensor(rows[0]), "second": torch.tensor(rows[1])}


AGREEMENT = Exercise(
    "agreement",
    agreement,
    cases=(
        Case(
            "one pair of three reversed",
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
        Case(
            "two responses to each of three prompts",
            {
                "first": torch.tensor([[1, 2], [2, 1], [1, 1]]),
                "second": torch.tensor([[1, 2], [1, 2], [2, 1]]),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if pairs with a tie were left out: two ties agree, and "
            "a tie against a preference is half an agreement.",
            count="decided",
        ),
        mistake(
            "It looks as if a tie against a preference counted nothing: it is half an agreement.",
            tie=0.0,
        ),
        mistake(
            "It looks as if a tie against a preference counted in full: it is half an agreement.",
            tie=1.0,
        ),
        mistake(
            "It looks as if only pairs that both order, the same way, count: two ties agree as "
            "well, "
            "and a tie against a preference is half an agreement.",
            tie=0.0,
            two_ties=0.0,
        ),
        mistake("It looks as if two ties counted nothing: they agree, in full.", two_ties=0.0),
        mistake("It looks as if two ties counted half: they agree, in full.", two_ties=0.5),
        mistake(
            "It looks as if you compared the ranks one by one: what two people "
            "can agree on is which of two responses is better.",
            lambda first, second: (first == second).float().mean(),
        ),
        mistake(
            "It looks as if the order of one was compared with the order of the other, place by "
            "place: compare pairs of responses.",
            lambda first, second: (first.argsort(1) == second.argsort(1)).float().mean(),
        ),
        mistake(
            "It looks as if each response was compared with itself too: there "
            "everybody agrees, which makes the share too high.",
            pairs="with itself",
        ),
        mistake(
            "It looks as if the diagonal counts, each response against itself: begin one beyond "
            "it, triu_indices(K, K, offset=1).",
            pairs="upper half",
        ),
        mistake(
            "It looks as if only neighbours in the list were compared: all pairs count.",
            pairs="neighbours",
        ),
        mistake(
            "It looks as if only the first response was compared with the others: all pairs count.",
            pairs="with the first",
        ),
        mistake(
            "It looks as if only the best response counted: all pairs do.",
            lambda first, second: (first.argmin(1) == second.argmin(1)).float().mean(),
        ),
        mistake(
            "It looks like the share of pairs on which they differ.",
            after=lambda share, inputs: 1 - share,
        ),
        mistake(
            "It looks like agreements minus disagreements, from -1 to 1: a share goes from 0 to 1.",
            after=lambda share, inputs: 2 * share - 1,
        ),
        mistake(
            "It looks like a number of pairs: divide by the number of all pairs, for a share.",
            count="number",
        ),
        mistake(
            "It looks like a number of pairs for each prompt: divide by the K (K - 1) / 2 pairs "
            "of a prompt, for a share.",
            count="number each",
        ),
    ),
    use="Real labellers reached 0.72 to 0.73; two who toss coins, with no ties, would reach 0.5.",
    draw=_some_pair_of_rankings,
)
