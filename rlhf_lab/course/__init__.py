"""Code that only the notebooks use.

exercises/     checks of the exercises that say what went wrong
editions       the notebooks for a class: without solutions, or for grading
grading        grading a class with nbgrader
tiny_world     a world small enough to enumerate
tiny_models    models of twelve words, on which a step of a training loop is tried
bill           what labels and compute would cost
"""
