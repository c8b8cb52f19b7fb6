"""Prepared data: mapped from the disk, batched and augmented on the training device."""

from moonshine.data.batches import batches
from moonshine.data.store import Dataset, Split, load

__all__ = ["Dataset", "Split", "batches", "load"]
