"""A tiny network with what is special in INT8 files, and the file that the converter made of it.

Where the converter is installed, `python -m tests.moonshine.formats.tflite.tiny` writes the file anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn

from moonshine.formats.about import About
from moonshine.formats.source import Source, plain_copy
from moonshine.formats.tflite import environment, int8

CONVERTED = Path(__file__).with_name("converted.tflite")
"""As the converter leaves it: names inside."""
ABOUT = About((3, 8, 8), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), ("cat", "dog", "größer"), {"resize": 8}, None)


class Tiny(nn.Module):
    """A pre-activation residual block: its batch norm follows a sum; one convolution has groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.inner = nn.BatchNorm2d(8)
        self.pointwise = nn.Conv2d(8, 8, 1, bias=False)
        self.last = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        inner = self.inner(self.grouped(self.norm(maps).relu())).relu()
        maps = maps + self.pointwise(inner)
        return self.linear(self.last(maps).relu().mean((2, 3)))


def tiny() -> nn.Module:
    """Return the network as if it were trained: batch norms that are neither 0 nor 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Tiny().eval()
        for tensor in network.state_dict().values():
            if tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5)
    return network


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *ABOUT.input_shape), generator=generator).to(torch.uint8)


def source() -> Source:
    return Source(plain_copy(tiny()), ABOUT, images(16).split(8))


def logits(uint8: Tensor) -> Tensor:
    """Return the network's logits, in floating point."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (ABOUT.mean, ABOUT.std))
    with torch.no_grad():
        return tiny()((uint8.float() / 255 - mean) / std)


def _write() -> None:
    def keep(program: Path, calibration: Path, file: Path, input_range: tuple[float, float]) -> None:
        environment.convert(program, calibration, file, input_range)
        shutil.copyfile(file, CONVERTED)

    with patch.object(int8, "convert", keep):
        int8.encode(source())


if __name__ == "__main__":
    _write()
