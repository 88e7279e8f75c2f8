"""What only the notebooks use.

exercises/     checks of the exercises that say what went wrong
editions       the notebooks for a class: without solutions, or to grade by
tiny_world     a world small enough to enumerate
bill           what rankings and computing would cost
"""
