"""Exercises of notebook 08: advantages within a group (RLOO), and the loss of DPO."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.examine import Case, Exercise, Mistake

# ---- RLOO ----------------------------------------------------------------------------------------


def _others(rewards: Tensor, dim: int = 1) -> Tensor:
    """The mean reward of the others of each group: (prompts, group) -> the same."""
    return (rewards.sum(dim, keepdim=True) - rewards) / (rewards.shape[dim] - 1)


def _best_other(rewards):
    others = torch.eye(rewards.shape[1], dtype=torch.bool)
    return rewards - rewards.unsqueeze(1).masked_fill(others, -torch.inf).amax(-1)


RLOO_ADVANTAGES = Exercise(
    "rloo_advantages",
    maths.rloo_advantages,
    cases=(
        Case(
            "an easy prompt and a hard one",
            {"rewards": torch.tensor([[9.0, 5.0, 7.0, 3.0], [1.0, -3.0, 0.0, 6.0]])},
        ),
        Case(
            "groups of two, where the other one is the baseline",
            {"rewards": torch.tensor([[5.0, 1.0], [-2.0, 4.0], [0.5, 7.5]])},
        ),
        Case(
            "a group of equal rewards, where nobody did better",
            {"rewards": torch.tensor([[2.0, 2.0, 2.0], [-4.0, 0.0, 7.0]])},
        ),
    ),
    mistakes=(
        Mistake(
            maths.dr_grpo_advantages,
            "It looks like the mean of the whole group, the response itself among them: take "
            "the mean of the others, which it has no part in. (Dr. GRPO takes this one: the "
            "same signs, all smaller by the factor (group - 1) / group.)",
        ),
        Mistake(
            maths.grpo_advantages,
            "It looks like GRPO: the mean of the whole group, divided by its deviation. Take "
            "the mean of the others, and do not divide: a group that is nearly equal would "
            "count as much as one that is not.",
        ),
        Mistake(
            lambda r: (r - r.mean(1, keepdim=True)) / r.std(1, keepdim=True),
            "It looks as if you divided by the deviation, which gives 0 / 0 where all are "
            "equal: take the reward less the mean of the others, and do not divide.",
        ),
        Mistake(
            lambda r: (r - r.mean(1, keepdim=True)) / r.std(1, keepdim=True, correction=0),
            "It looks as if you divided by the population's deviation, which gives 0 / 0 "
            "where all are equal: take the reward less the mean of the others, and do not "
            "divide.",
        ),
        Mistake(
            lambda r: (r - _others(r)) / (r.std(1, keepdim=True) + 1e-4),
            "The baseline is right, but do not divide by the deviation.",
        ),
        Mistake(
            lambda r: r - r.mean(),
            "It looks like one baseline for the whole batch: then every response to an easy "
            "prompt seems good. Compare with the responses to the same prompt.",
        ),
        Mistake(
            lambda r: r - (r.sum() - r) / (r.numel() - 1),
            "It looks as if the others are all others of the batch: take those of the same "
            "prompt, sums over dimension 1.",
        ),
        Mistake(
            lambda r: r - _others(r, dim=0),
            "It looks as if the wrong axis was taken: a row is a prompt, so sums run over "
            "dimension 1. Responses to other prompts say nothing about this one.",
        ),
        Mistake(
            lambda r: r - (r.sum(1, keepdim=True) - r) / r.shape[1],
            "The sum of the others is right, but there are group - 1 of them: divide by that.",
        ),
        Mistake(
            lambda r: r - (r.sum(1, keepdim=True) - r),
            "It looks as if the sum of the others was taken away: take their mean.",
        ),
        Mistake(
            _others, "This is the baseline, the mean of the others: take it away from the reward."
        ),
        Mistake(
            lambda r: _others(r) - r,
            "The sign is turned round: what did better than the others must come out above 0.",
        ),
        Mistake(
            _best_other,
            "It looks as if the best of the others is the baseline: take their mean, or "
            "nearly all advantages are below 0.",
        ),
    ),
    use="No value network, and the baseline leaves the gradient right on average, for no "
    "response has a part in its own.",
)

# ---- DPO -----------------------------------------------------------------------------------------


def _margins(chosen, rejected, ref_chosen, ref_rejected):
    """How much further the policy has gone towards the chosen response, in nats: (B,)."""
    return (chosen - ref_chosen) - (rejected - ref_rejected)


def _losses(chosen, rejected, ref_chosen, ref_rejected, beta):
    return -F.logsigmoid(beta * _margins(chosen, rejected, ref_chosen, ref_rejected))


def _changed_places(chosen, rejected, ref_chosen, ref_rejected, beta):
    return maths.dpo_loss(rejected, chosen, ref_rejected, ref_chosen, beta)


DPO_LOSS = Exercise(
    "dpo_loss",
    maths.dpo_loss,
    cases=(
        Case(
            "two pairs",
            {
                "chosen_logprobs": torch.tensor([-20.0, -31.0]),
                "rejected_logprobs": torch.tensor([-24.0, -25.0]),
                "ref_chosen": torch.tensor([-23.0, -30.0]),
                "ref_rejected": torch.tensor([-22.0, -26.5]),
                "dpo_beta": 0.1,
            },
        ),
        Case(
            "a policy that is the reference, where the loss is ln 2",
            {
                "chosen_logprobs": torch.tensor([-12.0, -40.0, -8.0]),
                "rejected_logprobs": torch.tensor([-15.0, -22.0, -9.0]),
                "ref_chosen": torch.tensor([-12.0, -40.0, -8.0]),
                "ref_rejected": torch.tensor([-15.0, -22.0, -9.0]),
                "dpo_beta": 0.3,
            },
        ),
        Case(
            "a pair that is wrong by 300 nats, at a high price",
            {
                "chosen_logprobs": torch.tensor([-180.0, -11.0]),
                "rejected_logprobs": torch.tensor([-15.0, -14.0]),
                "ref_chosen": torch.tensor([-30.0, -12.0]),
                "ref_rejected": torch.tensor([-165.0, -13.0]),
                "dpo_beta": 0.5,
            },
        ),
    ),
    mistakes=(
        Mistake(
            lambda c, r, ref_c, ref_r, beta: maths.pair_loss(beta * c, beta * r),
            "It looks as if the reference is missing. Without it nothing holds the policy, "
            "and the longer response, less likely by its length alone, starts far behind.",
        ),
        Mistake(
            lambda c, r, ref_c, ref_r, beta: maths.dpo_loss(c, r, -ref_c, -ref_r, beta),
            "It looks as if the reference was added: the implicit score is beta * (logprobs - "
            "ref_logprobs), each with the reference's of the same response.",
        ),
        Mistake(
            _changed_places,
            "It looks as if chosen and rejected changed places: the loss must fall when the "
            "chosen response becomes likelier.",
        ),
        Mistake(
            lambda *x: -maths.dpo_loss(*x),
            "It looks as if the minus is missing: a log-probability is below 0, and a loss is "
            "what should become small.",
        ),
        Mistake(
            lambda *x: -_changed_places(*x),
            "Two signs are turned round: chosen and rejected changed places, and the minus is "
            "missing.",
        ),
        Mistake(
            lambda *x: maths.dpo_loss(*x[:4], 1.0),
            "It looks as if beta is missing: it says how many nats a margin is worth.",
        ),
        Mistake(
            lambda *x: x[4] * maths.dpo_loss(*x[:4], 1.0),
            "It looks as if beta stands before the loss, where it only scales the step: it "
            "belongs inside the sigmoid, before the margin.",
        ),
        Mistake(
            lambda *x: maths.dpo_loss(*x[:4], 1 / x[4]),
            "It looks as if the margin was divided by beta: multiply.",
        ),
        Mistake(
            lambda *x: -torch.sigmoid(x[4] * _margins(*x[:4])).log().mean(),
            "It overflows: where a pair is wrong by hundreds of nats, sigmoid or exp runs out "
            "of digits before the log is taken. F.logsigmoid does both in one step.",
        ),
        Mistake(
            lambda *x: _losses(*x).sum(),
            "It looks like the sum over the pairs: take the mean, so that the size of a step "
            "does not depend on the batch size.",
        ),
        Mistake(_losses, "It looks as if the mean over the pairs is missing."),
        Mistake(
            lambda *x: -F.logsigmoid(x[4] * _margins(*x[:4]).mean()),
            "It looks as if the mean over the pairs was taken before the sigmoid: then one "
            "pair that is far ahead hides another that is wrong.",
        ),
        Mistake(
            lambda *x: -torch.sigmoid(x[4] * _margins(*x[:4])).mean(),
            "It looks as if the log is missing: this is minus the mean probability, which "
            "hardly pulls at a pair that is quite wrong.",
        ),
        Mistake(
            lambda *x: (1 - torch.sigmoid(x[4] * _margins(*x[:4]))).mean(),
            "It looks as if the log is missing: 1 - sigmoid hardly pulls at a pair that is "
            "quite wrong.",
        ),
        Mistake(
            lambda *x: -(x[4] * _margins(*x[:4])).mean(),
            "It looks as if the sigmoid is missing: without it the loss falls without end, "
            "and pairs that are right already pull as hard as the wrong ones.",
        ),
        Mistake(
            lambda c, r, ref_c, ref_r, beta: -F.logsigmoid(beta * (c - ref_c)).mean(),
            "It looks as if the rejected response is missing: a comparison is a difference of "
            "two implicit scores.",
        ),
        Mistake(
            lambda c, r, ref_c, ref_r, beta: maths.pair_loss(
                beta * (c - ref_c).exp(), beta * (r - ref_r).exp()
            ),
            "It looks as if probabilities were divided: the implicit score is made of the "
            "difference of the logs, so leave out the exp.",
        ),
        Mistake(
            lambda c, r, ref_c, ref_r, beta: maths.pair_loss(beta * c / ref_c, beta * r / ref_r),
            "It looks as if the log-probabilities were divided: the log of a ratio is their "
            "difference.",
        ),
    ),
    use="The pair loss of notebook 03, with the policy's own log-ratio for a score: no reward "
    "model is needed.",
    gradient="chosen_logprobs",
)
