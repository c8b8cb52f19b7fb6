"""What is exported: a copy of the network in one layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import moonshine
from moonshine.formats.sizes import exported_bytes
from moonshine.formats.source import plain_copy


@pytest.mark.parametrize("sizes", [(1, 4, 3), (4, 8, 1)], ids=["one input channel", "1x1"])
def test_a_copy_has_contiguous_strides_where_a_size_is_1(sizes: tuple[int, int, int]) -> None:
    network = nn.Conv2d(*sizes)
    wanted = network.weight.stride()
    network.to(memory_format=torch.channels_last)
    copied = plain_copy(network)
    assert isinstance(copied, nn.Conv2d)
    assert copied.weight.stride() == wanted


def test_a_file_takes_the_same_bytes_in_channels_last() -> None:
    network = moonshine.build("wrn-10-1", block="S", num_classes=10)
    size = exported_bytes("onnx", network, (3, 8, 8))
    network.to(memory_format=torch.channels_last)
    assert exported_bytes("onnx", network, (3, 8, 8)) == size
