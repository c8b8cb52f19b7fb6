"""Weights that somebody else saved: safetensors, or a state dict that torch wrote."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.artifacts import fill, read_tensors
from moonshine.errors import MoonshineError
from moonshine.files import sha256

PREFIX = "module."
"""What torch.nn.DataParallel puts before every name."""


def load_given_weights(module: nn.Module, path: Path, checksum: str) -> None:
    """Fill ``module`` from a ``.safetensors`` file or a state dict with the SHA-256 ``checksum``.

    State dicts are read with ``weights_only``, so nothing in them is run; one that lies under the key ``state_dict``
    and names that all start with ``module.`` are understood. Batch norm's step counters, which files from before torch
    0.4.1 lack and nothing here reads, may be missing.
    Errors: ``MoonshineError`` for a file that is missing, another one or unreadable, and listing every tensor that is
    missing, unexpected or of another shape.
    """
    if not path.is_file():
        raise MoonshineError(f"teacher.weights: {path} is no file; allowed: .safetensors or a state dict")
    found = sha256(path)
    if found != checksum:
        raise MoonshineError(
            f"teacher.weights_sha256: {path} has the checksum {found}, the study says {checksum}; the file is damaged "
            "or another one (where it is the right one, write its checksum into the study)"
        )
    tensors = read_tensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    if tensors and all(name.startswith(PREFIX) for name in tensors):
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    counters = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name.endswith("num_batches_tracked") and name not in tensors
    }
    fill(module, {**tensors, **counters}, path)


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise MoonshineError(
            f"teacher.weights: {path} cannot be read as weights alone ({reason}); allowed: .safetensors, or what "
            "torch.save(model.state_dict(), ...) wrote"
        ) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(each, Tensor) for each in content.values()):
        kinds = (
            sorted({type(each).__name__ for each in content.values()}) if isinstance(content, Mapping) else []
        )
        raise MoonshineError(
            f"teacher.weights: {path} holds a {type(content).__name__}{' of ' + ', '.join(kinds) if kinds else ''}; "
            "allowed: a state dict (names to tensors), or one under the key 'state_dict'"
        )
    return dict(content)
