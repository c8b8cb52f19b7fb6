"""The ``generated`` kind: synthetic data drawn from a seed, to try a pipeline without a dataset.

Every class has two colours of its own; an image blends them in blobs at random and adds noise. That survives crops,
mirroring and resizing, so that networks learn it in a few steps.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from moonshine.datasets.encoding import Encoded, prepare_encoded
from moonshine.datasets.source import Array, Source

if TYPE_CHECKING:
    from moonshine.config.data import Generated

BLOBS = 5
"""Values per side of the random map that blends a class's colours."""

NOISE = 16
"""Largest random change of a pixel, of 255."""

LARGER = 2.0
"""Sides of generated pictures, at most, as a multiple of the input's."""

QUALITY = 90
"""Of generated JPEGs."""


def read(config: Generated) -> Source:
    """``config.train`` and ``config.test`` decoded images, classes in turn."""
    draws, colours = _start(config)
    images, labels = {}, {}
    for split, count in (("train", config.train), ("test", config.test)):
        labels[split] = np.arange(count) % config.classes
        images[split] = np.stack(
            [_image(draws, colours[label], config.size, config.size) for label in labels[split]]
        )
    content = b"".join(images[split].tobytes() for split in ("train", "test"))
    return Source(
        where="generated images",
        description=_description(config),
        sha256=hashlib.sha256(content).hexdigest(),
        train_images=images["train"],
        train_labels=labels["train"],
        test_images=images["test"],
        test_labels=labels["test"],
    )


def prepare_pictures(config: Generated, folder: Path) -> dict[str, Any]:
    """JPEGs, each side between one and two times ``config.size`` pixels, that are decoded as they are needed.

    As `moonshine.datasets.encoding.prepare_encoded`.
    """
    from PIL import Image

    draws, colours = _start(config)
    pictures = {}
    for split, count in (("train", config.train), ("test", config.test)):
        labels = [index % config.classes for index in range(count)]
        contents = []
        for label in labels:
            height, width = (int(config.size * draws.uniform(1, LARGER)) for _ in range(2))
            file = io.BytesIO()
            Image.fromarray(_image(draws, colours[label], height, width)).save(file, "JPEG", quality=QUALITY)
            contents.append(file.getvalue())
        pictures[split] = (contents, labels)
    content = b"".join(each for contents, _ in pictures.values() for each in contents)
    encoded = Encoded(
        pictures=pictures,
        class_names=[str(label) for label in range(config.classes)],
        root=None,
        resize=round(config.size * 8 / 7),  # as 256 is to 224
        crop=config.size,
        description=_description(config),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    assert config.normalisation
    return prepare_encoded(
        encoded, config.name, config.validation, config.split_seed, config.normalisation, folder
    )


def _start(config: Generated) -> tuple[np.random.RandomState, Array]:
    """Random numbers, of a stream that numpy promises never to change, and the colours of every class."""
    digest = hashlib.sha256(f"generated {config.seed}".encode()).digest()
    draws = np.random.RandomState(np.frombuffer(digest, dtype="<u4"))
    return draws, draws.randint(256, size=(config.classes, 2, 3))


def _image(draws: np.random.RandomState, colours: Array, height: int, width: int) -> Array:
    """One image, uint8 (height, width, 3)."""
    coarse = torch.from_numpy(draws.uniform(size=(1, 1, BLOBS, BLOBS)))
    share = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)[
        0, 0, :, :, None
    ].numpy()
    noise = draws.randint(-NOISE, NOISE + 1, size=(height, width, 3))
    pixels = share * colours[0] + (1 - share) * colours[1] + noise
    return np.clip(pixels.round(), 0, 255).astype(np.uint8)


def _description(config: Generated) -> str:
    return f"{config.kind} generated from seed {config.seed}"
