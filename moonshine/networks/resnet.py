"""The ordinary, post-activation residual network of basic blocks, in its 224x224 form.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016. Parameters have torchvision's names,
so that torchvision's weights load.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from moonshine.blocks.initialisation import initialise
from moonshine.networks.families import Site


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, batch norm after each, ReLU between them and after the sum with the shortcut.

    (n, c_in, h, w) -> (n, c_out, h/stride, w/stride). Where width or stride changes, the shortcut is a 1x1 convolution
    with batch norm.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        jump = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        changes = inputs != outputs or stride != 1
        self.downsample = nn.Sequential(jump, nn.BatchNorm2d(outputs)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    """Residual network: (n, channels, h, w) -> logits (n, classes), any h and w.

    `sites` are its residual blocks, of paths such as ``layer1.0``. `taps` are the stages, ``layer1`` to ``layer4``.
    """

    def __init__(self, sites: Sequence[Site], num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        stem, last = sites[0].in_channels, sites[-1].out_channels
        self.conv1 = nn.Conv2d(in_channels, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.taps = tuple(dict.fromkeys(site.path.partition(".")[0] for site in sites))
        for tap in self.taps:
            blocks = (
                BasicBlock(site.in_channels, site.out_channels, site.stride)
                for site in sites
                if site.path.startswith(f"{tap}.")
            )
            self.add_module(tap, nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(last, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for tap in self.taps:
            x = self.get_submodule(tap)(x)
        return self.fc(self.avgpool(x).flatten(1))
