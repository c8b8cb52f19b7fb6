"""Prepared data: memory-mapped from disk, batched and augmented on the training device."""
