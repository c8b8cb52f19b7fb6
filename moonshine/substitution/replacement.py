"""Replacement of a network's convolutions by a block of the paper's Table 1.

The network's own code runs unchanged: only submodules are exchanged. Source of the blocks:
`moonshine.blocks.kinds.KINDS`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from moonshine.blocks.kinds import Block, Conv, Convolutions, parse
from moonshine.blocks.residual import InnerReLU, ResidualBlock, initialise
from moonshine.errors import MoonshineError
from moonshine.networks.erfnet import NonBottleneck1D, branch
from moonshine.substitution.places import Place, convolutions_of, find_place, plan
from moonshine.substitution.residual import recognise


def apply(module: nn.Module, blocks: Mapping[str, str | Block]) -> None:
    """Put blocks into a network, in place: path of a residual block or of a convolution -> block; S changes nothing.

    MoonshineError, before anything is replaced, for a path that is neither, for places that overlap and for a block
    that does not fit.
    """
    # Sorted, so that the weights that are drawn do not depend on the order of a mapping.
    chosen = {path: parse(blocks[path]) for path in sorted(blocks)}
    modules = dict(module.named_modules())
    if unknown := [path for path in chosen if not path or path not in modules]:
        raise MoonshineError(f"{type(module).__name__} has no module {unknown[0]!r} to put a block into")
    places = [find_place(path, modules[path]) for path, block in chosen.items() if block.kind != "S"]
    taken = Counter(path for place in places for path in place.convolutions)
    if twice := [path for path, times in taken.items() if times > 1]:
        raise MoonshineError(
            f"{twice[0]} is in two of the places that get a block; allowed: places that do not overlap"
        )
    planned = [plan(module, place, chosen[place.path]) for place in places]
    for place, units in zip(places, planned, strict=True):
        _replace(module, place, units)


def last_convolution(module: nn.Module, path: str) -> nn.Conv2d:
    """The convolution that ends the block at ``path``, before the residual sum: where Fisher potential is read.

    In a residual block that nothing replaced it is the second of the pair.
    """
    place = module.get_submodule(path)
    if isinstance(place, nn.Conv2d):
        return place
    if isinstance(place, ResidualBlock):
        place = place.branch
    elif ends := [layer for layer in place.modules() if isinstance(layer, Replacement) and layer.ends_place]:
        place = ends[-1]
    elif pair := recognise(place):
        place = place.get_submodule(pair.second)
    return [layer for layer in place.modules() if isinstance(layer, nn.Conv2d)][-1]


class Replacement(nn.Sequential):
    """What stands where a convolution stood: convolutions with batch norm and ReLU between them.

    For code that reads them there it has the widths and the geometry of what it stands for. ``ends_place``: whether it
    is the last of its place.
    """

    def __init__(self, unit: Sequence[Conv], like: nn.Conv2d, ends_place: bool) -> None:
        super().__init__()
        self.in_channels, self.out_channels = unit[0].in_channels, unit[-1].out_channels
        self.kernel_size, self.dilation, self.padding = like.kernel_size, like.dilation, like.padding
        self.stride = (math.prod(conv.stride for conv in unit),) * 2
        self.ends_place = ends_place


def _replace(module: nn.Module, place: Place, planned: Convolutions) -> None:
    replaced = convolutions_of(module, place)
    if isinstance(block := module.get_submodule(place.path), NonBottleneck1D):
        like = replaced[-1]
        made = branch(planned, max(like.dilation))
        made.to(like.weight.device, like.weight.dtype).train(like.training)
        initialise(made)
        block.branch = made
        return
    if len(planned) == len(replaced):
        for number, (path, unit, conv) in enumerate(
            zip(place.convolutions, planned, replaced, strict=True), 1
        ):
            _put(module, path, _replacement(unit, conv, conv.bias is not None, number == len(planned)))
        return
    # One unit for the pair: its first convolution goes before the block's own norm, the rest after it.
    unit, (first, last) = planned[0], replaced
    before = _replacement(unit[:1], first, first.bias is not None and not place.norms, False)
    _put(module, place.convolutions[0], before)
    for norm in place.norms:
        _resize(module.get_submodule(norm), unit[0].out_channels)
    _put(module, place.convolutions[1], _replacement(unit[1:], first, last.bias is not None, True))


def _replacement(unit: Sequence[Conv], like: nn.Conv2d, bias: bool, ends_place: bool) -> Replacement:
    """The convolutions of a unit in sequence; spatial ones take kernel, padding and dilation of ``like``.

    ``bias`` is the last one's: the others are followed by batch norm.
    """
    made = Replacement(unit, like, ends_place)
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
                padding=_padding(like, conv.stride) if spatial else 0,
                dilation=like.dilation if spatial else 1,  # type: ignore[arg-type]
                groups=conv.groups,
                bias=bias and number == len(unit),
                padding_mode=like.padding_mode if spatial else "zeros",
            ),
        )
    made.to(like.weight.device, like.weight.dtype).train(like.training)
    initialise(made)
    return made


def _padding(like: nn.Conv2d, stride: int) -> Any:
    """A convolution's padding for another stride: "same", which torch has without stride only, in pixels."""
    if like.padding == "same" and stride > 1:
        reach = zip(like.dilation, like.kernel_size, strict=True)
        return tuple(dilation * (kernel - 1) // 2 for dilation, kernel in reach)
    return like.padding


def _resize(norm: nn.Module, channels: int) -> None:
    """Give a batch norm, of whatever subclass, another number of channels, newly initialised."""
    norm.num_features = channels  # type: ignore[assignment]
    for name, tensor in (*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False)):
        shape = (channels,) if tensor.dim() else ()  # the count of batches has none
        fill = 1 if name in ("weight", "running_var") else 0
        new = torch.full(shape, fill, device=tensor.device, dtype=tensor.dtype)
        setattr(norm, name, nn.Parameter(new) if isinstance(tensor, nn.Parameter) else new)


def _put(module: nn.Module, path: str, new: nn.Module) -> None:
    """Exchange a submodule wherever it is registered: a network may hold one under several names."""
    old = module.get_submodule(path)
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
