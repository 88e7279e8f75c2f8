"""A run's outcome in plain words, worked out from its summary: good, bad or unclear."""

from rlhf_lab.jsonl import plain


def verdict(summary: dict) -> str:
    """One sentence: did PPO make the answers better, by the judge's mark and win rate?

    Better or worse is said only where the win rate's 95 % interval lies on one side of a half and
    the mean mark agrees.
    """
    base, sft, policy = _models(summary)
    before, mark = estimate(sft, "mark"), estimate(policy, "mark")
    if before is None or mark is None:
        return _without_judge(sft, policy)
    change = "up from" if mark > before else "down from" if mark < before else "as much as"
    marks = f"the judge gives the policy {mark:.2f} points, {change} {before:.2f} for SFT"
    if estimate(base, "mark") is not None:
        marks += f" (the base model has {estimate(base, 'mark'):.2f})"
    rate, low, high = policy.get("win_rate_against_sft") or (None, None, None)
    if None in (rate, low, high):
        return f"Too few prompts to tell whether PPO made the answers better: {marks}."
    both = (f"{marks}, and prefers its answer to SFT's in {100 * rate:.0f} % of pairs, ties "
            f"counted half (95 % interval {100 * low:.0f} to {100 * high:.0f} %)")  # fmt: skip
    if low > 0.5 and mark > before:
        return f"PPO made the answers better: {both}."
    if high < 0.5 and mark < before:
        return f"PPO made the answers worse: {both}."
    if low > 0.5 or high < 0.5:
        return f"PPO's outcome is mixed, as mark and win rate disagree: {both}."
    return f"PPO did not clearly make the answers better or worse: {both}."


def warnings(summary: dict) -> list[str]:
    """What a reader should be wary of, a sentence each; none if all looks well."""
    base, sft, policy = _models(summary)
    clear = (summary.get("reward_model") or {}).get("clear") or {}
    checks = [
        (_rose(policy, sft, "score") and _rose(policy, sft, "mark") is False,
         "The reward model likes the policy's answers better than SFT's and the judge does not: "
         "PPO has found what the reward model gets wrong (over-optimisation)."),
        (_rose(sft, base, "mark") is False,
         "SFT did not raise the mark, so PPO started from a poor place: look at SFT's loss."),
        (_below(estimate(clear, "accuracy"), 0.65),
         "The reward model is hardly better than guessing, even on clear pairs: more rankings, or "
         "more agreement between labellers, would help."),
        (_below(estimate(policy, "distinct"), 0.6 * (estimate(sft, "distinct") or 0)),
         "The policy repeats itself: of its answers to one prompt, far fewer differ than SFT's."),
        (_below(20, estimate(policy, "kl")),
         "The policy has gone far from SFT (over 20 nats of KL): a higher beta holds it nearer."),
        (_below(estimate(policy, "kl"), 0.5),
         "The policy has hardly moved from SFT (less than half a nat of KL): try a lower beta, a "
         "higher learning rate or more updates."),
        (_below(estimate(policy, "ended"), 0.9),
         "More than one answer of the policy in ten breaks off at the longest length allowed."),
    ]  # fmt: skip
    more = [f"The policy's answers have more often {flaw} than SFT's."
            for flaw, (_, low, _) in (policy.get("flaws_against_sft") or {}).items()
            if low is not None and low > 1]  # fmt: skip
    return [sentence for holds, sentence in checks if holds] + more


def estimate(entries: dict, key: str) -> float | None:
    """An entry's number, without its interval; None where there is none."""
    value = entries.get(key)
    return value[0] if isinstance(value, list) else value


def _models(summary: dict) -> tuple[dict, dict, dict]:
    models = plain(summary).get("models") or {}
    return tuple(models.get(name) or {} for name in ("base", "sft", "policy"))


def _rose(model: dict, before: dict, key: str) -> bool | None:
    """Whether a figure is higher than before; None where one is not known."""
    now, then = estimate(model, key), estimate(before, key)
    return None if now is None or then is None else now > then


def _below(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit


def _without_judge(sft: dict, policy: dict) -> str:
    before, score = estimate(sft, "score"), estimate(policy, "score")
    if before is None or score is None:
        return ("This run has not been evaluated: it shows how training went, not how good the "
                "answers are.")  # fmt: skip
    return (f"No judge marked this run: its own reward model gives the policy {score:.2f} and SFT "
            f"{before:.2f}, which alone does not show that people would like its answers "
            "better.")  # fmt: skip
