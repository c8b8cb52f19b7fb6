"""The mapping from a student's convolutions to those of the teacher whose output they are fitted to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from moonshine.blocks.kinds import Block, Convolutions, convolutions
from moonshine.blocks.residual import ResidualBlock
from moonshine.distillation.block_fit import Part
from moonshine.errors import MoonshineError
from moonshine.networks.erfnet import NonBottleneck1D, ordinary_convolutions
from moonshine.substitution.places import Place, plan
from moonshine.substitution.replacement import Replacement, last_convolution
from moonshine.substitution.residual import recognise


@dataclass(frozen=True, eq=False)
class FittedPlace:
    """A cheap block's path, what is fitted there, and the paths of what stands for convolutions of the teacher's.

    The latter share no tensors with the teacher's, whatever their names.
    """

    path: str
    part: Part
    new: tuple[str, ...]


def find(student: nn.Module, teacher: nn.Module, path: str, block: Block) -> FittedPlace:
    """The cheap block at a path of a student beside what the teacher has there.

    Its aims are the convolution that ends the block and, where the block has a half for each of the teacher's two
    convolutions, the one that ends the first half.
    MoonshineError where one of them lacks the path, and where it has other widths there.
    """
    modules = dict(student.named_modules()).get(path), dict(teacher.named_modules()).get(path)
    ours, theirs = modules
    if ours is None or theirs is None:
        raise MoonshineError(
            f"warm_start: the {'student' if ours is None else 'teacher'} has no {path}; allowed: a student with blocks "
            "in its teacher's places"
        )
    ends = last_convolution(student, path), last_convolution(teacher, path)
    mine, wanted = (
        (_convolutions(place)[0].in_channels, end.out_channels)
        for place, end in zip((ours, theirs), ends, strict=True)
    )
    if mine != wanted:
        raise MoonshineError(
            f"warm_start: {path} has {mine[0]} channels in and {mine[1]} out, and {wanted[0]} and {wanted[1]} in the "
            "teacher; allowed: the same"
        )
    if isinstance(ours, ResidualBlock):
        layers, halves, new = _of_our_block(ours, theirs, convolutions(block, *mine, path=path))
    elif isinstance(ours, NonBottleneck1D):
        layers, halves, new = _of_a_factorised_block(ours, theirs, convolutions(block, *mine, path=path))
    else:
        layers, halves, new = _of_any_module(ours, theirs, block)
    aims = [ends]
    if halves:
        first = (
            last_convolution(net, f"{path}.{name}")
            for net, name in zip((student, teacher), halves, strict=True)
        )
        aims.insert(0, (next(first), next(first)))
    return FittedPlace(
        path, Part(ours, layers, tuple(aims)), tuple(f"{path}.{name}".rstrip(".") for name in new)
    )


# The cheap layers, the modules that end the student's and the teacher's first half, and the names of what is new.
_Found = tuple[tuple[nn.Module, ...], tuple[str, str] | None, tuple[str, ...]]


def _of_our_block(ours: ResidualBlock, theirs: nn.Module, units: Convolutions) -> _Found:
    halved = len(units) == 2 and isinstance(theirs, ResidualBlock) and len(_convolutions(theirs.branch)) == 2
    halves = (f"branch.conv{len(units[0])}", "branch.conv1") if halved else None
    return (ours.branch,), halves, ("branch",)


def _of_a_factorised_block(ours: NonBottleneck1D, theirs: nn.Module, units: Convolutions) -> _Found:
    """Only its branch is new: the batch norm behind it gets what the teacher's gets, and is shared.

    The first half ends with the last convolution of its unit, the teacher's with the 1xk of its first pair.
    """
    original = ordinary_convolutions(theirs)
    if len(units) != 2 or not original:
        return (ours.branch,), None, ("branch",)
    mine = [name for name, layer in ours.branch.named_children() if isinstance(layer, nn.Conv2d)]
    first = sum(2 if conv.kernel > 1 else 1 for conv in units[0])  # a kxk is a kx1 and a 1xk
    return (ours.branch,), (f"branch.{mine[first - 1]}", original[1]), ("branch",)


def _of_any_module(ours: nn.Module, theirs: nn.Module, block: Block) -> _Found:
    replaced = tuple(name for name, layer in ours.named_modules() if isinstance(layer, Replacement))
    layers = tuple(ours.get_submodule(name) for name in replaced)
    pair = recognise(theirs)
    if pair is None:
        return layers, None, replaced
    layers += tuple(ours.get_submodule(name) for name in pair.norms)
    place = Place("", (pair.first, pair.second), pair.norms)
    # as substitution planned it: of one convolution with other widths in and out, a block has other halves
    if len(plan(theirs, place, block)) == 2:
        return layers, (pair.first, pair.first), replaced
    return layers, None, replaced + pair.norms


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
