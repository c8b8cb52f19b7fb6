"""Size of an untrained network's exported file, for plans."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from moonshine.formats.about import About
from moonshine.formats.formats import chosen_formats
from moonshine.formats.source import Source, check_exported_logits, plain_copy
from moonshine.formats.tflite.int8 import TFLITE_INT8
from moonshine.formats.tflite.tflm import arena_of
from moonshine.networks.copying import copy_of

RAM = "ram"
"""Instead of a format: the RAM that its INT8 TFLite file takes in TensorFlow Lite Micro."""
INTERPRETER = "ram of the interpreter"
"""Instead of a format: the part of `RAM` that is not for activations."""


def exported_bytes(
    format: str, network: nn.Module, input_shape: Sequence[int], about: About | None = None
) -> int:
    """Return the bytes of the file that exporting this network would give, from really exporting a copy of it.

    For `RAM` and `INTERPRETER`, return what the file takes when it is run.
    ``input_shape`` is (C, H, W). The size is that of the trained network's file, to the byte, where ``about`` is
    what will be exported with it; else its metadata are of typical length. Takes seconds: 5 to 10 for WRN-40-2.
    MoonshineError for a network that cannot be exported.
    """
    in_ram = format in (RAM, INTERPRETER)
    (wanted,) = chosen_formats([TFLITE_INT8.name if in_ram else format])
    network = _as_if_trained(network)
    about = about or _typical(network, input_shape)
    about.check()
    check_exported_logits(network, about)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, *about.input_shape), generator=generator).to(torch.uint8)
    content = wanted.encode(Source(network, about, images.split(1)))
    if not in_ram:
        return len(content)
    arena = arena_of(content, about.input_shape)
    return arena.total if format == RAM else arena.interpreter


def _as_if_trained(network: nn.Module) -> nn.Module:
    """Return a copy whose biases and batch norms are no longer 0 and 1, which the exporter would leave out.

    Its weights are always the same, so that a file that is remembered by what is in it is converted once.
    """
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        network = copy_of(network).to_empty(device="cpu")
    copied = plain_copy(network)
    generator = torch.Generator().manual_seed(0)
    for parameter in copied.parameters():
        parameter.data.normal_(std=0.05, generator=generator)
    for tensor in (*copied.parameters(), *copied.buffers()):
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.data.uniform_(0.5, 1, generator=generator)
    return copied


def _typical(network: nn.Module, input_shape: Sequence[int]) -> About:
    channels, height, width = input_shape
    with torch.no_grad():
        logits = network(torch.zeros(1, *input_shape))
    classes = logits.shape[1] if isinstance(logits, torch.Tensor) and logits.dim() > 1 else 2
    dense = isinstance(logits, torch.Tensor) and logits.dim() == 4
    return About(
        input_shape=(channels, height, width),
        mean=(1 / 3,) * channels,
        std=(1 / 3,) * channels,
        class_names=tuple(f"class {label}" for label in range(classes)),
        resize_rule={"resize": None, "crop": None, "interpolation": None, "antialias": None},
        structure=None,
        scored_classes=classes if dense else None,
    )
