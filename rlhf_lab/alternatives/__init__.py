"""Other roads from the same SFT policy and the same rankings, beside PPO.

best_of_n picks among many responses and trains nothing; dpo learns from the rankings without a
reward model; rloo and grpo optimise a reward model without a value network. What the last two share
is in groups.

The records count what each road spends: `episode`, the responses sampled for training so far, and
`steps`, the steps of the optimiser so far.
"""
