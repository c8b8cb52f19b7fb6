"""Weights that somebody else made: safetensors, a state dict that torch wrote, or what torchvision publishes."""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.artifacts import fill, read_tensors
from moonshine.errors import MoonshineError
from moonshine.files import sha256

logger = logging.getLogger(__name__)

CHECKSUM = re.compile(r"[-_]([0-9a-f]{8,})$")
"""The beginning of a file's SHA-256 at the end of its name, as torchvision writes it."""

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
    _fill(module, read_tensors(path) if path.suffix == ".safetensors" else _state_dict(path), path)


def load_published_weights(module: nn.Module, model: str) -> None:
    """Fill ``module`` with what torchvision publishes of a model of its, ``torchvision/<name>``: its default weights.

    Errors: ``MoonshineError`` as of `published_weights`, and for a network of another shape, such as one of other
    classes.
    """
    path = published_weights(model)
    _fill(module, _state_dict(path), path)


def published_weights(model: str) -> Path:
    """The file of the weights that torchvision publishes of a model of its as the default.

    They are downloaded once, into the cache of torch.hub, and verified by the part of their SHA-256 that their name
    holds. Errors: ``MoonshineError`` for a model without weights, a download that fails, which says where the file may
    be put instead, and a file that is another one.
    """
    from torchvision.models import get_model_weights

    available = get_model_weights(model.partition("/")[2])
    if not list(available):
        raise MoonshineError(
            f"teacher.weights: torchvision publishes none for {model}; allowed: a file of weights"
        )
    weights = available.DEFAULT
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    named = CHECKSUM.search(path.stem)
    prefix = named[1] if named else ""
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(path), prefix, progress=False)
        except (OSError, RuntimeError) as error:
            raise MoonshineError(
                f"teacher.weights: {weights.url} could not be downloaded ({error}); allowed: put that file at {path}"
            ) from None
    found = sha256(path)
    if not found.startswith(prefix):
        raise MoonshineError(
            f"teacher.weights: {path} has the checksum {found}, which does not begin as its name says; it is damaged: "
            f"remove it, and it is downloaded again from {weights.url}"
        )
    logger.info("weights %s, checksum %s", weights, found)
    return path


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    if tensors and all(name.startswith(PREFIX) for name in tensors):
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    counters = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name.endswith("num_batches_tracked") and name not in tensors
    }
    fill(module, {**tensors, **counters}, path)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, tensor in module.state_dict().items():
        # a buffer may be a mask, of infinities
        if not (tensor.isfinite().all() if name in parameters else tensor.isnan().logical_not().all()):
            raise MoonshineError(
                f"teacher.weights: {path}: {name} holds values that are not finite; allowed: numbers"
            )


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        # torch adds advice to unpickle it after all
        reason = str(error).partition("\n")[0].partition(". This file can still be loaded")[0]
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
