"""Temporary storage for images while they are prepared."""

from __future__ import annotations

import os
import tempfile
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moonshine.errors import MoonshineError


def room(folder: Path, shape: tuple[int, ...]) -> Tensor:
    """An uint8 tensor that the system may move to the disk, on which its place is reserved, where memory is short."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            os.posix_fallocate(
                file.fileno(), 0, prod(shape)
            )  # a disk that fills up later would kill the process
            return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=shape))
    except OSError as error:
        raise MoonshineError(f"{folder}: cannot write the prepared data here: {error}") from None
