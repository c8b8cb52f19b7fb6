"""The ``cifar10`` and ``cifar100`` kinds: downloaded and verified by torchvision."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moonshine.datasets.source import Source
from moonshine.errors import MoonshineError
from moonshine.files import sha256

if TYPE_CHECKING:
    from moonshine.config.data import Cifar


def read(config: Cifar) -> Source:
    """Official training and test set from ``config.root``, fetched into it where they are not there yet.

    Raises MoonshineError where the download fails or a file has another checksum than torchvision knows.
    """
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[config.name]
    root = Path(config.root).expanduser()
    try:
        train = kind(root, train=True, download=True)
        test = kind(root, train=False, download=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise MoonshineError(
            f"data.root: {config.name} could not be downloaded into {root}, or is damaged there: {error}"
        ) from None
    files = [name for name, _ in (*kind.train_list, *kind.test_list)]
    return Source(
        where=str(root / kind.base_folder),
        description=f"{config.name}, python version, through torchvision",
        sha256={name: sha256(root / kind.base_folder / name) for name in files},
        train_images=train.data,
        train_labels=np.asarray(train.targets),
        test_images=test.data,
        test_labels=np.asarray(test.targets),
        class_names=tuple(train.classes),
    )
