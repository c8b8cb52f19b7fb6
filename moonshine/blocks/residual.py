"""The residual block that holds a cheap block's convolutions, and the initialisation of networks made of such blocks.

Source: Zagoruyko, Komodakis, "Wide Residual Networks", 2016, and the released code of the distillation paper
(BayesWatch/pytorch-moonshine), whose BN and ReLU placement is kept.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from moonshine.blocks.kinds import Block, Conv, Convolutions, convolutions


class InnerReLU(nn.ReLU):
    """A ReLU inside a cheap convolution: functional in the released code, whose "Ops" do not count it."""


def conv2d(conv: Conv) -> nn.Conv2d:
    """The convolution without bias, padded by half its kernel."""
    return nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel,
        stride=conv.stride,
        padding=conv.kernel // 2,
        groups=conv.groups,
        bias=False,
    )


class ResidualBlock(nn.Module):
    """Pre-activation residual block: BN and ReLU before every convolution, plus the shortcut.

    (n, c_in, h, w) -> (n, c_out, h/stride, w/stride). Where width or stride changes, the shortcut is a 1x1
    convolution of the block's own first BN and ReLU (as released), elsewhere the input.
    """

    def __init__(self, convolutions: Convolutions) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {}
        for unit in convolutions:
            for position, conv in enumerate(unit):
                number = len(layers) // 3 + 1
                layers[f"norm{number}"] = nn.BatchNorm2d(conv.in_channels)
                layers[f"relu{number}"] = InnerReLU(inplace=True) if position else nn.ReLU(inplace=True)
                layers[f"conv{number}"] = conv2d(conv)
        self.norm1, self.relu1 = layers.pop("norm1"), layers.pop("relu1")
        self.branch = nn.ModuleDict(layers)
        flat = [conv for unit in convolutions for conv in unit]
        jump = Conv(flat[0].in_channels, flat[-1].out_channels, stride=math.prod(c.stride for c in flat))
        changes = jump.in_channels != jump.out_channels or jump.stride != 1
        self.shortcut = conv2d(jump) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        # A loop, not a Sequential: its call would hold y until the branch ends, one map more at the peak.
        for layer in self.branch.values():
            y = layer(y)
        return shortcut + y


def make_block(
    block: str | Block, in_channels: int, out_channels: int, stride: int = 1, path: str = "block"
) -> nn.Module:
    """The pre-activation residual block with its shortcut: (n, in, h, w) -> (n, out, h/stride, w/stride).

    MoonshineError as for `convolutions`.
    """
    return ResidualBlock(convolutions(block, in_channels, out_channels, stride, path))


def initialise(module: nn.Module) -> None:
    """He initialisation of the released code, from torch's global generator, in place.

    Convolutions ~ N(0, 2 / (k k c_out)), not divided by groups; BN weight 1 and bias 0; linear bias 0 and its
    weight as torch leaves it. A module on the meta device has nothing to draw.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
            fan = math.prod(layer.kernel_size) * layer.out_channels
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan))
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
