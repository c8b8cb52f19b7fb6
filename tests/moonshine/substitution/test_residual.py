"""Residual blocks of several libraries are recognised, and what only looks like one is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from moonshine.substitution.residual import ConvPair, is_spatial, pairs, recognise, shortcuts
from tests.moonshine.odd_networks import Net, Remembers, Residual, Undecided, spatial
from tests.moonshine.residual_blocks import make_block


class PreActivation(nn.Module):
    """He et al. 2016: norm and ReLU before each convolution, the shortcut behind the first."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        # Registered in another order than that in which they run.
        self.conv2, self.bn2 = spatial(outputs, outputs, bias=False), nn.BatchNorm2d(outputs)
        self.conv1, self.bn1 = spatial(inputs, outputs, stride=stride, bias=False), nn.BatchNorm2d(inputs)
        self.jump = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(x))
        z = self.conv1(y)
        z = self.conv2(functional.dropout(functional.relu(self.bn2(z)), 0.1, self.training))
        z += self.jump(y)
        return z


class DropsPaths(Residual):
    """Can be traced in eval mode only, as timm's stochastic depth."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if self.training:
            y = y * torch.rand((x.shape[0],) + (1,) * (x.ndim - 1))
        return x + y


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = spatial(), spatial()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.add(self.second(self.first(x).relu()), skip)


class Function(nn.Module):
    """Two convolutions, two norms and whatever is done with them."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], inner: int = 8) -> None:
        super().__init__()
        self.function = function
        self.first, self.second = spatial(8, inner), spatial(8, 8)
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def branch(
    *between: nn.Module, first: nn.Conv2d | None = None, second: nn.Conv2d | None = None
) -> nn.Sequential:
    return nn.Sequential(first or spatial(), *between, second or spatial())


def torchvision_block(stride: int = 1) -> nn.Module:
    resnet = pytest.importorskip("torchvision.models.resnet")
    jump = None if stride == 1 else nn.Sequential(nn.Conv2d(8, 8, 1, stride), nn.BatchNorm2d(8))
    return resnet.BasicBlock(8, 8, stride, jump)


def timm_block(**kwargs: Any) -> nn.Module:
    resnet = pytest.importorskip("timm.models.resnet")
    layers = pytest.importorskip("timm.layers")
    attention = layers.SEModule if kwargs.pop("attention", False) else None
    return resnet.BasicBlock(8, 8, attn_layer=attention, **kwargs)


TORCHVISION = ConvPair("conv1", "conv2", ("bn1",))
OURS = ConvPair("branch.conv1", "branch.conv2", ("branch.norm2",))
SEQUENTIAL = ("branch.0", "branch.2")


@pytest.mark.parametrize(
    ("make", "pair"),
    [
        (torchvision_block, TORCHVISION),
        (lambda: torchvision_block(2), TORCHVISION),
        (lambda: PreActivation(8, 16, 2), ConvPair("conv1", "conv2", ("bn2",))),
        (lambda: make_block("S", 8, 8), OURS),
        (lambda: make_block("S", 8, 16, 2), OURS),
        (timm_block, TORCHVISION),
        (lambda: timm_block(attention=True), TORCHVISION),
        (lambda: timm_block(drop_path=nn.Dropout(0.1)), TORCHVISION),
        (lambda: Residual(branch(nn.ReLU())), ConvPair(*SEQUENTIAL, ())),
        (lambda: Residual(branch()), ConvPair("branch.0", "branch.1", ())),
        (
            lambda: Residual(branch(nn.BatchNorm2d(8), nn.PReLU(), nn.BatchNorm2d(8))),
            ConvPair("branch.0", "branch.4", ("branch.1", "branch.3")),
        ),
        (lambda: Residual(branch(nn.SyncBatchNorm(8))), ConvPair(*SEQUENTIAL, ("branch.1",))),
        (lambda: Residual(branch(nn.BatchNorm2d(8, affine=False))), ConvPair(*SEQUENTIAL, ("branch.1",))),
        (lambda: DropsPaths(branch(nn.ReLU())), ConvPair(*SEQUENTIAL, ())),
        (lambda: Residual(branch(nn.MaxPool2d(2)), nn.AvgPool2d(2)), ConvPair(*SEQUENTIAL, ())),
        (
            lambda: Residual(branch(first=spatial(padding=2, dilation=2), second=spatial(padding="same"))),
            ConvPair("branch.0", "branch.1", ()),
        ),
        (TwoInputs, ConvPair("first", "second", ())),
        (Remembers, ConvPair("first", "second", ())),
        (
            lambda: Function(lambda self, x: x + self.scale * self.second(self.norm1(self.first(x)))),
            ConvPair("first", "second", ("norm1",)),
        ),
    ],
)
def test_recognised(make: Callable[[], nn.Module], pair: ConvPair) -> None:
    assert recognise(make()) == pair


def bottleneck() -> nn.Module:
    resnet = pytest.importorskip("torchvision.models.resnet")
    return resnet.Bottleneck(8, 2)


@pytest.mark.parametrize(
    "make",
    [
        bottleneck,
        Undecided,
        lambda: branch(nn.ReLU()),
        lambda: Residual(branch(spatial())),
        lambda: Residual(branch(nn.ReLU()), spatial()),
        lambda: Residual(spatial(), spatial()),
        lambda: Residual(branch(), nn.Sequential(nn.Identity(), spatial())),
        lambda: Residual(branch(nn.GroupNorm(4, 8))),
        lambda: Residual(branch(nn.GroupNorm(4, 8, affine=False))),
        lambda: Residual(branch(nn.LayerNorm((8, 16, 16), elementwise_affine=False))),
        lambda: Residual(branch(nn.InstanceNorm2d(8))),
        lambda: Residual(branch(nn.PReLU(8))),
        lambda: Residual(branch(nn.Conv2d(8, 8, 1))),
        lambda: Residual(branch(first=spatial(padding=0), second=spatial(padding=2))),
        lambda: Residual(branch(first=spatial(padding=2), second=spatial(padding=0))),
        lambda: Residual(nn.Sequential(spatial(kernel=2, padding="same"), spatial(kernel=2, padding="same"))),
        lambda: Residual(
            branch(
                first=spatial(kernel=(3, 1), padding=(1, 0)), second=spatial(kernel=(1, 3), padding=(0, 1))
            )
        ),
        lambda: Residual(branch(nn.GLU(1), first=spatial(8, 16))),
        lambda: Residual(branch(nn.PixelShuffle(2), first=spatial(8, 32)), nn.Upsample(scale_factor=2)),
        # The inner map goes elsewhere too; the scale between is a parameter; layers that run twice.
        lambda: Function(lambda self, x: x + self.second(y := self.first(x)) + y),
        lambda: Function(lambda self, x: x + self.second(self.first(x)) * self.first(x)),
        lambda: Function(lambda self, x: x + self.second(self.scale * self.first(x))),
        lambda: Function(lambda self, x: x + self.first(self.first(x))),
        lambda: Function(lambda self, x: self.second(x + self.second(self.first(x)))),
        lambda: Function(lambda self, x: x + self.norm1(self.second(self.norm1(self.first(x))))),
        lambda: Function(lambda self, x: x * self.second(self.first(x))),
        lambda: Function(lambda self, x: 1 + self.second(self.first(x))),
    ],
)
def test_not_recognised(make: Callable[[], nn.Module]) -> None:
    assert recognise(make()) is None


def test_a_network_has_the_innermost_blocks() -> None:
    block = Residual(branch(nn.ReLU()))
    network = Net(spatial(), nn.Sequential(block), Residual(branch()), Residual(spatial()))
    assert pairs(network) == {
        "body.1.0": ConvPair(*SEQUENTIAL, ()),
        "body.2": ConvPair("branch.0", "branch.1", ()),
    }
    assert pairs(block) == {}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (spatial(), True),
        (spatial(kernel=(1, 3)), True),
        (nn.Conv2d(8, 8, 1), False),
        (spatial(groups=2), False),
        (nn.ConvTranspose2d(8, 8, 3), False),
        (nn.Conv3d(8, 8, 3), False),
        (nn.LazyConv2d(8, 3), False),
    ],
)
def test_what_is_spatial(layer: nn.Module, expected: bool) -> None:
    assert is_spatial(layer) is expected


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Net(Residual(branch(), spatial())), {"body.0.shortcut"}),
        (Net(Residual(branch(), nn.Conv2d(8, 8, 1))), {"body.0.shortcut"}),
        (Net(spatial(), Residual(branch()), Residual(spatial())), set()),
        (Net(Residual(spatial(), spatial())), set()),
        (Net(Residual(branch(), branch())), set()),
        # Three branches side by side are a wide convolution; behind two, the third is their shortcut.
        (Net(Residual(Residual(spatial(), spatial()), spatial())), set()),
        (
            Net(Residual(nn.Sequential(Residual(spatial(), spatial()), spatial()), spatial())),
            {"body.0.shortcut"},
        ),
        (nn.Sequential(Undecided(), Residual(branch(), spatial())), {"1.shortcut"}),
        (Net(PreActivation(8, 8, 1)), {"body.0.jump"}),
    ],
)
def test_shortcuts(network: nn.Module, expected: set[str]) -> None:
    assert shortcuts(network) == expected
