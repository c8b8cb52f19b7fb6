"""The ``digits`` kind: scikit-learn's handwritten digits, which need no download."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from moonshine.datasets.kind import DataSection, DatasetSize, ImageArrays
from moonshine.fields import Side

COUNT = 1_797


class Digits(DataSection):
    """scikit-learn's 1,797 handwritten digits, resized from 8x8 to ``size``; a share ``test`` is the test set."""

    name: Literal["digits"]
    size: Side
    test: Annotated[float, Field(gt=0, lt=1)]
    channels: Literal[3] | None = None

    def source(self) -> ImageArrays:
        """Load 8x8 images of one channel, 0 to 16 scaled to 0 to 255."""
        import numpy as np
        from sklearn.datasets import load_digits

        from moonshine.datasets.splitting import hold_out

        bunch = load_digits()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
        labels = bunch.target.astype(np.int64)
        train, test = hold_out(labels, self.test, seed=self.split_seed, key="data.test")
        return ImageArrays(
            where="digits",
            splits={"train": (images[train], labels[train]), "test": (images[test], labels[test])},
            description="scikit-learn's digits (UCI optical recognition of handwritten digits, 8x8 pixels)",
            sha256=hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest(),
            class_names=tuple("0123456789"),
            size=self.size,
            channels=self.channels,
        )

    def public_size(self) -> DatasetSize:
        test = round(COUNT * self.test)
        return DatasetSize(COUNT - test, test, (self.channels or 1, self.size, self.size), 10)
