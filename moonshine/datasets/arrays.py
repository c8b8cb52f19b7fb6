"""The ``arrays`` kind: the user's own ``.npz`` in the key convention of MedMNIST."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from moonshine.datasets.kind import DataSection, ImageArrays, check_checksum
from moonshine.errors import MoonshineError
from moonshine.fields import FilePath, Sha256, Side, Whole
from moonshine.files import sha256

if TYPE_CHECKING:
    from moonshine.datasets.kind import Array

_SPLITS = {"train": "train", "test": "test", "val": "validation"}
"""Prefix of an array's name -> split; the last is optional."""
REQUIRED, OPTIONAL = [
    [f"{prefix}_{what}" for prefix in prefixes for what in ("images", "labels")]
    for prefixes in (("train", "test"), ("val",))
]


class Arrays(DataSection):
    """The user's own ``.npz`` in the MedMNIST key convention; ``size: null`` keeps the images' own size.

    ``channels: 3`` repeats the channel of grey images, for networks that take colour; for images of more than 4
    channels it is required.
    """

    name: Literal["arrays"]
    path: FilePath
    sha256: Sha256
    size: Side | None
    channels: Whole | None = None

    def source(self) -> ImageArrays:
        """Load the arrays once the checksum is right; pickled objects are refused."""
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise MoonshineError(f"data.path: {path} is not a file; allowed: a .npz file")
        found = sha256(path)
        check_checksum(f"{path} has", found, self.sha256)
        arrays = _read(path)
        missing = [key for key in REQUIRED if key not in arrays]
        if len(set(OPTIONAL) & set(arrays)) == 1:
            missing += [key for key in OPTIONAL if key not in arrays]
        if missing:
            raise MoonshineError(
                f"data.path: {path} lacks {', '.join(missing)}; allowed: {', '.join(REQUIRED)}, "
                f"and {' with '.join(OPTIONAL)} or neither"
            )
        return ImageArrays(
            where=str(path),
            splits={
                split: (arrays[f"{prefix}_images"], arrays[f"{prefix}_labels"])
                for prefix, split in _SPLITS.items()
                if f"{prefix}_images" in arrays
            },
            description=path.name,
            sha256=found,
            size=self.size,
            channels=self.channels,
        )


def _read(path: Path) -> dict[str, Array]:
    import numpy as np

    if not zipfile.is_zipfile(path):
        raise MoonshineError(f"data.path: {path} is truncated or not a .npz file (a zip of arrays)")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {key: file[key] for key in (*REQUIRED, *OPTIONAL) if key in file.files}
    except Exception as error:  # a damaged member of a zip raises almost anything, and may claim any size
        raise MoonshineError(f"data.path: {path} cannot be read as .npz ({error})") from None
    for key, array in found.items():
        if not isinstance(array, np.ndarray):
            raise MoonshineError(f"data.path: {key} in {path} is no array")
    return found
