"""Wide residual network in its CIFAR form.

Source: Zagoruyko, Komodakis, "Wide Residual Networks", 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from moonshine.blocks.initialisation import initialise
from moonshine.blocks.registry import BlockPlan
from moonshine.blocks.residual import ResidualBlock


class WideResNet(nn.Module):
    """Wide residual network in its CIFAR form: (n, channels, h, w) -> logits (n, classes), any h and w.

    `stages` maps a stage's name to the plans of its blocks. `taps` are the stages: the residual sums.
    """

    def __init__(
        self, stages: Mapping[str, Sequence[BlockPlan]], num_classes: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.taps = tuple(stages)
        blocks = [block.whole for plans in stages.values() for block in plans]
        self.stem = nn.Conv2d(in_channels, blocks[0].in_channels, 3, padding=1, bias=False)
        for name, plans in stages.items():
            self.add_module(name, nn.Sequential(*map(ResidualBlock, plans)))
        self.norm = nn.BatchNorm2d(blocks[-1].out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(blocks[-1].out_channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.taps:
            x = self.get_submodule(name)(x)
        x = self.relu(self.norm(x))
        # Functional as in the released code, whose "Ops" column counts no pooling for these networks.
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))
