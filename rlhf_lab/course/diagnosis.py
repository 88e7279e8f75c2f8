"""Six measurements that tell the faults of the bug hunt apart, and what they say to a diagnosis.

diagnose(recorded_runs()["run A"], "dropout is on in training", "first log-ratio")
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rlhf_lab.course.bug_hunt import RecordedRun
from rlhf_lab.course.exercises import nb05b_bug_hunt as checks
from rlhf_lab.errors import UserError
from rlhf_lab.studies.bug_hunt import BETA, DROPOUT, END, FAULTS, HEALTHY, LABELS, PLACE, RETURNS

# ---- the measurements ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Measurement:
    """of: its value for a run. fine: whether that is as it should be. says: both in words, with the
    value in braces."""

    of: Callable[[RecordedRun], float]
    fine: Callable[[float], bool]
    says: str


def bill(run: RecordedRun) -> float:
    """The largest difference, over the updates, between the rewards of a response, summed, and its
    score minus beta times its KL, which is logged as objective/non_score_reward (means over the
    batch)."""
    names = "objective/rlhf_reward", "objective/scores", "objective/non_score_reward"
    logged = ([float(record[name]) for name in names] for record in run.metrics)
    return max(abs(rewards - score - price) for rewards, score, price in logged)


def first_log_ratio(run: RecordedRun) -> float:
    """The largest |log-ratio| between sampling and training, before the step."""
    some = run.batch
    return float(checks.first_ratio_check(some["logprob"], some["new_logprob"], some["mask"]))


def place_of_score(run: RecordedRun) -> float:
    """How many tokens too early the score stands, in the response where it is most."""
    some = run.batch
    names = ("reward", "logprob", "ref_logprob", "mask")
    beta = float(run.metrics[0]["objective/beta"])
    return float(checks.score_position(*(some[name] for name in names), beta).abs().max())


def last_return(run: RecordedRun) -> float:
    """The largest difference between return and reward at the last token of a response."""
    some = run.batch
    return float(checks.last_return_gap(some["return"], some["reward"], some["mask"]))


MEASUREMENTS = {
    "ended": Measurement(
        lambda run: float(run.metrics[0]["response/ended"]),
        lambda x: x >= 0.8,
        "{:.0%} of the responses of the first update end by themselves; nearly all should",
    ),
    "first log-ratio": Measurement(
        first_log_ratio,
        lambda x: x < 1e-3,
        "the largest |log-ratio| between sampling and training, before the step, is {:.2g}; it "
        "should be 0, up to rounding",
    ),
    "bill": Measurement(
        bill,
        lambda x: x < 1e-3,
        "the rewards of a response differ from its score minus beta times its KL by up to {:.2g}; "
        "they should be equal, up to rounding",
    ),
    "place of the score": Measurement(
        place_of_score,
        lambda x: x == 0,
        "the score stands {:.0f} tokens before the last real one; it should be 0",
    ),
    "last return": Measurement(
        last_return,
        lambda x: x < 1e-3,
        "at the last token, return and reward differ by up to {:.2g}; they should be equal",
    ),
    "reward model": Measurement(
        lambda run: run.accuracy,
        lambda x: x >= 0.75,
        "the reward model orders {:.0%} of held-out pairs as the labellers did; here about 80 % is "
        "usual",
    ),
}
# The measurement that each fault moves, and no other fault does.
SHOWS = {
    END: "ended",
    DROPOUT: "first log-ratio",
    BETA: "bill",
    PLACE: "place of the score",
    RETURNS: "last return",
    LABELS: "reward model",
}
CURVES = ("curves", "answers", "alarms")  # evidence that proves nothing by itself
CHOICES = (HEALTHY, *FAULTS)
EVIDENCE = (*MEASUREMENTS, *CURVES)


def measured(runs: Mapping[str, RecordedRun]) -> pd.DataFrame:
    """Every measurement of every run: a line for each run."""
    return pd.DataFrame(
        {name: {run: m.of(runs[run]) for run in runs} for name, m in MEASUREMENTS.items()}
    )


# ---- a diagnosis ---------------------------------------------------------------------------------


def diagnose(run: RecordedRun, fault: str = "", evidence: str = "") -> None:
    """Print what the recording says to a diagnosis. fault: one of CHOICES; evidence: one of
    EVIDENCE. Raises UserError for anything else."""
    print(f"{run.name}: {verdict(run, fault, evidence)}")


def verdict(run: RecordedRun, fault: str, evidence: str = "") -> str:
    """What the recording says to a diagnosis, in words. A wrong one is answered with the
    measurement that excludes it, and the right one is not told."""
    if not fault:
        return "not diagnosed yet: choose a fault, and the evidence for it."
    for name, choices, what in ((fault, CHOICES, "fault"), (evidence, ("", *EVIDENCE), "evidence")):
        if name not in choices:
            raise UserError(f"no {what} {name!r}: choose from {', '.join(map(repr, choices))}")
    off = [name for name, m in MEASUREMENTS.items() if not m.fine(m.of(run))]
    if fault == HEALTHY:
        return _healthy(off)
    decisive = SHOWS[fault]
    reading = _reading(run, decisive)
    if decisive not in off:
        return f"excluded by the measurement {decisive!r}: {reading}."
    if evidence == decisive:
        return f"yes: {reading}."
    return f"you named the right fault, but {_weak(run, evidence)}"


def _healthy(off: Sequence[str]) -> str:
    if off:
        return "something is wrong: one of the six measurements is not as it should be."
    return "yes, as far as can be told: all six measurements are as they should be."


def _weak(run: RecordedRun, evidence: str) -> str:
    if not evidence:
        return f"what shows it? Name the evidence: {', '.join(map(repr, EVIDENCE))}."
    if evidence in CURVES:
        return (
            f"{evidence} do not prove it: another fault, or another seed, can look the same. "
            f"Which measurement does? {', '.join(map(repr, MEASUREMENTS))}."
        )
    return f"{evidence!r} does not show it: {_reading(run, evidence)}."


def _reading(run: RecordedRun, name: str) -> str:
    one = MEASUREMENTS[name]
    return one.says.format(one.of(run))
