"""The ``digits`` kind: scikit-learn's 1,797 handwritten digits, which need no download."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from moonshine.datasets.source import Source
from moonshine.datasets.splitting import hold_out

if TYPE_CHECKING:
    from moonshine.config.data import Digits


def read(config: Digits) -> Source:
    """8x8 images of one channel, 0 to 16 scaled to 0 to 255; a share ``config.test`` is the test set."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test = hold_out(labels, config.test, seed=config.split_seed, key="data.test")
    return Source(
        where="digits",
        description="scikit-learn's digits (UCI optical recognition of handwritten digits, 8x8 pixels)",
        sha256=hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest(),
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple("0123456789"),
    )
