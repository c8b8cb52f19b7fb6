"""Cost of a network: parameters, multiply-accumulates, file bytes and peak activation memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.costs.file_sizes import file_bytes
from moonshine.costs.metering import checked_shape, forward_once, metered

__all__ = ["Cost", "cost", "file_bytes"]


@dataclass(frozen=True)
class Cost:
    """Costs of a network at one input shape and batch 1; `cost` says how each is measured, and its limits."""

    parameters: int  # trainable
    macs: int  # multiply-accumulates of convolutions, linear and recurrent layers
    ops: int  # the papers' "Ops": macs, linear biases, and those ReLUs and poolings that are modules
    bytes: int  # of the safetensors file of weights and buffers, floats in fp32
    bytes_bf16: int  # of the same file with floats in bf16
    peak_activation_bytes: int  # maximum of live tensors besides weights and buffers, eager, eval, fp32
    input_shape: tuple[int, ...]
    batch: int = 1


def cost(module: nn.Module, input_shape: Sequence[int] = (3, 32, 32)) -> Cost:
    """Return the costs of a module that takes one float tensor (1, *input_shape), measured on an fp32 copy.

    The module may be on any device, meta included (its copy then holds zeros), and is left unchanged. The copy makes
    one forward pass on the CPU: the meta device would allocate nothing, but torch takes seconds to load its shape
    functions, and they return batch norm statistics that no real forward pass has in eval mode. The module's forward
    hooks run on the copy.

    MACs are those of the dense operators that an exported network executes, by operator
    (`moonshine.costs.operators`): a convolution and a recurrent layer by their shapes, a matrix product where one
    factor is a weight. A value computed from weights alone, such as a generated kernel, is a constant there and free.
    So are products of activations (attention) and, as in the papers, elementwise operators, normalisation,
    interpolation and pooling. A transposed convolution multiplies each pixel of its input by its kernel. Padded pixels
    count.
    Ops: as the released counter (BayesWatch/pytorch-moonshine, count_flops.py), which knows modules by their exact
    type; adaptive pooling, which it lacks, counts its input, as average pooling over the whole map does.
    Bytes: without metadata, a tied tensor once.
    Peak: the input and the results of operators for as long as Python holds them, generated weights included;
    workspace inside an operator, the allocator's rounding and what a compiler would reuse are left out. Attention
    modules take torch's ordinary path, not the fused one.

    MoonshineError for an ``input_shape`` that is not a shape or that the module cannot take, and for an operator that
    multiplies but has no formula.
    """
    shape = checked_shape(input_shape)
    replica, meter = metered(module)
    published = _count_published_extras(replica)
    forward_once(replica, shape, meter)
    weights = {k: v for k, v in module.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    return Cost(
        parameters=sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
        macs=meter.macs,
        ops=meter.macs + sum(published),
        bytes=file_bytes(weights),
        bytes_bf16=file_bytes(weights, torch.bfloat16),
        peak_activation_bytes=meter.peak,
        input_shape=shape,
    )


def _window(pool: Any) -> int:
    size = pool.kernel_size
    return math.prod(size) if isinstance(size, tuple) else size * size


# What the released counter adds to MACs, by the module's exact type: (module, its input, its output) -> ops.
_EXTRAS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], int]] = {
    nn.ReLU: lambda relu, x, y: x.numel(),
    nn.MaxPool2d: lambda pool, x, y: y.numel() * _window(pool),
    nn.AvgPool2d: lambda pool, x, y: y.numel() * _window(pool),
    nn.AdaptiveAvgPool2d: lambda pool, x, y: x.numel(),
    nn.Linear: lambda linear, x, y: y.numel() if linear.bias is not None else 0,
}


def _count_published_extras(module: nn.Module) -> list[int]:
    """Hook a module so that every forward pass adds its published extra operations to the returned list."""
    counted: list[int] = []
    for layer in module.modules():
        if count := _EXTRAS.get(type(layer)):
            layer.register_forward_hook(
                lambda layer, args, out, count=count: counted.append(count(layer, args[0], out))
            )
    return counted
