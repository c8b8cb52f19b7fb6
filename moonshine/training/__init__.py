"""Training: the loop, optimisers, schedules, metrics, checkpoints and processes."""
