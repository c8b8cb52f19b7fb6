"""Multiply-accumulates and live activation memory of one forward pass, of a whole network or by module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from moonshine.costs.operators import PRODUCTS, NoFormula, factors, macs_of
from moonshine.errors import MoonshineError, cannot_take
from moonshine.networks.copying import copy_of


@dataclass(frozen=True)
class ModuleCost:
    """Cost of the operators inside one module, or outside several, in one forward pass; measured as in `Cost`."""

    macs: int
    peak_activation_bytes: int  # maximum of all live activations while it runs, wherever they were made


def module_costs(
    module: nn.Module, input_shape: Sequence[int], paths: Iterable[str]
) -> dict[str, ModuleCost]:
    """Return path -> cost of the module there in a forward pass of the whole; ``""`` is the cost outside of them.

    The paths must not nest. The MACs add up to those of the whole network, and its peak is the highest of the peaks. A
    module that runs twice counts twice; one that never runs costs nothing. Measured on a copy, with limits and errors
    as for `cost`, and MoonshineError for a path that the module does not have.
    """
    shape = checked_shape(input_shape)
    replica, meter = metered(module)
    modules = dict(replica.named_modules())
    found: dict[str, ModuleCost] = {}

    def close(path: str) -> None:
        before = found.get(path, ModuleCost(0, 0))
        found[path] = ModuleCost(before.macs + meter.macs, max(before.peak_activation_bytes, meter.peak))
        meter.macs, meter.peak = 0, meter.live

    for path in paths:
        if path not in modules:
            raise MoonshineError(
                f"{path!r} is not a module of {type(module).__name__}; allowed: its module paths"
            )
        found[path] = ModuleCost(0, 0)
        modules[path].register_forward_pre_hook(lambda *_: close(""), prepend=True)
        modules[path].register_forward_hook(lambda *_, path=path: close(path))
    forward_once(replica, shape, meter)
    close("")
    return found


def checked_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape as a tuple; MoonshineError unless it consists of whole numbers from 1."""
    shape = tuple(input_shape)
    if not shape or any(type(size) is not int or size < 1 for size in shape):
        raise MoonshineError(f"input_shape is {input_shape!r}; allowed: whole numbers from 1, as (3, 32, 32)")
    return shape


def metered(module: nn.Module) -> tuple[nn.Module, Meter]:
    """Return an fp32 copy of a module on the CPU in eval mode, and a meter that knows its weights."""
    replicas = {id(tensor): _replica(tensor) for tensor in (*module.parameters(), *module.buffers())}
    return copy_of(module, replicas).eval(), Meter(replicas.values())


def forward_once(replica: nn.Module, shape: tuple[int, ...], meter: Meter) -> None:
    """Run one forward pass at batch 1 under the meter; MoonshineError for an input that the network cannot take."""
    try:
        with torch.no_grad(), _unfused_attention(), meter:
            replica(meter.as_input(torch.zeros(1, *shape, dtype=torch.float32, device="cpu")))
    except NoFormula:
        raise
    except Exception as error:  # whatever a third-party forward pass raises
        raise cannot_take(shape, error) from error


def _replica(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    if tensor.is_meta:
        replica = torch.zeros(tensor.shape, dtype=dtype, device="cpu")
    else:
        replica = tensor.detach().to("cpu", dtype, copy=True)
    return nn.Parameter(replica, requires_grad=False) if isinstance(tensor, nn.Parameter) else replica


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Keep attention modules off the fused operator, which hides their linear layers."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


class Origin(Enum):
    """What a tensor in a forward pass was computed from."""

    WEIGHT = "weights"  # and nothing else: an exported network holds the result as a constant
    BLANK = "nothing"  # as torch.zeros: weights or data may fill it later
    DATA = "the input"


class Meter(TorchDispatchMode):
    """Counts multiply-accumulates and live bytes within its context; ``weights`` are not activations.

    A matrix product counts if exactly one of its factors comes from weights.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and hiding this mode from the compiler would load it, which takes seconds.
        return False

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        # A storage's Python object lives as long as the storage, so its id identifies it until it is freed.
        self._weights = {id(storage): storage for storage in (weight.untyped_storage() for weight in weights)}
        self._activations: dict[int, int] = {}
        self._origins = dict.fromkeys(self._weights, Origin.WEIGHT)
        self.live = 0
        self.peak = 0
        self.macs = 0

    def as_input(self, images: Tensor) -> Tensor:
        """Mark ``images``, made within the context, as the network's input; return them."""
        self._origins[id(images.untyped_storage())] = Origin.DATA
        return images

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        sources = self._origins_of((args, kwargs))
        out = func(*args, **kwargs)
        if len(sources) > 1 or Origin.DATA in sources:
            macs = self._macs(func, args, kwargs, out)
            self.macs += macs
            made = Origin.DATA if macs or Origin.DATA in sources else Origin.WEIGHT
        else:
            made = next(iter(sources), Origin.BLANK)
        for storage in _storages(out):
            self._hold(storage, made)
        return out

    def _macs(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> int:
        if func.overloadpacket in PRODUCTS:
            sources = self._origins_of(factors(args))
            if len(sources) == 1 or Origin.WEIGHT not in sources:
                return 0
        return macs_of(func, args, kwargs, out)

    def _origins_of(self, tensors: Any) -> set[Origin]:
        return {self._origins.get(id(storage), Origin.DATA) for storage in _storages(tensors)}

    def _hold(self, storage: torch.UntypedStorage, origin: Origin) -> None:
        key = id(storage)
        if key in self._weights:
            return
        self._origins[key] = origin
        if key in self._activations:
            return
        self._activations[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        finalize(storage, self._free, key).atexit = False

    def _free(self, key: int) -> None:
        del self._origins[key]
        self.live -= self._activations.pop(key)


def _storages(tensors: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor)]
