"""Small networks as people write them, (n, 3, h, w) -> logits (n, 5) or per pixel, most with odd forward passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

SHAPE = (3, 16, 16)


def spatial(inputs: int = 8, outputs: int = 8, kernel: Any = 3, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kwargs.pop("padding", 1), **kwargs)


class Net(nn.Module):
    """A stem, what stands in ``body`` and a head."""

    def __init__(self, *body: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.stem = spatial(3, 8)
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Residual(nn.Module):
    """A sum of two modules."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.shortcut(x)


class Backwards(nn.Module):
    """Registers its layers in the reverse of the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.last = spatial(8, 5)
        self.second = spatial()
        self.first = spatial(3, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x)).relu()).mean((2, 3))


class Dense(nn.Module):
    """Labels every pixel: (n, 3, h, w) -> (n, classes, h, w) for even h and w, with one residual block."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = spatial(3, 8, stride=2)
        self.block = Residual(nn.Sequential(spatial(), nn.BatchNorm2d(8), nn.ReLU(), spatial()))
        self.tail = spatial(8, 16)
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.tail(self.block(self.stem(x))).relu())
        return functional.interpolate(logits, scale_factor=2.0, mode="bilinear")


class Pooled(Dense):
    """Adds what the whole picture shows, normalised over the batch: it cannot train on one picture."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__(classes)
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, classes, 1), nn.BatchNorm2d(classes))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.whole(x)


class Reused(Net):
    """Runs one convolution twice."""

    def __init__(self) -> None:
        super().__init__(spatial())

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(2):
            x = self.body[0](x).relu()
        return self.head(x.mean((2, 3)))


class Tied(Net):
    """Two convolutions with one weight, and one with its own."""

    def __init__(self) -> None:
        first, second = spatial(), spatial()
        super().__init__(first, second, spatial())
        second.weight = first.weight


class TiedToItsInverse(Net):
    """A convolution whose weight a transposed convolution takes too, and one with its own."""

    def __init__(self) -> None:
        down, up = spatial(), nn.ConvTranspose2d(8, 8, 3, padding=1)
        super().__init__(down, spatial(), up)
        up.weight = down.weight


class NamedOutputs(Net):
    """Has an argument that only its name can give, and returns a mapping."""

    def __init__(self) -> None:
        super().__init__(spatial())

    def forward(self, image: Tensor, *, scale: float = 1.0) -> dict[str, Tensor]:  # type: ignore[override]
        x = self.body(self.stem(image) * scale)
        return {"out": self.head(x.mean((2, 3))), "features": x}


class Functions(Net):
    """Calls its layers in functions, comprehensions and by concatenation."""

    def __init__(self) -> None:
        super().__init__(spatial(8, 4), spatial(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        def both(y: Tensor) -> Tensor:
            return torch.cat([functional.relu(layer(y)) for layer in self.body], 1)

        return self.head(functional.max_pool2d(both(self.stem(x)), 2).mean((2, 3)))


class Undecided(Net):
    """What runs depends on the values of the image: no symbolic trace exists. Zeros take the first way."""

    def __init__(self) -> None:
        super().__init__(spatial(), spatial())

    def forward(self, x: Tensor) -> Tensor:
        way = 0 if x.sum() <= 0 else 1
        return self.head(self.body[way](self.stem(x)).mean((2, 3)))


class Aliased(Net):
    """Registers its convolution twice, and runs it by the second name."""

    def __init__(self) -> None:
        super().__init__(spatial())
        self.again = nn.ModuleList(self.body)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again[0](self.stem(x)).mean((2, 3)))


class Hidden(Net):
    """Runs its convolution from a list that torch does not know."""

    def __init__(self) -> None:
        super().__init__(spatial())
        self.layers = [self.body[0]]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers[0](self.stem(x)).mean((2, 3)))


class ReadsGeometry(Net):
    """Looks at what its convolution is."""

    def __init__(self) -> None:
        super().__init__(spatial(8, 16, stride=2), width=16)

    def forward(self, x: Tensor) -> Tensor:
        conv: Any = self.body[0]
        y = conv(self.stem(x))
        assert (y.shape[1], 8) == (conv.out_channels, conv.in_channels)
        assert y.shape[2] == x.shape[2] // conv.stride[0]
        assert (conv.kernel_size, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        return self.head(y.mean((2, 3)))


class ReadsWeights(Net):
    """Looks at the weights of its convolution."""

    def __init__(self) -> None:
        super().__init__(spatial())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x).to(self.body[0].weight.dtype)).mean((2, 3)))


class Remembers(nn.Module):
    """A residual block that keeps what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = spatial(), spatial()

    def forward(self, x: Tensor) -> Tensor:
        self.inner = self.first(x)
        return x + self.second(self.inner.relu())


class WritesIntoItsInput(Net):
    """Normalises its images itself, in place unless told otherwise, and writes into what its first body layer gave."""

    def __init__(self, in_place: bool = True) -> None:
        super().__init__(spatial(), spatial())
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        x = x.sub_(2).div_(3) if self.in_place else (x - 2) / 3
        y = self.body[0](self.stem(x))
        return self.head(self.body[1](functional.relu(y, inplace=self.in_place)).mean((2, 3)))


class Flattening(nn.Module):
    """Flattens a map by ``view``, which torch's own memory layout alone allows: (n, channels, 8, 8) -> (n, classes)."""

    def __init__(self, channels: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.stem, self.body = spatial(channels, 8), spatial()
        self.head = nn.Linear(8 * 64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x)).relu()
        return self.head(x.view(x.size(0), -1))


def special(*, weight_norm: bool) -> nn.Module:
    """A net whose one inner convolution is no plain one, and one that is."""
    odd: nn.Module = spatial()
    odd = parametrizations.weight_norm(odd) if weight_norm else spatial(groups=2)
    return Net(odd, spatial())


# Name -> (network, the places of its lone convolutions).
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "backwards": (Backwards, ["second"]),
    "reused": (Reused, ["body.0"]),
    "tied": (Tied, ["body.2"]),
    "tied to its inverse": (TiedToItsInverse, ["body.1"]),
    "named outputs": (NamedOutputs, ["body.0"]),
    "functions": (Functions, ["body.0", "body.1"]),
    "undecided": (Undecided, ["body.0"]),
    "aliased": (Aliased, ["body.0"]),
    "reads geometry": (ReadsGeometry, ["body.0"]),
    "rows and columns": (
        lambda: Net(spatial(kernel=(3, 1), padding=(1, 0)), spatial(kernel=(1, 3), padding=(0, 1))),
        ["body.0", "body.1"],
    ),
    "dilated": (lambda: Net(spatial(padding=2, dilation=2)), ["body.0"]),
    "reflecting": (lambda: Net(spatial(padding_mode="reflect")), ["body.0"]),
    "same": (lambda: Net(spatial(kernel=4, padding="same", dilation=2, bias=False)), ["body.0"]),
    "shrinking": (lambda: Net(spatial(kernel=5, padding=0, stride=2)), ["body.0"]),
    "transposed": (lambda: Net(nn.ConvTranspose2d(8, 8, 2, 2), spatial()), ["body.1"]),
    "weight norm": (lambda: special(weight_norm=True), ["body.1"]),
    "grouped": (lambda: special(weight_norm=False), ["body.1"]),
    "3x3 shortcut": (
        lambda: Net(Residual(nn.Sequential(spatial(), nn.ReLU(), spatial()), spatial())),
        ["body.0.branch.0", "body.0.branch.2"],
    ),
}
