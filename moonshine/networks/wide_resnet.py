"""The wide residual network, in its CIFAR form.

Source: Zagoruyko, Komodakis, "Wide Residual Networks", 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from moonshine.blocks.kinds import Conv, Convolutions
from moonshine.blocks.residual import ResidualBlock, conv2d, initialise


class WideResNet(nn.Module):
    """Wide residual network in its CIFAR form: (n, channels, h, w) -> logits (n, classes), any h and w.

    `stages` maps a stage's name to the convolutions of its blocks. `taps` are the stages: the residual sums.
    """

    def __init__(
        self, stages: Mapping[str, Sequence[Convolutions]], num_classes: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.taps = tuple(stages)
        flat = [conv for blocks in stages.values() for block in blocks for unit in block for conv in unit]
        self.stem = conv2d(Conv(in_channels, flat[0].in_channels, kernel=3))
        for name, blocks in stages.items():
            self.add_module(name, nn.Sequential(*map(ResidualBlock, blocks)))
        self.norm = nn.BatchNorm2d(flat[-1].out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(flat[-1].out_channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.taps:
            x = self.get_submodule(name)(x)
        x = self.relu(self.norm(x))
        # Functional as in the released code, whose "Ops" column counts no pooling for these networks.
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))
