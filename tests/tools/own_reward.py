"""Train with the learned reward model as notebook 06 trains with a reward of the learner's own, and
keep what was seen on the way: the runs with which attempts are compared.

    python tests/tools/own_reward.py data/own_reward/learned.jsonl
"""
