"""The mapping from a student's convolutions to those of the teacher whose output they are fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.notation import Block
from moonshine.blocks.registry import replaces_both
from moonshine.distillation.block_fit import LayerPair, Part
from moonshine.errors import MoonshineError
from moonshine.substitution.replacement import end_of
from moonshine.substitution.residual import recognise


@dataclass(frozen=True, eq=False)
class FittedPlace:
    """A cheap block's path, what is fitted there, and the paths of what stands for convolutions of the teacher's.

    The latter share no tensors with the teacher's, whatever their names.
    """

    path: str
    part: Part
    new: tuple[str, ...]


def find_fitted_place(student: nn.Module, teacher: nn.Module, path: str, block: Block) -> FittedPlace:
    """The cheap block at a path of a student beside what the teacher has there.

    Its aims are the layer that ends the block and, where the block has a unit for each of the teacher's two
    convolutions, the one that ends the first unit.
    MoonshineError where one of them lacks the path, and where it has other widths there.
    """
    modules = dict(student.named_modules()).get(path), dict(teacher.named_modules()).get(path)
    ours, theirs = modules
    if ours is None or theirs is None:
        raise MoonshineError(
            f"warm_start: the {'student' if ours is None else 'teacher'} has no {path}; allowed: a student with blocks "
            "in its teacher's places"
        )
    if (mine := _widths(student, path)) != (wanted := _widths(teacher, path)):
        raise MoonshineError(
            f"warm_start: {path} has {mine[0]} channels in and {mine[1]} out, and {wanted[0]} and {wanted[1]} in the "
            "teacher; allowed: the same"
        )
    aims = [(end_of(student, path), end_of(teacher, path))]
    if isinstance(branch := getattr(ours, "branch", None), CheapConvolution):
        # What is behind the branch gets what the teacher's gets, and is shared.
        layers: tuple[nn.Module, ...] = (branch,)
        new: tuple[str, ...] = ("branch",)
        their_branch = getattr(theirs, "branch", None)
        if isinstance(their_branch, CheapConvolution) and len(branch.ends) == len(their_branch.ends) == 2:
            aims.insert(0, (branch.end(0), their_branch.end(0)))
    else:
        layers, new, first = _of_any_module(ours, theirs, block)
        aims = [*first, *aims]
    return FittedPlace(
        path, Part(ours, layers, tuple(aims)), tuple(f"{path}.{name}".rstrip(".") for name in new)
    )


def _of_any_module(
    ours: nn.Module, theirs: nn.Module, block: Block
) -> tuple[tuple[nn.Module, ...], tuple[str, ...], list[LayerPair]]:
    """The cheap layers, the names of what is new, and the aim of the first unit, where there are two."""
    new = [name for name, layer in ours.named_modules() if isinstance(layer, CheapConvolution)]
    layers = [ours.get_submodule(name) for name in new]
    pair = recognise(theirs)
    if pair is None:
        return tuple(layers), tuple(new), []
    layers += [ours.get_submodule(name) for name in pair.norms]
    if replaces_both(block):
        return tuple(layers), (*new, *pair.norms), []
    first = cast(CheapConvolution, ours.get_submodule(pair.first))
    return tuple(layers), tuple(new), [(first.end(), theirs.get_submodule(pair.first))]


def _widths(network: nn.Module, path: str) -> tuple[int, int]:
    """Channels in and out of the convolutions at a place."""
    place = network.get_submodule(path)
    found = [layer for layer in place.modules() if isinstance(layer, CheapConvolution | nn.Conv2d)]
    ends = [layer for layer in found if isinstance(layer, CheapConvolution) and layer.ends_place]
    last = ends[-1] if ends else cast(nn.Conv2d, end_of(network, path))
    return found[0].in_channels, last.out_channels
