"""Mapping of a student's convolutions to those of the teacher whose output they are fitted to."""

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
    """Path of a cheap block, the part that is fitted, and the paths of its new modules.

    New modules replace convolutions of the teacher, so they share no tensors with it, whatever their names.
    """

    path: str
    part: Part
    new: tuple[str, ...]


def find_fitted_place(student: nn.Module, teacher: nn.Module, path: str, block: Block) -> FittedPlace:
    """Return the cheap block at a path of a student with its counterpart in the teacher.

    Its layer pairs are the layer that ends the block and, where the block has a unit for each of the teacher's two
    convolutions, the one that ends the first unit.
    MoonshineError if one of them lacks the path or has other widths there.
    """
    modules = dict(student.named_modules()).get(path), dict(teacher.named_modules()).get(path)
    student_module, teacher_module = modules
    if student_module is None or teacher_module is None:
        raise MoonshineError(
            f"warm_start: the {'student' if student_module is None else 'teacher'} has no {path}; allowed: a student "
            "with blocks in its teacher's places"
        )
    if (mine := _widths(student, path)) != (wanted := _widths(teacher, path)):
        raise MoonshineError(
            f"warm_start: {path} has {mine[0]} channels in and {mine[1]} out, and {wanted[0]} and {wanted[1]} in the "
            "teacher; allowed: the same"
        )
    layer_pairs = [(end_of(student, path), end_of(teacher, path))]
    if isinstance(branch := getattr(student_module, "branch", None), CheapConvolution):
        # Modules after the branch get the same input as the teacher's, so they are shared.
        layers: tuple[nn.Module, ...] = (branch,)
        new: tuple[str, ...] = ("branch",)
        their_branch = getattr(teacher_module, "branch", None)
        if isinstance(their_branch, CheapConvolution) and len(branch.ends) == len(their_branch.ends) == 2:
            layer_pairs.insert(0, (branch.end(0), their_branch.end(0)))
    else:
        layers, new, first = _of_any_module(student_module, teacher_module, block)
        layer_pairs = [*first, *layer_pairs]
    return FittedPlace(
        path,
        Part(student_module, layers, tuple(layer_pairs)),
        tuple(f"{path}.{name}".rstrip(".") for name in new),
    )


def _of_any_module(
    student_module: nn.Module, teacher_module: nn.Module, block: Block
) -> tuple[tuple[nn.Module, ...], tuple[str, ...], list[LayerPair]]:
    """Return the cheap layers, the names of new modules, and, if there are two units, the layer pair of the first."""
    new = [name for name, layer in student_module.named_modules() if isinstance(layer, CheapConvolution)]
    layers = [student_module.get_submodule(name) for name in new]
    pair = recognise(teacher_module)
    if pair is None:
        return tuple(layers), tuple(new), []
    layers += [student_module.get_submodule(name) for name in pair.norms]
    if replaces_both(block):
        return tuple(layers), (*new, *pair.norms), []
    first = cast(CheapConvolution, student_module.get_submodule(pair.first))
    return tuple(layers), tuple(new), [(first.end(), teacher_module.get_submodule(pair.first))]


def _widths(network: nn.Module, path: str) -> tuple[int, int]:
    """Return the input and output channels of the convolutions at a place."""
    place = network.get_submodule(path)
    found = [layer for layer in place.modules() if isinstance(layer, CheapConvolution | nn.Conv2d)]
    ends = [layer for layer in found if isinstance(layer, CheapConvolution) and layer.ends_place]
    last = ends[-1] if ends else cast(nn.Conv2d, end_of(network, path))
    return found[0].in_channels, last.out_channels
