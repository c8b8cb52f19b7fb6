"""Modules built from the units of a block, and the initialisation of their weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
from moonshine.errors import MoonshineError


class InnerReLU(nn.ReLU):
    """A ReLU inside a cheap convolution: functional in the released code, whose "Ops" do not count it."""


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


class ParallelBranches(nn.ModuleList):
    """Modules that share an input; their outputs are concatenated along the channels or added."""

    def __init__(self, mode: str, branches: Iterable[nn.Module]) -> None:
        super().__init__(branches)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        outputs = [branch(x) for branch in self]
        return torch.cat(outputs, 1) if self.mode == "concat" else sum(outputs[1:], outputs[0])


class ExactConv(nn.Conv2d):
    """A convolution of maps that its stride divides; MoonshineError in the forward pass for others."""

    def forward(self, x: Tensor) -> Tensor:
        (rows, columns), (down, across) = x.shape[-2:], self.stride
        if rows % down or columns % across:
            raise MoonshineError(
                f"a window of {down}x{across} does not divide maps of {rows}x{columns} pixels; allowed: multiples of it"
            )
        return super().forward(x)


class AcrossChannelsConv(nn.Conv3d):
    """A convolution along the channels, three taps, and the mean of each of its maps over the channels."""

    def __init__(self, out_channels: int, bias: bool) -> None:
        super().__init__(1, out_channels, (3, 1, 1), padding=(1, 0, 0), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(1)).mean(2)


class TiedConvs(nn.Module):
    """A 1x1 convolution to ``rank`` channels, and back with the transpose of its weight."""

    def __init__(self, tied: Tied, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(tied.rank, tied.channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(tied.channels)) if bias else None
        self.initialise(gain=2.0)

    def initialise(self, gain: float) -> None:
        """Draw the weight so that the product of both has a variance of ``gain`` / channels."""
        rank, channels = self.weight.shape[:2]
        _draw(self.weight, (gain / rank / (rank + channels)) ** 0.25)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, self.weight), self.weight.transpose(0, 1), self.bias)


class GeneratedConv(nn.Module):
    """A convolution whose dense weight is computed from factors, its parameters, in every forward pass."""

    def __init__(self, conv: Conv, bias: bool) -> None:
        super().__init__()
        assert conv.weight is not None
        self.conv, self.generator = conv, conv.weight
        self.factors = nn.ParameterList(torch.empty(shape) for shape in self.generator.shapes(conv))
        self.fixed = []
        for index, array in enumerate(self.generator.fixed(conv)):
            self.fixed.append(f"fixed{index}")
            self.register_buffer(f"fixed{index}", torch.as_tensor(array), persistent=False)
        self.bias = nn.Parameter(torch.zeros(conv.out_channels)) if bias else None
        self.initialise(gain=2.0)

    def materialise(self) -> Tensor:
        """Return the weight (out, in / groups, rows, columns)."""
        fixed = [self.get_buffer(name) for name in self.fixed]
        return self.generator.materialise(self.conv, list(self.factors), fixed)

    @property
    def folded(self) -> int:
        """Number of values by which the weight is larger than its factors."""
        return self.conv.fan_in * self.conv.out_channels - sum(factor.numel() for factor in self.factors)

    def dense(self) -> nn.Module:
        """The ordinary convolution that computes the same, with the weight as it is now."""
        made = convolution(replace(self.conv, weight=None), self.bias is not None)
        made.load_state_dict(
            {"weight": self.materialise()} | ({} if self.bias is None else {"bias": self.bias})
        )
        return made

    def initialise(self, gain: float) -> None:
        """Draw the factors so that the weight has a variance of ``gain`` / fan in."""
        for factor, (mean, deviation) in zip(
            self.factors, self.generator.starts(self.conv, gain), strict=True
        ):
            _draw(factor, deviation, mean)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        return F.conv2d(
            x, self.materialise(), self.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )


def convolution(conv: Conv, bias: bool = False) -> nn.Module:
    """Return the module of one convolution, without its joint."""
    if conv.weight is not None:
        return GeneratedConv(conv, bias)
    kind = nn.ConvTranspose2d if conv.transposed else ExactConv if conv.exact else nn.Conv2d
    return kind(
        conv.in_channels,
        conv.out_channels,
        conv.kernel,
        stride=conv.stride,
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,
        groups=conv.groups,
        bias=bias,
        padding_mode=conv.padding_mode,
    )


def initialise(module: nn.Module) -> None:
    """Draw the weights of a network from torch's global generator, in place.

    As in the released code, convolutions ~ N(0, 2 / (k k c_out)), not divided by groups; BN weight 1 and bias 0; linear
    bias 0, and torch's own default for its weight. For kinds of block that ask for it, the variance of convolutions is
    gain / (fan-in of one group), with a gain of 2 after a ReLU and 1 after a linear joint, so that chains without batch
    norm preserve the scale of activations. Nothing is drawn on the meta device.
    """
    done: set[nn.Module] = set()
    for layer in module.modules():
        if layer in done:
            continue
        if isinstance(layer, CheapConvolution) and not layer.released:
            _initialise_by_variance(layer, 2.0)
            done |= set(layer.modules())
        elif isinstance(layer, nn.Conv2d):
            _draw(layer.weight, math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels)))
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)


def _initialise_by_variance(layer: nn.Module, gain: float) -> float:
    """Draw a layer for inputs that come from a ReLU (gain 2) or not (1); return the gain of the next layer."""
    if isinstance(layer, nn.Sequential):
        for child in layer:
            gain = _initialise_by_variance(child, gain)
        return gain
    if isinstance(layer, nn.ReLU):
        return 2.0
    if isinstance(layer, ParallelBranches):
        for branch in layer:
            _initialise_by_variance(branch, gain)
    elif isinstance(layer, GeneratedConv | TiedConvs):
        layer.initialise(gain)
    elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d):
        fan_in = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        if isinstance(layer, nn.ConvTranspose2d):
            fan_in //= math.prod(layer.stride)  # a pixel of the output sees as much less of the kernel
        _draw(layer.weight, math.sqrt(gain / fan_in))
    elif not isinstance(layer, nn.BatchNorm2d):
        return gain
    return 1.0


def _draw(weight: Tensor, deviation: float, mean: float = 0.0) -> None:
    if not weight.is_meta:
        nn.init.normal_(weight, mean, deviation)


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
