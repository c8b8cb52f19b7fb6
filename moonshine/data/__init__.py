"""Prepared data: mapped from the disk, batched and augmented on the training device."""

from moonshine.data.batches import batches, inputs
from moonshine.data.encoded import EncodedSplit
from moonshine.data.store import AnySplit, Dataset, Split, load

__all__ = ["AnySplit", "Dataset", "EncodedSplit", "Split", "batches", "inputs", "load"]
