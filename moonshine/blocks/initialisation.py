"""Initial weights of networks and of the blocks in them."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.geometry import reach
from moonshine.blocks.layers import GeneratedConv, ParallelBranches, TiedConvs, draw_weight

VARIANCES = (0.2, 5.0)
"""Range of the variance of a new block's output for inputs from a ReLU; that of one draw is uncertain by half."""
DRAWS = 100


def initialise(module: nn.Module) -> None:
    """Draw the weights of a network from torch's global generator, in place.

    As in the released code, convolutions ~ N(0, 2 / (k k c_out)), not divided by groups; BN weight 1 and bias 0; linear
    bias 0, and torch's own default for its weight. For kinds of block that ask for it, the variance of convolutions is
    gain / (fan-in of one group), with a gain of 2 after a ReLU and 1 after a linear joint, so that chains without batch
    norm preserve the scale of activations. A weight generated from few numbers may still have a mean that a ReLU behind
    it cuts off, so such a block is drawn again until its output has a variance within `VARIANCES`. Nothing is drawn on
    the meta device.
    """
    done: set[nn.Module] = set()
    for layer in module.modules():
        if layer in done:
            continue
        if isinstance(layer, CheapConvolution) and not layer.released:
            for _ in range(DRAWS):
                _initialise_by_variance(layer, 2.0)
                if not _is_sensitive(layer) or VARIANCES[0] < _variance(layer) < VARIANCES[1]:
                    break
            done |= set(layer.modules())
        elif isinstance(layer, nn.Conv2d):
            draw_weight(layer.weight, math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels)))
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
        draw_weight(layer.weight, math.sqrt(gain / fan_in))
    elif not isinstance(layer, nn.BatchNorm2d):
        return gain
    return 1.0


def _is_sensitive(block: CheapConvolution) -> bool:
    """Whether a ReLU without batch norm follows a generated weight, as in ERFNet's form; False on the meta device."""
    return (
        any(isinstance(layer, GeneratedConv) for layer in block.modules())
        and any(
            type(layer) is nn.ReLU and not isinstance(before, nn.BatchNorm2d)
            for before, layer in pairwise(block)
        )
        and not next(block.parameters()).is_meta
    )


@torch.no_grad()
def _variance(block: CheapConvolution) -> float:
    """Return the variance of a block's output for the ReLU of normal noise, away from the borders of the maps.

    Its batch norms, which have seen nothing yet, leave everything as it is.
    """
    rows, columns = reach(block.kernel_size, block.dilation)
    like, mode = next(block.parameters()), block.training
    noise = torch.randn(
        4, block.in_channels, rows + 8, columns + 8, generator=torch.Generator().manual_seed(0)
    )
    found = block.eval()(noise.relu().to(like.device, like.dtype)).float()
    block.train(mode)
    top, left = rows // 2 // block.stride[0], columns // 2 // block.stride[1]
    return found[:, :, top : found.shape[2] - top, left : found.shape[3] - left].var().item()
