"""Helpful, harmless, honest: the runs behind notebook 11.

Four questions, each with the arms that answer it; every arm has three seeds.

    what PPO does to made-up facts, needless refusals and harmful compliance     default
    two reward models, of helpfulness and of harmlessness, weighed (Bai et al. 2022)    helpful ...
    sycophancy: does a labeller who likes agreement teach it?      none, a fifth or half agreeable
    the alignment tax: does the policy still know the facts?        several values of beta

All arms start from the SFT policy of their seed and from the same four answers to each prompt. In
the arms on sycophancy the rankings are of the same answers, as many as in the others; only who made
them differs. All arms were named before any of them was run.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab.evaluate import Responses, scores_of
from rlhf_lab.intervals import Interval, share_interval
from rlhf_lab.models import Ensemble, ScalarModel
from rlhf_lab.records import HIGHEST_RANK, Ranking
from rlhf_lab.reward import normalise
from rlhf_lab.sequences import Sequences, in_batches, response_logprobs
from rlhf_lab.studies.ground import Ground, Rows
from rlhf_lab.tasks.labellers import Labeller

RANKINGS = 900
AGREEABLE = "agreeable"  # the labeller who likes agreement
SYCOPHANCY = "agreements with a wrong belief"


@dataclass(frozen=True)
class Arm:
    """beta: the price of KL. helpful: the weight of the reward model of helpfulness, that of
    harmlessness has the rest of 1; None: one reward model from the task's labellers. agreeable: the
    share of the rankings that the agreeable labeller made."""

    name: str
    beta: float = 0.05
    helpful: float | None = None
    agreeable: float = 0.2


ARMS = (
    Arm("default"),
    Arm("none agreeable", agreeable=0.0),
    Arm("half agreeable", agreeable=0.5),
    *(Arm(f"helpful {weight:g}", helpful=weight) for weight in (0.0, 0.25, 0.5, 0.75, 1.0)),
    Arm("beta 0.2", beta=0.2),
    Arm("beta 0", beta=0.0),
)


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Run one arm, unless it was run already, and return its summary.

    "sft" and "policy" are what `Ground.judge` finds, each with "rates" (see `rates`) and "probe"
    (see `probe`). "pairs" and "reward": how often an answer that agrees
    with a wrong belief stands above one that does not, in the rankings and by the scores. Writes
    metrics.jsonl.gz and answers.jsonl.gz.
    """
    return ground.once(arm.name, seed, lambda: _run(ground, arm, seed))


def _run(ground: Ground, arm: Arm, seed: int) -> tuple[dict, dict[str, Rows]]:
    drawn, sft = ground.drawn(seed), ground.policy(seed)
    rankings = ranked(ground, drawn, arm, seed)
    score = reward_model(ground, drawn, rankings, arm, seed)
    policy, metrics = ground.optimise(score, seed, arm.beta)
    answers, before = ground.answers(policy, seed), ground.rivals(seed)
    items = ground.task.facts_probe()
    summary = {
        "arm": asdict(arm),
        "seed": seed,
        "sft": ground.judge_sft(seed, score) | described(before, sft, ground.tokenizer, items),
        "policy": ground.judge(policy, answers, seed, score)
        | described(answers, policy, ground.tokenizer, items),
        "pairs": agreeing_first(rankings, ground),
        "reward": agreeing_higher(before, scores_of(score, before)),
    }
    rows = [
        {"prompt": p.text, "kind": p.facts["kind"], "sft": old[0], "policy": new[0]}
        for p, old, new in zip(answers.prompts, before.texts, answers.texts)
    ]
    return summary, {"metrics": metrics, "answers": rows}


# ---- rankings and reward models ------------------------------------------------------------------


def ranked(ground: Ground, drawn: Responses, arm: Arm, seed: int) -> list[Ranking]:
    """The rankings of an arm, by the task's labellers in turn; the agreeable one makes the arm's
    share of them."""
    return ground.rankings(drawn, RANKINGS, seed, in_turn(ground.task.labellers, arm.agreeable))


def in_turn(labellers: Sequence[Labeller], agreeable: float) -> list[Labeller]:
    """Labellers in the order in which they take turns, the agreeable one with this share: 0, one of
    all, or a half."""
    others = [one for one in labellers if one.name != AGREEABLE]
    if agreeable == 0:
        return others
    [liking] = [one for one in labellers if one.name == AGREEABLE]
    return [*others, liking] if agreeable < 0.5 else [x for one in others for x in (one, liking)]


def reward_model(
    ground: Ground, drawn: Responses, rankings: Sequence[Ranking], arm: Arm, seed: int
) -> ScalarModel | Ensemble:
    """What PPO optimises in this arm: the reward model of the rankings, or the weighed sum of two,
    one for each aspect, that learned from the same answers."""
    if arm.helpful is None:
        return ground.reward_model(rankings, drawn, seed)
    aspects = [
        ground.reward_model(ground.rankings(drawn, RANKINGS, seed, [one]), drawn, seed)
        for one in (ground.task.aspects[name] for name in ("helpfulness", "harmlessness"))
    ]
    both = Ensemble(aspects, weighed(arm.helpful))
    normalise(both, scores_of(both, drawn))
    return both


def weighed(helpful: float) -> Callable[[Tensor], Tensor]:
    """The weighed sum of the scores of helpfulness and harmlessness, (2, B) -> (B,)."""
    return lambda scores: helpful * scores[0] + (1 - helpful) * scores[1]


# ---- what came of it -----------------------------------------------------------------------------


def described(
    answers: Responses, policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence
) -> dict:
    """The rates and the probe of one policy, for the summary."""
    return {"rates": rates(answers), "probe": probe(policy, tokenizer, items)}


def rates(answers: Responses) -> dict[str, dict[str, Interval]]:
    """For each kind of request, the share of answers that have each flaw at least once, with a 95 %
    interval over prompts."""
    flaws = sorted({flaw for row in answers.judged for mark in row for flaw in mark.flaws})
    kinds = [prompt.facts["kind"] for prompt in answers.prompts]
    found: dict[str, dict[str, Interval]] = {}
    for kind in sorted(set(kinds)):
        rows = torch.tensor([other == kind for other in kinds])
        found[kind] = {
            flaw: share_interval((answers.flaw_table(flaw)[rows] > 0).float().mean(1))
            for flaw in flaws
        }
    return found


def probe(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[tuple[str, str, Sequence[str]]],
) -> Interval:
    """Of how many facts the model finds the right value more likely than each wrong one, where a
    document would tell it: the beginning of a sentence, the right value, the wrong ones. A share
    from 0 to 1, with a 95 % interval over facts. No answer is sampled: it measures what the model
    knows and not what it says."""
    written = [(begin, value) for begin, right, wrong in items for value in (right, *wrong)]
    batch = Sequences.of_text(tokenizer, [(begin, value, False) for begin, value in written])
    found = in_batches(lambda model, rows: response_logprobs(model, rows)[0].sum(1), policy, batch)
    ahead, at = [], 0
    for _, _, wrong in items:
        own = found[at : at + 1 + len(wrong)]
        ahead.append(float(own[0] > own[1:].max()))
        at += 1 + len(wrong)
    return share_interval(ahead)


def agreeing_first(rankings: Sequence[Ranking], ground: Ground) -> Interval:
    """How often the labellers put an answer that agrees with a wrong belief before one that does
    not, ties half; over prompts."""
    wins, pairs = [], []
    for ranking in rankings:
        agrees = [
            ground.task.judge(ranking.prompt, text).flaws[SYCOPHANCY] > 0
            for text in ranking.responses
        ]
        ranks = [rank if rank is not None else HIGHEST_RANK for rank in ranking.ranks]
        compared = [
            ((ranks[i] < ranks[j]) + (ranks[i] <= ranks[j])) / 2
            for i in range(len(ranks))
            for j in range(len(ranks))
            if agrees[i] and not agrees[j]
        ]
        wins.append(sum(compared)), pairs.append(len(compared))
    return share_interval(wins, pairs)


def agreeing_higher(answers: Responses, scores: Tensor) -> Interval:
    """How often an answer that agrees with a wrong belief has a higher score than one to the same
    prompt that does not; over prompts."""
    agrees = answers.flaw_table(SYCOPHANCY) > 0
    pairs = agrees[:, :, None] & ~agrees[:, None, :]
    ahead = ((scores[:, :, None] - scores[:, None, :]).sign() + 1) / 2
    return share_interval((ahead * pairs).sum((1, 2)), pairs.sum((1, 2)))
