"""The ``cifar10`` and ``cifar100`` kinds: downloaded and verified by torchvision."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

from moonshine.datasets.kind import DataSection, DatasetSize, ImageArrays
from moonshine.errors import MoonshineError
from moonshine.fields import FilePath
from moonshine.files import sha256


class Cifar(DataSection):
    """CIFAR-10 or CIFAR-100 as torchvision downloads and checks them into ``root``."""

    name: Literal["cifar10", "cifar100"]
    root: FilePath
    size: Literal[32]

    def source(self) -> ImageArrays:
        """Read the official training and test set, downloaded where they are not there yet."""
        from torchvision import datasets

        dataset = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[self.name]
        root = Path(self.root).expanduser()
        try:
            train, test = (dataset(root, train=is_train, download=True) for is_train in (True, False))
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise MoonshineError(
                f"data.root: {self.name} could not be downloaded into {root}, or is damaged there: {error}"
            ) from None
        files = root / dataset.base_folder
        return ImageArrays(
            where=str(files),
            splits={"train": (train.data, train.targets), "test": (test.data, test.targets)},
            description=f"{self.name}, python version, through torchvision",
            sha256={name: sha256(files / name) for name, _ in (*dataset.train_list, *dataset.test_list)},
            class_names=train.classes,
            size=self.size,
        )

    def public_size(self) -> DatasetSize:
        return DatasetSize(50_000, 10_000, (3, self.size, self.size), int(self.name.removeprefix("cifar")))
