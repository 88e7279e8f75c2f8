"""Code that only the notebooks use.

exercises/     checks of the exercises that say what went wrong
editions       the notebooks for a class: without solutions, or for grading
grading        grading a class with nbgrader
tiny_world     a world small enough to enumerate
own_reward     a reward that the learner writes, tried before it trains
attempts       runs with such rewards, compared at equal KL
bill           what labels and compute would cost
"""
