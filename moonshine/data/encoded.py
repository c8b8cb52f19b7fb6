"""Datasets that stay encoded because they are too large to decode ahead; images are decoded batch by batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Packed:
    """Concatenated byte strings: ``content`` uint8 (bytes,), and ``ends`` int64 (N,), the end of each.

    Processes can share two tensors, but not a list of a million strings.
    """

    content: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        """Return one string."""
        start = int(self.ends[index - 1]) if index else 0
        return self.content[start : int(self.ends[index])].numpy().tobytes()

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Packed:
        """Concatenate strings."""
        content = torch.from_numpy(np.frombuffer(b"".join(strings), np.uint8).copy())
        return cls(content, torch.tensor(list(accumulate(map(len, strings))), dtype=torch.int64))


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """Images and their labels, int64 (N,): the counterpart of `Split` for images that are not decoded ahead.

    ``strings`` are the encoded images themselves, or, with ``root``, the paths of their files below it. In evaluation
    the shorter side of an image is resized to ``resize`` pixels, and the centre ``crop`` x ``crop`` is kept.
    """

    strings: Packed
    labels: Tensor
    root: str | None
    resize: int
    crop: int

    @property
    def is_dense(self) -> bool:
        """Label maps are always decoded ahead."""
        return False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every input."""
        return 3, self.crop, self.crop

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> EncodedSplit:
        """Return the split itself: images are decoded on the CPU and moved batch by batch."""
        return self

    def name(self, index: int) -> str:
        """Return the name of an image in errors."""
        return f"image {index}" if self.root is None else os.fsdecode(self.strings[index])

    def read(self, index: int) -> bytes:
        """Return one encoded image. OSError for a file that is missing or unreadable."""
        if self.root is None:
            return self.strings[index]
        return (Path(self.root).expanduser() / self.name(index)).read_bytes()
