"""Experiments of many runs, whose records the notebooks draw: which runs, how each is made."""
