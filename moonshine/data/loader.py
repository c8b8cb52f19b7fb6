"""Batches of a loader of the caller's own, in the place of a prepared split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from moonshine.errors import MoonshineError


class Loader(Protocol):
    """Anything of known length that yields (images, labels) anew each time, as a DataLoader does."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False)
class LoadedSplit:
    """Images of ``image_shape`` (C, H, W) that are augmented and normalised already, and labels, as they are loaded.

    ``checked`` returns the two parts of a batch, or raises MoonshineError.
    """

    loader: Loader
    image_shape: tuple[int, ...]
    checked: Callable[[Any], tuple[Tensor, Tensor]]

    def to(self, device: torch.device | str) -> LoadedSplit:
        """Return the split itself: its batches move one by one."""
        return self

    def batches(self, device: torch.device, layout: torch.memory_format) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch; MoonshineError if it is empty."""
        done = 0
        for done, batch in enumerate(self.loader, 1):  # noqa: B007
            images, labels = self.checked(batch)
            images = images.to(device, non_blocking=True).contiguous(memory_format=layout)
            yield images, labels.to(device, non_blocking=True)
        if not done:
            raise MoonshineError(
                "data: the loader yields nothing in a later epoch; allowed: one that begins anew each time"
            )
