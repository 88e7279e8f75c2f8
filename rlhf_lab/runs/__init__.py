"""One run from end to end: the pipeline of all three stages, its presets, what it costs, and its
report."""
