"""Preparation of image files that stay encoded and are decoded during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from moonshine.data.encoded import Packed
from moonshine.data.store import SPLITS, write
from moonshine.datasets.splitting import hold_out

if TYPE_CHECKING:
    from moonshine.config.data import Normalisation


@dataclass(frozen=True, eq=False)
class Encoded:
    """Pictures as a dataset kind found them: split -> byte strings, and labels (N,) 0 to K - 1.

    The strings are the encoded pictures themselves, or where ``root`` is given, their files' paths below it.
    A picture becomes an input by bringing its shorter side to ``resize`` pixels and keeping the middle ``crop`` x
    ``crop``. ``description`` and ``sha256`` are those of the origin, the same on every machine.
    """

    pictures: Mapping[str, tuple[Sequence[bytes], Sequence[int]]]
    class_names: Sequence[str]
    root: str | None
    resize: int
    crop: int
    description: str
    sha256: str


def prepare_encoded(
    encoded: Encoded,
    name: str,
    validation: float,
    split_seed: int,
    normalisation: Normalisation,
    folder: Path,
) -> dict[str, Any]:
    """Split and write pictures that stay encoded into ``folder``, and return their description.

    ``validation`` of the training pictures, stratified, become the validation split unless there is one. MoonshineError
    for a share that leaves a class without pictures on either side, and for a folder that cannot be written.
    """
    parts = {split: (strings, np.array(labels)) for split, (strings, labels) in encoded.pictures.items()}
    if "validation" not in parts and validation > 0:
        strings, labels = parts["train"]
        kept, held = hold_out(labels, validation, seed=split_seed, key="data.validation")
        parts |= {
            split: ([strings[index] for index in chosen], labels[chosen])
            for split, chosen in (("train", kept), ("validation", held))
        }
    tensors: dict[str, torch.Tensor] = {}
    for split, (strings, labels) in parts.items():
        packed = Packed.of(strings)
        tensors |= {f"{split}_strings": packed.content, f"{split}_ends": packed.ends}
        tensors[f"{split}_labels"] = torch.from_numpy(labels.astype(np.int64))
    description = {
        "name": name,
        "counts": {split: len(tensors.get(f"{split}_labels", ())) for split in SPLITS},
        "channels": 3,
        "height": encoded.crop,
        "width": encoded.crop,
        "root": encoded.root,
        "resize_rule": {
            "resize": encoded.resize,
            "crop": [encoded.crop, encoded.crop],
            "interpolation": "bilinear",
            "antialias": True,
        },
        "num_classes": len(encoded.class_names),
        "class_names": list(encoded.class_names),
        "mean": list(normalisation.mean),
        "std": list(normalisation.std),
        "source": encoded.description,
    }
    return write(folder, tensors, description, encoded.sha256)
