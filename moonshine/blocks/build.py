"""Modules built from the units of a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from moonshine.blocks.expressions import (
    AcrossChannels,
    Branches,
    Conv,
    Expression,
    Identity,
    Shuffle,
    Tied,
    layers,
    out_channels,
)
from moonshine.blocks.families.grouped import ordinary_parameters
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.layers import AcrossChannelsConv, InnerReLU, ParallelBranches, TiedConvs, convolution


class CheapConvolution(nn.Sequential):
    """Units of a block in sequence, which replace one convolution or several.

    (n, in, h, w) -> (n, out, h/stride, w/stride). Batch norm and ReLU separate the units, as in the network. For code
    that reads a convolution's attributes, it has the widths and the geometry of ``place``. ``ends`` names the last
    layer of each unit. ``numbered``: layers are named 0, 1, 2, ... instead of conv1, norm2, relu2, conv2, ...
    ``replaced`` are the replaced convolutions, unless ``place`` is the only one.
    ``ends_place``: whether its output is that of the whole block, before the residual sum.
    """

    def __init__(
        self,
        kind: Kind,
        units: Sequence[Expression],
        place: Geometry,
        *,
        eps: float = 1e-5,
        numbered: bool = False,
        replaced: Sequence[Geometry] = (),
        ends_place: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = place.in_channels, place.out_channels
        self.kernel_size, self.stride = place.kernel, place.stride
        self.dilation, self.padding = place.dilation, place.padding
        self.kind, self.released = kind.name, kind.initialisation == "released"
        self.decay, self.ordinary_parameters = kind.decay, ordinary_parameters(replaced or [place])
        self.ends_place = ends_place
        ends = []
        built: list[tuple[str, nn.Module]] = []
        width = place.in_channels
        for unit in units:
            if built:
                built += [("norm", nn.BatchNorm2d(width, eps)), ("relu", nn.ReLU(inplace=True))]
            built += _modules(unit, width, place.bias, eps)
            width = out_channels(unit, width)
            ends.append(len(built) - 1)
        names = [str(index) for index in range(len(built))] if numbered else _names(built)
        for name, (_, layer) in zip(names, built, strict=True):
            self.add_module(name, layer)
        self.ends = tuple(names[index] for index in ends)

    def end(self, unit: int = -1) -> nn.Module:
        """Return the layer whose output is a unit's, or the whole's, even if the network calls the layers itself."""
        last = self.get_submodule(self.ends[unit])
        return last.end() if isinstance(last, CheapConvolution) else last


def _modules(unit: Expression, width: int, bias: bool, eps: float) -> Iterator[tuple[str, nn.Module]]:
    """Yield the role and the module of each layer of a unit of ``width`` input channels; the last has its bias."""
    found = list(layers(unit))
    last = max(
        index
        for index, layer in enumerate(found)
        if isinstance(layer, Conv | AcrossChannels | Tied | Branches)
    )
    for index, layer in enumerate(found):
        ends = bias and index == last
        inputs, width = width, out_channels(layer, width)
        if isinstance(layer, Shuffle):
            yield "shuffle", nn.ChannelShuffle(layer.groups)
        if isinstance(layer, Tied):
            yield "conv", TiedConvs(layer, ends)
        if isinstance(layer, AcrossChannels):
            yield "conv", AcrossChannelsConv(layer.out_channels, ends)
        if not isinstance(layer, Conv | Branches):
            continue
        if isinstance(layer, Branches):
            yield "conv", _branches(layer, inputs, ends, eps)
        else:
            yield "conv", convolution(layer, ends or layer.bias or layer.joint == "relu")
        if layer.joint in ("norm", "norm+relu"):
            yield "norm", nn.BatchNorm2d(width, eps)
        if layer.joint == "norm+relu":
            yield "relu", InnerReLU(inplace=True)
        if layer.joint == "relu":
            yield "relu", nn.ReLU(inplace=True)


def _branches(branches: Branches, width: int, bias: bool, eps: float) -> ParallelBranches:
    """Build parallel branches; if their outputs are added, only the first branch has a bias."""
    made: list[nn.Module] = []
    for part in branches.parts:
        if isinstance(part, Identity):
            made.append(nn.Identity())
            continue
        built = list(_modules(part, width, bias, eps))
        bias = bias and branches.mode == "concat"
        chain = nn.Sequential()
        for name, (_, layer) in zip(_names(built), built, strict=True):
            chain.add_module(name, layer)
        made.append(chain if len(built) > 1 else built[0][1])
    return ParallelBranches(branches.mode, made)


def _names(built: Sequence[tuple[str, nn.Module]]) -> list[str]:
    """Return conv1, norm2, relu2, conv2, ...: layers share the number of the convolution that follows them."""
    names, number = [], 1
    for role, _ in built:
        names.append(f"{role}{number}")
        number += role == "conv"
    return names
