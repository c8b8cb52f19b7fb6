"""Recording of one forward pass with hooks: which submodule ran when, and its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.errors import MoonshineError, cannot_take
from moonshine.networks.passes import evaluating


@dataclass(frozen=True)
class Call:
    """One call of the submodule at ``path``; ``started`` and ``finished`` order all events of the pass.

    ``shape`` is that of the output, None if it is not a tensor.
    """

    path: str
    started: int
    finished: int
    shape: tuple[int, ...] | None


def record_calls(module: nn.Module, input_shape: Sequence[int]) -> list[Call]:
    """Record every call in an eval forward pass of one zero image (1, *input_shape), in the order in which they finish.

    The module is left unchanged. MoonshineError for an input that it cannot take.
    """
    clock = count()
    open_calls: dict[str, list[int]] = {}
    calls: list[Call] = []
    with ExitStack() as hooks:
        for path, layer in module.named_modules():
            before, after = _hooks(path, clock, open_calls, calls)
            hooks.enter_context(layer.register_forward_pre_hook(before))
            hooks.enter_context(layer.register_forward_hook(after))
        zero_pass(module, input_shape)
    return calls


def zero_image(module: nn.Module, input_shape: Sequence[int]) -> Tensor:
    """Return one zero image (1, *input_shape) on the module's device, of its dtype."""
    floats = next((own for own in module.parameters() if own.is_floating_point()), torch.zeros(()))
    return torch.zeros(1, *input_shape, device=floats.device, dtype=floats.dtype)


def zero_pass(module: nn.Module, input_shape: Sequence[int]) -> Any:
    """Return the output of an eval forward pass of one zero image (1, *input_shape), on the module's device and dtype.

    The module is left unchanged. MoonshineError for an input that it cannot take.
    """
    with evaluating(module), torch.no_grad():
        try:
            return module(zero_image(module, input_shape))
        except MoonshineError:
            raise
        except Exception as error:  # whatever a third-party forward pass raises
            raise cannot_take(input_shape, error) from error


def _hooks(
    path: str, clock: Any, open_calls: dict[str, list[int]], calls: list[Call]
) -> tuple[Callable[..., None], Callable[..., None]]:
    def before(module: nn.Module, inputs: Any) -> None:
        open_calls.setdefault(path, []).append(next(clock))

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else None
        calls.append(Call(path, open_calls[path].pop(), next(clock), shape))

    return before, after
