"""The ``generated`` kinds: synthetic data drawn from a seed, to try a pipeline without a dataset.

Every class has two colours; an image blends them in random blobs and adds noise. The colours survive cropping,
mirroring and resizing, so that networks learn them in a few steps. Scenes have boxes of every class on a background.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from moonshine.datasets.kind import (
    MAP_CLASSES,
    DataSection,
    DatasetSize,
    ImageArrays,
    ImageFiles,
    Normalisation,
    SceneFiles,
    Scenes,
)
from moonshine.datasets.splitting import random_state
from moonshine.fields import Seed, Side, Whole

if TYPE_CHECKING:
    from numpy.random import RandomState

    from moonshine.datasets.kind import Array

BLOBS = 5
"""Values per side of the random map that blends a class's colours."""
NOISE = 16
"""Largest random change of a pixel value, out of 255."""
LARGER = 2.0
"""Largest side of a generated JPEG, as a multiple of the input's side."""
QUALITY = 90
"""Of generated JPEGs."""
_VOID = 255
"""Void label of generated label maps."""


class _Generated(DataSection):
    """Data drawn from ``seed``: ``train`` and ``test`` images of ``classes`` in turn."""

    name: Literal["generated"]
    kind: str
    classes: Annotated[int, Field(ge=2, le=10**6)]
    size: Side
    train: Whole
    test: Whole
    seed: Seed

    @model_validator(mode="after")
    def _enough(self) -> _Generated:
        if self.train < self.classes:
            raise ValueError(
                f"train: found {self.train}; allowed: at least one for each of {self.classes} classes"
            )
        return self

    def public_size(self) -> DatasetSize:
        return DatasetSize(self.train, self.test, (3, self.size, self.size), self.classes)

    @property
    def _description(self) -> str:
        return f"{self.kind} generated from seed {self.seed}"

    @property
    def _counts(self) -> dict[str, int]:
        return {"train": self.train, "test": self.test}


class GeneratedImages(_Generated):
    """Decoded images of ``size`` x ``size`` pixels."""

    kind: Literal["images"]

    def source(self) -> ImageArrays:
        import numpy as np

        draws = random_state(f"generated {self.seed}")
        colours = draws.randint(256, size=(self.classes, 2, 3))
        splits = {}
        for split, count in self._counts.items():
            labels = np.arange(count) % self.classes
            images = [_image(draws, colours[label], self.size, self.size) for label in labels]
            splits[split] = np.stack(images), labels
        content = b"".join(images.tobytes() for images, _ in splits.values())
        return ImageArrays(
            where="generated images",
            splits=splits,
            description=self._description,
            sha256=hashlib.sha256(content).hexdigest(),
        )


class GeneratedJpegs(_Generated):
    """JPEGs that become inputs like ImageNet's: the shorter side to 8/7 of ``size``, then the centre ``size`` squared.

    Each side has between one and two times ``size`` pixels.
    """

    is_encoded: ClassVar[bool] = True

    kind: Literal["pictures"]
    normalisation: Normalisation

    def source(self) -> ImageFiles:
        from PIL import Image

        draws = random_state(f"generated {self.seed}")
        colours = draws.randint(256, size=(self.classes, 2, 3))
        splits: dict[str, tuple[list[bytes], list[int]]] = {}
        for split, count in self._counts.items():
            splits[split] = [], [index % self.classes for index in range(count)]
            for label in splits[split][1]:
                height, width = (int(self.size * draws.uniform(1, LARGER)) for _ in range(2))
                file = BytesIO()
                image = Image.fromarray(_image(draws, colours[label], height, width))
                image.save(file, "JPEG", quality=QUALITY)
                splits[split][0].append(file.getvalue())
        content = b"".join(each for contents, _ in splits.values() for each in contents)
        return ImageFiles(
            root=None,
            splits=splits,
            resize=round(self.size * 8 / 7),  # as 256 is to 224
            crop=self.size,
            description=self._description,
            sha256=hashlib.sha256(content).hexdigest(),
            class_names=[str(label) for label in range(self.classes)],
        )


class GeneratedMaps(_Generated):
    """Scenes of ``size`` x 2 ``size`` pixels with a label for every pixel; the last row is void.

    Class 0 is the background, and every scene has a box of each other class.
    """

    is_dense: ClassVar[bool] = True

    kind: Literal["maps"]
    classes: Annotated[int, Field(ge=2, le=MAP_CLASSES)]

    def source(self) -> Scenes:
        import numpy as np
        from PIL import Image

        draws = random_state(f"generated maps {self.seed}")
        colours = draws.randint(256, size=(self.classes, 3))
        digest = hashlib.sha256()
        contents: dict[str, bytes] = {}
        splits: dict[str, list[SceneFiles]] = {}
        for split, count in self._counts.items():
            splits[split] = [
                (f"{split}-{index}.png", f"{split}-{index}-labels.png") for index in range(count)
            ]
            for pair in splits[split]:
                labels = self._label_map(draws)
                noise = draws.randint(-NOISE, NOISE + 1, size=(*labels.shape, 3))
                pixels = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8)
                labels[-1] = _VOID
                for name, array in zip(pair, (pixels, labels), strict=True):
                    file = BytesIO()
                    Image.fromarray(array).save(file, "PNG")
                    contents[name] = file.getvalue()
                    digest.update(array.tobytes())
        return Scenes(
            root=Path("generated"),
            splits=splits,
            ids={label: label for label in range(self.classes)},
            void=frozenset({_VOID}),
            scored=self.classes,
            description=self._description,
            sha256=digest.hexdigest(),
            class_names=[str(label) for label in range(self.classes)],
            contents=contents,
        )

    def public_size(self) -> DatasetSize:
        return DatasetSize(self.train, self.test, (3, self.size, 2 * self.size), self.classes)

    def _label_map(self, draws: RandomState) -> Array:
        """Return one label map, uint8 (size, 2 * size)."""
        import numpy as np

        labels = np.zeros((self.size, 2 * self.size), np.uint8)
        for label in range(1, self.classes):
            height, width = draws.randint(self.size // 4, self.size // 2, size=2)
            top, left = draws.randint(self.size - height), draws.randint(2 * self.size - width)
            labels[top : top + height, left : left + width] = label
        return labels


def _image(draws: RandomState, colours: Array, height: int, width: int) -> Array:
    """Return one image, uint8 (height, width, 3)."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    coarse = torch.from_numpy(draws.uniform(size=(1, 1, BLOBS, BLOBS)))
    blended = interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    share = blended[0, 0, :, :, None].numpy()
    noise = draws.randint(-NOISE, NOISE + 1, size=(height, width, 3))
    pixels = share * colours[0] + (1 - share) * colours[1] + noise
    return np.clip(pixels.round(), 0, 255).astype(np.uint8)
