"""Images with label maps: decoding, consistency checks and preparation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from moonshine.data.rgb import open_rgb, open_turned, orientation
from moonshine.data.store import SPLITS, VOID
from moonshine.datasets.kind import SceneFiles, Scenes
from moonshine.datasets.listing import THREADS
from moonshine.errors import MoonshineError, first_few
from moonshine.preparation.tensors import Parts, reserve, resize_rule
from moonshine.progress import ReportProgress, silent

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

    from moonshine.datasets.kind import Array

_GREY = 0
"""Colour type of a PNG without colour, palette or transparency."""
QUARTER_TURNS = range(5, 9)
"""EXIF orientations that swap height and width."""


def prepare_scenes(
    scenes: Scenes, parts: Parts, folder: Path, progress: ReportProgress = silent
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return images, uint8 (N, 3, H, W), and label maps, uint8 (N, H, W), with the keys of the description.

    Images are turned upright; label maps hold classes and `VOID`. Both are resized to ``scenes.size`` (height, width),
    if given: images bilinear with antialiasing, labels to the nearest.
    MoonshineError naming every file that cannot be read, has another size than its label map or than the others, has an
    EXIF orientation that may or may not apply to its label map, or holds an unknown label; classes without a training
    image; and a scored split without any label.
    """
    pairs = {
        split: [scenes.splits[origin][index] for index in indices]
        for split, (origin, indices) in parts.items()
    }
    height, width = scenes.size or _size(scenes, pairs)
    tensors: dict[str, Tensor] = {}
    failures: list[str] = []
    done, total = 0, sum(map(len, pairs.values()))
    for split, chosen in pairs.items():
        images = reserve(folder, (len(chosen), 3, height, width))
        labels = reserve(folder, (len(chosen), height, width))
        for index, found in enumerate(_decoded(scenes, chosen, (height, width))):
            if isinstance(found, str):
                failures.append(found)
            else:
                images[index], labels[index] = found
            done += 1
            progress("images prepared", done, total)
        tensors |= {f"{split}_images": images, f"{split}_labels": labels}
    if failures:
        what = "image" if len(failures) == 1 else "images"
        raise MoonshineError(f"data.root: {scenes.root}: {len(failures)} {what}: {first_few(failures)}")
    shares = _shares(scenes, tensors["train_labels"])
    for split in SPLITS[1:]:
        if split in pairs:
            _check_labelled(scenes, split, tensors[f"{split}_labels"])
    return tensors, {
        "height": height,
        "width": width,
        "resize_rule": resize_rule(scenes.size),
        "scored_classes": scenes.scored,
        "class_shares": tuple(shares),
    }


def _size(scenes: Scenes, pairs: Mapping[str, Sequence[SceneFiles]]) -> tuple[int, int]:
    """Return height and width of the first readable image; unreadable ones are named when all are decoded."""
    for split in pairs.values():
        for name, _ in split:
            with suppress(Exception):  # decoders of damaged files raise almost anything
                found = open_rgb(scenes.file(name))
                return found.height, found.width
    return 1, 1  # no image can be read, so the size is never compared


def _decoded(
    scenes: Scenes, pairs: Sequence[SceneFiles], size: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor] | str]:
    """Yield each image (3, H, W) with its classes (H, W), or the error, in order."""
    table = np.full(256, -1, np.int16)  # label in a file -> class, or -1 for an invalid label
    table[list(scenes.ids)] = list(scenes.ids.values())
    table[list(scenes.void)] = VOID

    def decode(pair: SceneFiles) -> tuple[Tensor, Tensor] | str:
        try:
            return _scene(scenes, pair, size, table)
        except MoonshineError as error:
            return str(error)
        except Exception as error:  # decoders of damaged files raise almost anything
            return f"{pair[0]} or {pair[1]} cannot be read ({error or type(error).__name__})"

    with ThreadPoolExecutor(THREADS) as pool:
        # in pieces, because map() decodes everything ahead of whoever takes it
        for start in range(0, len(pairs), 4 * THREADS):
            yield from pool.map(decode, pairs[start : start + 4 * THREADS])


def _scene(scenes: Scenes, pair: SceneFiles, size: tuple[int, int], table: Array) -> tuple[Tensor, Tensor]:
    from PIL import Image

    image, turned_by = open_turned(scenes.file(pair[0]))
    with Image.open(scenes.file(pair[1]), formats=("PNG",)) as opened:
        _check_depth(opened, pair[1])
        if opened.mode not in ("L", "P"):
            raise MoonshineError(
                f"{pair[1]} is of mode {opened.mode}; allowed: label ids in 8-bit grey or in a palette"
            )
        ids = _turned(opened, image.size, turned_by, pair)
    if image.size != ids.size:
        raise MoonshineError(
            f"{pair[0]} has {_text(image.size)} pixels and {pair[1]} {_text(ids.size)}; allowed: the same"
        )
    wanted = (size[1], size[0])
    if not scenes.size and image.size != wanted:
        raise MoonshineError(
            f"{pair[0]} has {_text(image.size)} pixels, the first one {_text(wanted)}; allowed: one size for all, or "
            "a data.size [height, width] to resize them to"
        )
    # of the whole map: resizing may drop the only pixels of a mistake
    found = _classes(scenes, pair[1], ids, table)
    if scenes.size:
        image = image.resize(wanted, Image.Resampling.BILINEAR)
        found = _classes(scenes, pair[1], ids.resize(wanted, Image.Resampling.NEAREST), table)
    planar = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return planar, torch.from_numpy(found.astype(np.uint8))


def _turned(ids: Image, size: tuple[int, int], turned_by: int | None, pair: SceneFiles) -> Image:
    """Return a label map upright: by its own EXIF orientation, else by comparing its size to the upright image's.

    MoonshineError if the image was turned and neither tells whether the map was drawn before or after.
    """
    from PIL import ImageOps
    from PIL.ExifTags import Base

    if orientation(ids) is None and turned_by not in (None, 1):
        stored = size[::-1] if turned_by in QUARTER_TURNS else size
        if ids.size == size == stored:
            raise MoonshineError(
                f"{pair[0]} has the EXIF orientation {turned_by} and {pair[1]} has none, and its size does not tell "
                "whether it was drawn on the image as stored or as shown; allowed: an image without orientation "
                "(turn its pixels or remove the tag, whichever fits the labels), or a label map with its own"
            )
        if ids.size == stored:
            ids.getexif()[Base.Orientation] = turned_by
    return ImageOps.exif_transpose(ids)


def _classes(scenes: Scenes, name: str, ids: Image, table: Array) -> Array:
    found: Array = table[np.asarray(ids)]
    if found.min() < 0:
        unknown = sorted(set(np.unique(np.asarray(ids)).tolist()) - set(scenes.ids) - scenes.void)
        raise MoonshineError(
            f"{name} has the labels {first_few([str(label) for label in unknown])}; {_allowed(scenes)}"
        )
    return found


def _check_depth(opened: ImageFile, name: str) -> None:
    """Refuse grey of other than 8 bits: Pillow scales fewer bits to 0 to 255, which would change the ids."""
    file = opened.fp
    assert file
    place = file.tell()
    file.seek(24)  # of the header (IHDR), which comes first in a PNG
    depth, kind = file.read(2)
    file.seek(place)
    if kind == _GREY and depth != 8:
        raise MoonshineError(f"{name} is {depth}-bit grey; allowed: label ids in 8-bit grey or in a palette")


def _allowed(scenes: Scenes) -> str:
    return f"allowed: {min(scenes.ids)} to {max(scenes.ids)}, void {', '.join(map(str, sorted(scenes.void)))}"


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _shares(scenes: Scenes, labels: Tensor) -> list[float]:
    """Return the share of each class among all training pixels, void included, as ERFNet's authors count them."""
    counts = torch.zeros(256, dtype=torch.int64)
    for label_map in labels:
        counts += torch.bincount(label_map.flatten().long(), minlength=256)
    sizes = counts[: len(scenes.class_names)].tolist()
    absent = [
        f"{scenes.class_names[index]} (label {label})"
        for label, index in scenes.ids.items()
        if index < scenes.scored and not sizes[index]
    ]
    if absent:
        there = [str(label) for label, index in scenes.ids.items() if sizes[index]]
        void = f"void ({', '.join(map(str, sorted(scenes.void)))})"
        alone = first_few([*there, *([void] if counts[VOID] else [])])
        raise MoonshineError(
            f"data.root: {scenes.root}: no training image shows {first_few(absent)}; the label maps hold {alone}; "
            "allowed: each class at least once, by its label: a mask of 0 and 255 has to say 1 where it says 255"
        )
    return [size / labels.numel() for size in sizes]


def _check_labelled(scenes: Scenes, split: str, labels: Tensor) -> None:
    if not any(bool((label_map < scenes.scored).any()) for label_map in labels):
        raise MoonshineError(
            f"data.root: {scenes.root}: all pixels of the {len(labels)} label maps of the {split} split are void; "
            "allowed: at least one with a label, or there is nothing to score"
        )
