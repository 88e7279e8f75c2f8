"""What a run costs in memory, time and arithmetic: estimated before it starts, and measured while
it runs."""
