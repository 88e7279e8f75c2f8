"""Checks of the notebooks' exercises that say what went wrong:

    from rlhf_lab.course.exercises import check
    check.gae(gae)  # the function you wrote

check.py has one function for each exercise. What each is tried on, and its usual mistakes, stand in
a file for each notebook (two for 04); examine.py does the trying, wording.py says it in words.
"""
