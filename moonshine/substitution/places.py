"""The types of a place, and the convolutions that a block of the paper's Table 1 puts there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from moonshine.blocks.kinds import KINDS, Block, Conv, Convolutions, Share, convolutions
from moonshine.errors import MoonshineError
from moonshine.networks.erfnet import ordinary_convolutions
from moonshine.substitution.residual import Pair, is_spatial, pairs, recognise


@dataclass(frozen=True)
class Place:
    """Where one block goes: a residual block, whose two convolutions it replaces, or a single convolution.

    ``convolutions`` are their paths, in ERFNet's block those of two 3x1 and two 1x3; ``norms`` are the batch norms
    between two of them, where they stay.
    """

    path: str
    convolutions: tuple[str, ...]
    norms: tuple[str, ...] = ()


def find_place(path: str, found: nn.Module) -> Place:
    """The place at ``path``, where the module ``found`` is; MoonshineError for one that takes no block."""
    if is_spatial(found):
        return Place(path, (path,))
    if names := ordinary_convolutions(found):
        return Place(path, tuple(f"{path}.{name}" for name in names))
    if not isinstance(found, nn.Conv2d) and (pair := recognise(found)):
        return _of_pair(path, pair)
    raise MoonshineError(
        f"{path} is a {type(found).__name__}; allowed: a plain convolution of more than 1x1 without groups, or a "
        "residual block with two"
    )


def residual_places(module: nn.Module) -> list[Place]:
    """The places of a network's residual blocks."""
    found = [_of_pair(path, pair) for path, pair in pairs(module).items()]
    factorised = [(path, layer) for path, layer in module.named_modules() if ordinary_convolutions(layer)]
    return found + [find_place(path, layer) for path, layer in factorised if path]


def _of_pair(path: str, pair: Pair) -> Place:
    inside = (f"{path}.{pair.first}", f"{path}.{pair.second}")
    return Place(path, inside, tuple(f"{path}.{name}" for name in pair.norms))


def convolutions_of(module: nn.Module, place: Place) -> list[nn.Conv2d]:
    """The convolutions that a block would replace, in the order in which they run."""
    return [module.get_submodule(path) for path in place.convolutions]  # type: ignore[misc]


def plan(module: nn.Module, place: Place, block: Block) -> Convolutions:
    """The convolutions that replace each of a place's own, or, for a kind that stands for both, all of them.

    MoonshineError for a block that does not fit: it names the place, the width and the values that would.
    """
    replaced = convolutions_of(module, place)
    stride = _square(block, place.path, [conv.stride for conv in replaced])
    if len(replaced) > 2 or _stands_for_two(block):
        return convolutions(block, replaced[0].in_channels, replaced[-1].out_channels, stride, place.path)
    return tuple(_unit(block, conv, place.path) for conv in replaced)


def _stands_for_two(block: Block) -> bool:
    """Whether a kind replaces two convolutions once: asked at a width that every value of the block divides."""
    width = math.prod(value.divisor if isinstance(value, Share) else value for value in block.values)
    return len(KINDS[block.kind].convolutions(width, width, 1, *block.values)) == 1


def _unit(block: Block, conv: nn.Conv2d, path: str) -> tuple[Conv, ...]:
    """What replaces one convolution: of a block that keeps the width only its first half, led to the right width.

    The second half of the real one might not fit where the first does.
    """
    stride = _square(block, path, [conv.stride])
    unit = convolutions(block, conv.in_channels, conv.in_channels, stride, path)[0]
    return (*unit[:-1], replace(unit[-1], out_channels=conv.out_channels))


def _square(block: Block, path: str, strides: Iterable[Any]) -> int:
    total = 1
    for rows, columns in strides:
        if rows != columns:
            raise MoonshineError(
                f"block {block} does not fit {path}: its stride is {rows}x{columns}; allowed: the same both ways"
            )
        total *= rows
    return total
