"""The images of a split that a test knows to be decoded."""

from __future__ import annotations

from torch import Tensor

from moonshine.data.store import AnySplit, Split


def images_of(split: AnySplit | None) -> Tensor:
    assert isinstance(split, Split)
    return split.images
