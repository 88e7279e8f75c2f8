"""Exercises of notebook 03: the pair loss, the k-wise loss, and the accuracy on comparisons."""

from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake
from rlhf_lab.course.exercises.nb02_rankings import PREFERRED_MISTAKES, TOO_FEW_PAIRS, preferred


def t(*rows) -> Tensor:
    return torch.tensor(rows)


# ---- the loss of a lead, which DPO shares --------------------------------------------------------


def loss_of_leads(
    leads: Tensor,
    *,
    scale: Callable[[Tensor], Tensor] = F.logsigmoid,
    mean: str = "losses",
    minus: bool = True,
) -> Tensor:
    """The mean of -log sigmoid(lead): (B,) -> ()."""
    if mean == "leads":
        leads = leads.mean()
    logs = scale(leads)
    if mean == "probabilities":
        logs = logs.exp().mean().log()
    total = {"sum": logs.sum, "none": lambda: logs}.get(mean, logs.mean)()
    return -total if minus else total


LEAD_MISTAKES = (
    mistake(
        "It overflows: where the wrong response leads by far, sigmoid or exp runs out "
        "of digits before the log is taken. F.logsigmoid does both in one step.",
        scale=lambda x: torch.sigmoid(x).log(),
    ),
    mistake(
        "It looks as if the minus is missing: a log-probability is below 0, and a loss "
        "is what should become small.",
        minus=False,
    ),
    mistake(
        "It looks like the sum over the pairs: take the mean, so that the loss, and "
        "with it the size of a step, does not depend on the batch size.",
        mean="sum",
    ),
    mistake("It looks as if the mean over the pairs is missing.", mean="none"),
    mistake(
        "It looks as if the mean over the pairs was taken before the sigmoid: then one "
        "pair that is far ahead hides another that is wrong.",
        mean="leads",
    ),
    mistake(
        "It looks as if the mean of the probabilities was taken before the log: then a pair that "
        "is quite wrong has almost no gradient. Take the log of each pair, then the mean.",
        mean="probabilities",
    ),
    mistake(
        "It looks as if the log is missing: this is minus the mean probability, which "
        "has almost no gradient for a pair that is quite wrong.",
        scale=torch.sigmoid,
    ),
    mistake(
        "It looks as if the log is missing: 1 - sigmoid has almost no gradient for a pair that is "
        "quite wrong.",
        scale=lambda x: torch.sigmoid(x) - 1,
    ),
    mistake(
        "It looks as if the sigmoid is missing: without it the loss falls without end, "
        "and pairs that are right already have as large a gradient as wrong ones.",
        scale=lambda x: x,
    ),
    mistake(
        "It looks like the hinge loss, max(0, 1 - lead): the loss wanted is -log sigmoid(lead).",
        scale=lambda x: -F.relu(1 - x),
    ),
    mistake(
        "It looks as if the square is used in place of the log: the loss of a pair is "
        "-log sigmoid(lead).",
        scale=lambda x: -(1 - torch.sigmoid(x)).square(),
    ),
    mistake(
        "It looks as if the log has base 2: the lab counts in nats, with the natural log.",
        scale=lambda x: F.logsigmoid(x) / 0.6931472,
    ),
    mistake(
        "It looks as if a small number was added inside the log. That hides the overflow: a pair "
        "that "
        "is wrong by 200 costs only 18 and has no gradient. Use F.logsigmoid.",
        scale=lambda x: (torch.sigmoid(x) + 1e-8).log(),
    ),
    mistake(
        "It looks as if the sign of the lead was dropped: a pair that is wrong must cost more than "
        "one that is right.",
        scale=lambda x: F.logsigmoid(x.abs()),
    ),
)


def pair_loss(
    chosen_scores: Tensor, rejected_scores: Tensor, *, everyone: bool = False, **loss
) -> Tensor:
    """Bradley-Terry: mean of -log sigmoid(chosen - rejected): (B,), (B,) -> ()."""
    chosen_scores = chosen_scores[:, None] if everyone else chosen_scores
    return loss_of_leads(chosen_scores - rejected_scores, **loss)


def _swapped_pair(x: dict) -> dict:
    return {"chosen_scores": x["rejected_scores"], "rejected_scores": x["chosen_scores"]}


PAIR_LOSS = Exercise(
    "pair_loss",
    pair_loss,
    cases=(
        Case("two pairs", {"chosen_scores": t(2.0, 0.5), "rejected_scores": t(0.5, 1.0)}),
        Case(
            "nearly equal scores, where the loss is nearly ln 2",
            {"chosen_scores": t(0.31, -1.0, 2.0), "rejected_scores": t(0.3, -1.02, 2.01)},
        ),
        Case(
            "pairs that are wrong by far, and right by far",
            {"chosen_scores": t(-100.0, 1.0, 150.0), "rejected_scores": t(100.0, 0.0, -50.0)},
        ),
        Case(
            "five pairs",
            {
                "chosen_scores": t(1.0, 0.2, -0.4, 3.0, 0.1),
                "rejected_scores": t(-1.0, 0.8, -0.9, 0.5, 0.3),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if chosen and rejected are swapped: the loss must fall when the "
            "chosen response's score rises.",
            before=_swapped_pair,
        ),
        *LEAD_MISTAKES,
        mistake(
            "It looks as if each score went into a sigmoid of its own: only their difference "
            "counts, "
            "sigmoid(chosen - rejected).",
            lambda chosen, rejected: (torch.sigmoid(rejected) - torch.sigmoid(chosen)).mean(),
        ),
        mistake(
            "It looks as if each score went into a logsigmoid of its own: only their difference "
            "counts, logsigmoid(chosen - rejected).",
            lambda chosen, rejected: (F.logsigmoid(rejected) - F.logsigmoid(chosen)).mean(),
        ),
        mistake(
            "It overflows: exp of a score above 88 is infinite, and so the ratio is nan. Take the "
            "difference of the scores first, and F.logsigmoid of it.",
            lambda chosen, rejected: -(chosen.exp() / (chosen.exp() + rejected.exp())).log().mean(),
        ),
        mistake(
            "It looks as if every chosen response was compared with every rejected one, (B, B): "
            "both scores must be (B,), so that pair b gives one lead. (B, 1) minus (B,) is (B, B).",
            everyone=True,
        ),
        mistake(
            "It looks as if the rejected response is missing: a comparison is a difference of "
            "two scores.",
            before=lambda x: {**x, "rejected_scores": torch.zeros_like(x["rejected_scores"])},
        ),
    ),
    use="It turns comparisons into scores: a loss of ln 2 = 0.693 is a guess, 0 is sure and right.",
    gradient="chosen_scores",
)

# ---- all pairs of a ranking ----------------------------------------------------------------------


def kwise_loss(
    scores: Tensor,
    ranks: Tensor,
    *,
    scale: Callable[[Tensor], Tensor] = F.logsigmoid,
    mean: str = "prompts",
    minus: bool = True,
    **pairs,
) -> Tensor:
    """Bradley-Terry over all compared pairs, the mean of each prompt, then over prompts: scores
    (B, K), int ranks (B, K) -> ()."""
    beats = preferred(ranks, **pairs)
    K = ranks.shape[-1]
    each = scale(scores.unsqueeze(-1) - scores.unsqueeze(-2)).masked_fill(~beats, 0)  # (B, K, K)
    sums, count = each.sum((-2, -1)), beats.sum((-2, -1))
    total = {
        "prompts": (sums / count).mean(),
        "crossed": (sums / count[:, None]).mean(),
        "six": (sums / 6).mean(),
        "pairs": sums.sum() / count.sum(),
        "all pairs": (sums / (K * (K - 1) / 2)).mean(),
        "responses": (sums / K).mean(),
        "the table": each.mean(),
        "sum": sums.mean(),
        "sum of all": sums.sum(),
        "sum of means": (sums / count).sum(),
        "none": sums / count,
    }[mean]
    return -total if minus else total


def _best_of_all(scores: Tensor, ranks: Tensor) -> Tensor:
    first = torch.where(ranks > 0, ranks, 99).argmin(1, keepdim=True)
    return -scores.log_softmax(-1).gather(1, first).mean()


KWISE_LOSS = Exercise(
    "kwise_loss",
    kwise_loss,
    cases=(
        Case(
            "four responses, all ranked",
            {"scores": t([2.0, 1.2, 0.0, -1.0]), "ranks": t([1, 2, 4, 3])},
        ),
        Case(
            "the same responses in another order",
            {"scores": t([0.0, -1.0, 2.0, 1.2]), "ranks": t([4, 3, 1, 2])},
        ),
        Case("two tied responses", {"scores": t([1.0, 0.2, -0.5, 0.4]), "ranks": t([1, 2, 2, 4])}),
        Case(
            "two unranked responses", {"scores": t([0.5, 1.5, -1.0, 0.3]), "ranks": t([0, 1, 0, 2])}
        ),
        Case(
            "a pair that is wrong by far",
            {"scores": t([100.0, 0.5, -100.0]), "ranks": t([3, 2, 1])},
        ),
        Case(
            "two prompts with different numbers of pairs",
            {
                "scores": t([1.0, 0.0, 3.0, 2.0], [-1.0, 0.6, 0.1, 0.8]),
                "ranks": t([1, 2, 3, 4], [1, 1, 1, 4]),
            },
        ),
        Case(
            "three prompts with three responses",
            {
                "scores": t([0.3, -0.2, 0.9], [2.0, 1.0, 0.4], [-1.0, 0.5, 0.2]),
                "ranks": t([2, 1, 3], [1, 2, 2], [0, 1, 2]),
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if every pair was counted both ways, won and lost: only the pair "
            "in which i is ranked better than j counts.",
            better=torch.ne,
        ),
        mistake(
            "It looks like the sum over a prompt's pairs. Take the mean over the pairs of a "
            "prompt first, and then over the prompts, so that each prompt weighs the same.",
            mean="sum",
        ),
        mistake(
            "It looks like the sum over all pairs of all prompts: take the mean over the pairs of "
            "a prompt, then over the prompts.",
            mean="sum of all",
        ),
        mistake(
            "It looks as if the prompts were added: take their mean, so that the loss does not "
            "depend on the batch size.",
            mean="sum of means",
        ),
        mistake("It looks as if the mean over the prompts is missing.", mean="none"),
        mistake(
            "It looks like one mean over the pairs of all prompts, in which a prompt with "
            "many pairs weighs more. Take the mean of each prompt first, then over the "
            "prompts.",
            mean="pairs",
        ),
        mistake(
            "It looks as if every prompt was divided by K (K - 1) / 2. With ties there are "
            "fewer pairs: divide by the number that was summed.",
            mean="all pairs",
        ),
        mistake(
            "It looks as if every prompt was divided by 6, the pairs of four responses without "
            "ties: "
            "divide by the number that was summed.",
            mean="six",
        ),
        mistake(
            "It looks as if the sum of every prompt was divided by the pairs of every other, (B, "
            "B), "
            "as happens when (B,) meets (B, 1): both must be (B,).",
            mean="crossed",
        ),
        mistake(
            "It looks as if the sum over pairs was divided by the number of responses: "
            "divide by the number of pairs that was summed.",
            mean="responses",
        ),
        mistake(
            "It looks like the mean over the whole table of K times K: the pairs that do not count "
            "are 0 in it, and still count. Divide by the number of pairs that was summed.",
            mean="the table",
        ),
        mistake(
            "It is reversed: rank 1 is the best, so the lower rank should get the higher score.",
            before=lambda x: {**x, "scores": -x["scores"]},
        ),
        *(some for some in LEAD_MISTAKES if "mean" not in some.switches),
        *(
            some
            for some in PREFERRED_MISTAKES
            if some.switches.get("better") not in (torch.gt, torch.ne)
        ),
        mistake(
            "It looks as if only neighbours in the list were compared: which response beats which "
            "is "
            "in the ranks, and all pairs count.",
            lambda scores, ranks: -F.logsigmoid(scores[:, :-1] - scores[:, 1:]).mean(),
        ),
        mistake(
            "It looks like a choice of the best one among all, with a softmax: here every pair is "
            "a comparison of its own.",
            _best_of_all,
        ),
    ),
    use="A ranking of four teaches six comparisons while each response is read only once.",
    gradient="scores",
)


def pair_accuracy(
    scores: Tensor, ranks: Tensor, *, tie: float = 0.5, mean: str = "pairs", **pairs
) -> Tensor:
    """Share of all comparisons that the scores order rightly, equal scores half: (B, K), (B, K) ->
    ()."""
    beats = preferred(ranks, **pairs)
    K = ranks.shape[-1]
    leads = scores.unsqueeze(-1) - scores.unsqueeze(-2)
    right = ((leads > 0) + tie * (leads == 0)) * beats
    sums, count = right.sum((-2, -1)), beats.sum((-2, -1))
    return {
        "pairs": sums.sum() / count.sum(),
        "prompts": (sums / count).mean(),
        "all pairs": (sums / (K * (K - 1) / 2)).mean(),
        "the table": right.mean(),
        "sum": sums.sum(),
        "decided": sums.sum() / (beats & (leads != 0)).sum(),
    }[mean]


def _some_scores(dice: Random) -> dict[str, Tensor]:
    """Scores and ranks of four responses to two prompts, with ties of either kind."""
    scores = [dice.sample(range(-9, 20), 4) for _ in range(2)]
    scores[0][0] = scores[0][1]
    ranks = [dice.sample([1, 2, 3, 4], 4), dice.sample([1, 2, 2, 4], 4)]
    return {"scores": torch.tensor(scores) / 10, "ranks": torch.tensor(ranks)}


PAIR_ACCURACY = Exercise(
    "pair_accuracy",
    pair_accuracy,
    cases=(
        Case("four responses", {"scores": t([2.0, 0.0, 1.0, -1.0]), "ranks": t([1, 2, 3, 4])}),
        Case("equal scores", {"scores": t([1.0, 1.0, 0.0, 2.0]), "ranks": t([1, 2, 3, 4])}),
        Case(
            "tied ranks",
            {"scores": t([1.0, 0.0, 2.0], [0.0, 1.0, 0.5]), "ranks": t([1, 1, 3], [1, 2, 2])},
        ),
        Case(
            "two prompts, with three pairs and with two",
            {"scores": t([0.1, 0.4, 0.2], [0.9, 0.3, 0.3]), "ranks": t([1, 2, 3], [1, 3, 1])},
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if pairs with equal scores were left out: they count half, or a model "
            "that cannot tell most responses apart looks good on the rest.",
            tie=0.0,
            mean="decided",
        ),
        mistake(
            "It looks as if equal scores count as wrong: a model that cannot tell two "
            "responses apart guesses, and is right half the time.",
            tie=0.0,
        ),
        mistake(
            "It looks as if equal scores count as right: then a model that gives every "
            "response the same score is perfect. They count half.",
            tie=1.0,
        ),
        mistake(
            "It is reversed: rank 1 is the best, so the lower rank should have the higher score.",
            before=lambda x: {**x, "scores": -x["scores"]},
        ),
        mistake(
            "It looks as if tied responses count: where people made no difference, there is "
            "nothing to get right, and the pair is dropped.",
            better=torch.le,
        ),
        mistake(
            "It looks as if every response was compared with itself, and tied ones with each "
            "other: neither is a comparison. Use <, not <=.",
            better=torch.le,
            diagonal=True,
        ),
        mistake(
            "It looks as if every pair was counted both ways: then one of the two is always wrong. "
            "Only the pair in which i is ranked better than j counts.",
            better=torch.ne,
        ),
        *TOO_FEW_PAIRS,
        mistake(
            "It looks like the mean of each prompt first: here all pairs count alike, so divide "
            "the sum over all prompts by the number of all pairs.",
            mean="prompts",
        ),
        mistake(
            "It looks as if it was divided by K (K - 1) / 2. With ties there are fewer pairs: "
            "divide by the number of pairs that are compared.",
            mean="all pairs",
        ),
        mistake(
            "It looks like the mean over the whole table of K times K: divide by the number of "
            "pairs that are compared.",
            mean="the table",
        ),
        mistake("It looks like a number of pairs: divide by the number of all pairs.", mean="sum"),
        mistake(
            "It looks as if the order of the scores was compared with the order of the ranks, "
            "place "
            "by place: compare pairs of responses.",
            lambda scores, ranks: (
                (scores.argsort(1, descending=True) == ranks.argsort(1)).float().mean()
            ),
        ),
        mistake(
            "It looks like right pairs minus wrong ones, from -1 to 1: a share goes from 0 to 1.",
            after=lambda share, inputs: 2 * share - 1,
        ),
    ),
    use="Compare it with how often two people agree: 100 % cannot be reached.",
    draw=_some_scores,
)
