"""Written rules in place of labellers: the runs behind notebook 09.

After Bai et al. (2022): the SFT policy answers, the rules critique and revise its responses, and
the policy learns from the revisions (the supervised phase). The resulting policy answers again, the
rules rank its responses, a reward model learns from these rankings, and PPO trains against it, with
the KL measured from the policy with which PPO begins. What we expected of each arm was written down
here before any arm was run (but after we had seen the revisions of 150 responses). Every arm starts
from the SFT policy of its seed, gets the same number of rankings of the same prompts, and is judged
on fresh responses to the same held-out prompts.

The rules are those of data/constitution.toml: if you edit it, you run a different study.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from rlhf_lab.constitution.ranking import broken_shares, conflicts, kept_table, rank_by_rules
from rlhf_lab.constitution.revise import Revision, demonstrations_from, revise_all
from rlhf_lab.constitution.rules import Rule, read_rules, without
from rlhf_lab.evaluate import Responses, respond
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Ranking
from rlhf_lab.sft import SFTConfig, train_sft
from rlhf_lab.studies.ground import Ground, Rows

LOGGED = (
    "update",
    "objective/kl",
    "objective/scores",
    "judge/mark",
    "policy/entropy_avg",
    "response/length",
    "response/ended",
)
MANUAL, PROMISES = "the manual's step", "no promises"
CURT = Rule(
    "ten words",
    "Say it in 10 words or fewer, whatever else is asked.",
    20.0,
    "length",
    {"most": 10},
)
SUPERVISED = SFTConfig(learning_rate=2e-4)  # gentler than SFT: the policy can answer already
SHOWN = 40  # revisions that are saved for reading


@dataclass(frozen=True)
class Arm:
    """One source of feedback, and what we expect of it compared with the SFT policy.

    rules: True if the rules rank, False if the labellers do. supervised: whether the policy first
    learns from revisions. leave_out: names of rules that are not used. manual: whether the rule
    that looks up the step in the manual is used. extra: one more rule. rankings: how many the
    reward model learns from.
    """

    name: str
    expected: str
    rules: bool = True
    supervised: bool = True
    leave_out: tuple[str, ...] = ()
    manual: bool = False
    extra: Rule | None = None
    rankings: int = 900
    updates: int = 40


ARMS = (
    Arm(
        "labellers",
        "The mark rises most but for the manual's arm, correct fixes and manners "
        "both: labellers see whether a fix is right.",
        rules=False,
        supervised=False,
    ),
    Arm(
        "rules",
        "No rule is broken any more in more than one of twenty responses, and promises "
        "are rarer than with the labellers. Responses are as often wrong about the fix as the SFT "
        "policy's where it gives one: no rule sees that. The mark ends below the labellers'.",
    ),
    Arm(
        "rules, no supervised phase",
        "As the arm with it, within a quarter of a point: PPO alone "
        "finds what the revisions show. It begins lower and spends more of its KL in PPO.",
        supervised=False,
    ),
    Arm(
        "rules without promises",
        "Promises stay: rarer than with the SFT policy, as responses "
        "that promise instead of helping go, but several times as frequent as with all rules. The "
        "other rules are kept as well as there.",
        leave_out=(PROMISES,),
    ),
    Arm(
        "rules with the manual",
        "Fixes are right in nine of ten responses, and the mark is at least the labellers'.",
        manual=True,
    ),
    Arm(
        "rules in conflict",
        "The heaviest rule wins: ten words or so. Greeting, sympathy and the "
        "product's name are given up, and sometimes the step. The mark ends more than a point "
        "below that of the rules without it.",
        extra=CURT,
    ),
)


def run_arm(ground: Ground, arm: Arm, seed: int) -> dict:
    """Run one arm, unless it was run already, and return its summary.

    "sft", "supervised" (None without that phase) and "policy" each hold what `Ground.judge` finds,
    and "broken": for every rule of the file and the arm's own rule, the share of responses that
    break it. "rules": the arm's rules; "conflicts": between those; "revised": how well the
    revisions worked.

    Writes metrics.jsonl.gz, samples.jsonl.gz (responses to the watched prompts before training,
    after the supervised phase and at the end) and revisions.jsonl.gz (the first revisions).
    """
    return ground.once(arm.name, seed, lambda: _train(ground, arm, seed))


def rules_of(arm: Arm) -> tuple[Rule, ...]:
    """The rules that the arm trains with: none if the labellers rank."""
    if not arm.rules:
        return ()
    rules = without(read_rules(also=[MANUAL] if arm.manual else []), *arm.leave_out)
    return (*rules, arm.extra) if arm.extra else rules


def _train(ground: Ground, arm: Arm, seed: int) -> tuple[dict, dict[str, Rows]]:
    policy, drawn, rules = ground.policy(seed), ground.drawn(seed), rules_of(arm)
    samples, revisions, metrics = _labelled("sft", ground.look(policy, 0)), [], []
    # 1. The supervised phase: the SFT policy's responses, revised, are demonstrations for it.
    if arm.supervised:
        revisions = revise_drawn(ground, drawn, arm, rules)
        for _ in train_sft(
            policy, ground.tokenizer, demonstrations_from(revisions), replace(SUPERVISED, seed=seed)
        ):
            pass
        drawn = respond(policy, ground.tokenizer, drawn.prompts, 4, seed, ground.task.judge)
        samples += _labelled("supervised", ground.look(policy, 0))
    # 2. The rules or the labellers rank its responses, and a reward model learns from that.
    reward_model = ground.reward_model(rankings_of(ground, drawn, arm, rules, seed), drawn, seed)
    before = _judged(ground, policy, seed, reward_model) if arm.supervised else None
    # 3. PPO against it. PPO's KL is from the policy it begins with; the one reported is from SFT.
    config = PPOConfig(updates=arm.updates, seed=seed, batch_size=ground.batch_size)
    prompts = ground.ppo_prompts(seed)
    for record in train_ppo(
        policy, reward_model, ground.tokenizer, prompts, config, judge=ground.task.judge
    ):
        metrics.append({name: record[name] for name in LOGGED})
    samples += _labelled("policy", ground.look(policy, arm.updates))
    summary = {
        "arm": asdict(arm),
        "seed": seed,
        "prompts": ground.judged,
        "rules": [asdict(rule) for rule in rules],
        "sft": ground.judge_sft(seed, reward_model) | {"broken": broken_by(ground.rivals(seed))},
        "supervised": before,
        "policy": _judged(ground, policy, seed, reward_model),
        "conflicts": [
            asdict(c) for c in conflicts(kept_table(drawn.prompts, drawn.texts, rules), rules)
        ],
        "revised": _outcome(revisions),
    }
    return summary, {"metrics": metrics, "samples": samples, "revisions": _rows(revisions[:SHOWN])}


def revise_drawn(
    ground: Ground, drawn: Responses, arm: Arm, rules: Sequence[Rule]
) -> list[Revision]:
    """Revise the first response to each prompt after the first tenth of the prompts; a revision may
    take one of the other three responses instead."""
    chosen = ground.ranked(arm.rankings)
    return revise_all(drawn.prompts[chosen], drawn.texts[chosen], rules)


def rankings_of(
    ground: Ground, drawn: Responses, arm: Arm, rules: Sequence[Rule], seed: int
) -> list[Ranking]:
    """The arm's rankings of the responses to the same prompts, by the labellers or by the rules."""
    if not arm.rules:
        return ground.rankings(drawn, arm.rankings, seed)
    chosen = ground.ranked(arm.rankings)
    ended = drawn.ended[chosen].tolist()
    return rank_by_rules(drawn.prompts[chosen], drawn.texts[chosen], rules, ended=ended)


def broken_by(answers: Responses) -> dict[str, float]:
    """The share of responses that break each rule, for all rules of the file, on or off, and the
    arms' own: so arms can be compared rule by rule, whatever rules they were trained with."""
    rules = (*read_rules(also=[MANUAL]), CURT)
    return broken_shares(answers.prompts, answers.texts, rules)


def _judged(ground: Ground, policy, seed: int, reward_model) -> dict:
    """What `Ground.judge` finds in fresh responses, and which rules they break."""
    answers = ground.answers(policy, seed)
    return ground.judge(policy, answers, seed, reward_model) | {"broken": broken_by(answers)}


def _labelled(stage: str, rows: Rows) -> Rows:
    return [{"stage": stage} | row for row in rows]


def _outcome(revisions: Sequence[Revision]) -> dict | None:
    """How many revisions there were; the share that broke no rule before and after; the share that
    took another sample; and the mean weight of broken rules before and after."""
    if not revisions:
        return None
    count = len(revisions)
    return {
        "count": count,
        "clean_before": sum(not r.before.broken for r in revisions) / count,
        "clean_after": sum(not r.after.broken for r in revisions) / count,
        "other_sample": sum(r.sample > 0 for r in revisions) / count,
        "weight_before": sum(r.before.weight for r in revisions) / count,
        "weight_after": sum(r.after.weight for r in revisions) / count,
    }


def _rows(revisions: Sequence[Revision]) -> Rows:
    return [
        {
            "prompt": r.prompt.text,
            "response": r.before.response,
            "critique": r.before.lines(),
            "edits": list(r.edits),
            "revision": r.text,
            "still": r.after.lines(),
        }
        for r in revisions
    ]
