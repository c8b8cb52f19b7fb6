"""Weights that the user brings: safetensors, a PyTorch state dict, or those that torchvision publishes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.errors import MoonshineError, first_line
from moonshine.files import sha256
from moonshine.structures.artifacts import fill, read_tensors

logger = logging.getLogger(__name__)

CHECKSUM = re.compile(r"[-_]([0-9a-f]{8,})$")
"""First digits of a file's SHA-256 at the end of its name, as in torchvision's file names."""

WRAPPERS = ("module.", "_orig_mod.", "model.", "ema.")
"""Prefixes that torch.nn.DataParallel, torch.compile, Lightning and weight averaging put before every name."""


def load_given_weights(module: nn.Module, path: Path, checksum: str, prefix: str | None = None) -> None:
    """Fill ``module`` from a ``.safetensors`` file or a state dict with the SHA-256 ``checksum``.

    State dicts are read with ``weights_only``, so no code in them runs. The tensors may be under a key of the file and
    have a prefix of `WRAPPERS`: those that match the network exactly are taken, with ``prefix`` those whose key and
    name begin with it (``model_ema.module.``). Batch norm's step counters, which files from before torch 0.4.1 lack and
    nothing here reads, may be missing. MoonshineError for a file that is missing, unreadable or has another checksum,
    for one with several matching networks, and listing the tensors that are missing, unexpected or of another shape.
    """
    if not path.is_file():
        raise MoonshineError(f"teacher.weights: {path} is no file; allowed: .safetensors or a state dict")
    found = sha256(path)
    if found != checksum:
        raise MoonshineError(
            f"teacher.weights_sha256: {path} has the checksum {found}, the study says {checksum}: the file is damaged "
            "or not the intended one (if it is, write its checksum into the study)"
        )
    _fill(module, read_tensors(path) if path.suffix == ".safetensors" else _state_dict(path), path, prefix)


def load_published_weights(module: nn.Module, model: str) -> None:
    """Fill ``module`` with the default weights that torchvision publishes for a model, ``torchvision/<name>``.

    MoonshineError as for `published_weights`, and for a network of another shape, such as one with other classes.
    """
    path = published_weights(model)
    _fill(module, _state_dict(path), path)


def published_weights(model: str) -> Path:
    """Return the file of the default weights that torchvision publishes for a model.

    They are downloaded once, into torch.hub's cache, and verified by the part of the SHA-256 in their name.
    MoonshineError for a model without weights, for a failed download (it says where the file can be put instead), and
    for a file with another checksum.
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
            f"teacher.weights: {path} has the checksum {found}, not the one in its name: it is damaged; remove it, and "
            f"it is downloaded again from {weights.url}"
        )
    logger.info("weights %s, checksum %s", weights, found)
    return path


def _fill(module: nn.Module, content: Mapping[str, Any], path: Path, prefix: str | None = None) -> None:
    tensors = _of_the_network(module, content, path, prefix)
    counters = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if _is_counter(name) and name not in tensors
    }
    fill(module, {**tensors, **counters}, path)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, tensor in module.state_dict().items():
        # a buffer may be a mask, of infinities
        if not (tensor.isfinite().all() if name in parameters else tensor.isnan().logical_not().all()):
            raise MoonshineError(
                f"teacher.weights: {path}: {name} holds values that are not finite; allowed: numbers"
            )


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _of_the_network(
    module: nn.Module, content: Mapping[str, Any], path: Path, prefix: str | None
) -> dict[str, Tensor]:
    """Return the tensors of a file that match the network, by its names; the nearest ones if none match."""
    tensors = dict(_named_tensors(content))
    own = {name: one for name, one in module.state_dict(keep_vars=True).items() if not _is_counter(name)}

    def below(start: str) -> dict[str, Tensor]:
        return {name.removeprefix(start): tensors[name] for name in tensors if name.startswith(start)}

    if prefix is not None:
        if not below(prefix):
            begin = ", ".join(sorted({name.partition(".")[0] for name in tensors}))
            raise MoonshineError(
                f"teacher.weights_prefix: no tensor of {path} begins with {prefix!r}; they begin with: {begin}"
            )
        return below(prefix)

    def fits(start: str) -> bool:
        found = {name: one for name, one in below(start).items() if not _is_counter(name)}
        if not found.keys() <= own.keys() or any(found[name].shape != own[name].shape for name in found):
            return False
        # of the names of tied weights one is enough
        return {id(own[name]) for name in found} == set(map(id, own.values()))

    starts = list(dict.fromkeys(_prefixes(content)))
    fitting = list(filter(fits, starts))
    if len(fitting) > 1:
        raise MoonshineError(
            f"teacher.weights: {path} holds this network {len(fitting)} times; allowed: teacher.weights_prefix, one of "
            f"{', '.join(fitting)}"
        )
    first = min(own)
    for start in (name.removesuffix(first) for name in tensors if name.endswith(f".{first}")):
        if not fitting and fits(start):
            raise MoonshineError(
                f"teacher.weights: {path} has the network's {first} as {start}{first}; allowed: the network's names, "
                f"or teacher.weights_prefix: {start}"
            )
    start = max(starts, key=lambda each: (each in fitting, len(below(each).keys() & own), len(each)))
    if start:
        logger.info("of %s the tensors whose key and name begin with %s", path, start)
    return below(start)


def _named_tensors(content: Mapping[Any, Any], start: str = "") -> Iterator[tuple[str, Tensor]]:
    """Return the tensors of nested dictionaries by their keys, joined by dots."""
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{start}{key}", value
        elif isinstance(value, Mapping):
            yield from _named_tensors(value, f"{start}{key}.")


def _prefixes(content: Mapping[Any, Any], start: str = "") -> Iterator[str]:
    """Return the possible prefixes of a whole network's names: the keys of a dictionary, and those of wrappers."""
    yield start
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _prefixes(value, f"{start}{key}.")
        elif isinstance(value, Tensor):
            name, before = str(key), start
            while wrapper := next((each for each in WRAPPERS if name.startswith(each)), None):
                name, before = name.removeprefix(wrapper), before + wrapper
                yield before


def _state_dict(path: Path) -> Mapping[Any, Any]:
    """Load a file that torch saved, without running code in it."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises almost anything for a damaged file
        said = first_line(error)
        # torch adds advice to unpickle it after all
        reason = "a TorchScript archive" if "TorchScript" in said else said.partition(". This file can")[0]
        raise MoonshineError(
            f"teacher.weights: {path} cannot be read as weights alone ({reason}); allowed: .safetensors, or what "
            "torch.save(model.state_dict(), ...) wrote"
        ) from None
    if not isinstance(content, Mapping) or not any(_named_tensors(content)):
        kinds = (
            sorted({type(each).__name__ for each in content.values()}) if isinstance(content, Mapping) else []
        )
        raise MoonshineError(
            f"teacher.weights: {path} holds a {type(content).__name__}{' of ' + ', '.join(kinds) if kinds else ''}; "
            "allowed: a state dict (names to tensors), or one under a key such as 'state_dict'"
        )
    return content
