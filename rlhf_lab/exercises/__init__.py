"""Checks of the notebooks' exercises that say what went wrong:

    from rlhf_lab.exercises import check
    check.gae(gae)  # the function you wrote

check.py has one function for each exercise. What each is tried on, and its usual mistakes, are in
sft.py, reward.py, ppo_advantages.py, ppo_losses.py and microscope.py; examine.py does the trying,
wording.py says it in words.
"""
