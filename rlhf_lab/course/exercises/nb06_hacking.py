"""Exercises of notebook 06: how many answers are fooled, and the mark at equal KL."""

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, Inputs, mistake

# ---- a higher score for a lower mark -------------------------------------------------------------


def fooled(
    scores_before: Tensor,
    scores_after: Tensor,
    marks_before: Tensor,
    marks_after: Tensor,
    *,
    risen: Callable[[Tensor, Tensor], Tensor] = torch.gt,
    fell: Callable[[Tensor, Tensor], Tensor] = torch.lt,
    join: Callable[[Tensor, Tensor], Tensor] = torch.logical_and,
    of: str = "all",
) -> Tensor:
    """The share of prompts whose answer gained in score and lost in mark: four (P,) -> ()."""
    up, down = risen(scores_after, scores_before), fell(marks_after, marks_before)
    count = join(up, down).float().sum()
    return count / {"all": len(up), "risen": up.sum(), "fallen": down.sum(), "nothing": 1}[of]


def _by_means(scores_before, scores_after, marks_before, marks_after):
    up = scores_after.mean() > scores_before.mean()
    return (up & (marks_after.mean() < marks_before.mean())).float()


def _some_answers(dice: Random) -> Inputs:
    """Six prompts, of which some are fooled and some are not."""
    while True:
        scores, after = ([dice.randint(-10, 10) / 10 for _ in range(6)] for _ in range(2))
        marks, later = ([dice.randint(2, 20) / 2 for _ in range(6)] for _ in range(2))
        inputs = dict(zip(FOOLED.cases[0].inputs, map(torch.tensor, (scores, after, marks, later))))
        if 0 < fooled(*inputs.values()) < 1:
            return inputs


FOOLED = Exercise(
    "fooled",
    fooled,
    cases=(
        Case(
            "two of five fooled, one better in both",
            {
                "scores_before": torch.tensor([0.1, -0.5, 0.9, 0.3, -1.0]),
                "scores_after": torch.tensor([0.8, 0.4, 1.6, 0.2, 0.5]),
                "marks_before": torch.tensor([8.0, 9.5, 4.0, 6.0, 7.0]),
                "marks_after": torch.tensor([3.0, 2.5, 9.0, 2.0, 7.5]),
            },
        ),
        Case(
            "answers that did not change",
            {
                "scores_before": torch.tensor([1.0, 0.2, 0.4, -0.3]),
                "scores_after": torch.tensor([1.0, 0.2, 1.1, 0.6]),
                "marks_before": torch.tensor([5.0, 9.0, 8.0, 7.0]),
                "marks_after": torch.tensor([5.0, 9.0, 8.0, 2.0]),
            },
        ),
        Case(
            "the same score for another mark",
            {
                "scores_before": torch.tensor([2.0, 1.0, 0.0, 3.0, 1.0, 2.0]),
                "scores_after": torch.tensor([2.0, 2.0, 1.0, 3.0, 0.0, 4.0]),
                "marks_before": torch.tensor([9.0, 9.0, 2.0, 4.0, 8.0, 8.0]),
                "marks_after": torch.tensor([1.0, 1.0, 8.0, 9.0, 9.5, 3.0]),
            },
        ),
        Case(
            "nobody fooled",
            {
                "scores_before": torch.tensor([0.0, 0.5, 1.0]),
                "scores_after": torch.tensor([0.5, 0.1, 2.0]),
                "marks_before": torch.tensor([6.0, 6.0, 6.0]),
                "marks_after": torch.tensor([7.0, 1.0, 6.0]),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if an unchanged mark counts as lower: an answer that stays as good was "
            "not made worse. Compare with <, not <=.",
            fell=torch.le,
        ),
        mistake(
            "It looks as if an unchanged score counts as higher: compare with >, not >=.",
            risen=torch.ge,
        ),
        mistake(
            "It looks as if unchanged scores and marks count: compare with > and <, not >= and <=.",
            risen=torch.ge,
            fell=torch.le,
        ),
        mistake(
            "It looks as if you divided by the number of answers whose score rose: take the share "
            "of all prompts.",
            of="risen",
        ),
        mistake(
            "It looks as if you divided by the number of answers whose mark fell: take the share "
            "of all prompts.",
            of="fallen",
        ),
        mistake(
            "It looks like a number of prompts: divide by how many there are, so that it is a "
            "share.",
            of="nothing",
        ),
        mistake(
            "It looks as if one of the two is enough: the score must be higher and the mark "
            "lower, for the same prompt.",
            join=torch.logical_or,
        ),
        mistake(
            "It looks as if only the score is compared: the mark must be lower as well.",
            join=lambda up, down: up,
        ),
        mistake(
            "It looks as if only the mark is compared: the score must be higher as well.",
            join=lambda up, down: down,
        ),
        mistake(
            "It looks as if answers that are better in both are counted: their score rose, and so "
            "did their mark. The mark must be lower.",
            fell=torch.gt,
        ),
        mistake(
            "It looks as if answers that are worse in both are counted: the score must be higher.",
            risen=torch.lt,
        ),
        mistake(
            "It is the wrong way round: a lower score and a higher mark. Are before and after "
            "swapped?",
            risen=torch.lt,
            fell=torch.gt,
        ),
        mistake(
            "It looks as if the means were compared: compare prompt by prompt, then take the mean "
            "of that.",
            _by_means,
        ),
        mistake(
            "It looks like a percentage: a share is between 0 and 1.",
            after=lambda share, inputs: 100 * share,
        ),
        mistake(
            "It looks like the share of prompts that are not fooled.",
            after=lambda share, inputs: 1 - share,
        ),
    ),
    use="A mean can hide this: it stays level where half of the answers gain and half are fooled.",
    draw=_some_answers,
)

# ---- the mark at equal KL ------------------------------------------------------------------------


def mark_at_kl(
    kl: Tensor,
    marks: Tensor,
    wanted: float,
    *,
    crossing: str = "first",
    between: Callable[[Tensor], Tensor] = lambda share: share,
    not_reached: str = "nan",
) -> Tensor:
    """The mark where a run first reaches a KL, on the line between two looks: two (U,), float ->
    (); nan if it is not reached. The first KL must be below `wanted`."""
    reached = (kl >= wanted).nonzero().flatten()
    if len(reached) == 0:
        return {
            "nan": torch.tensor(math.nan, dtype=marks.dtype),
            "last": marks[-1],
            "farthest": marks[kl.argmax()],
            "zero": torch.tensor(0.0, dtype=marks.dtype),
        }[not_reached]
    after = int(reached[0])
    if crossing == "last":  # the last time it comes from below
        after = int(((kl[1:] >= wanted) & (kl[:-1] < wanted)).nonzero().flatten()[-1]) + 1
    share = (wanted - kl[after - 1]) / (kl[after] - kl[after - 1])
    share = between(share)
    return marks[after - 1] + share * (marks[after] - marks[after - 1])


def _nearest(kl, marks, wanted):
    return marks[(kl - wanted).abs().argmin()]


def _sorted_first(kl, marks, wanted):
    order = kl.argsort()
    return mark_at_kl(kl[order], marks[order], wanted)


def _from_the_start(kl, marks, wanted):
    """On the line from the first look to the one that reaches it."""
    reached = (kl >= wanted).nonzero().flatten()
    if len(reached) == 0:
        return torch.tensor(math.nan)
    after = int(reached[0])
    return marks[0] + (wanted - kl[0]) / (kl[after] - kl[0]) * (marks[after] - marks[0])


MARK_AT_KL = Exercise(
    "mark_at_kl",
    mark_at_kl,
    cases=(
        Case(
            "between two looks",
            {
                "kl": torch.tensor([0.0, 0.5, 2.5, 4.0]),
                "marks": torch.tensor([6.5, 7.0, 9.0, 8.0]),
                "wanted": 1.0,
            },
        ),
        Case(
            "a run that comes back and leaves again",
            {
                "kl": torch.tensor([0.0, 0.4, 1.8, 1.2, 0.7, 2.2, 3.0]),
                "marks": torch.tensor([7.0, 7.5, 8.2, 8.6, 9.0, 6.0, 3.0]),
                "wanted": 1.5,
            },
        ),
        Case(
            "a run that never gets as far",
            {
                "kl": torch.tensor([0.0, 0.3, 0.9, 0.7]),
                "marks": torch.tensor([6.8, 7.2, 7.9, 8.3]),
                "wanted": 2.0,
            },
        ),
        Case(
            "reached between the first two looks",
            {
                "kl": torch.tensor([0.0, 3.0, 5.0]),
                "marks": torch.tensor([7.0, 4.0, 2.0]),
                "wanted": 2.0,
            },
        ),
        Case(
            "exactly at a look",
            {
                "kl": torch.tensor([0.0, 0.6, 1.0, 3.0]),
                "marks": torch.tensor([6.0, 8.0, 9.0, 5.0]),
                "wanted": 1.0,
            },
        ),
    ),
    mistakes=(
        mistake(
            "This seems to be the mark of the nearest measurement: go along the line between the "
            "measurement before and the one after.",
            _nearest,
        ),
        mistake(
            "It looks like the mark of the look after: the run was already past that KL there. Go "
            "along the line from the look before.",
            between=lambda share: torch.ones_like(share),
        ),
        mistake(
            "It looks like the mark of the look before: the run was not there yet. Go along the "
            "line to the look after.",
            between=lambda share: torch.zeros_like(share),
        ),
        mistake(
            "It looks like the mean of the two looks: the nearer one counts more.",
            between=lambda share: torch.full_like(share, 0.5),
        ),
        mistake(
            "The two looks seem to have each other's weights: the nearer one counts more.",
            between=lambda share: 1 - share,
        ),
        mistake(
            "It looks as if the line was drawn over sqrt(KL): here it is drawn over the KL itself.",
            before=lambda x: {**x, "kl": x["kl"].sqrt(), "wanted": x["wanted"] ** 0.5},
        ),
        mistake(
            "It looks as if the last time counts at which the run comes to this KL: take the "
            "first.",
            crossing="last",
        ),
        mistake(
            "The measurements seem to be sorted by their KL: then the neighbours are not "
            "neighbours in time. Keep their order.",
            _sorted_first,
        ),
        mistake(
            "It looks as if the line begins at the first look: it goes from the look just before.",
            _from_the_start,
        ),
        mistake(
            "Where the run never gets as far, the last mark is no answer, although np.interp gives "
            "it: it belongs to a smaller KL. Return nan.",
            not_reached="last",
        ),
        mistake(
            "Where the run never gets as far, the mark of the farthest look is no answer: it "
            "belongs to a smaller KL. Return nan.",
            not_reached="farthest",
        ),
        mistake(
            "Where the run never gets as far, 0 would be a bad mark that nobody gave: return nan.",
            not_reached="zero",
        ),
    ),
    use="A run that went farther has had more of what its reward asks for: compare runs at the "
    "same distance.",
)
