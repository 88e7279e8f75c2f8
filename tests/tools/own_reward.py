"""Train with the learned reward model exactly as notebook 06 trains with a reward of the learner's
own, with three seeds, and keep what was seen on the way: the runs that attempts are compared with.

    python tests/tools/own_reward.py data/own_reward/learned.jsonl
"""

import sys
from dataclasses import replace

from rlhf_lab.course.attempts import CONFIG, WATCHED, Attempt, Attempts, Watch
from rlhf_lab.disk.data import base_model, shipped
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.ppo import train_ppo
from rlhf_lab.tasks import load_task


def main(path: str) -> None:
    """Train with seeds 1, 2 and 3; a run that is in the file already is not kept twice."""
    task, tokenizer = load_task("support_desk"), load_tokenizer(base_model())
    scorer = ScalarModel.load(shipped("reward_model"))
    held_out = task.held_out()["held-out"][:WATCHED]
    watch = Watch(load_policy(shipped("sft")), tokenizer, held_out, task.judge)
    for seed in (1, 2, 3):
        policy, attempt = load_policy(shipped("sft")), Attempt("the learned reward model", seed)
        config = replace(CONFIG, seed=seed)
        records = train_ppo(policy, scorer, tokenizer, task.prompts(7, 2000), config)
        for record in attempt.watch(records, policy, scorer, watch):
            print(seed, record["update"], f"{record['objective/kl']:.2f}", flush=True)
        Attempts(path).add(attempt)


if __name__ == "__main__":
    main(sys.argv[1])
