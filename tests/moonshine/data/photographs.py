"""Encoded pictures to test with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from moonshine.data.encoded import EncodedSplit, Packed

SIZES = ((20, 31), (40, 24), (17, 17), (60, 50))
"""Height and width of the pictures, in turn."""


def photograph(seed: int, height: int = 40, width: int = 30) -> Image.Image:
    """Smooth enough for JPEG to change it little, and no two alike."""
    coarse = np.random.RandomState(seed).randint(256, size=(4, 5, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def album(count: int) -> list[bytes]:
    """JPEGs of several sizes."""
    return [encoded(photograph(i, *SIZES[i % len(SIZES)])) for i in range(count)]


def packed(contents: Sequence[bytes], resize: int = 18, crop: int = 16) -> EncodedSplit:
    """The label tells which picture it is."""
    return EncodedSplit(Packed.of(contents), torch.arange(len(contents)), None, resize, crop)


def filed(root: Path, contents: Sequence[bytes], resize: int = 18, crop: int = 16) -> EncodedSplit:
    """The same pictures as files ``train/é/0.jpg``, ... below ``root``."""
    names = [f"train/é/{i}.jpg" for i in range(len(contents))]
    (root / "train" / "é").mkdir(parents=True)
    for name, content in zip(names, contents, strict=True):
        (root / name).write_bytes(content)
    strings = Packed.of([name.encode() for name in names])
    return EncodedSplit(strings, torch.arange(len(contents)), str(root), resize, crop)
