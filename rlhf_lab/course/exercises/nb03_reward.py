"""Exercises of notebook 03: the pair loss, the k-wise loss, and the accuracy on comparisons."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake


def t(*rows) -> Tensor:
    return torch.tensor(rows)


PAIR_LOSS = Exercise(
    "pair_loss",
    maths.pair_loss,
    cases=(
        Case("two pairs", {"chosen_scores": t(2.0, 0.5), "rejected_scores": t(1.0, 1.5)}),
        Case(
            "equal scores, where the loss is ln 2",
            {"chosen_scores": t(0.3, -1.0, 2.0), "rejected_scores": t(0.3, -1.0, 2.0)},
        ),
        Case(
            "a pair that is wrong by 200",
            {"chosen_scores": t(-100.0, 1.0), "rejected_scores": t(100.0, 0.0)},
        ),
    ),
    mistakes=(
        Mistake(
            lambda chosen, rejected: -torch.sigmoid(chosen - rejected).log().mean(),
            "It overflows: where the wrong response leads by far, sigmoid or exp runs out "
            "of digits before the log is taken. F.logsigmoid does both in one step.",
        ),
        Mistake(
            lambda chosen, rejected: maths.pair_loss(rejected, chosen),
            "It looks as if chosen and rejected changed places: the loss must fall when the "
            "chosen response's score rises.",
        ),
        Mistake(
            lambda chosen, rejected: F.logsigmoid(chosen - rejected).mean(),
            "It looks as if the minus is missing: a log-probability is below 0, and a loss "
            "is what should become small.",
        ),
        Mistake(
            lambda chosen, rejected: F.logsigmoid(rejected - chosen).mean(),
            "Two signs are turned round: chosen and rejected changed places, and the minus "
            "is missing.",
        ),
        Mistake(
            lambda chosen, rejected: -F.logsigmoid(chosen - rejected).sum(),
            "It looks like the sum over the pairs: take the mean, so that the loss, and "
            "with it the size of a step, does not depend on the batch size.",
        ),
        Mistake(
            lambda chosen, rejected: -torch.sigmoid(chosen - rejected).mean(),
            "It looks as if the log is missing: this is minus the mean probability, which "
            "hardly pulls at a pair that is quite wrong.",
        ),
        Mistake(
            lambda chosen, rejected: (1 - torch.sigmoid(chosen - rejected)).mean(),
            "It looks as if the log is missing: 1 - sigmoid hardly pulls at a pair that is "
            "quite wrong.",
        ),
        Mistake(
            lambda chosen, rejected: -(chosen - rejected).mean(),
            "It looks as if the sigmoid is missing: without it the loss falls without end, "
            "and pairs that are right already pull as hard as the wrong ones.",
        ),
    ),
    use="With it, comparisons alone make a scale: ln 2 = 0.693 knows nothing, 0 is sure and right.",
    gradient="chosen_scores",
)


def _pair_losses(scores: Tensor) -> Tensor:
    return -F.logsigmoid(scores.unsqueeze(-1) - scores.unsqueeze(-2))  # (B, K, K)


def _mean_per_prompt(scores: Tensor, pairs: Tensor) -> Tensor:
    pairs = pairs.to(scores)
    return ((_pair_losses(scores) * pairs).sum((-2, -1)) / pairs.sum((-2, -1))).mean()


def _ranks(ranks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks of the first and second of each pair, and True where they are two responses."""
    i, j = ranks.unsqueeze(-1), ranks.unsqueeze(-2)
    return i, j, ~torch.eye(ranks.shape[-1], dtype=torch.bool)


def _both_ways(scores, ranks):
    beats = maths.comparisons(ranks)
    return _mean_per_prompt(scores, beats | beats.transpose(-2, -1))


def _ties_as_wins(scores, ranks):
    i, j, other = _ranks(ranks)
    return _mean_per_prompt(scores, other & (i > 0) & ((i <= j) | (j == 0)))


def _unranked_together(scores, ranks):
    i, j, other = _ranks(ranks)
    return _mean_per_prompt(scores, other & (((i > 0) & (i < j)) | (j == 0)))


def _unranked_best(scores, ranks):
    i, j, _ = _ranks(ranks)
    return _mean_per_prompt(scores, i < j)


def _unranked_dropped(scores, ranks):
    i, j, _ = _ranks(ranks)
    return _mean_per_prompt(scores, (i > 0) & (i < j))


def _best_only(scores, ranks):
    return _mean_per_prompt(scores, maths.comparisons(ranks) & (ranks == 1).unsqueeze(-1))


def _sum_per_prompt(scores, ranks):
    return (_pair_losses(scores) * maths.comparisons(ranks)).sum((-2, -1)).mean()


def _mean_of_all_pairs(scores, ranks):
    return _pair_losses(scores)[maths.comparisons(ranks)].mean()


def _divided_by_all(scores, ranks):
    K = ranks.shape[-1]
    return _sum_per_prompt(scores, ranks) / (K * (K - 1) / 2)


def _divided_by_responses(scores, ranks):
    return _sum_per_prompt(scores, ranks) / ranks.shape[-1]


KWISE_LOSS = Exercise(
    "kwise_loss",
    lambda scores, ranks: maths.kwise_loss(scores, ranks),
    cases=(
        Case(
            "four responses, all ranked",
            {"scores": t([2.0, 1.0, 0.0, -1.0]), "ranks": t([1, 2, 3, 4])},
        ),
        Case(
            "the same ranking in another order",
            {"scores": t([0.0, -1.0, 2.0, 1.0]), "ranks": t([3, 4, 1, 2])},
        ),
        Case("two tied responses", {"scores": t([1.0, 0.2, -0.5, 0.4]), "ranks": t([1, 2, 2, 4])}),
        Case(
            "two unranked responses", {"scores": t([0.5, 1.5, -1.0, 0.3]), "ranks": t([0, 1, 0, 2])}
        ),
        Case(
            "two prompts with different numbers of pairs",
            {
                "scores": t([1.0, 0.0, 3.0, 2.0], [-1.0, 0.6, 0.1, 0.8]),
                "ranks": t([1, 2, 3, 4], [1, 1, 1, 4]),
            },
        ),
    ),
    mistakes=(
        Mistake(
            _both_ways,
            "It looks as if every pair was counted both ways, won and lost: only the pair "
            "in which i is ranked better than j counts.",
        ),
        Mistake(
            _sum_per_prompt,
            "It looks like the sum over a prompt's pairs. Take the mean over the pairs of a "
            "prompt first, and then over the prompts, so that each prompt weighs the same.",
        ),
        Mistake(
            _mean_of_all_pairs,
            "It looks like one mean over the pairs of all prompts, in which a prompt with "
            "many pairs weighs more. Take the mean of each prompt first, then over the "
            "prompts.",
        ),
        Mistake(
            _divided_by_all,
            "It looks as if every prompt was divided by K (K - 1) / 2. With ties there are "
            "fewer pairs: divide by the number that was summed.",
        ),
        Mistake(
            _divided_by_responses,
            "It looks as if the sum over pairs was divided by the number of responses: "
            "divide by the number of pairs that was summed.",
        ),
        Mistake(
            _ties_as_wins,
            "It looks as if ties count, as wins of either side: with equal ranks nobody "
            "won, and the pair is dropped (<, not <=).",
        ),
        Mistake(
            _unranked_together,
            "It looks as if unranked responses were compared with one another: 0 loses to "
            "every rank, but nobody said which of two unranked ones is better.",
        ),
        Mistake(
            _unranked_best,
            "It looks as if 0 was read as the best rank: it means unranked, which loses to "
            "every rank.",
        ),
        Mistake(
            _unranked_dropped,
            "It looks as if unranked responses were left out: every ranked response beats "
            "every unranked one.",
        ),
        Mistake(
            lambda scores, ranks: maths.kwise_loss(-scores, ranks),
            "It is turned round: rank 1 is the best, so the lower rank should get the "
            "higher score.",
        ),
        Mistake(
            lambda scores, ranks: -maths.kwise_loss(scores, ranks),
            "It looks as if the minus before logsigmoid is missing: a loss is what should "
            "become small.",
        ),
        Mistake(
            _best_only,
            "It looks as if only the best response was compared with the others: a ranking "
            "also says which of the others is better.",
        ),
    ),
    use="A ranking of four teaches six comparisons while each response is read only once.",
    gradient="scores",
)


def _margins(scores: Tensor, ranks: Tensor) -> Tensor:
    return maths.pair_margins(scores, ranks)


def _ties_too(scores, ranks):
    i, j, other = _ranks(ranks)
    margins = (scores.unsqueeze(-1) - scores.unsqueeze(-2))[other & (i <= j)]
    return ((margins.sign() + 1) / 2).mean()


PAIR_ACCURACY = Exercise(
    "pair_accuracy",
    maths.pair_accuracy,
    cases=(
        Case("four responses", {"scores": t([2.0, 0.0, 1.0, -1.0]), "ranks": t([1, 2, 3, 4])}),
        Case("equal scores", {"scores": t([1.0, 1.0, 0.0, 2.0]), "ranks": t([1, 2, 3, 4])}),
        Case(
            "tied ranks",
            {"scores": t([1.0, 0.0, 2.0], [0.0, 1.0, 0.5]), "ranks": t([1, 1, 3], [1, 2, 2])},
        ),
    ),
    mistakes=(
        Mistake(
            lambda scores, ranks: (_margins(scores, ranks) > 0).float().mean(),
            "It looks as if equal scores count as wrong: a model that cannot tell two "
            "responses apart guesses, and is right half the time.",
        ),
        Mistake(
            lambda scores, ranks: (_margins(scores, ranks) >= 0).float().mean(),
            "It looks as if equal scores count as right: then a model that gives every "
            "response the same score is perfect. They count half.",
        ),
        Mistake(
            lambda scores, ranks: 1 - maths.pair_accuracy(scores, ranks),
            "It is turned round: rank 1 is the best, so the lower rank should have the "
            "higher score.",
        ),
        Mistake(
            _ties_too,
            "It looks as if tied responses count: where people made no difference, there is "
            "nothing to get right, and the pair is dropped.",
        ),
    ),
    use="Read it beside what two people reach with each other: 100 % is out of reach.",
)
