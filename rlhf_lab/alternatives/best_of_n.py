"""Best-of-n: sample n responses, return the one that the reward model scores highest.

Nothing is trained, and the SFT policy does not change. The cost comes with every use: n responses
are sampled and scored for each one returned (Stiennon et al. 2020; Gao et al. 2022).
"""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import Judge, Responses, respond, scores_of
from rlhf_lab.intervals import interval
from rlhf_lab.models import ScalarModel
from rlhf_lab.records import Prompt
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.training import Record


def best_of_n(
    policy: PreTrainedModel,
    reward_model: ScalarModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    n: int,
    seed: int = 0,
    judge: Judge | None = None,
    sampling: SamplingConfig = SamplingConfig(),
) -> Responses:
    """The best-scored of n responses to each prompt, marked if there is a judge.

    The seeds are those of `evaluate.respond`: n = 1 gives what the policy itself answers.
    """
    if n < 1:
        raise UserError(f"best of n = {n}: n must be at least 1")
    # 1. n responses to each prompt.
    drawn = respond(policy, tokenizer, prompts, n, seed, config=sampling)
    # 2. The reward model scores them all.
    scores = scores_after_penalty(reward_model, drawn)  # (P, n)
    # 3. Return the best one; the judge sees no other.
    best = drawn.pick(scores.argmax(1))
    if judge:
        best.marks = [[judge(p, text)] for p, (text,) in zip(best.prompts, best.texts)]
    return best


def scores_after_penalty(reward_model: ScalarModel, drawn: Responses) -> Tensor:
    """The scores, (P, S), with the no-end penalty that the other methods use in training."""
    return maths.no_end_penalty(scores_of(reward_model, drawn), drawn.ended)


def frontier(drawn: Responses, scores: Tensor, sizes: Sequence[int]) -> list[Record]:
    """What best-of-n gives and costs for each n of `sizes`, from the same S marked responses to
    each prompt; scores (P, S). One record each:

    objective/scores, judge/mark: expected score and mark of the best of n, unbiased, over all ways
    to draw n of the S; judge/mark_low and _high: the mark's 95 % interval over prompts.
    objective/kl: estimated, ties included (it cannot exceed ln S: use S well above n);
    objective/kl_bound: its value without ties. episode and steps are 0: nothing is trained.
    use/samples, use/tokens: how many are sampled and scored for one answer.

    Raises UserError unless each n is from 1 to S.
    """
    marks = drawn.mark_table()
    tokens = float(drawn.sequences.mask.sum(1).float().mean())
    records: list[Record] = []
    for n in sizes:
        mark, low, high = interval(maths.best_of_n_value(scores, marks, n)[:, None])
        records.append(
            {
                "stage": "best_of_n",
                "n": n,
                "episode": 0,
                "steps": 0,
                "use/samples": n,
                "use/tokens": n * tokens,
                "objective/scores": float(maths.best_of_n_value(scores, scores, n).mean()),
                "objective/kl": float(maths.best_of_n_kl_estimate(scores, n).mean()),
                "objective/kl_bound": maths.best_of_n_kl_bound(n),
                "judge/mark": mark,
                "judge/mark_low": low,
                "judge/mark_high": high,
            }
        )
    return records
