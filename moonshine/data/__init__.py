"""Prepared data: memory-mapped from disk, batched and augmented on the training device."""

from moonshine.data.batches import at_once, batches, inputs, normalise
from moonshine.data.encoded import EncodedSplit
from moonshine.data.store import AnySplit, Dataset, Split, load

__all__ = [
    "AnySplit",
    "Dataset",
    "EncodedSplit",
    "Split",
    "at_once",
    "batches",
    "inputs",
    "load",
    "normalise",
]
