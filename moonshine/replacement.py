"""Putting a block of the paper's Table 1 where a network has other convolutions.

The network's own code runs unchanged: only submodules are exchanged. Source of the blocks: `moonshine.blocks.KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from moonshine.blocks import Block, Conv, Convolutions, convolutions, parse
from moonshine.errors import MoonshineError
from moonshine.modules import InnerReLU, ResidualBlock, initialise
from moonshine.residual import recognise


@dataclass(frozen=True)
class Place:
    """Where one block goes: a residual block, whose two convolutions it replaces, or a single convolution.

    ``convolutions`` are their paths; ``norms`` are the batch norms between two of them.
    """

    path: str
    convolutions: tuple[str, ...]
    norms: tuple[str, ...] = ()


def apply(module: nn.Module, blocks: Mapping[str, str | Block]) -> None:
    """Put blocks into a network, in place: path of a residual block or of a convolution -> block; S changes nothing.

    MoonshineError for a path that is neither, and for a block that does not fit.
    """
    for path, block in blocks.items():
        block = parse(block)
        if block.kind != "S":
            _replace(module, _place(module, path), block)


def last_convolution(module: nn.Module, path: str) -> nn.Conv2d:
    """The convolution that ends the block at ``path``, before the residual sum: where Fisher potential is read.

    In a residual block that nothing replaced it is the second of the pair.
    """
    place = module.get_submodule(path)
    if isinstance(place, nn.Conv2d):
        return place
    if isinstance(place, ResidualBlock):
        place = place.branch
    elif ends := [layer for layer in place.modules() if isinstance(layer, Replacement)]:
        place = ends[-1]
    elif pair := recognise(place):
        place = place.get_submodule(pair.second)
    return [layer for layer in place.modules() if isinstance(layer, nn.Conv2d)][-1]


class Replacement(nn.Sequential):
    """What stands where a convolution stood: convolutions with batch norm and ReLU between them."""


def _place(module: nn.Module, path: str) -> Place:
    try:
        found = module.get_submodule(path)
    except AttributeError:
        raise MoonshineError(f"{type(module).__name__} has no module {path!r} to put a block into") from None
    if isinstance(found, nn.Conv2d):
        return Place(path, (path,))
    if pair := recognise(found):
        inside = (f"{path}.{pair.first}", f"{path}.{pair.second}")
        return Place(path, inside, tuple(f"{path}.{name}" for name in pair.norms))
    raise MoonshineError(f"{path} is a {type(found).__name__}; allowed: a convolution or a residual block")


def _convolutions(module: nn.Module, place: Place) -> list[nn.Conv2d]:
    return [module.get_submodule(path) for path in place.convolutions]  # type: ignore[misc]


def plan(module: nn.Module, place: Place, block: Block) -> Convolutions:
    """The convolutions that replace each of a place's own, or, for a kind that stands for both, all of them.

    MoonshineError for a block that does not fit: it names the place, the width and the values that would.
    """
    path, replaced = place.path, _convolutions(module, place)
    first, last = replaced[0], replaced[-1]
    stride = _square(block, path, [conv.stride for conv in replaced])
    whole = convolutions(block, first.in_channels, last.out_channels, stride, path)
    if len(whole) == 1:
        return whole
    each = [
        convolutions(block, conv.in_channels, conv.out_channels, _square(block, path, [conv.stride]), path)[0]
        for conv in replaced
    ]
    return tuple(each)


def _square(block: Block, path: str, strides: Iterable[Any]) -> int:
    total = 1
    for rows, columns in strides:
        if rows != columns:
            raise MoonshineError(
                f"block {block} does not fit {path}: its stride is {rows}x{columns}; allowed: the same both ways"
            )
        total *= rows
    return total


def _replace(module: nn.Module, place: Place, block: Block) -> None:
    replaced = _convolutions(module, place)
    planned = plan(module, place, block)
    if len(planned) == len(replaced):
        for path, unit, conv in zip(place.convolutions, planned, replaced, strict=True):
            _put(module, path, _replacement(unit, conv, conv.bias is not None))
        return
    # One unit for the pair: its first convolution goes before the block's own norm, the rest after it.
    unit, (first, last) = planned[0], replaced
    _put(
        module,
        place.convolutions[0],
        _replacement(unit[:1], first, first.bias is not None and not place.norms),
    )
    for norm in place.norms:
        _resize(module.get_submodule(norm), unit[0].out_channels)
    _put(module, place.convolutions[1], _replacement(unit[1:], first, last.bias is not None))


def _replacement(unit: Sequence[Conv], like: nn.Conv2d, bias: bool) -> Replacement:
    """The convolutions of a unit in sequence; spatial ones take kernel, padding and dilation of ``like``.

    ``bias`` is the last one's: the others are followed by batch norm.
    """
    made = Replacement()
    for number, conv in enumerate(unit, 1):
        if number > 1:
            made.add_module(f"norm{number}", nn.BatchNorm2d(conv.in_channels))
            made.add_module(f"relu{number}", InnerReLU(inplace=True))
        spatial = conv.kernel > 1
        made.add_module(
            f"conv{number}",
            nn.Conv2d(
                conv.in_channels,
                conv.out_channels,
                like.kernel_size if spatial else 1,  # type: ignore[arg-type]
                stride=conv.stride,
                padding=like.padding if spatial else 0,  # type: ignore[arg-type]
                dilation=like.dilation if spatial else 1,  # type: ignore[arg-type]
                groups=conv.groups,
                bias=bias and number == len(unit),
                padding_mode=like.padding_mode if spatial else "zeros",
            ),
        )
    made.to(like.weight.device, like.weight.dtype).train(like.training)
    initialise(made)
    return made


def _resize(norm: nn.Module, channels: int) -> None:
    """Give a batch norm, of whatever subclass, another number of channels, newly initialised."""
    norm.num_features = channels  # type: ignore[assignment]
    for name, tensor in (*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False)):
        if tensor.numel() > 1:
            fill = 1.0 if name in ("weight", "running_var") else 0.0
            new = torch.full((channels,), fill, device=tensor.device, dtype=tensor.dtype)
            setattr(norm, name, nn.Parameter(new) if isinstance(tensor, nn.Parameter) else new)


def _put(module: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, new)
