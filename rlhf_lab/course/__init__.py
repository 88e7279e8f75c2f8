"""Code that only the notebooks use.

exercises/     checks of the exercises that say what went wrong
editions       the notebooks for a class: without solutions, or for grading
grading        grading a class with nbgrader
predictions    a place to write predictions, kept beside the notebook
lecture/       the slides of one lecture
pictures       figures that one lesson needs
tiny_world     a world small enough to enumerate
tiny_models    models of twelve words, on which a step of a training loop is tried
own_reward     a reward that the learner writes, tried before it trains
attempts       runs with such rewards, compared at equal KL
bug_hunt       six recorded runs, and the learner's own checks on them
diagnosis      what excludes a fault in a recorded run
roster         who is in a class, with a variant for each
forgetting     what there is of one person, to be removed
yours          the learner's functions, for the stages
bill           what labels and compute would cost
"""
