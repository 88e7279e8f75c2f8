"""Exercises of notebook 00: who wins, ties half, and the mark of best-of-n."""

import torch
from torch import Tensor

from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake


def _win_share(marks: Tensor, rival_marks: Tensor) -> Tensor:
    return (((marks - rival_marks).sign() + 1) / 2).mean()


def _best_of_n_mark(scores: Tensor, marks: Tensor) -> Tensor:
    return marks.gather(1, scores.argmax(1, keepdim=True)).mean()


WIN_SHARE = Exercise(
    "win_share",
    _win_share,
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
    ),
    mistakes=(
        Mistake(
            lambda marks, rival: (marks > rival).float().mean(),
            "It looks as if ties count nothing: count each as half a win, or two equal models "
            "would both seem to lose.",
        ),
        Mistake(
            lambda marks, rival: (marks >= rival).float().mean(),
            "It looks as if ties count as wins: count each as half a win, or two equal models "
            "would both seem to win.",
        ),
        Mistake(
            lambda marks, rival: (marks > rival).sum() / (marks != rival).sum(),
            "It looks as if ties were left out: they are half a win each, and the share is of "
            "all prompts.",
        ),
        Mistake(
            lambda marks, rival: _win_share(rival, marks),
            "It looks as if the two changed places: this is how often the rival wins.",
        ),
        Mistake(
            lambda marks, rival: (marks - rival).mean(),
            "It looks like the mean difference of the marks: one large win would outweigh ten "
            "small defeats. Count who wins, not by how much.",
        ),
        Mistake(
            lambda marks, rival: (marks > rival).sum() + 0.5 * (marks == rival).sum(),
            "It looks like a number of wins: divide by the number of prompts, for a share.",
        ),
    ),
    use="0.5 means that nobody leads; it is how the lab compares every two models.",
)

BEST_OF_N_MARK = Exercise(
    "best_of_n_mark",
    _best_of_n_mark,
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
    ),
    mistakes=(
        Mistake(
            lambda scores, marks: marks.max(1).values.mean(),
            "It looks as if you picked by the mark: nobody but the judge knows it. The reward "
            "model picks, by its score, and the judge marks what it picked.",
        ),
        Mistake(
            lambda scores, marks: scores.max(1).values.mean(),
            "It looks like the mean of the best scores: that is what the reward model thinks "
            "of its choice. The judge's mark of it is wanted.",
        ),
        Mistake(
            lambda scores, marks: marks.gather(1, scores.argmin(1, keepdim=True)).mean(),
            "It looks as if the worst score was picked: argmax, not argmin.",
        ),
        Mistake(
            lambda scores, marks: marks.mean(),
            "It looks like the mean mark of all responses: first pick one for each prompt.",
        ),
        Mistake(
            lambda scores, marks: marks.flatten()[scores.argmax()],
            "It looks as if one response was picked out of all: pick one for each prompt "
            "(argmax over dimension 1), then take the mean over prompts.",
        ),
        Mistake(
            lambda scores, marks: marks[:, scores.argmax(1)].mean(),
            "It looks as if every prompt gave the responses that other prompts picked: row i "
            "must give its own pick alone, as gather does.",
        ),
    ),
    use="Best-of-n needs no training: whatever PPO does should be compared with it.",
)
