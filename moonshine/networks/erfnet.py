"""ERFNet: a small network for real-time semantic segmentation, whose 3x3 convolutions are pairs of 3x1 and 1x3.

Source: Romera, Álvarez, Bergasa, Arroyo, "ERFNet: Efficient Residual Factorized ConvNet for Real-Time Semantic
Segmentation", IEEE T-ITS, 2018; cheap blocks as `moonshine.blocks.registry.KINDS` has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.initialisation import initialise
from moonshine.blocks.registry import BlockPlan
from moonshine.errors import MoonshineError
from moonshine.networks.families import FAMILIES

EPS = 1e-3
DROPOUT = {"stage1": 0.03, "stage2": 0.3}
"""Dropout probability in each block of a stage; none in the decoder."""
REDUCTION = FAMILIES["erfnet"].reduction
"""Factor between the side of an image and that of the smallest map."""


class NonBottleneck1D(nn.Module):
    """ERFNet's residual block with any kind of cheap block: (n, c, h, w) -> (n, c, h, w).

    Every kxk convolution of a kind becomes a kx1 and a 1xk with a ReLU between them, in the same groups; a 1x1 stays.
    Batch norm and ReLU follow every convolution but the last, which batch norm and dropout of whole channels follow;
    ReLU follows the sum. Only the second half is dilated, as in the original.

    Biases: the original has one in every convolution. As in `moonshine.substitution.replacement`, the replacement of a
    convolution ends with a bias; inside it only the kx1, which no batch norm follows, have one.
    """

    def __init__(self, plan: BlockPlan, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolutions = plan.places
        self.branch = branch(plan)
        self.norm = nn.BatchNorm2d(plan.whole.out_channels, EPS)
        self.dropout = nn.Dropout2d(dropout)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.dropout(self.norm(self.branch(x))) + x)


def branch(plan: BlockPlan) -> CheapConvolution:
    """Build the part of a `NonBottleneck1D` before its last batch norm."""
    return CheapConvolution(plan.kind, plan.units, plan.whole, eps=EPS, numbered=True, replaced=plan.places)


def ordinary_convolutions(block: nn.Module) -> tuple[tuple[Geometry, ...], tuple[str, ...]] | None:
    """Return the two convolutions of a `NonBottleneck1D`, and the paths inside it of the layers that form them.

    None for another module, and for one with a cheap block.
    """
    if not isinstance(block, NonBottleneck1D) or block.branch.kind != "S":
        return None
    names = [name for name, layer in block.branch.named_children() if isinstance(layer, nn.Conv2d)]
    return block.convolutions, tuple(f"branch.{name}" for name in names)


class Downsampler(nn.Module):
    """Halves the map: a 3x3 convolution beside a 2x2 max pooling, batch norm, ReLU.

    (n, c_in, h, w) -> (n, c_out, h/2, w/2) for even h and w. The convolution adds the channels that the pooling lacks;
    if it lacks none, there is no pooling and the convolution computes all channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2) if inputs < outputs else None
        added = outputs - inputs if self.pool else outputs
        self.conv = nn.Conv2d(inputs, added, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(outputs, EPS)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.relu(self.norm(y if self.pool is None else torch.cat([y, self.pool(x)], 1)))


class Upsampler(nn.Sequential):
    """Doubles the map: a transposed 3x3 convolution, batch norm, ReLU. (n, c_in, h, w) -> (n, c_out, 2h, 2w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(outputs, EPS),
            nn.ReLU(inplace=True),
        )


class ERFNet(nn.Module):
    """ERFNet: (n, channels, h, w) -> logits (n, classes, h, w), for h and w divisible by 8.

    `stages` maps a stage's name to the plans of its blocks: ``stage1`` and ``stage2`` are the encoder's,
    ``stage3`` and ``stage4`` the decoder's. The stem is as wide as the last stage. `taps` are the stages. Weights are
    drawn by `initialise`; transposed convolutions and biases have torch's own defaults.

    ``encoder_head``, which the original uses to pretrain its encoder, takes no part in the forward pass: it exists
    because the published number of parameters includes it.
    MoonshineError in the forward pass for any other h and w.
    """

    def __init__(
        self, stages: Mapping[str, Sequence[BlockPlan]], num_classes: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.taps = tuple(stages)
        first, second, third, last = (plans[0].whole.in_channels for plans in stages.values())
        self.down1 = Downsampler(in_channels, last)
        self.down2 = Downsampler(last, first)
        self.stage1 = _stage("stage1", stages)
        self.down3 = Downsampler(first, second)
        self.stage2 = _stage("stage2", stages)
        self.encoder_head = nn.Conv2d(second, num_classes, 1)
        self.up1 = Upsampler(second, third)
        self.stage3 = _stage("stage3", stages)
        self.up2 = Upsampler(third, last)
        self.stage4 = _stage("stage4", stages)
        self.head = nn.ConvTranspose2d(last, num_classes, 2, stride=2)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height % REDUCTION or width % REDUCTION:
            raise MoonshineError(
                f"erfnet: an image of {height}x{width} pixels (height x width); allowed: both divisible by "
                f"{REDUCTION}, as {_up(height)}x{_up(width)}"
            )
        x = self.stage1(self.down2(self.down1(x)))
        x = self.stage2(self.down3(x))
        x = self.stage3(self.up1(x))
        x = self.stage4(self.up2(x))
        return self.head(x)


def _stage(name: str, stages: Mapping[str, Sequence[BlockPlan]]) -> nn.Sequential:
    return nn.Sequential(*(NonBottleneck1D(plan, DROPOUT.get(name, 0.0)) for plan in stages[name]))


def _up(pixels: int) -> int:
    return -(-pixels // REDUCTION) * REDUCTION
