"""What a network costs: parameters, multiply-accumulates, file bytes and peak activation memory."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from moonshine.errors import MoonshineError


@dataclass(frozen=True)
class Cost:
    """A network's costs at one input shape and batch 1; `cost` states how each is measured and its limits."""

    parameters: int  # trainable
    macs: int  # multiply-accumulates of convolutions and linear layers
    ops: int  # the papers' "Ops": macs, linear biases, and those ReLUs and poolings that are modules
    bytes: int  # of the safetensors file of weights and buffers, floats in fp32
    bytes_bf16: int  # of the same file with floats in bf16
    peak_activation_bytes: int  # maximum of live tensors besides weights and buffers, eager, eval, fp32
    input_shape: tuple[int, ...]
    batch: int = 1


def cost(module: nn.Module, input_shape: Sequence[int] = (3, 32, 32)) -> Cost:
    """The costs of a module that takes one float tensor (1, *input_shape), measured on an fp32 copy of it.

    The module may be on any device, meta included (its copy then holds zeros), and is left untouched. The
    copy makes one forward pass on the CPU: the meta device would allocate nothing, but torch takes seconds
    to load its shape functions, and they return batch norm statistics that no real forward pass has in eval
    mode.

    Limits. MACs: a linear layer is a matrix product with one of the module's own tensors, so products of
    activations (attention) are none, nor are elementwise operations, normalisation and interpolation. Ops:
    as the released counter (BayesWatch/pytorch-moonshine, count_flops.py), which knows modules by their
    exact type; adaptive pooling, which it lacks, counts its input, as average pooling over the whole map
    does. Bytes: without metadata, a tied tensor once. Peak: the input and the results of operators, for as
    long as Python holds them; workspace inside an operator, the allocator's rounding and what a compiler
    would reuse are left out. Attention modules take torch's ordinary path, not the fused one. The module's
    forward hooks run on the copy.

    MoonshineError for an input that is not a shape or that the module cannot take.
    """
    shape = tuple(input_shape)
    if not shape or any(type(size) is not int or size < 1 for size in shape):
        raise MoonshineError(f"input_shape is {input_shape!r}; allowed: whole numbers from 1, as (3, 32, 32)")
    twins = {id(tensor): _twin(tensor) for tensor in (*module.parameters(), *module.buffers())}
    # deepcopy takes what its memo holds as copied already, so the copy is made of these.
    twin = copy.deepcopy(module, dict(twins)).eval()
    published = _count_published_extras(twin)
    meter = _Meter(twins.values())
    try:
        with torch.no_grad(), _unfused_attention(), meter:
            twin(torch.zeros(1, *shape, dtype=torch.float32, device="cpu"))
    except Exception as error:  # whatever a stranger's forward pass raises
        reason = str(error).partition("\n")[0]
        raise MoonshineError(
            f"the network cannot take an input of {'x'.join(map(str, shape))}: {reason}"
        ) from error
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


def _twin(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    if tensor.is_meta:
        twin = torch.zeros(tensor.shape, dtype=dtype, device="cpu")
    else:
        twin = tensor.detach().to("cpu", dtype, copy=True)
    return nn.Parameter(twin, requires_grad=False) if isinstance(tensor, nn.Parameter) else twin


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Keeps attention modules off the fused operator, whose linear layers cannot be seen."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


class _Meter(TorchDispatchMode):
    """Counts multiply-accumulates and live bytes of what runs inside; `weights` are no activations."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and hiding this mode from the compiler would load it, which takes seconds.
        return False

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        # A storage's Python object lives as long as the storage, so until it is freed its id is its name.
        self._weights = {id(storage): storage for storage in (weight.untyped_storage() for weight in weights)}
        self._activations: dict[int, int] = {}
        self._live = 0
        self.peak = 0
        self.macs = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            maps, weight, transposed = args[0], args[1], args[6]
            self.macs += (maps if transposed else out).numel() * math.prod(weight.shape[1:])
        elif func in _PRODUCTS:
            left, right = args[-2:]
            if any(id(factor.untyped_storage()) in self._weights for factor in (left, right)):
                self.macs += left.numel() * right.shape[-1]
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._hold(leaf.untyped_storage())
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._weights or key in self._activations:
            return
        self._activations[key] = storage.nbytes()
        self._live += storage.nbytes()
        self.peak = max(self.peak, self._live)
        finalize(storage, self._free, key).atexit = False

    def _free(self, key: int) -> None:
        self._live -= self._activations.pop(key)


_PRODUCTS = tuple(getattr(torch.ops.aten, name).default for name in ("mm", "addmm", "bmm", "baddbmm"))


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
    """Hooks a module so that every forward pass adds its published extra operations to the returned list."""
    counted: list[int] = []
    for layer in module.modules():
        if count := _EXTRAS.get(type(layer)):
            layer.register_forward_hook(
                lambda layer, args, out, count=count: counted.append(count(layer, args[0], out))
            )
    return counted


# The order in which a safetensors file stores its data, and so counts its offsets; within a type, by name.
_DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def file_bytes(tensors: Mapping[str, Tensor], floats: torch.dtype = torch.float32) -> int:
    """The exact size of the safetensors file of these tensors, with floating point ones stored as `floats`.

    Format: 8 bytes of header length, a JSON header padded with spaces to a multiple of 8, then the data.
    Tensors that are one object (tied weights) are stored once. MoonshineError for a type not listed here.
    """
    rows: dict[int, tuple[int, str, Tensor, torch.dtype]] = {}
    order = list(_DTYPES)
    for name, tensor in tensors.items():
        dtype = floats if tensor.is_floating_point() else tensor.dtype
        if dtype not in _DTYPES:
            raise MoonshineError(f"{name} is of {dtype}; allowed: {', '.join(map(str, order))}")
        rows.setdefault(id(tensor), (order.index(dtype), name, tensor, dtype))
    header, end = {}, 0
    for _, name, tensor, dtype in sorted(rows.values(), key=lambda row: row[:2]):
        start, end = end, end + tensor.numel() * dtype.itemsize
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + math.ceil(text / 8) * 8 + end
