"""A learner's own functions in the stages of the package, and what one usual mistake does there.

    await Dashboard().run(train_ppo(policy, ..., **yours(gae=gae, whiten=whiten)))

The stages take their formulas as arguments (`train_ppo(..., gae=mine)`). Here a learner's function
is used if it passes its check, and the package's function if it does not.
"""

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from rlhf_lab import maths
from rlhf_lab.course.exercises import nb01_sft as sft
from rlhf_lab.course.exercises import nb03_reward as reward
from rlhf_lab.course.exercises import nb04_advantages as advantages
from rlhf_lab.course.exercises import nb04_losses as losses
from rlhf_lab.course.exercises import nb04_rewards as rewards
from rlhf_lab.course.exercises import nb05b_bug_hunt as bug_hunt
from rlhf_lab.course.exercises import nb06_hacking as hacking
from rlhf_lab.course.exercises import nb08_roads as roads
from rlhf_lab.course.exercises import nb14_loop as loop
from rlhf_lab.course.exercises.examine import judge
from rlhf_lab.course.exercises.exercise import Exercise
from rlhf_lab.errors import UserError
from rlhf_lab.training import Record

# Each formula that a stage, a table or a loop of one's own takes as an argument: its exercise, and
# the package's function.
FORMULAS: dict[str, tuple[Exercise, Callable]] = {
    "label_mask": (sft.LABEL_MASK, maths.label_mask),
    "pair_loss": (reward.PAIR_LOSS, maths.pair_loss),
    "kwise_loss": (reward.KWISE_LOSS, maths.kwise_loss),
    "kl_rewards": (rewards.KL_REWARDS, maths.kl_rewards),
    "gae": (advantages.GAE, maths.gae),
    "whiten": (losses.WHITEN, maths.whiten),
    "clipped_policy_loss": (losses.CLIPPED_POLICY_LOSS, maths.clipped_policy_loss),
    "clipped_value_loss": (losses.CLIPPED_VALUE_LOSS, maths.clipped_value_loss),
    "first_ratio_check": (bug_hunt.FIRST_RATIO_CHECK, bug_hunt.first_ratio_check),
    "score_position": (bug_hunt.SCORE_POSITION, bug_hunt.score_position),
    "last_return_gap": (bug_hunt.LAST_RETURN_GAP, bug_hunt.last_return_gap),
    "fooled": (hacking.FOOLED, hacking.fooled),
    "mark_at_kl": (hacking.MARK_AT_KL, hacking.mark_at_kl),
    "rloo_advantages": (roads.RLOO_ADVANTAGES, maths.rloo_advantages),
    "dpo_loss": (roads.DPO_LOSS, maths.dpo_loss),
    **loop.STEPS,
}
# Usual mistakes to plant: the formula, and how the sentence of its check begins.
BUGS: dict[str, tuple[str, str]] = {
    "the KL is rewarded, not charged": ("kl_rewards", "It looks as if the sign of the KL"),
    "the score stands one token too early": ("kl_rewards", "The score is one token too early"),
    "every token gets the score": ("kl_rewards", "It looks as if every token gets the score"),
    "beta is missing": ("kl_rewards", "It looks as if beta is missing"),
    "nothing is carried back": ("gae", "It looks as if nothing is carried back"),
    "the loop runs forwards": ("gae", "It looks as if the loop runs forwards: an"),
    "advantages are not centred": ("whiten", "It looks as if the mean was not subtracted"),
    "the sign of the loss is turned": ("clipped_policy_loss", "The sign is reversed: this"),
    "min stands for max": ("clipped_policy_loss", "It looks as if min is used in place of max"),
    "the ratio is upside down": ("clipped_policy_loss", "The ratio looks inverted"),
    "padding counts in the value loss": ("clipped_value_loss", "It looks as if padding counts"),
    "the value loss is not clipped": ("clipped_value_loss", "It looks as if nothing is clipped"),
}


def yours(say: Callable[[str], None] = print, **written: Callable) -> dict[str, Callable]:
    """For each formula, to give to a stage: the learner's function if it passes its check, else the
    package's. Says which of the two it is.

    written: functions by the name of their formula, one of FORMULAS. Raises UserError for another.
    """
    chosen = {}
    for name, function in written.items():
        exercise, package = _formula(name)
        result = judge(exercise, function, own=True)
        chosen[name] = function if result.right else package
        why = "is not written yet" if not result.attempted else "does not pass its check yet"
        say(f"{name}: {'yours' if result.right else f'the package, as yours {why}'}")
    return chosen


def planted(bug: str) -> dict[str, Callable]:
    """The formula with one usual mistake in it, to give to a stage. Raises UserError for a bug that
    is not one of BUGS."""
    if bug not in BUGS:
        raise UserError(f"no bug {bug!r}: choose one of {', '.join(map(repr, BUGS))}")
    name, begins = BUGS[bug]
    exercise, _ = _formula(name)
    [mistake] = [some for some in exercise.mistakes if some.sentence.startswith(begins)]
    return {name: exercise.written(mistake)}


def side_by_side(
    mine: Sequence[Record], package: Iterable[Record], metrics: Sequence[str]
) -> pd.DataFrame:
    """Metrics of two runs after as many updates as the shorter has: columns update, metric, yours,
    package, difference."""
    rows = [
        (one["update"], name, one[name], other[name], float(one[name]) - float(other[name]))
        for one, other in zip(mine, package)
        for name in metrics
    ]
    return pd.DataFrame(rows, columns=["update", "metric", "yours", "package", "difference"])


def _formula(name: str) -> tuple[Exercise, Callable]:
    if name not in FORMULAS:
        raise UserError(f"no stage takes {name!r}: the formulas are {', '.join(FORMULAS)}")
    return FORMULAS[name]
