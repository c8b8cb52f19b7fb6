"""Registry of the kinds of block, and the plan of a block at a place. Needs no torch.

A new kind is a function and a line of `KINDS` in one file of `moonshine.blocks.families`.
"""

from __future__ import annotations

from dataclasses import dataclass

from moonshine.blocks.expressions import Conv, Expression, layers
from moonshine.blocks.families import (
    branching,
    generated,
    grouped,
    low_rank,
    separable,
    shuffled,
    spatial,
    tied,
    transforms,
)
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Block, read_values, split
from moonshine.errors import MoonshineError

FAMILIES: dict[str, tuple[Kind, ...]] = {
    "grouped": grouped.KINDS,
    "separable": separable.KINDS,
    "shuffled": shuffled.KINDS,
    "branching": branching.KINDS,
    "spatial": spatial.KINDS,
    "of low rank": low_rank.KINDS,
    "generated": generated.KINDS,
    "tied": tied.KINDS,
    "transforms": transforms.KINDS,
}
"""Name of a family -> its kinds."""

KINDS: dict[str, Kind] = {kind.name: kind for kinds in FAMILIES.values() for kind in kinds}
"""Name -> kind."""

ALIASES = {
    "MobileNet": "G(N)",
    "ResNeXt": "BG(2,32)",
    "DeepRoots": "ROOT",
    "RootBottleneck": "ROOTBG",
    "SqueezeNet": "FIRE(8)",
    "Xception": "XCEP",
    "Sep": "XCEP",
    "NASNet": "NAS",
    "ShuffleNet": "SHUF",
    "SEPNet": "SEPN",
    "Jaderberg": "LRE",
    "Sainath": "LR",
    "Flattened": "FLAT(2)",
    "NetworkInNetwork": "NIN",
    "HashedNet": "HASH",
    "HashedDecimate": "HASH(0.1)",
    "DeepFried": "FRIED",
    "ERFNet": "NB1D",
    "Conv2x2": "D2x2",
    "MBConv6": "MBX(6)",
    "DConv3D": "D3",
}
"""Published architecture -> the block that it is made of, or its kind, which takes the values that are written."""

PAPER = (
    *(f"G({g})" for g in (2, 4, 8, 16, "N/16", "N/8", "N/4", "N/2", "N")),
    "B(2)",
    "B(4)",
    *(f"BG(2,{g})" for g in (2, 4, 8, 16, "M/16", "M/8", "M/4", "M/2", "M")),
    "BG(4,M)",
)
"""Blocks of the paper's 21 students."""


def parse_block(text: str | Block) -> Block:
    """Parse a block, written ``BG(2,M/8)`` or as its slug ``BG-2-M_8``; MoonshineError says what is allowed."""
    if isinstance(text, Block):
        return text
    if (found := split(text)) is None:
        raise MoonshineError(f"block {text!r} is not a valid block; allowed: {_kinds()}")
    kind, written = found
    if meant := split(ALIASES.get(kind)):
        if written and meant[1]:
            raise MoonshineError(f"block {text!r} has values; allowed: {kind}, which is {ALIASES[kind]}")
        kind, written = meant[0], written or meant[1]
    if kind not in KINDS:
        raise MoonshineError(f"block {text!r}: unknown kind {kind!r}; allowed: {_kinds()}")
    values = read_values(text, KINDS[kind].parameters, written)
    if values is None:
        raise MoonshineError(f"block {text!r}: found {len(written)} values; allowed: {KINDS[kind]}")
    return Block(kind, values)


def _kinds() -> str:
    return ", ".join([*map(str, KINDS.values()), *(f"{name} = {meant}" for name, meant in ALIASES.items())])


@dataclass(frozen=True)
class BlockPlan:
    """Plan of a block at a place: a unit for each convolution there, or one unit for both.

    ``places`` are these convolutions, in the order in which they run.
    """

    block: Block
    kind: Kind
    places: tuple[Geometry, ...]
    units: tuple[Expression, ...]

    @property
    def whole(self) -> Geometry:
        """Geometry of the place's convolutions as one."""
        first, *rest = self.places
        return first.then(rest[0]) if rest else first

    @property
    def needs_exact_maps(self) -> bool:
        """Whether it has windows that must divide its maps, whose sizes only a forward pass knows."""
        return any(isinstance(each, Conv) and each.exact for unit in self.units for each in layers(unit))

    @property
    def ends_in_1x1(self) -> bool:
        """Whether every unit ends in an ordinary 1x1 convolution, which least squares can solve."""
        last = [list(layers(unit))[-1] for unit in self.units]
        return all(
            isinstance(end, Conv)
            and (end.kernel, end.groups, end.joint) == ((1, 1), 1, "linear")
            and not end.weight
            for end in last
        )


def replaces_both(block: Block) -> bool:
    """Whether one unit of a block replaces both convolutions of a residual block."""
    return KINDS[block.kind].replaces == "pair" or "once" in block.values


def plan_block(block: str | Block, places: tuple[Geometry, ...], path: str = "block") -> BlockPlan:
    """Plan a block for one convolution, or for the two of a residual block.

    MoonshineError names the block, the layer (`path`), what does not fit, and the values that would.
    """
    block = parse_block(block)
    kind = KINDS[block.kind]
    if kind.alone and len(places) == 1:
        raise MoonshineError(
            f"block {block} does not fit {path}: it replaces both convolutions of a residual block, and this is a "
            f"single one; allowed: {kind.alone}"
        )
    values = [value for value in block.values if value != "once"]
    replaced = (places[0].then(places[1]),) if len(places) > 1 and replaces_both(block) else places
    try:
        units = tuple(kind.expression(place, *values) for place in replaced)
    except MoonshineError as error:
        raise MoonshineError(f"block {block} does not fit {path}: {error}") from None
    return BlockPlan(block, kind, places, units)
