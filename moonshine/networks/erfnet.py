"""ERFNet: a small network for real-time semantic segmentation, whose 3x3 convolutions are pairs of 3x1 and 1x3.

Source: Romera, Álvarez, Bergasa, Arroyo, "ERFNet: Efficient Residual Factorized ConvNet for Real-Time Semantic
Segmentation", IEEE T-ITS, 2018; cheap blocks as `moonshine.blocks.kinds.KINDS` has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from moonshine.blocks.kinds import Conv, Convolutions
from moonshine.blocks.residual import InnerReLU, initialise
from moonshine.errors import MoonshineError
from moonshine.networks.families import FAMILIES

EPS = 1e-3
DROPOUT = {"stage1": 0.03, "stage2": 0.3}
"""The probability in each block of a stage; none in the decoder."""
DILATIONS = {"stage2": (2, 4, 8, 16)}
"""Those of a stage's blocks, in turn; 1 in the others."""
REDUCTION = FAMILIES["erfnet"].reduction
"""Pixels of the image, each way, to one of the smallest map."""


class NonBottleneck1D(nn.Module):
    """ERFNet's residual block, of any kind: (n, c, h, w) -> (n, c, h, w).

    Every kxk convolution of a kind is a kx1 and a 1xk with a ReLU between them, in the same groups; a 1x1 stays. Batch
    norm and ReLU stand between convolutions, batch norm and dropout of whole channels after the last, ReLU after the
    sum. ``dilation`` is that of the last pair, as in the original, where the first has none.

    Biases: the original has one in every convolution. As in `moonshine.substitution.replacement`, what stands for a
    convolution keeps its bias, at its end; inside it, only the kx1 have one, which no batch norm follows.
    """

    def __init__(self, convolutions: Convolutions, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.branch = branch(convolutions, dilation)
        self.norm = nn.BatchNorm2d(convolutions[-1][-1].out_channels, EPS)
        self.dropout = nn.Dropout2d(dropout)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.dropout(self.norm(self.branch(x))) + x)


def branch(convolutions: Convolutions, dilation: int) -> nn.Sequential:
    """What a `NonBottleneck1D` computes before its last batch norm."""
    flat = [conv for unit in convolutions for conv in unit]
    last_pair = max((index for index, conv in enumerate(flat) if conv.kernel > 1), default=None)
    layers: list[nn.Module] = []
    index = 0
    for unit in convolutions:
        for position, conv in enumerate(unit, 1):
            if index:
                relu = nn.ReLU if position == 1 else InnerReLU
                layers += [nn.BatchNorm2d(conv.in_channels, EPS), relu(inplace=True)]
            layers += factorised(conv, dilation if index == last_pair else 1, position == len(unit))
            index += 1
    return nn.Sequential(*layers)


def ordinary_convolutions(block: nn.Module) -> tuple[str, ...]:
    """The paths inside a `NonBottleneck1D` of the original's four convolutions; none where it has others."""
    if not isinstance(block, NonBottleneck1D):
        return ()
    found = {
        f"branch.{name}": layer
        for name, layer in block.branch.named_children()
        if isinstance(layer, nn.Conv2d)
    }
    is_original = [(conv.kernel_size, conv.groups) for conv in found.values()] == [
        ((3, 1), 1),
        ((1, 3), 1),
    ] * 2
    return tuple(found) if is_original else ()


def factorised(conv: Conv, dilation: int, bias: bool) -> list[nn.Module]:
    """A convolution of stride 1 as kx1, ReLU and 1xk, or as it is if it is a 1x1; ``bias`` is the last one's."""
    inputs, outputs, kernel, groups = conv.in_channels, conv.out_channels, conv.kernel, conv.groups
    if kernel == 1:
        return [nn.Conv2d(inputs, outputs, 1, groups=groups, bias=bias)]
    margin = dilation * (kernel // 2)
    return [
        nn.Conv2d(inputs, outputs, (kernel, 1), 1, (margin, 0), (dilation, 1), groups),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, (1, kernel), 1, (0, margin), (1, dilation), groups, bias),
    ]


class Downsampler(nn.Module):
    """Halves the map: a 3x3 convolution beside a 2x2 max pooling, batch norm, ReLU.

    (n, c_in, h, w) -> (n, c_out, h/2, w/2) for even h and w. The convolution adds to the channels of the pooling those
    that are missing; where none are, it makes all of them and there is no pooling.
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

    `stages` maps a stage's name to the convolutions of its blocks: ``stage1`` and ``stage2`` are the encoder's,
    ``stage3`` and ``stage4`` the decoder's. The stem is as wide as the last of them. `taps` are the stages. Weights
    start as by `initialise`; transposed convolutions and the biases of convolutions as torch leaves them.

    ``encoder_head``, on which the original trains its encoder before there is a decoder, takes no part in the forward
    pass: it is there because the published number of parameters counts it.
    MoonshineError in the forward pass for any other h and w.
    """

    def __init__(
        self, stages: Mapping[str, Sequence[Convolutions]], num_classes: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.taps = tuple(stages)
        first, second, third, last = (blocks[0][0][0].in_channels for blocks in stages.values())
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


def _stage(name: str, stages: Mapping[str, Sequence[Convolutions]]) -> nn.Sequential:
    dilations, dropout = DILATIONS.get(name, (1,)), DROPOUT.get(name, 0.0)
    return nn.Sequential(
        *(
            NonBottleneck1D(convolutions, dilations[index % len(dilations)], dropout)
            for index, convolutions in enumerate(stages[name])
        )
    )


def _up(pixels: int) -> int:
    return -(-pixels // REDUCTION) * REDUCTION
