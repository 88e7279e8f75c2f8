"""Whatever touches the disk: rows, model folders, runs, checkpoints, and files fetched on
request."""
