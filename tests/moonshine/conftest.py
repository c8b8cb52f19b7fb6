"""A dataset of a few striped images that a tiny network learns in a few steps."""

from __future__ import annotations

import pytest
import torch

from moonshine.config.augment import Augment
from moonshine.config.training import Training
from moonshine.data.store import Dataset, Split
from moonshine.training.execution import Execution


def split(count: int, seed: int) -> Split:
    """Two classes of 8x8 noise: horizontal and vertical stripes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    stripes = (torch.arange(8) % 2 * 120).to(torch.uint8)
    images = torch.randint(0, 100, (count, 1, 8, 8), generator=generator).to(torch.uint8)
    images[labels == 0] += stripes[:, None]
    images[labels == 1] += stripes[None, :]
    return Split(images, labels)


@pytest.fixture(scope="session")
def stripes() -> Dataset:
    return Dataset("stripes", split(40, 1), split(10, 2), split(20, 3), (0.4,), (0.2,), 2, ("across", "down"))


@pytest.fixture
def training() -> Training:
    return Training.model_validate(
        {
            "epochs": 3,
            "batch_size": 16,
            "optimizer": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
            "schedule": {"kind": "one-cycle", "warmup": 0.3, "start": 0.1, "end": 0.01},
            "precision": "fp32",
        }
    )


@pytest.fixture
def augment() -> Augment:
    return Augment(crop_padding=1, flip=True)


@pytest.fixture
def execution() -> Execution:
    torch.set_num_threads(1)
    return Execution(torch.device("cpu"))
