"""Other ways from the same SFT policy and the same rankings, to compare with PPO.

    best_of_n      samples many responses and takes the one with the highest score; trains nothing
    dpo            learns from the rankings without a reward model
    rloo, grpo     optimise a reward model without a value network; groups.py is what they share

Each yields one record an update, as the stages do. The records count what each method spends:
`episode`, the responses sampled for training so far, and `steps`, the optimiser's steps so far.
"""
