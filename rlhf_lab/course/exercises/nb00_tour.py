"""Exercises of notebook 00: who wins, ties half, and the mark of best-of-n."""

from random import Random

import torch
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake


def win_share(
    marks: Tensor,
    rival_marks: Tensor,
    *,
    tie: float = 0.5,
    count: str = "all",
    everyone: bool = False,
) -> Tensor:
    """How often marks beats rival_marks, ties half: (B,), (B,) -> ()."""
    marks = marks[:, None] if everyone else marks
    wins = (marks > rival_marks) + tie * (marks == rival_marks)
    if count == "all":
        return wins.mean()
    return wins.sum() / ((marks != rival_marks).sum() if count == "decided" else 1)


def _some_marks(dice: Random) -> dict[str, Tensor]:
    """A win, a defeat, a tie and up to three more prompts, in some order."""
    low = [dice.randint(0, 7) / 1.0 for _ in range(3)]
    pairs = [(low[0] + 1.5, low[0]), (low[1], low[1] + 2.0), (low[2], low[2])]
    pairs += [(dice.randint(0, 9), dice.randint(0, 9)) for _ in range(dice.randint(1, 3))]
    dice.shuffle(pairs)
    marks, rival_marks = torch.tensor(pairs).unbind(1)
    return {"marks": marks, "rival_marks": rival_marks}


WIN_SHARE = Exercise(
    "win_share",
    win_share,
    cases=(
        Case(
            "a win, a tie, a defeat and another win",
            {
                "marks": torch.tensor([9.0, 5.0, 3.0, 8.0]),
                "rival_marks": torch.tensor([7.0, 5.0, 4.0, 1.0]),
            },
        ),
        Case(
            "ties alone, where nobody leads",
            {"marks": torch.tensor([5.0, 6.0]), "rival_marks": torch.tensor([5.0, 6.0])},
        ),
        Case(
            "one narrow win and two defeats",
            {"marks": torch.tensor([7.1, 2.0, 0.0]), "rival_marks": torch.tensor([7.0, 9.0, 3.0])},
        ),
        Case(
            "five prompts, two ties",
            {
                "marks": torch.tensor([2.0, 6.5, 4.0, 9.0, 1.0]),
                "rival_marks": torch.tensor([2.0, 3.0, 4.0, 8.5, 0.5]),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if ties were left out: they are half a win each, and the share is of "
            "all prompts.",
            tie=0.0,
            count="decided",
        ),
        mistake(
            "It looks as if ties count nothing: count each as half a win, or two equal models "
            "would both seem to lose.",
            tie=0.0,
        ),
        mistake(
            "It looks as if ties count as wins: count each as half a win, or two equal models "
            "would both seem to win.",
            tie=1.0,
        ),
        mistake(
            "It looks as if the two are swapped: this is how often the rival wins.",
            before=lambda x: {"marks": x["rival_marks"], "rival_marks": x["marks"]},
        ),
        mistake(
            "It looks like the mean difference of the marks: one large win would outweigh ten "
            "small defeats. Count who wins, not by how much.",
            lambda marks, rival: (marks - rival).mean(),
        ),
        mistake(
            "It looks like a number of wins: divide by the number of prompts, for a share.",
            count="wins",
        ),
        mistake(
            "It looks as if the ties were left out of what you divide by: divide by the number of "
            "all prompts.",
            count="decided",
        ),
        mistake(
            "It looks like wins minus defeats, from -1 to 1: a share of wins goes from 0 to 1.",
            after=lambda share, inputs: 2 * share - 1,
        ),
        mistake(
            "It looks as if every mark was compared with every mark of the rival: both answered "
            "the same prompts, so compare prompt by prompt.",
            everyone=True,
        ),
    ),
    use="0.5 means that nobody leads; it is how the lab compares every two models.",
    draw=_some_marks,
)


def best_of_n_mark(
    scores: Tensor,
    marks: Tensor,
    *,
    judge: str = "score",
    give: str = "mark",
    lowest: bool = False,
    among: str = "its own",
    total: bool = False,
) -> Tensor:
    """The mean mark of the response with the highest score to each prompt: (P, n), (P, n) -> ()."""
    by, given = scores if judge == "score" else marks, marks if give == "mark" else scores
    by = -by if lowest else by
    if among == "the batch":
        picked = given.flatten()[by.argmax()]
    elif among == "a column":
        picked = given.gather(0, by.argmax(0, keepdim=True))
    elif among == "everyone's":
        picked = given[:, by.argmax(1)]
    else:
        picked = given.gather(1, by.argmax(1, keepdim=True))
    return picked.sum() if total else picked.mean()


BEST_OF_N_MARK = Exercise(
    "best_of_n_mark",
    best_of_n_mark,
    cases=(
        Case(
            "two prompts with three responses, where score and mark disagree once",
            {
                "scores": torch.tensor([[0.1, 2.0, -1.0], [0.5, 0.4, 0.3]]),
                "marks": torch.tensor([[4.0, 3.0, 9.0], [8.0, 2.0, 6.0]]),
            },
        ),
        Case(
            "a single response, which is the best of one",
            {"scores": torch.tensor([[0.3], [-2.0]]), "marks": torch.tensor([[7.0], [1.0]])},
        ),
        Case(
            "three prompts with two responses, all scores below 0",
            {
                "scores": torch.tensor([[-0.5, -0.1], [-2.0, -3.0], [-0.7, -0.2]]),
                "marks": torch.tensor([[2.0, 5.5], [7.0, 1.0], [6.0, 3.0]]),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if you picked by the mark: nobody but the judge knows it. The reward "
            "model picks, by its score, and the judge marks what it picked.",
            judge="mark",
        ),
        mistake(
            "It looks like the mean of the best scores: that is what the reward model thinks "
            "of its choice. The judge's mark of it is wanted.",
            give="score",
        ),
        mistake("It looks as if the worst score was picked: argmax, not argmin.", lowest=True),
        mistake(
            "It looks like the mean mark of all responses: first pick one for each prompt.",
            lambda scores, marks: marks.mean(),
        ),
        mistake(
            "It looks as if one response was picked out of all: pick one for each prompt "
            "(argmax over dimension 1), then take the mean over prompts.",
            among="the batch",
        ),
        mistake(
            "It looks as if one response was picked for each column: a row is a prompt, so take "
            "argmax over dimension 1.",
            among="a column",
        ),
        mistake(
            "It looks as if each row also gave the responses that other prompts picked: row i "
            "must give only its own pick, as gather does.",
            among="everyone's",
        ),
        mistake(
            "It looks as if whole rows were picked: marks[index] picks prompts. Take one mark of "
            "each prompt, marks.gather(1, index).",
            lambda scores, marks: marks[scores.argmax(1)].mean(),
        ),
        mistake(
            "It looks like the sum over the prompts: take the mean, so that it can be compared "
            "with the mark of any other model.",
            total=True,
        ),
        mistake(
            "It looks as if the first response was always taken: take the one with the highest "
            "score.",
            lambda scores, marks: marks[:, 0].mean(),
        ),
    ),
    use="Best-of-n needs no training: whatever PPO does should be compared with it.",
)
