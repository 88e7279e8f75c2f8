"""Checks of the notebooks' exercises that say what went wrong:

    from rlhf_lab.course.exercises import check
    check.gae(gae)  # the function you wrote

check.py has one function for each exercise. The inputs that each is tried on, and its usual
mistakes, are in a file for each notebook (nb04 has two); examine.py tries the learner's function on
them, and wording.py puts the outcome into words.
"""
