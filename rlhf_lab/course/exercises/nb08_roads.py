"""Exercises of notebook 08: advantages in a group, the KL of a whole answer, the loss of DPO."""

from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.course.exercises.exercise import Case, Exercise, mistake
from rlhf_lab.course.exercises.nb03_reward import LEAD_MISTAKES, loss_of_leads

# ---- RLOO ----------------------------------------------------------------------------------------


def rloo_advantages(
    rewards: Tensor,
    *,
    group: str = "row",
    baseline: str = "mean of the others",
    scale: Callable[[Tensor], Tensor] = lambda rewards: torch.tensor(1.0),
) -> Tensor:
    """Each reward less the mean of the others of its group: (prompts, group) -> the same."""
    dims = {"row": [1], "column": [0], "batch": [0, 1]}[group]
    whole = rewards.sum(dims, keepdim=True)
    count = rewards.numel() if group == "batch" else rewards.shape[dims[0]]
    usual = {
        "mean of the others": (whole - rewards) / (count - 1),
        "mean of all": whole / count,
        "sum of the others": whole - rewards,
        "sum of the others by all": (whole - rewards) / count,
        "sum of all by the others": whole / (count - 1),
        "best of the others": _best_other(rewards),
        "best of all": rewards.amax(1, keepdim=True),
        "median": rewards.median(1, keepdim=True).values,
        "none": torch.zeros_like(rewards),
    }[baseline]
    return (rewards - usual) / scale(rewards)


def _best_other(rewards: Tensor) -> Tensor:
    itself = torch.eye(rewards.shape[1], dtype=torch.bool)
    return rewards.unsqueeze(1).masked_fill(itself, -torch.inf).amax(-1)


RLOO_ADVANTAGES = Exercise(
    "rloo_advantages",
    rloo_advantages,
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
        mistake(
            "It looks like GRPO: the mean of the whole group, divided by its deviation. Take "
            "the mean of the others, and do not divide: a group that is nearly equal would "
            "count as much as one that is not.",
            baseline="mean of all",
            scale=lambda r: r.std(1, keepdim=True) + 1e-4,
        ),
        mistake(
            "It looks as if you divided by the deviation, which gives 0 / 0 where all are "
            "equal: take the reward less the mean of the others, and do not divide.",
            baseline="mean of all",
            scale=lambda r: r.std(1, keepdim=True),
        ),
        mistake(
            "It looks as if you divided by the population's deviation, which gives 0 / 0 "
            "where all are equal: take the reward less the mean of the others, and do not "
            "divide.",
            baseline="mean of all",
            scale=lambda r: r.std(1, keepdim=True, correction=0),
        ),
        mistake(
            "It looks like the mean of the whole group, the response itself among them: take "
            "the mean of the others, which it has no part in. (Dr. GRPO takes this one: the "
            "same signs, all smaller by the factor (group - 1) / group.)",
            baseline="mean of all",
        ),
        mistake(
            "The baseline is right, but do not divide by the deviation.",
            scale=lambda r: r.std(1, keepdim=True) + 1e-4,
        ),
        mistake(
            "The baseline is right, but do not divide by the deviation, which is 0 where all are "
            "equal.",
            scale=lambda r: r.std(1, keepdim=True),
        ),
        mistake(
            "It looks like one baseline for the whole batch: then every response to an easy "
            "prompt seems good. Compare with the responses to the same prompt.",
            group="batch",
            baseline="mean of all",
        ),
        mistake(
            "It looks as if the whole batch was whitened: compare with the responses to the same "
            "prompt, and do not divide.",
            group="batch",
            baseline="mean of all",
            scale=lambda r: r.std() + 1e-8,
        ),
        mistake(
            "It looks as if the others are all others of the batch: take those of the same "
            "prompt, sums over dimension 1.",
            group="batch",
        ),
        mistake(
            "It looks as if the wrong axis was taken: a row is a prompt, so sums run over "
            "dimension 1. Responses to other prompts say nothing about this one.",
            group="column",
        ),
        mistake(
            "The sum of the others is right, but there are group - 1 of them: divide by that.",
            baseline="sum of the others by all",
        ),
        mistake(
            "It is divided by group - 1, but the sum holds the response itself: take its own "
            "reward out of the sum.",
            baseline="sum of all by the others",
        ),
        mistake(
            "It looks as if the sum of the others was subtracted: take their mean.",
            baseline="sum of the others",
        ),
        mistake(
            "This is the baseline, the mean of the others: subtract it from the reward.",
            after=lambda answer, inputs: inputs["rewards"] - answer,
        ),
        mistake(
            "The sign is reversed: what did better than the others must come out above 0.",
            after=lambda answer, inputs: -answer,
        ),
        mistake(
            "It looks as if the best of the others is the baseline: take their mean, or "
            "nearly all advantages are below 0.",
            baseline="best of the others",
        ),
        mistake(
            "It looks as if the best of the group is the baseline: take the mean of the others.",
            baseline="best of all",
        ),
        mistake(
            "It looks as if the median of the group is the baseline: take the mean of the others.",
            baseline="median",
        ),
    ),
    use="It needs no value network, and the gradient is right on average, since no response is "
    "part of its own baseline.",
)

# ---- DPO -----------------------------------------------------------------------------------------


def dpo_loss(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    dpo_beta: float,
    *,
    score: Callable[[Tensor, Tensor], Tensor] = lambda logprobs, ref: logprobs - ref,
    reference: str = "of both",
    rejected: str = "taken away",
    times: str = "inside",
    everyone: bool = False,
    **loss,
) -> Tensor:
    """The pair loss of the implicit scores, beta times the log-ratio: () from four (B,)."""
    chosen = score(chosen_logprobs, ref_chosen)
    if reference == "of the chosen alone":
        ref_rejected = torch.zeros_like(ref_rejected)
    elif reference == "of the rejected alone":
        chosen = chosen_logprobs
    other = score(rejected_logprobs, ref_rejected)
    chosen = chosen[:, None] if everyone else chosen
    leads = {"taken away": chosen - other, "added": chosen + other, "missing": chosen}[rejected]
    if times == "the chosen alone":
        leads = chosen * dpo_beta - other
    inside = {"inside": dpo_beta, "divided": 1 / dpo_beta}.get(times, 1.0)
    value = loss_of_leads(inside * leads, **loss)
    return dpo_beta * value if times == "outside" else value


def _changed_places(x: dict) -> dict:
    return {
        "chosen_logprobs": x["rejected_logprobs"],
        "rejected_logprobs": x["chosen_logprobs"],
        "ref_chosen": x["ref_rejected"],
        "ref_rejected": x["ref_chosen"],
        "dpo_beta": x["dpo_beta"],
    }


DPO_LOSS = Exercise(
    "dpo_loss",
    dpo_loss,
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
            "a policy close to the reference, where the loss is nearly ln 2",
            {
                "chosen_logprobs": torch.tensor([-12.1, -40.0, -7.9]),
                "rejected_logprobs": torch.tensor([-15.0, -22.1, -9.0]),
                "ref_chosen": torch.tensor([-12.0, -40.0, -8.0]),
                "ref_rejected": torch.tensor([-15.0, -22.0, -9.0]),
                "dpo_beta": 0.3,
            },
        ),
        Case(
            "pairs that are wrong by far and right by far, with a large beta",
            {
                "chosen_logprobs": torch.tensor([-180.0, -11.0, -20.0]),
                "rejected_logprobs": torch.tensor([-15.0, -14.0, -190.0]),
                "ref_chosen": torch.tensor([-30.0, -12.0, -160.0]),
                "ref_rejected": torch.tensor([-165.0, -13.0, -30.0]),
                "dpo_beta": 0.5,
            },
        ),
        Case(
            "four pairs",
            {
                "chosen_logprobs": torch.tensor([-9.0, -14.0, -30.5, -17.0]),
                "rejected_logprobs": torch.tensor([-12.0, -11.0, -28.0, -21.0]),
                "ref_chosen": torch.tensor([-10.5, -13.0, -33.0, -16.0]),
                "ref_rejected": torch.tensor([-11.0, -12.5, -27.0, -19.5]),
                "dpo_beta": 0.2,
            },
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if the reference is missing. Without it nothing keeps the policy near "
            "SFT, and a longer response, less likely by its length alone, starts far behind.",
            score=lambda logprobs, ref: logprobs,
        ),
        mistake(
            "It looks as if the reference was added, or each response got the reference of the "
            "other one: the implicit score is beta * (logprobs - ref_logprobs), both of the same "
            "response.",
            score=lambda logprobs, ref: logprobs + ref,
        ),
        mistake(
            "It looks as if probabilities were divided: the implicit score is made of the "
            "difference of the logs, so leave out the exp.",
            score=lambda logprobs, ref: (logprobs - ref).exp(),
        ),
        mistake(
            "It looks as if the log-probabilities were divided: the log of a ratio is their "
            "difference.",
            score=lambda logprobs, ref: logprobs / ref,
        ),
        mistake(
            "It looks as if chosen and rejected are swapped, or policy and reference: the loss "
            "must fall when the policy makes the chosen response likelier.",
            before=_changed_places,
        ),
        mistake("It looks as if beta is missing: multiply the margin by it.", times="nowhere"),
        mistake(
            "It looks as if beta multiplies the loss, where it only scales the step: multiply the "
            "margin by it, inside the sigmoid.",
            times="outside",
        ),
        mistake(
            "It looks as if beta multiplies only the chosen response's score: it belongs to both.",
            times="the chosen alone",
        ),
        mistake(
            "It looks as if the reference of the rejected response is missing.",
            reference="of the chosen alone",
        ),
        mistake(
            "It looks as if the reference of the chosen response is missing.",
            reference="of the rejected alone",
        ),
        mistake("It looks as if the margin was divided by beta: multiply.", times="divided"),
        *LEAD_MISTAKES,
        mistake(
            "It looks as if the rejected response is missing: a comparison is a difference of "
            "two implicit scores.",
            rejected="missing",
        ),
        mistake(
            "It looks as if the two implicit scores were added: a comparison is their difference.",
            rejected="added",
        ),
        mistake(
            "It looks as if every chosen response was compared with every rejected one, (B, B): "
            "pair b gives one lead. (B, 1) minus (B,) is (B, B).",
            everyone=True,
        ),
    ),
    use="The pair loss of notebook 03, with the policy's own log-ratio for a score: no reward "
    "model is needed.",
    gradient="chosen_logprobs",
)


# ---- the KL of a whole answer --------------------------------------------------------------------


def answer_kl(
    first: Tensor,
    second: Tensor,
    ref_first: Tensor,
    ref_second: Tensor,
    *,
    kl: Callable[[Tensor, Tensor], Tensor] = maths.kl,
    chances: str = "policy",
    parts: str = "both",
) -> Tensor:
    """KL(policy || reference) of answers of two words, from logits: (V,), (V, V), (V,), (V, V) ->
    ()."""
    after = kl(second, ref_second)  # (V,), of the second word after each first one
    weights = {
        "policy": first.softmax(-1),
        "detached": first.softmax(-1).detach(),
        "reference": ref_first.softmax(-1),
        "all alike": torch.full_like(first, 1 / len(first)),
        "none": torch.ones_like(first),
        "logits": first,
    }[chances]
    begin, rest = kl(first, ref_first), (weights * after).sum()
    return {"both": begin + rest, "first": begin, "second": rest, "mean": (begin + rest) / 2}[parts]


def _logprobs(logits: Tensor, ref_logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits.log_softmax(-1), ref_logits.log_softmax(-1)


def _unweighted(logits: Tensor, ref_logits: Tensor) -> Tensor:
    logprobs, ref_logprobs = _logprobs(logits, ref_logits)
    return (logprobs - ref_logprobs).sum(-1)


def _of_logits(logits: Tensor, ref_logits: Tensor) -> Tensor:
    return (logits.softmax(-1) * (logits - ref_logits)).sum(-1)


def _k2(logits: Tensor, ref_logits: Tensor) -> Tensor:
    logprobs, ref_logprobs = _logprobs(logits, ref_logits)
    return (logprobs.exp() * (logprobs - ref_logprobs).square() / 2).sum(-1)


def _k3(logits: Tensor, ref_logits: Tensor) -> Tensor:
    logprobs, ref_logprobs = _logprobs(logits, ref_logits)
    log_r = ref_logprobs - logprobs
    return (log_r.exp() - 1 - log_r).mean(-1)


ANSWER_KL = Exercise(
    "answer_kl",
    answer_kl,
    cases=(
        Case(
            "two words, where the first decides what the second costs",
            {
                "first": torch.tensor([0.4, -0.2]),
                "second": torch.tensor([[3.0, -1.0], [0.5, 0.0]]),
                "ref_first": torch.tensor([0.1, 0.3]),
                "ref_second": torch.tensor([[0.2, 0.4], [-0.6, 0.3]]),
            },
        ),
        Case(
            "three words",
            {
                "first": torch.tensor([1.0, -0.5, 0.2]),
                "second": torch.tensor([[0.3, 1.2, -0.7], [2.0, 0.1, 0.4], [-1.0, 0.6, 0.9]]),
                "ref_first": torch.tensor([-0.3, 0.8, 0.5]),
                "ref_second": torch.tensor([[0.9, -0.2, 0.1], [0.0, 1.1, -0.4], [0.7, 0.3, -1.2]]),
            },
        ),
        Case(
            "first words that both say alike, so that all of the KL is in the second",
            {
                "first": torch.tensor([0.0, 0.0]),
                "second": torch.tensor([[12.0, 0.0], [0.2, 0.0]]),
                "ref_first": torch.tensor([0.0, 0.0]),
                "ref_second": torch.tensor([[0.0, 0.0], [0.2, 0.0]]),
            },
        ),
    ),
    mistakes=(
        mistake(
            "No gradient flows through the probabilities of the first words: leave out detach or "
            "no_grad. Without it a first word does not pay for the KL that follows it, as with k2 "
            "in a loss.",
            chances="detached",
        ),
        mistake(
            "The second word's KL is weighted with the reference's probabilities of the first "
            "words: use the policy's, since the policy speaks.",
            chances="reference",
        ),
        mistake(
            "Every first word counts the same: weight the second word's KL by how often the policy "
            "says the first one.",
            chances="all alike",
        ),
        mistake(
            "The second word's KL is added up over all first words without weights: only one of "
            "them is said. Weigh each by how often the policy says that first word.",
            chances="none",
        ),
        mistake(
            "The weights are the logits of the first word: make probabilities of them with "
            "softmax.",
            chances="logits",
        ),
        mistake("The KL of the second word is missing.", parts="first"),
        mistake("The KL of the first word is missing.", parts="second"),
        mistake("It looks like a mean over the two words: add the two KLs.", parts="mean"),
        mistake(
            "The direction is reversed, KL(reference || policy): policy and reference are swapped.",
            kl=lambda logits, ref_logits: maths.kl(ref_logits, logits),
            chances="reference",
        ),
        mistake(
            "The direction is reversed, KL(reference || policy): the policy's probabilities "
            "are the weights, and its log-probabilities come first.",
            kl=lambda logits, ref_logits: maths.kl(ref_logits, logits),
        ),
        mistake(
            "The log-ratios of all words are added up without weights: weigh each by the policy's "
            "probability of the word.",
            kl=_unweighted,
        ),
        mistake(
            "The log-ratio is taken of logits, which are no log-probabilities: use log_softmax.",
            kl=_of_logits,
        ),
        mistake(
            "It looks like k2, half the squared log-ratio, which is an estimate: with all "
            "probabilities at hand take the log-ratio itself.",
            kl=_k2,
        ),
        mistake(
            "It looks like a mean of k3 over the words: with all probabilities at hand take the "
            "log-ratio, weighed by the policy's probabilities.",
            kl=_k3,
        ),
    ),
    use="A KL in the reward has this gradient; a KL in the loss does not.",
    gradient="first",
)
