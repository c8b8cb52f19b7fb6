"""One picture in every form that decoders treat differently."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.moonshine.datasets.flowers import picture

SIXTEEN = (np.arange(20 * 31, dtype=np.uint16) * 105).reshape(20, 31)
TURNED = Image.Exif()
TURNED[0x0112] = 6
KINDS = {
    "rgb.png": lambda path: picture(1).save(path),
    "grey.png": lambda path: picture(1).convert("L").save(path),
    "sixteen.png": lambda path: Image.fromarray(SIXTEEN).save(path),
    "tiff.tif": lambda path: Image.fromarray(SIXTEEN).save(path),
    "black-and-white.png": lambda path: picture(1).convert("1").save(path),
    "grey_alpha.png": lambda path: picture(1).convert("LA").save(path),
    "palette.png": lambda path: picture(1).convert("P").save(path),
    "palette_alpha.png": lambda path: picture(1).convert("P").save(path, transparency=bytes(range(256))),
    "rgb_alpha.png": lambda path: _transparent().save(path),
    "cmyk.jpg": lambda path: picture(1).convert("CMYK").save(path),
    "turned.jpg": lambda path: picture(1).save(path, exif=TURNED),
    "turned_sixteen.png": lambda path: Image.fromarray(SIXTEEN).save(path, exif=TURNED),
}
"""File name -> what writes it."""


def _transparent() -> Image.Image:
    changed = picture(1).convert("RGBA")
    changed.putalpha(picture(2).convert("L"))
    return changed


def plant(folder: Path) -> list[Path]:
    """All of them in a new folder, by name."""
    folder.mkdir(parents=True)
    for name, write in KINDS.items():
        write(folder / name)
    return sorted(folder.iterdir(), key=lambda path: path.stem)


def seen_by(example: Path, *arguments: Path) -> NDArray[np.float32]:
    """The pixels (1, C, H, W) that a shipped example gives to its network, run in this process with nothing of ours."""
    changes = (
        ("sys.path", [str(example.parent), *sys.path]),
        ("sys.argv", list(map(str, (example, *arguments)))),
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes:
            patch.setattr(name, value)
        try:
            found: NDArray[np.float32] = runpy.run_path(str(example))["pixels"]
        finally:
            sys.modules.pop("rgb", None)
    return found
