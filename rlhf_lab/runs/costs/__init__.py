"""What a run costs in memory, time and arithmetic.

estimate     the estimate for each stage before it starts, and its plot
counting     bytes and FLOPs per token, this machine's speed, and the measured cost of a code block
"""
