"""Checks of the notebooks' exercises that say what went wrong:

    from rlhf_lab.course.exercises import check
    check.gae(gae)  # the function you wrote

check.py has one function for each exercise. A file for each notebook (nb04 has three) holds the
inputs that an exercise is tried on and the right function, whose switches make the usual mistakes;
exercise.py says what these parts are, and common.py adds mistakes that can be made anywhere.
examine.py tries the learner's function, recognise.py finds the mistake or the two mistakes that
give the same answers, and wording.py puts it into words.
"""
