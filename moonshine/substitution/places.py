"""The types of a place: a residual block of two convolutions, or a single one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from moonshine.blocks.expressions import halves
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.registry import BlockPlan
from moonshine.errors import MoonshineError
from moonshine.networks.erfnet import ordinary_convolutions
from moonshine.substitution.residual import ConvPair, geometry_of, is_spatial, pairs, recognise


@dataclass(frozen=True)
class Place:
    """Where one block goes: a residual block, whose two convolutions it replaces, or a single convolution.

    ``geometries`` are what they are; ``convolutions`` are their paths, in ERFNet's block those of two 3x1 and two 1x3;
    ``norms`` are the batch norms between two of them, where they stay. ``branch`` is the path of the
    `moonshine.blocks.build.CheapConvolution` that they are in, where it is exchanged as a whole.
    """

    path: str
    convolutions: tuple[str, ...]
    geometries: tuple[Geometry, ...]
    norms: tuple[str, ...] = ()
    branch: str = ""


@dataclass(frozen=True)
class BlockChange:
    """A block that goes to a place, and what it puts there."""

    place: Place
    plan: BlockPlan

    def __post_init__(self) -> None:
        alone = len(self.plan.units) < len(self.place.convolutions) and not self.place.branch
        if alone and halves(self.plan.units[0]) is None:
            raise MoonshineError(
                f"block {self.plan.block} does not fit {self.place.path}: it has no batch norm and ReLU that those of "
                "the residual block could stand for; allowed: a block for each convolution"
            )


def find_place(path: str, found: nn.Module) -> Place:
    """The place at ``path``, where the module ``found`` is; MoonshineError for one that takes no block."""
    if is_spatial(found):
        return lone_place(path, found)
    if isinstance(found, nn.Conv2d):
        pass
    elif ordinary := _of_erfnet(path, found):
        return ordinary
    elif pair := recognise(found):
        return _of_pair(path, found, pair)
    raise MoonshineError(
        f"{path} is a {type(found).__name__}; allowed: a plain convolution of more than 1x1 without groups, or a "
        "residual block with two"
    )


def lone_place(path: str, conv: nn.Module) -> Place:
    """The place of a convolution by itself."""
    return Place(path, (path,), (geometry_of(conv),))


def residual_places(module: nn.Module) -> list[Place]:
    """The places of a network's residual blocks."""
    found = [_of_pair(path, module.get_submodule(path), pair) for path, pair in pairs(module).items()]
    factorised = [_of_erfnet(path, layer) for path, layer in module.named_modules() if path]
    return found + [place for place in factorised if place]


def _of_pair(path: str, block: nn.Module, pair: ConvPair) -> Place:
    geometries = tuple(geometry_of(block.get_submodule(name)) for name in (pair.first, pair.second))
    inside = (f"{path}.{pair.first}", f"{path}.{pair.second}")
    return Place(path, inside, geometries, tuple(f"{path}.{name}" for name in pair.norms))


def _of_erfnet(path: str, block: nn.Module) -> Place | None:
    found = ordinary_convolutions(block)
    if found is None:
        return None
    geometries, names = found
    return Place(path, tuple(f"{path}.{name}" for name in names), geometries, branch=f"{path}.branch")
