"""Networks to and from the content of ``network.dc``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.numpy import load
from torch import nn

from moonshine.compression import file
from moonshine.compression.file import Tensors
from moonshine.compression.pruning import kept_count, prunable
from moonshine.structures.artifacts import fill, weights_bytes


def encode(network: nn.Module) -> bytes:
    """Return the content of a network's file."""
    return file.encode(_tensors(network))


def fill_from(network: nn.Module, path: Path | str) -> None:
    """Fill a network with the weights of a file; MoonshineError if it is damaged or of another network."""
    _fill(network, file.read_file(path), Path(path))


def decoded(network: nn.Module) -> int:
    """Replace a network's weights by those that are read back from its file; return the bytes of the file."""
    content = encode(network)
    _fill(network, file.decode(content), Path("network.dc"))
    return len(content)


def bound(network: nn.Module, bits: int) -> Callable[[float], int]:
    """Return a function from a sparsity to the most bytes that such a network's file takes, compressed to it."""
    tensors = _tensors(network)
    sizes = {name: weights.numel() for name, weights in prunable(network).items()}
    return lambda sparsity: file.most_bytes(
        tensors, {name: kept_count(size, sparsity) for name, size in sizes.items()}, bits
    )


def _tensors(network: nn.Module) -> Tensors:
    # safetensors returns them in any order
    return dict(sorted(load(weights_bytes(network)).items()))


def _fill(network: nn.Module, tensors: Tensors, path: Path) -> None:
    fill(network, {name: torch.tensor(tensor) for name, tensor in tensors.items()}, path)
