"""What makes training and sampling fast, small and parallel. A first reader of the stages may skip
it."""
