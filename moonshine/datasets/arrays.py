"""The ``arrays`` kind: the user's own ``.npz`` in the key convention of MedMNIST."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moonshine.datasets.source import Array, Source
from moonshine.errors import MoonshineError
from moonshine.files import sha256

if TYPE_CHECKING:
    from moonshine.config.data import Arrays

REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")
OPTIONAL = ("val_images", "val_labels")


def read(config: Arrays) -> Source:
    """Arrays of ``config.path`` once its SHA-256 is ``config.sha256``; pickled objects are refused.

    Raises MoonshineError for a file that is missing, another one, or unreadable, and for missing arrays.
    """
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise MoonshineError(f"data.path: {path} is no file; allowed: a .npz file")
    found = sha256(path)
    if found != config.sha256:
        raise MoonshineError(
            f"data.sha256: {path} has the checksum {found}, the study says {config.sha256}; the file is "
            "damaged or another one (where it is the right one, write its checksum into the study)"
        )
    arrays = _read(path)
    missing = [key for key in REQUIRED if key not in arrays]
    if len(set(OPTIONAL) & set(arrays)) == 1:
        missing += [key for key in OPTIONAL if key not in arrays]
    if missing:
        raise MoonshineError(
            f"data.path: {path} lacks {', '.join(missing)}; allowed: {', '.join(REQUIRED)}, "
            f"and {' with '.join(OPTIONAL)} or neither"
        )
    return Source(
        where=str(path),
        description=path.name,
        sha256=found,
        train_images=arrays["train_images"],
        train_labels=arrays["train_labels"],
        test_images=arrays["test_images"],
        test_labels=arrays["test_labels"],
        validation_images=arrays.get("val_images"),
        validation_labels=arrays.get("val_labels"),
    )


def _read(path: Path) -> dict[str, Array]:
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
