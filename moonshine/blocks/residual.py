"""Pre-activation residual block that holds a cheap block.

Source: Zagoruyko, Komodakis, "Wide Residual Networks", 2016, and the released code of the distillation paper
(BayesWatch/pytorch-moonshine), whose BN and ReLU placement is kept.
"""

from __future__ import annotations

from torch import Tensor, nn

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.expressions import Conv
from moonshine.blocks.layers import convolution
from moonshine.blocks.registry import BlockPlan


class ResidualBlock(nn.Module):
    """Pre-activation residual block: BN, ReLU and the units of a block, plus the shortcut.

    (n, c_in, h, w) -> (n, c_out, h/stride, w/stride). Where width or stride changes, the shortcut is a 1x1
    convolution of the block's own first BN and ReLU (as released), elsewhere the input.
    """

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        whole = plan.whole
        self.norm1 = nn.BatchNorm2d(whole.in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.branch = CheapConvolution(plan.kind, plan.units, whole, replaced=plan.places)
        changes = whole.in_channels != whole.out_channels or whole.stride != (1, 1)
        jump = Conv(whole.in_channels, whole.out_channels, stride=whole.stride)
        self.shortcut = convolution(jump) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        # Layer by layer: calling the branch would hold y until it ends, one map more at the peak.
        for layer in self.branch:
            y = layer(y)
        return shortcut + y
