"""A run's outcome in plain words, from its summary: better, worse or unclear."""

import math

from rlhf_lab.disk.jsonl import plain

# What to say, by two signs: wins clearly above half (1), below (-1) or neither (0); mark likewise.
OUTCOMES = {
    (1, 1): "PPO made the answers better",
    (-1, -1): "PPO made the answers worse",
    (0, 0): "PPO did not clearly make the answers better or worse",
    (1, 0): "PPO's outcome is mixed, with more wins but no clearly higher mark",
    (-1, 0): "PPO's outcome is mixed, with fewer wins but no clearly lower mark",
    (0, 1): "PPO's outcome is mixed, with a higher mark but not clearly more wins",
    (0, -1): "PPO's outcome is mixed, with a lower mark but not clearly fewer wins",
    (1, -1): "PPO's outcome is mixed, with more wins but a lower mark",
    (-1, 1): "PPO's outcome is mixed, with fewer wins but a higher mark",
}


def verdict(summary: dict) -> str:
    """One sentence: did PPO make the answers better, by the judge's mark and win rate?

    It says better or worse only if both changed clearly: the 95 % interval of the win rate lies on
    one side of a half, and the mean mark differs by more than chance explains (`change`).
    """
    base, sft, policy, _ = _models(summary)
    before, mark = estimate(sft, "mark"), estimate(policy, "mark")
    if before is None or mark is None:
        return _without_judge(sft, policy)
    way = "up from" if mark > before else "down from" if mark < before else "as much as"
    marks = f"the judge gives the policy {mark:.2f} points, {way} {before:.2f} for SFT"
    if estimate(base, "mark") is not None:
        marks += f" (the base model has {estimate(base, 'mark'):.2f})"
    rate, low, high = policy.get("win_rate_against_sft") or (None, None, None)
    changed = change(policy, sft, "mark")
    if rate is None or low is None or high is None or changed is None:
        return f"Too few prompts to tell whether PPO made the answers better: {marks}."
    outcome = OUTCOMES[(low > 0.5) - (high < 0.5), changed]
    return (
        f"{outcome}: {marks}, and prefers its answer to SFT's in {100 * rate:.0f} % of pairs, "
        f"ties counted half (95 % interval {100 * low:.0f} to {100 * high:.0f} %)."
    )


def warnings(summary: dict) -> list[str]:
    """Warnings for the reader, one sentence each; [] if nothing is wrong."""
    base, sft, policy, best = _models(summary)
    clear = (summary.get("reward_model") or {}).get("clear") or {}
    ours, before = (model.get("rubric") or {} for model in (policy, sft))
    worse = [item for item in ours if change(ours, before, item) == -1]
    checks = [
        (
            change(policy, sft, "score") == 1 and change(policy, sft, "mark") in (0, -1),
            "The reward model clearly prefers the policy's answers to SFT's, but the judge does "
            "not: PPO has exploited errors of the reward model (over-optimisation).",
        ),
        (worse, f"The policy does worse than SFT on: {', '.join(worse)}."),
        (
            change(best, policy, "mark") == 1,
            "Best of n, which needs no training, has a clearly higher mark than the policy.",
        ),
        (
            change(sft, base, "mark") in (0, -1),
            "SFT did not clearly raise the mark, so PPO started from a poor model: check SFT's "
            "loss.",
        ),
        (
            _below(estimate(clear, "accuracy"), 0.65),
            "The reward model is hardly better than chance, even on clear pairs: use more "
            "rankings, or labellers who agree more.",
        ),
        (
            _below(estimate(policy, "distinct"), 0.6 * (estimate(sft, "distinct") or 0)),
            "The policy repeats itself: its answers to one prompt are far less varied than SFT's.",
        ),
        (
            _below(20, estimate(policy, "kl")),
            "The policy is far from SFT (over 20 nats of KL): a higher beta keeps it closer.",
        ),
        (
            _below(estimate(policy, "kl"), 0.5),
            "The policy has hardly moved from SFT (less than half a nat of KL): try a lower "
            "beta, a higher learning rate or more updates.",
        ),
        (
            _below(estimate(policy, "ended"), 0.9),
            "More than one in ten of the policy's answers is cut off at the length limit.",
        ),
    ]
    more = [
        f"The policy's answers show this flaw more often than SFT's: {flaw}."
        for flaw, found in (policy.get("flaws_against_sft") or {}).items()
        if found and found[1] is not None and found[1] > 1
    ]
    return [sentence for holds, sentence in checks if holds] + more


def estimate(entries: dict, key: str) -> float | None:
    """The number of an entry, without its interval; None if there is none."""
    value = entries.get(key)
    return value[0] if isinstance(value, list) else value


def change(model: dict, before: dict, key: str) -> int | None:
    """1 if a figure is clearly higher than before, -1 if clearly lower, else 0; None if one of the
    two is unknown.

    Clearly means by more than half the width of the 95 % interval that the difference would have if
    the two were independent. They share their prompts, so the true error is smaller and the result
    errs towards 0.
    """
    now, then = model.get(key), before.get(key)
    if not now or not then or None in (now[0], then[0]):
        return None
    halves = [(high - low) / 2 if None not in (low, high) else 0.0 for _, low, high in (now, then)]
    return (now[0] - then[0] > math.hypot(*halves)) - (then[0] - now[0] > math.hypot(*halves))


def _models(summary: dict) -> tuple[dict, dict, dict, dict]:
    models = plain(summary).get("models") or {}
    base, sft, policy, best = (models.get(n) or {} for n in ("base", "sft", "policy", "best_of_n"))
    return base, sft, policy, best


def _below(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit


def _without_judge(sft: dict, policy: dict) -> str:
    before, score = estimate(sft, "score"), estimate(policy, "score")
    if before is None or score is None:
        return (
            "This run has not been evaluated: it shows how training went, but not how good the "
            "answers are."
        )
    return (
        f"No judge marked this run: its own reward model gives the policy {score:.2f} and SFT "
        f"{before:.2f}, which alone does not show that people would prefer its answers."
    )
