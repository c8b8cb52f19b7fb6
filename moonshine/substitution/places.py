"""Places: a residual block of two convolutions, or a single convolution."""

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
    """Place for one block: a residual block, whose two convolutions it replaces, or a single convolution.

    ``convolutions`` are the paths of the convolutions (in ERFNet's block two 3x1 and two 1x3), ``geometries`` their
    geometries; ``norms`` are the batch norms between the two, if they are kept. ``branch`` is the path of the
    `moonshine.blocks.build.CheapConvolution` around them, if it is replaced as a whole.
    """

    path: str
    convolutions: tuple[str, ...]
    geometries: tuple[Geometry, ...]
    norms: tuple[str, ...] = ()
    branch: str = ""


@dataclass(frozen=True)
class BlockChange:
    """Planned replacement: a place and the plan of its block."""

    place: Place
    plan: BlockPlan

    def __post_init__(self) -> None:
        alone = len(self.plan.units) < len(self.place.convolutions) and not self.place.branch
        if alone and halves(self.plan.units[0]) is None:
            raise MoonshineError(
                f"block {self.plan.block} does not fit {self.place.path}: it has no batch norm and ReLU that the "
                "residual block's could replace; allowed: a block for each convolution"
            )


def find_place(path: str, found: nn.Module) -> Place:
    """Return the place at ``path``, the path of the module ``found``; MoonshineError if it cannot hold a block."""
    if is_spatial(found):
        return lone_place(path, found)
    what = type(found).__name__
    if isinstance(found, nn.Conv2d):
        what += (
            f" of {'x'.join(map(str, found.kernel_size))} in {found.groups} group{'s'[: found.groups > 1]}"
        )
    elif ordinary := _of_erfnet(path, found):
        return ordinary
    elif pair := recognise(found):
        return _of_pair(path, found, pair)
    raise MoonshineError(
        f"{path} is a {what}; allowed: a plain convolution of more than 1x1 without groups, or a "
        "residual block with two"
    )


def lone_place(path: str, conv: nn.Module) -> Place:
    """Return the place of a single convolution."""
    return Place(path, (path,), (geometry_of(conv),))


def residual_places(module: nn.Module) -> list[Place]:
    """Return the places of a network's residual blocks."""
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
