"""Exercises of notebook 10: the loss of a batch that is read in pieces, and the best accuracy that
two people's ratings allow."""

from random import Random

import torch
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake
from rlhf_lab.course.exercises.nb04_rewards import INF, NAN, ones_until, t


def piece_losses(
    token_losses: Tensor,
    mask: Tensor,
    size: int,
    *,
    by: str = "tokens",
    clean: bool = True,
    pieces: str = "of size",
    give: str = "each",
) -> Tensor:
    """What each piece of `size` rows adds to the token mean of the batch: (B, N), bool (B, N) ->
    (M,)."""
    rows = (token_losses.masked_fill(~mask, 0) if clean else token_losses).sum(1)
    counts = mask.sum(1)
    if by == "each response":
        rows = rows / counts
    cut = {
        "of size": lambda x: x.split(size),
        "whole ones": lambda x: x[: len(x) // size * size].split(size),
        "size many": lambda x: x.chunk(size),
        "every size-th": lambda x: [x[i::size] for i in range(size)],
    }[pieces]
    sums = torch.stack([piece.sum() for piece in cut(rows)])
    tokens = torch.stack([piece.sum() for piece in cut(counts)])
    losses = (
        sums
        / {
            "tokens": mask.sum(),
            "own tokens": tokens,
            "own tokens, averaged": tokens * len(tokens),
            "each response": len(mask),
            "all": mask.numel(),
            "nothing": 1,
            "responses": len(mask),
            "own responses": torch.tensor([len(piece) for piece in cut(rows)]),
            "pieces": len(tokens),
            "largest piece": tokens.max(),
            "size": size,
        }[by]
    )
    return {
        "each": losses,
        "sum": losses.sum(),
        "running": losses.cumsum(0),
        "mean": losses.mean(),
    }[give]


PIECE_LOSSES = Exercise(
    "piece_losses",
    piece_losses,
    cases=(
        Case(
            "a piece of long responses and one of short ones",
            {
                "token_losses": t(
                    [1.0, 2.0, 3.0], [2.0, 2.0, 5.0], [4.0, 9.0, 9.0], [6.0, 9.0, 9.0]
                ),
                "mask": ones_until(3, 3, 1, 1, N=3),
                "size": 2,
            },
        ),
        Case(
            "five responses in pieces of two: the last piece is smaller",
            {
                "token_losses": t([0.5, 1.5], [2.5, 7.0], [1.0, 3.0], [4.0, 7.0], [3.5, 2.0]),
                "mask": ones_until(2, 1, 2, 1, 2, N=2),
                "size": 2,
            },
        ),
        Case(
            "seven responses in pieces of three",
            {
                "token_losses": t(
                    [0.2, 1.0, 8.0],
                    [3.0, 8.0, 8.0],
                    [1.1, 0.4, 2.0],
                    [0.7, 2.2, 8.0],
                    [5.0, 8.0, 8.0],
                    [0.3, 0.9, 1.6],
                    [2.4, 8.0, 8.0],
                ),
                "mask": ones_until(2, 1, 3, 2, 1, 3, 1, N=3),
                "size": 3,
            },
        ),
        Case(
            "nan and inf on padding",
            {
                "token_losses": t([0.4, NAN, INF, NAN], [1.2, 0.6, 2.0, 0.9], [3.0, 0.1, INF, NAN]),
                "mask": ones_until(1, 4, 2, N=4),
                "size": 1,
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if each piece gives its own token mean. Their gradients would be "
            "added, so the batch counts once for every piece. Divide by the tokens of the "
            "*whole batch*.",
            by="own tokens",
        ),
        mistake(
            "It looks like the mean of the pieces' means. A token of a short piece then weighs "
            "more than one of a long piece, and how the batch was cut changes the gradient. "
            "Divide each piece's sum by the tokens of the *whole batch*.",
            by="own tokens, averaged",
        ),
        mistake(
            "It looks as if each response was averaged first: then a token of a short response "
            "weighs more. That is a loss one can want, and it does not change with the pieces, "
            "but the token mean weighs all tokens alike.",
            by="each response",
        ),
        mistake(
            "It looks as if padding was counted among the tokens: divide by mask.sum().", by="all"
        ),
        mistake(
            "It looks as if the values on padding were added too: they mean nothing. Keep the "
            "losses where the mask is True.",
            clean=False,
        ),
        mistake(
            "It looks as if the mask was not used at all: the values on padding mean nothing.",
            clean=False,
            by="all",
        ),
        mistake(
            "These are the pieces' sums: divide them by the tokens of the whole batch, or the "
            "learning rate would depend on the batch size.",
            by="nothing",
        ),
        mistake(
            "It looks as if the sums were divided by the number of responses: the mean over "
            "*tokens* divides by the tokens.",
            by="responses",
        ),
        mistake(
            "It looks as if each sum was divided by the number of responses in its piece: divide "
            "by the tokens of the *whole batch*.",
            by="own responses",
        ),
        mistake(
            "It looks as if the sums were divided by the number of pieces: divide by the tokens "
            "of the *whole batch*.",
            by="pieces",
        ),
        mistake(
            "It looks as if the sums were divided by `size`: divide by the tokens of the "
            "*whole batch*.",
            by="size",
        ),
        mistake(
            "It looks as if every sum was divided by the tokens of the largest piece: divide by "
            "those of the whole batch.",
            by="largest piece",
        ),
        mistake(
            "It looks as if the last piece was dropped because it is smaller: it belongs to the "
            "batch.",
            pieces="whole ones",
        ),
        mistake(
            "It looks as if the batch was cut into `size` pieces: `size` is the number of "
            "responses in a piece, as for .split(size).",
            pieces="size many",
        ),
        mistake(
            "It looks as if every `size`-th response went into the same piece: a piece is `size` "
            "responses that follow one another.",
            pieces="every size-th",
        ),
        mistake("That is their sum, the batch's loss: give one number for each piece.", give="sum"),
        mistake("That is the mean of the pieces: give one number for each piece.", give="mean"),
        mistake(
            "It looks as if each number holds those before it: give what each piece adds.",
            give="running",
        ),
    ),
    use="In this form a batch gives the same gradient in one piece, in twenty, or spread over "
    "several processes: every loss of the lab is divided by what the whole batch holds.",
    gradient="token_losses",
    mask="mask",
)


# ---- what people's ratings allow -----------------------------------------------------------------


def best_accuracy(
    first: Tensor,
    second: Tensor,
    *,
    tie: float = 0.5,
    guess: str = "the better",
    pairs: str = "all",
    count: str = "share",
) -> Tensor:
    """How often the better guess is right about one rating of each of two texts, ties half:
    (A,), (B,) -> ()."""
    if pairs == "rank for rank":
        fewer = min(len(first), len(second))
        first, second = first[:fewer], second[:fewer]
    elif pairs == "sorted":
        fewer = min(len(first), len(second))
        first, second = first.sort().values[:fewer], second.sort().values[:fewer]
    elif pairs == "with the mean":
        second = second.mean()
    else:
        first = first[:, None]
    higher, lower, equal = first > second, first < second, first == second
    up, down = higher + tie * equal, lower + (1 - tie if count == "one-sided" else tie) * equal
    up, down = {
        "share": (up.mean(), down.mean()),
        "one-sided": (up.mean(), down.mean()),
        "number": (up.sum(), down.sum()),
        "decided": (up.sum() / (~equal).sum(), down.sum() / (~equal).sum()),
        "by the first": (up.sum() / len(first), down.sum() / len(first)),
    }[count]
    return {
        "the better": torch.maximum(up, down),
        "the first": up,
        "the second": down,
        "the worse": torch.minimum(up, down),
    }[guess]


def _some_ratings(dice: Random) -> dict[str, Tensor]:
    """Four or five people's ratings of one text, three of another."""
    first = [float(dice.randint(-4, 4)) for _ in range(dice.randint(4, 5))]
    second = [float(dice.randint(-4, 4)) for _ in range(3)]
    return {"first": torch.tensor(first), "second": torch.tensor(second)}


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
        mistake(
            "That is how often the *first* is preferred. Whoever knows that this is less than "
            "half the time guesses the second, and is right more often: take the larger of p "
            "and 1 - p.",
            guess="the first",
        ),
        mistake(
            "That is how often the *second* is preferred. Take the larger of this and of how "
            "often the first is.",
            guess="the second",
        ),
        mistake(
            "That is how often the best guess is wrong: take the larger of p and 1 - p.",
            guess="the worse",
        ),
        mistake(
            "It looks as if ties were left out: here two equal ratings count half. (Both can be "
            "done; the share of the way from chance to the ceiling comes out the same.)",
            tie=0.0,
            count="decided",
        ),
        mistake(
            "It looks as if ties count as wrong: two equal ratings count half, as for a guess.",
            tie=0.0,
        ),
        mistake(
            "It looks as if ties count as right: two equal ratings count half, as for a guess.",
            tie=1.0,
        ),
        mistake(
            "It looks as if every tie was given to the second text: two equal ratings count "
            "half to either side.",
            tie=0.0,
            count="one-sided",
        ),
        mistake(
            "It looks as if every tie was given to the first text (>= for >): two equal ratings "
            "count half to either side.",
            tie=1.0,
            count="one-sided",
        ),
        mistake(
            "It looks as if the first rating of one was compared with the first of the other, "
            "and so on. Different people gave them: *any* rating of the one can meet any of "
            "the other, so take all pairs, first[:, None] > second.",
            pairs="rank for rank",
        ),
        mistake(
            "It looks as if the ratings were sorted and compared one by one: any rating of the "
            "one can meet any of the other, so take all pairs, first[:, None] > second.",
            pairs="sorted",
        ),
        mistake(
            "It looks as if every rating of the first was compared with the mean of the second: "
            "take "
            "all pairs of ratings, first[:, None] > second.",
            pairs="with the mean",
        ),
        mistake(
            "It looks as if the higher mean always wins. A draw is one rating of each, and often "
            "enough it is the other way round: count the pairs.",
            lambda first, second: (first.mean() != second.mean()).float() * 0.5 + 0.5,
        ),
        mistake(
            "It looks like the lead over chance, 2p - 1: give the share that is right, which is "
            "1/2 where nobody can know.",
            after=lambda share, inputs: 2 * share - 1,
        ),
        mistake("These are counts: divide by the number of pairs, A * B.", count="number"),
        mistake(
            "It looks as if the pairs were divided by the number of the first text's ratings: "
            "there are A * B pairs.",
            count="by the first",
        ),
    ),
    use="Averaged over all pairs of texts that is the ceiling: no reward model, however large, can "
    "be right more often about what the next person says. (With few ratings it comes out too high; "
    "docs/human-ratings.md shows the correction.)",
    draw=_some_ratings,
)
