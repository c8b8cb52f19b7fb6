"""Replacement of a network's convolutions by blocks.

The network's own code runs unchanged: only submodules are exchanged. Source of the blocks:
`moonshine.blocks.registry.KINDS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.expressions import halves, out_channels, total_stride
from moonshine.blocks.initialisation import initialise
from moonshine.blocks.notation import Block
from moonshine.blocks.registry import parse_block, plan_block
from moonshine.errors import MoonshineError
from moonshine.networks.erfnet import branch
from moonshine.substitution.places import BlockChange, find_place
from moonshine.substitution.residual import in_blocks, recognise


def find_changes(module: nn.Module, blocks: Mapping[str, str | Block]) -> list[BlockChange]:
    """Plan the replacement by blocks, given by the path of a residual block or of a convolution.

    MoonshineError for a path that is neither or already has a cheap block, and for a block that does not fit.
    """
    chosen = {path: parse_block(block) for path, block in blocks.items()}
    modules = dict(module.named_modules())
    if unknown := [path for path in sorted(chosen) if not path or path not in modules]:
        raise MoonshineError(f"{type(module).__name__} has no module {unknown[0]!r} that could hold a block")
    taken = in_blocks(module)
    changes = []
    for path, block in sorted(chosen.items()):
        if block.kind != "S":
            place = find_place(path, modules[path])
            if not taken.isdisjoint(place.convolutions):
                raise MoonshineError(f"{path} has a cheap block already; allowed: ordinary convolutions")
            changes.append(BlockChange(place, plan_block(block, place.geometries, path)))
    return changes


def apply(module: nn.Module, changes: Sequence[BlockChange]) -> None:
    """Put blocks into a network, in place; S changes nothing.

    MoonshineError, before anything is replaced, for places that overlap.
    """
    taken = Counter(path for change in changes for path in change.place.convolutions)
    if twice := [path for path, times in taken.items() if times > 1]:
        raise MoonshineError(
            f"{twice[0]} is in two places that get a block; allowed: places that do not overlap"
        )
    # Sorted, so that the weights do not depend on the order of the changes.
    for change in sorted(changes, key=lambda change: change.place.path):
        if change.plan.kind.name != "S":
            _replace(module, change)


def end_of(module: nn.Module, path: str) -> nn.Module:
    """Return the module whose output is that of the block at ``path``, before the residual sum.

    In a residual block without a cheap block it is the second convolution of the pair.
    """
    place = module.get_submodule(path)
    if isinstance(held := getattr(place, "branch", None), CheapConvolution):
        return held.end()
    if isinstance(place, nn.Conv2d):
        return place
    if made := [each for each in place.modules() if isinstance(each, CheapConvolution) and each.ends_place]:
        return made[-1].end()
    if pair := recognise(place):
        return place.get_submodule(pair.second)
    raise MoonshineError(
        f"{path} is a {type(place).__name__}; allowed: a place that has a block or can take one"
    )


def _replace(module: nn.Module, change: BlockChange) -> None:
    place, plan = change.place, change.plan
    like = [cast(nn.Conv2d, module.get_submodule(path)) for path in place.convolutions]
    if place.branch:
        _put(module, place.branch, branch(plan), like[-1])
        return
    if len(plan.units) == len(like):
        for path, unit, geometry, conv in zip(place.convolutions, plan.units, plan.places, like, strict=True):
            made = CheapConvolution(plan.kind, [unit], geometry, ends_place=conv is like[-1])
            _put(module, path, made, conv)
        return
    # One unit for the pair: its two halves go around the block's own norm, which replaces the first of the unit's.
    whole, split = plan.whole, halves(plan.units[0])
    assert split is not None  # `BlockChange` has checked it
    before, after = split
    middle = out_channels(before, whole.in_channels)
    bias = plan.places[0].bias and not place.norms
    first = replace(whole, out_channels=middle, stride=total_stride(before), bias=bias)
    last = replace(whole, in_channels=middle, stride=total_stride(after))
    made = CheapConvolution(plan.kind, [before], first, replaced=plan.places[:1], ends_place=False)
    _put(module, place.convolutions[0], made, like[0])
    for norm in place.norms:
        _resize(module.get_submodule(norm), middle)
    made = CheapConvolution(plan.kind, [after], last, replaced=plan.places[1:])
    _put(module, place.convolutions[1], made, like[0])


def _resize(norm: nn.Module, channels: int) -> None:
    """Change a batch norm's number of channels, whatever its subclass, and initialise it anew."""
    norm.num_features = channels  # type: ignore[assignment]
    for name, tensor in (*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False)):
        shape = (channels,) if tensor.dim() else ()  # the count of batches has none
        fill = 1 if name in ("weight", "running_var") else 0
        new = torch.full(shape, fill, device=tensor.device, dtype=tensor.dtype)
        setattr(norm, name, nn.Parameter(new) if isinstance(tensor, nn.Parameter) else new)


def _put(module: nn.Module, path: str, new: nn.Module, like: nn.Conv2d) -> None:
    """Replace a submodule wherever it is registered: a network may hold it under several names."""
    new.to(like.weight.device, like.weight.dtype).train(like.training)
    initialise(new)
    old = module.get_submodule(path)
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
