"""Alarms: warnings in plain words about a training run, from its records.

Each rule reads PPO's records so far and returns a sentence about what is wrong, or "". It is
applied after every update, so its threshold is set for the whole run: chance raises it in at most
5 % of healthy runs of up to 200 updates (tests/show/test_alarms.py simulates them). docs/alarms.md
says for each alarm what it means and what to try.
"""

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlhf_lab.training import Record

POLICY_GRADIENTS = ("ppo", "rloo", "grpo")  # the stages whose records hold what the rules read
# The most that the first minibatch may show. Healthy runs in float32 show 1e-13, 0 and 5e-6; the
# faults in docs/alarms.md show at least 8e-3, .02 and 1.4; healthy bfloat16 lies between.
OFF = {"val/approxkl_first": 2e-4, "val/clipfrac_first": 0.01, "val/log_ratio_first": 0.5}
WINDOW = 5  # updates that a rule averages over
RUNAWAY = 20.0  # nats: beyond this a response has little to do with the reference
COLLAPSED = 0.15  # of the entropy at the start
CUT_OFF = 0.8  # share of responses that end by themselves
# Standard errors by which the mark must fall below its best window. In simulations with a constant
# true mark, 1 % of runs of 50 updates exceed it at some update, and 3 % of runs of 200 (6 % if the
# noise doubles on the way).
FELL = 4.6
PATIENCE = 15  # updates after which a reward that has not moved is called flat


@dataclass(frozen=True)
class Alarm:
    """One problem. name: the rule, and its section in docs/alarms.md; text: what is wrong."""

    name: str
    text: str


def alarms(records: Sequence[Record]) -> list[Alarm]:
    """The alarms after the last of these records of PPO, RLOO or GRPO, the most serious first."""
    ppo = [record for record in records if record.get("stage") in POLICY_GRADIENTS]
    found = ((name, rule(ppo)) for name, rule in RULES.items()) if ppo else ()
    return [Alarm(name, text) for name, text in found if text]


def ratio_not_one(ppo: Sequence[Record]) -> str:
    """On the first minibatch of the first update the policy is still the one that sampled, so every
    token's log-ratio must be near 0 (reference A5). The mean ratio would not show a fault: over
    samples of the old policy it is 1 on average, whatever the new policy is."""
    first = ppo[0]
    if first["update"] != 1 or not any(first.get(name, 0.0) > most for name, most in OFF.items()):
        return ""
    return (
        f"Before the first step a token's log-ratio was {first['val/log_ratio_first']:.2g} "
        f"and the approximate KL {first['val/approxkl_first']:.2g}; both should be 0: "
        "sampling and training do not see the same policy."
    )


def kl_negative(ppo: Sequence[Record]) -> str:
    """The KL is below 0 by more than 2.33 standard errors in two updates in a row. If the true KL
    is 0, chance does this once in 10,000 pairs of updates, or in 2 % of runs of 200 updates."""
    low = [record["objective/kl"] + 2.33 * record["objective/kl_se"] for record in ppo[-2:]]
    if len(low) < 2 or max(low) > -1e-3:
        return ""
    return (
        f"The KL is {_mean(ppo[-2:], 'objective/kl'):.2f} nats, below 0 by more than chance: "
        "the responses were not drawn from the policy that is measured."
    )


def kl_runaway(ppo: Sequence[Record]) -> str:
    """The KL is above RUNAWAY, or above half of it after growing by half within a window."""
    now, before = _mean(ppo[-WINDOW:], "objective/kl"), ppo[-2 * WINDOW : -WINDOW]
    growing = len(before) == WINDOW and now > 1.5 * _mean(before, "objective/kl")
    if now < RUNAWAY / 2 or (now < RUNAWAY and not growing):
        return ""
    return (
        f"The KL has reached {now:.0f} nats{' and grows fast' if growing else ''}: the policy "
        "is leaving the responses on which the reward model can be trusted."
    )


def never_end(ppo: Sequence[Record]) -> str:
    """A fifth or more of the responses are cut off."""
    ended = _mean(ppo[-WINDOW:], "response/ended")
    if ended >= CUT_OFF:
        return ""
    return (
        f"Only {ended:.0%} of the responses end by themselves: the others are cut off at the "
        "limit of their length."
    )


def entropy_collapse(ppo: Sequence[Record]) -> str:
    """The entropy has fallen below a small share of what it was: all samples are nearly alike."""
    known = [record for record in ppo if record.get("policy/entropy_avg") is not None]
    if len(known) <= WINDOW:
        return ""
    share = _mean(known[-WINDOW:], "policy/entropy_avg") / known[0]["policy/entropy_avg"]
    if share >= COLLAPSED:
        return ""
    return (
        f"The entropy is down to {share:.0%} of what it was: the policy has almost stopped "
        "trying anything new."
    )


def score_up_mark_down(ppo: Sequence[Record]) -> str:
    """The mark has fallen from its best window by more than chance, while the score kept rising.

    The best of many windows is too high by luck, and the rule is applied after every update. So
    the fall must exceed `FELL` standard errors of a difference of two windows. The noise of a mark
    is estimated from the differences between neighbouring updates, over the whole run or over its
    last updates, whichever is larger.
    """
    if len(ppo) < 3 * WINDOW or any(record.get("judge/mark") is None for record in ppo):
        return ""
    windows = [ppo[i : i + WINDOW] for i in range(len(ppo) - WINDOW + 1)]
    marks = [_mean(window, "judge/mark") for window in windows]
    before = marks[:-WINDOW]  # windows that share no update with the last one
    best = max(range(len(before)), key=before.__getitem__)
    steps = [later["judge/mark"] - one["judge/mark"] for one, later in itertools.pairwise(ppo)]
    variance = max(statistics.fmean(step**2 for step in some) for some in (steps, steps[-20:])) / 2
    fall = marks[best] - marks[-1]
    rise = _mean(windows[-1], "objective/scores") - _mean(windows[best], "objective/scores")
    if rise <= 0 or fall <= FELL * (2 * variance / WINDOW) ** 0.5:
        return ""
    return (
        f"Since update {windows[best][-1]['update']} the score has risen by {rise:.2f} while "
        f"the judge's mark fell by {fall:.2f}: the policy pleases the reward model and no "
        "longer the judge."
    )


def reward_flat(ppo: Sequence[Record]) -> str:
    """After PATIENCE updates the last window is not above the first by two standard errors."""
    if len(ppo) < PATIENCE:
        return ""
    first, last = (
        [r["objective/rlhf_reward"] for r in some] for some in (ppo[:WINDOW], ppo[-WINDOW:])
    )
    error = ((statistics.variance(first) + statistics.variance(last)) / WINDOW) ** 0.5
    gain = statistics.fmean(last) - statistics.fmean(first)
    if gain > 2 * error:
        return ""
    return (
        f"After {ppo[-1]['update']} updates the reward, with its KL penalty, has moved by "
        f"{gain:+.2f}, not distinguishable from chance: nothing is being learned, or the updates "
        "have too few responses to show it."
    )


RULES: dict[str, Callable[[Sequence[Record]], str]] = {
    "ratio-not-one": ratio_not_one,
    "kl-negative": kl_negative,
    "kl-runaway": kl_runaway,
    "responses-never-end": never_end,
    "entropy-collapse": entropy_collapse,
    "score-up-mark-down": score_up_mark_down,
    "reward-flat": reward_flat,
}


def _mean(records: Sequence[Record], name: str) -> float:
    return statistics.fmean(record[name] for record in records)
