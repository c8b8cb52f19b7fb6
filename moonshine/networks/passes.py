"""Forward passes without side effects on the module, and the memory layout that a network supports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch to eval mode within the context; afterwards each submodule has its previous mode."""
    training = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for layer, was in training.items():
            layer.training = was


@contextmanager
def without_side_effects(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Run forward passes on ``device`` within the context without changing modes, statistics or random states.

    Autocast is off: it would cache weights cast without gradients, and later passes would use them.
    """
    cuda = [device] if device.type == "cuda" else []
    with (
        evaluating(module),
        torch.no_grad(),
        torch.random.fork_rng(devices=cuda),
        torch.autocast(device.type, enabled=False),
    ):
        yield


def memory_format(forward: Callable[[Tensor], Any], like: Tensor) -> torch.memory_format:
    """Return channels_last if ``forward`` accepts it, else torch's default layout, as ``x.view(len(x), -1)`` needs.

    Tried on zero images shaped like ``like``, (n, channels, height, width): on two if there are two, because with one
    image a view such as ``x.view(n * channels, -1)`` would succeed in either layout.
    """
    images = torch.zeros_like(like[:2]).contiguous(memory_format=torch.channels_last)
    try:
        forward(images)
    except Exception:  # whatever a third-party forward pass raises
        return torch.contiguous_format
    return torch.channels_last


def to_layout(module: nn.Module, layout: torch.memory_format) -> None:
    """Convert a module to a memory layout: its tensors of four dimensions, since of five channels_last is refused."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=layout)


def choose_memory_format(module: nn.Module, like: Tensor) -> torch.memory_format:
    """Convert ``module`` to channels_last, or to torch's default layout if it does not run so; return the layout.

    ``like`` are images as in `memory_format`, on the module's device.
    """
    to_layout(module, torch.channels_last)
    with without_side_effects(module, like.device):
        found = memory_format(module, like)
    if found != torch.channels_last:
        to_layout(module, found)
    return found


def has_convolution_beyond_input(module: nn.Module, like: Tensor) -> bool:
    """Whether a convolution of ``module`` has a stride larger than its input, or sees only padding of it.

    Seen with an image of ``like``.
    """
    with without_side_effects(module, like.device), _Strides() as strides:
        module(like[:1])
    return strides.larger


class _Strides(TorchDispatchMode):
    """Inspects every convolution, whether a layer or a function call runs it."""

    larger = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # As in moonshine.costs.metering: hiding this mode from the compiler would load it, which takes seconds.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            images, weight, _, strides, paddings, dilations = args[:6]
            axes = zip(images.shape[2:], weight.shape[2:], strides, paddings, dilations, strict=True)
            self.larger |= any(
                step > size or all(abs(tap * dilation - padding) >= size for tap in range(taps))
                for size, taps, step, padding, dilation in axes
            )
        return func(*args, **(kwargs or {}))
