"""Modules that blocks are made of, besides torch's own."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moonshine.blocks.expressions import Conv, Tied
from moonshine.blocks.families.kind import divisors
from moonshine.errors import MoonshineError

logger = logging.getLogger(__name__)


class InnerReLU(nn.ReLU):
    """A ReLU inside a cheap convolution: functional in the released code, whose "Ops" do not count it."""


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
            fitting = ", ".join(map(str, divisors(math.gcd(rows, columns))[1:]))
            raise MoonshineError(
                f"SBOT: a window of {down}x{across} does not divide maps of {rows}x{columns} pixels; allowed: "
                f"multiples of it{f', or a factor of {fitting}' if fitting else ''}"
            )
        return super().forward(x)


class AcrossChannelsConv(nn.Conv2d):
    """A convolution along the channels, three taps, and the mean of each of its maps over the channels.

    The authors' three-dimensional convolution, on maps of (channels, pixels).
    """

    def __init__(self, out_channels: int, bias: bool) -> None:
        super().__init__(1, out_channels, (3, 1), padding=(1, 0), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(2).unsqueeze(1)).mean(2).unflatten(2, x.shape[-2:])


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
        draw_weight(self.weight, (gain / rank / (rank + channels)) ** 0.25)

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

    def materialise(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the weight (out, in / groups, rows, columns), in its factors' type and computed in ``dtype``.

        Also where autocast has products computed in bf16: rounding each would add to the rounding of the weight.
        """
        own = self.factors[0]
        fixed = [self.get_buffer(name) for name in self.fixed]
        fixed = [array.to(dtype) if array.is_floating_point() else array for array in fixed]
        autocast = torch.is_autocast_enabled(own.device.type)
        with torch.autocast(own.device.type, enabled=False) if autocast else nullcontext():
            made = self.generator.materialise(self.conv, [factor.to(dtype) for factor in self.factors], fixed)
        return made.to(own.dtype)

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
        """Draw the factors, and scale them so that the weight has a variance of ``gain`` / fan in.

        The variance of a product of few numbers is far from the one expected.
        """
        for factor, (mean, deviation) in zip(
            self.factors, self.generator.starts(self.conv, gain), strict=True
        ):
            draw_weight(factor, deviation, mean)
        if not self.factors[0].is_meta:
            with torch.no_grad():
                found = self.materialise(torch.float64).square().mean().item()
                scale = (gain / self.conv.fan_in / found) ** (0.5 / len(self.factors))
                for factor in self.factors:
                    factor.mul_(
                        round(scale, 6)
                    )  # not the last bits of a sum, which depend on the number of threads

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        if not torch.compiler.is_compiling() and (said := self.generator.doubt(conv, *x.shape[-2:])):
            _warn_once(said)
        return F.conv2d(
            x, self.materialise(), self.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )


@cache
def _warn_once(doubt: str) -> None:
    """Log a generator's doubt, once in a process, in which a network is built and run many times."""
    logger.warning(doubt)


def folded_weights(module: nn.Module) -> int:
    """Return the number of values by which a graph, where generated weights are dense, is larger than a network."""
    return sum(layer.folded for layer in module.modules() if isinstance(layer, GeneratedConv))


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


def draw_weight(weight: Tensor, deviation: float, mean: float = 0.0) -> None:
    """Draw a weight from a normal distribution, in place; nothing on the meta device."""
    if not weight.is_meta:
        nn.init.normal_(weight, mean, deviation)
