"""Synthetic scenes for semantic segmentation, drawn from a seed: boxes of every class on a background."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from moonshine.data.store import VOID
from moonshine.datasets.label_maps import Pair, Scenes, prepare_scenes
from moonshine.datasets.source import Array

if TYPE_CHECKING:
    from moonshine.config.data import Generated

NOISE = 16
"""Largest random change of a pixel, of 255."""


def prepare(config: Generated, folder: Path) -> dict[str, Any]:
    """As `moonshine.datasets.label_maps.prepare_scenes`, for scenes ``config.size`` high and twice as wide.

    Class 0 is the background, and every scene has a box of each other class; its last row is void.
    """
    # RandomState, because numpy promises that its stream never changes
    digest = hashlib.sha256(f"generated maps {config.seed}".encode()).digest()
    draws = np.random.RandomState(np.frombuffer(digest, dtype="<u4"))
    colours = draws.randint(256, size=(config.classes, 3))
    content = hashlib.sha256()
    pairs: dict[str, list[Pair]] = {}
    with TemporaryDirectory() as root:
        for split, count in (("train", config.train), ("test", config.test)):
            pairs[split] = [(f"{split}-{index}.png", f"{split}-{index}-labels.png") for index in range(count)]
            for pair in pairs[split]:
                labels = _labels(draws, config.size, config.classes)
                noise = draws.randint(-NOISE, NOISE + 1, size=(*labels.shape, 3))
                pixels = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8)
                labels[-1] = VOID
                for name, array in zip(pair, (pixels, labels), strict=True):
                    Image.fromarray(array).save(Path(root) / name)
                    content.update(array.tobytes())
        scenes = Scenes(
            root=Path(root),
            pairs=pairs,
            class_names=tuple(str(label) for label in range(config.classes)),
            scored=config.classes,
            ids={label: label for label in range(config.classes)},
            void=frozenset({VOID}),
            description=f"maps generated from seed {config.seed}",
            sha256=content.hexdigest(),
        )
        return prepare_scenes(
            scenes,
            folder,
            name=config.name,
            size=None,
            validation=config.validation,
            split_seed=config.split_seed,
            normalisation=config.normalisation,
        )


def _labels(draws: np.random.RandomState, size: int, classes: int) -> Array:
    """One label map, uint8 (size, 2 * size)."""
    labels = np.zeros((size, 2 * size), np.uint8)
    for label in range(1, classes):
        height, width = draws.randint(size // 4, size // 2, size=2)
        top, left = draws.randint(size - height), draws.randint(2 * size - width)
        labels[top : top + height, left : left + width] = label
    return labels
