"""Pretrained weights: safetensors, a PyTorch state dict, or those that torchvision publishes, into a network."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.errors import MoonshineError, first_line
from moonshine.files import sha256
from moonshine.structures.artifacts import fill, read_tensors
from moonshine.structures.published_weights import published_weights
from moonshine.structures.structure import Start

logger = logging.getLogger(__name__)

WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.", "ema.")
"""Prefixes that torch.nn.DataParallel, torch.compile, Lightning and weight averaging put before every name."""


class PrefixNeeded(MoonshineError):
    """A file has the network's tensors under one of ``prefixes``, and none was given."""

    def __init__(self, message: str, prefixes: Sequence[str]) -> None:
        super().__init__(message)
        self.prefixes = prefixes


def load_given_weights(
    module: nn.Module, path: Path, checksum: str, prefix: str | None = None, new_head: int | None = None
) -> Start:
    """Fill ``module`` from a ``.safetensors`` file or a state dict with the SHA-256 ``checksum``.

    State dicts are read with ``weights_only``, so no code in them runs. The tensors may be under a key of the file
    and have a prefix of `WRAPPER_PREFIXES`: those that match the network exactly are taken, with ``prefix`` those
    whose key and name begin with it (``model_ema.module.``). Batch norm's step counters, which files from before
    torch 0.4.1 lack and nothing here reads, may be missing. With ``new_head``, the network's number of classes, its
    head stays as drawn: the tensors that have an entry per class, and are missing in the file or have another
    number of classes there. MoonshineError for a file that is missing, unreadable or has another checksum, for one
    with several matching networks, and listing the tensors that are missing, unexpected or of another shape.
    """
    if not path.is_file():
        raise MoonshineError(f"teacher.weights: {path} is no file; allowed: .safetensors or a state dict")
    found = sha256(path)
    if found != checksum:
        raise MoonshineError(
            f"teacher.weights_sha256: {path} has the checksum {found}, the study says {checksum}: the file is damaged "
            "or not the intended one (if it is, write its checksum into the study)"
        )
    content = read_tensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    return _fill(module, content, path, checksum, prefix, new_head)


def load_published_weights(module: nn.Module, model: str, new_head: int | None = None) -> Start:
    """Fill ``module`` with the default weights that torchvision publishes for a model, ``torchvision/<name>``.

    MoonshineError as for `published_weights`, and for a network of another shape. One with other classes may get a new
    head, as in `load_given_weights`.
    """
    path = published_weights(model)
    return _fill(module, _state_dict(path), path, sha256(path), None, new_head)


def _fill(
    module: nn.Module,
    content: Mapping[str, Any],
    path: Path,
    checksum: str,
    prefix: str | None,
    new_head: int | None,
) -> Start:
    tensors = _of_the_network(module, content, path, prefix, new_head)
    state = module.state_dict(keep_vars=True)
    own = {name: tensor for name, tensor in state.items() if not _is_counter(name)}
    drawn = _head(own, tensors, new_head)
    counters = {name: tensor for name, tensor in state.items() if _is_counter(name) and name not in tensors}
    try:
        fill(module, {**tensors, **counters, **{name: state[name].detach() for name in drawn}}, path)
    except MoonshineError as error:
        raise _does_not_fit(error, own, tensors, new_head) from None
    if new_head and not drawn:
        raise MoonshineError(
            f"teacher.head: found replace, and {path} fits the network with its head, for {new_head} classes; allowed: "
            "leave head out, and finetune starts from all of it"
        )
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, tensor in module.state_dict().items():
        # a buffer may be a mask, of infinities
        if not (tensor.isfinite().all() if name in parameters else tensor.isnan().logical_not().all()):
            raise MoonshineError(
                f"teacher.weights: {path}: {name} holds values that are not finite; allowed: numbers"
            )
    if drawn:
        logger.info("drawn anew, for %d classes: %s", new_head, ", ".join(drawn))
    return Start(weights=path.name, sha256=checksum, loaded=len(own) - len(drawn), drawn=drawn)


def _head(own: Mapping[str, Tensor], found: Mapping[str, Tensor], classes: int | None) -> tuple[str, ...]:
    """Return the tensors in which a network of so many classes differs from a file, if these can be its head alone.

    They have an entry per class, and are missing in the file or have another number of classes there, all the same.
    """
    given = {id(own[name]) for name in found.keys() & own}  # of the names of tied weights one is enough
    other = [
        name
        for name, tensor in own.items()
        if (found[name].shape != tensor.shape if name in found else id(tensor) not in given)
    ]
    there = [name for name in other if name in found]
    is_head = (
        all(own[name].shape[:1] == (classes,) for name in other)
        and all(found[name].shape[1:] == own[name].shape[1:] for name in there)
        and len({found[name].shape[:1] for name in there}) < 2
    )
    return tuple(other) if is_head else ()


def _does_not_fit(
    error: MoonshineError, own: Mapping[str, Tensor], found: Mapping[str, Tensor], new_head: int | None
) -> MoonshineError:
    """Return the error for weights that do not fit, which says whether they would but for the head."""
    if new_head:
        return MoonshineError(f"teacher.weights: with a new head for {new_head} classes or without: {error}")
    sizes = {tensor.shape[0] for name, tensor in own.items() if name in found and tensor.shape}
    if head := next((each for size in sorted(sizes) if (each := _head(own, found, size))), ()):
        return MoonshineError(
            f"{error}; allowed for weights of other classes: teacher.head: replace, which draws {', '.join(head)} "
            "anew, with teacher.finetune"
        )
    return error


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _of_the_network(
    module: nn.Module, content: Mapping[str, Any], path: Path, prefix: str | None, new_head: int | None
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
        rest = own.keys() - set(_head(own, found, new_head))
        if not found.keys() <= own.keys() or any(
            found[name].shape != own[name].shape for name in found.keys() & rest
        ):
            return False
        # of the names of tied weights one is enough
        return {id(own[name]) for name in found.keys() & rest} == {id(own[name]) for name in rest}

    starts = list(dict.fromkeys(_prefixes(content)))
    fitting = list(filter(fits, starts))
    if len(fitting) > 1:
        raise PrefixNeeded(
            f"teacher.weights: {path} holds this network {len(fitting)} times; allowed: teacher.weights_prefix, one of "
            f"{', '.join(fitting)}",
            fitting,
        )
    first = min(own)
    for start in (name.removesuffix(first) for name in tensors if name.endswith(f".{first}")):
        if not fitting and fits(start):
            raise PrefixNeeded(
                f"teacher.weights: {path} has the network's {first} as {start}{first}; allowed: the network's names, "
                f"or teacher.weights_prefix: {start}",
                [start],
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
            while wrapper := next((each for each in WRAPPER_PREFIXES if name.startswith(each)), None):
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
