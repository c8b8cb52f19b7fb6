"""The blocks of the paper's Table 1: ordinary, grouped, and bottlenecks; and their groups by stage.

Sources: Crowley, Gray, Storkey, "Moonshine: Distilling with Cheap Convolutions", NeurIPS 2018, and its released code,
whose initialisation S, G, B and BG keep; Ioannou et al., "Deep Roots", CVPR 2017 (yanii/phd-thesis; ROOT, ROOTBG).
"""

from __future__ import annotations

from collections.abc import Sequence

from moonshine.blocks.expressions import Chain, Conv, Expression, layers
from moonshine.blocks.families.kind import Kind, group_count, narrowed
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Parameter, Value
from moonshine.errors import MoonshineError


def standard(place: Geometry) -> Expression:
    """S: the ordinary convolution."""
    return place.spatial(place.in_channels, place.out_channels)


def ordinary_parameters(places: Sequence[Geometry]) -> int:
    """Count the parameters of a sequence of ordinary convolutions and of the batch norms between them."""
    norms = sum(2 * place.out_channels for place in places[:-1])
    return norms + sum(
        conv.fan_in * conv.out_channels + (conv.joint == "relu" or place.bias) * conv.out_channels
        for place in places
        for conv in layers(standard(place))
        if isinstance(conv, Conv)
    )


def grouped(place: Geometry, g: Value) -> Expression:
    """G(g): a kxk convolution in g groups, then a 1x1 to the output width."""
    width = place.in_channels
    cheap = place.spatial(width, width, groups=group_count(g, width, "N"), joint="norm+relu")
    return Chain(cheap, Conv(width, place.out_channels))


def bottleneck(place: Geometry, b: int, g: Value = 1) -> Expression:
    """B(b), BG(b,g): 1x1 to M = N/b of the output width N, kxk with the stride (BG: in g groups), 1x1 to N."""
    return around(place, narrowed(b, place.out_channels), g)


def around(place: Geometry, middle: int, g: Value) -> Expression:
    """1x1 to ``middle``, kxk with the stride in g groups, 1x1 to N."""
    cheap = place.spatial(middle, middle, groups=group_count(g, middle, "M"), joint="norm+relu")
    return Chain(Conv(place.in_channels, middle, joint="norm+relu"), cheap, Conv(middle, place.out_channels))


def root(place: Geometry, g: int) -> Expression:
    """ROOT(g): G(g) in the first stage, G(g/2) in the second and so on; S from where one group is left."""
    groups = _root_groups(place, g)
    return grouped(place, groups) if groups > 1 else standard(place)


def root_bottleneck(place: Geometry, b: int, g: int) -> Expression:
    """ROOTBG(b,g): BG(b,g) in the first stage, BG(b,g/2) in the second and so on."""
    return bottleneck(place, b, _root_groups(place, g))


def _root_groups(place: Geometry, g: int) -> int:
    if place.stage is None:
        raise MoonshineError(
            "its groups halve from stage to stage, and the stages of this network are unknown; allowed: G(g) or "
            "BG(b,g) with a number of groups for each place"
        )
    if g & (g - 1):
        lower = 1 << g.bit_length() - 1
        raise MoonshineError(
            f"{g} groups cannot halve in every stage; allowed: a power of two, {lower} or {2 * lower}"
        )
    return max(1, g >> place.stage - 1)


KINDS = (
    Kind("S", (), standard, initialisation="released"),
    Kind("G", (Parameter("g", width="N"),), grouped, initialisation="released"),
    Kind("B", (Parameter("b"),), bottleneck, "pair", "released"),
    Kind("BG", (Parameter("b"), Parameter("g", width="M")), bottleneck, "pair", "released"),
    Kind("ROOT", (Parameter("g"),), root),
    Kind("ROOTBG", (Parameter("b"), Parameter("g")), root_bottleneck, "pair"),
)
