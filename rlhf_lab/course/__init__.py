"""What only the notebooks use: checks of their exercises, editions for a class, a world small
enough to count, and what a run would cost on a rented machine."""
