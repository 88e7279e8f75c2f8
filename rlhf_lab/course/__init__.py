"""Code that only the notebooks use.

exercises/     checks of the exercises that say what went wrong
editions       the notebooks for a class: without solutions, or for grading
grading        grading a class with nbgrader
predictions    a place to write predictions, kept beside the notebook
lecture/       the slides of one lecture
pictures       figures that one lesson needs
tiny_world     a world small enough to enumerate
tiny_models    models of twelve words, on which a step of a training loop is tried
bill           what labels and compute would cost
"""
