"""Initial weights of networks and of the blocks in them."""

from __future__ import annotations

import math

from torch import nn

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.layers import GeneratedConv, ParallelBranches, TiedConvs, draw


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
            draw(layer.weight, math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels)))
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
    elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        fan_in = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        if isinstance(layer, nn.ConvTranspose2d):
            fan_in //= math.prod(layer.stride)  # a pixel of the output sees as much less of the kernel
        draw(layer.weight, math.sqrt(gain / fan_in))
    elif not isinstance(layer, nn.BatchNorm2d):
        return gain
    return 1.0
