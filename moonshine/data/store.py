"""Prepared data on disk: ``data.safetensors`` (the arrays) and ``dataset.json`` (their description)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from moonshine.data.description import Description
from moonshine.data.encoded import EncodedSplit, Packed
from moonshine.errors import MoonshineError
from moonshine.files import draft, sha256

ARRAYS = "data.safetensors"
DESCRIPTION = "dataset.json"
SPLITS = ("train", "validation", "test")
HOW = "python -m moonshine_workflow.stages.fetch --study STUDY, or moonshine.preparation.prepare.prepare_dataset"
VOID = 255
"""The label of a pixel that belongs to no class."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images, uint8 (N, C, H, W), and labels, int64 (N,), or label maps, uint8 (N, H, W) with `VOID` pixels."""

    images: Tensor
    labels: Tensor

    @property
    def is_dense(self) -> bool:
        """Whether every pixel has a label: semantic segmentation."""
        return self.labels.ndim == 3

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """Return the split on ``device``; itself where it is there already, still memory-mapped on the CPU."""
        return Split(self.images.to(device), self.labels.to(device))


AnySplit = Split | EncodedSplit


@dataclass(frozen=True, eq=False)
class Dataset:
    """Prepared dataset; ``mean`` and ``std`` normalise pixels in [0, 1], per channel.

    ``resize_rule`` describes in torchvision's terms how an image becomes an input: ``resize`` to [height, width], or of
    the shorter side if it is one number, with ``interpolation`` and ``antialias``, then the centre ``crop``; null for a
    step that is not done. Empty for data that were prepared before it was recorded. For label maps, ``class_shares`` is
    the share of each class among all training pixels, void included, and ``scored_classes`` the number of classes that
    count: outputs beyond them are never a target.
    """

    name: str
    train: AnySplit
    validation: AnySplit | None
    test: AnySplit
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    class_names: tuple[str, ...]
    resize_rule: Mapping[str, Any] = field(default_factory=dict)
    class_shares: tuple[float, ...] = ()
    scored_classes: int | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image in evaluation."""
        return self.train.image_shape


class LostArrays(MoonshineError):
    """``data.safetensors`` is missing, or is not the file that ``dataset.json`` describes."""


def load_dataset(folder: Path | str) -> Dataset:
    """Open prepared data in ``folder``; the arrays are verified once per process, and memory-mapped.

    MoonshineError if a file is missing or damaged, or if the two files do not belong together: `LostArrays` if
    preparing the same data again would repair it.
    """
    folder = Path(folder)
    for name, error in ((DESCRIPTION, MoonshineError), (ARRAYS, LostArrays)):
        if not (folder / name).is_file():
            raise error(f"{folder}: {name} is missing; prepare the data first ({HOW})")
    description = Description.read(folder / DESCRIPTION)
    try:
        _verify(folder / ARRAYS, description.sha256[ARRAYS])
        dataset = _assemble(description, load_file(folder / ARRAYS))
        with safe_open(folder / ARRAYS, "pt") as file:
            written = json.loads(file.metadata()["description"]) | {"sha256": description.sha256}
        if Description.model_validate_json(json.dumps(written)) != description:
            raise ValueError("they describe the data differently")
    except LostArrays:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise MoonshineError(
            f"{folder}: {ARRAYS} and {DESCRIPTION} do not belong together ({error}); prepare the data again ({HOW})"
        ) from None
    return dataset


def _verify(path: Path, wanted: str) -> None:
    try:
        now = path.stat()
        found = _sha256(path, now.st_ino, now.st_mtime_ns, now.st_size)
    except OSError as error:
        raise MoonshineError(f"{path}: cannot be read ({error.strerror})") from None
    if found != wanted:
        raise LostArrays(
            f"{path}: has the checksum {found}, {DESCRIPTION} says {wanted}: it is truncated or damaged; prepare the "
            f"data again ({HOW})"
        )


@lru_cache(maxsize=4)
def _sha256(path: Path, *state: int) -> str:
    """Return the checksum of a file in this state, cached: it takes about a second per gigabyte."""
    return sha256(path)


def _assemble(description: Description, tensors: Mapping[str, Tensor]) -> Dataset:
    splits = {}
    for name in SPLITS:
        if description.counts[name] > 0 or f"{name}_labels" in tensors:
            make = _encoded if f"{name}_ends" in tensors else _decoded
            splits[name] = make(name, description, tensors)
    return Dataset(
        name=description.name,
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits["test"],
        mean=description.mean,
        std=description.std,
        num_classes=description.num_classes,
        class_names=description.class_names,
        resize_rule=description.resize_rule,
        class_shares=description.class_shares,
        scored_classes=description.scored_classes,
    )


def _decoded(name: str, description: Description, tensors: Mapping[str, Tensor]) -> Split:
    count = description.counts[name]
    image_shape = description.image_shape
    images, labels = tensors[f"{name}_images"], tensors[f"{name}_labels"]
    labelled = (count, *image_shape[1:]) if labels.ndim == 3 else (count,)
    for found, wanted in ((images.shape, (count, *image_shape)), (labels.shape, labelled)):
        if tuple(found) != wanted:
            raise ValueError(f"the {name} split has shape {tuple(found)}, described as {wanted}")
    return Split(images, labels)


def _encoded(name: str, description: Description, tensors: Mapping[str, Tensor]) -> EncodedSplit:
    count = description.counts[name]
    strings, labels = Packed(tensors[f"{name}_strings"], tensors[f"{name}_ends"]), tensors[f"{name}_labels"]
    if not len(strings) == len(labels) == count:
        raise ValueError(
            f"the {name} split has {len(strings)} images and {len(labels)} labels, described as {count}"
        )
    rule = description.resize_rule
    return EncodedSplit(strings, labels, description.root, rule["resize"], rule["crop"][0])


def write_dataset(
    folder: Path | str,
    tensors: Mapping[str, Tensor],
    description: Description,
    source_sha256: str | Mapping[str, str],
) -> Description:
    """Write both files, the same bytes for the same content, and return the description with its checksums.

    ``tensors`` are named as in the file (``train_images``, ...; ``train_strings`` and ``train_ends`` for images that
    are not decoded ahead, which the description's ``root`` belongs to). Neither file appears before both are complete.
    The arrays' file also contains the description, so that its checksum covers everything that batches depend on.
    MoonshineError if the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # in a folder of its own: safetensors writes a temporary file, which a killed process leaves behind
        with draft(folder / ARRAYS) as made:
            about = json.dumps(description.content(), sort_keys=True)
            save_file(dict(tensors), made / ARRAYS, {"description": about})
            sums = {ARRAYS: sha256(made / ARRAYS), "source": source_sha256}
            complete = description.model_copy(update={"sha256": sums})
            text = json.dumps(complete.content(), indent=2, ensure_ascii=False) + "\n"
            (made / DESCRIPTION).write_text(text, encoding="utf-8")
            # safetensors makes files that only the owner can read
            (made / ARRAYS).chmod((made / DESCRIPTION).stat().st_mode)
            for name in (ARRAYS, DESCRIPTION):
                (made / name).replace(folder / name)
    except (OSError, SafetensorError) as error:
        raise MoonshineError(f"{folder}: cannot write the prepared data here: {error}") from None
    return complete
