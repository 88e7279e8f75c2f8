"""What a run costs in memory, time and arithmetic.

estimate     before it starts, for each stage, and its plot
counting     bytes and FLOPs of reading tokens, this machine's speed, and what a block of code took
"""
