"""Built-in families of networks: their valid names, and the places of their residual blocks.

Needs no torch. A new family is one entry of `FAMILIES` and its module in `moonshine.structures.build.build`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal

from moonshine.blocks.geometry import Geometry
from moonshine.errors import MoonshineError

PLACES = 6
"""Most decimal places of a width in a name."""


@dataclass(frozen=True)
class Site:
    """Place of one residual block in a network: its module path, input and output width, stride, and stage from 1.

    ``dilation`` applies to its second convolution; ``factorised`` as in `moonshine.blocks.geometry.Geometry`, with
    biases.
    """

    path: str
    in_channels: int
    out_channels: int
    stride: int
    stage: int
    dilation: int = 1
    factorised: bool = False

    @property
    def convolutions(self) -> tuple[Geometry, Geometry]:
        """Its two 3x3 convolutions."""
        first = Geometry(
            self.in_channels,
            self.out_channels,
            stride=(self.stride, self.stride),
            factorised=self.factorised,
            bias=self.factorised,
            stage=self.stage,
        )
        around = (self.dilation, self.dilation)
        second = replace(first, in_channels=self.out_channels, stride=(1, 1), dilation=around, padding=around)
        return first, second


@dataclass(frozen=True, eq=False)
class Family:
    """Family of networks: the form of its names, and the meaning of depth and width.

    ``blocks`` maps each depth to the number of residual blocks in each stage (key 0: names without a depth);
    ``channels`` returns the channels of the stem and of each stage at a width, before rounding; ``stage`` is the prefix
    of a stage's path; ``plain`` is the width that names omit, if any; ``allowed`` describes valid names. ``between``:
    layers between the stages change width and resolution, not the first block of each stage. ``dense``: logits for
    every pixel, not for whole images. ``reduction``: height and width of an image must be multiples of it; 1 allows
    any. ``dilations`` maps a stage, counted from 1, to the dilations of its blocks in turn; 1 elsewhere.
    ``factorised``: see `Site`.
    """

    name: str
    blocks: Mapping[int, tuple[int, ...]]
    channels: Callable[[Decimal], tuple[Decimal, ...]]
    stage: str
    plain: Decimal | None
    allowed: str
    between: bool = False
    dense: bool = False
    reduction: int = 1
    dilations: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    factorised: bool = False


def _wrn(width: Decimal) -> tuple[Decimal, ...]:
    return Decimal(16), 16 * width, 32 * width, 64 * width


def _resnet(width: Decimal) -> tuple[Decimal, ...]:
    # The published ResNet-18-0.5 keeps the 64 channels of stem and first stage, so these narrow only where the second
    # stage would be the narrower one.
    first = 64 * max(width, min(Decimal(1), 2 * width))
    return first, first, 128 * width, 256 * width, 512 * width


def _erfnet(width: Decimal) -> tuple[Decimal, ...]:
    return 16 * width, 64 * width, 128 * width, 64 * width, 16 * width


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "wrn",
            {6 * n + 4: (n, n, n) for n in range(1, 1666)},
            _wrn,
            "stage",
            None,
            "wrn-<depth>-<width> with depth 6n+4 (10, 16, 22, 28, 34, 40, ...) and width above 0: wrn-40-2, "
            "wrn-40-0.75",
        ),
        Family(
            "resnet",
            {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)},
            _resnet,
            "layer",
            Decimal(1),
            "resnet-<depth> or resnet-<depth>-<width> with depth 10, 18, 34: resnet-34, resnet-18-0.5",
        ),
        Family(
            "erfnet",
            {0: (5, 8, 2, 2)},
            _erfnet,
            "stage",
            Decimal(1),
            "erfnet or erfnet-<width>: erfnet, erfnet-0.5",
            between=True,
            dense=True,
            reduction=8,
            dilations={2: (2, 4, 8, 16)},
            factorised=True,
        ),
    )
}
"""Name -> family. Channels that come out fractional are rounded, halves up.

``wrn-d-k`` is a wide residual network in its CIFAR form (Zagoruyko, Komodakis, 2016): a stem of 16 channels and three
stages of (d - 4) / 6 blocks, of widths 16k, 32k and 64k; the last two halve the map.

``resnet-d-k`` is the residual network of basic blocks in its 224x224 form (He et al., 2016): four stages of widths
64, 128k, 256k and 512k, all but the first of which halve the map. Stem and first stage are 128k wide for k below 1/2
and 64k for k above 1, so ``resnet-18-0.5`` is the published one of 64, 64, 128 and 256. A k of 1 is not written.

``erfnet-k`` is ERFNet (Romera et al., 2018), which gives logits for every pixel: stages of 5 and 8 blocks of widths 64k
and 128k in its encoder, and of 2 and 2 of widths 64k and 16k in its decoder. A k of 1 is not written.
"""

ALLOWED_NETWORKS = "; ".join(family.allowed for family in FAMILIES.values())
_WIDTH = rf"(?!0$)(?:0|[1-9][0-9]{{0,3}})(?:\.[0-9]{{0,{PLACES - 1}}}[1-9])?"
_DEPTH = r"-(?P<depth>[1-9][0-9]{0,3})"
_TEXT = {
    family.name: re.compile(rf"{family.name}{'' if 0 in family.blocks else _DEPTH}(?:-(?P<width>{_WIDTH}))?")
    for family in FAMILIES.values()
}


@dataclass(frozen=True)
class Design:
    """A network of a family by its depth (0: the name has none) and width; ``str(design)`` is its name."""

    family: Family
    depth: int
    width: Decimal

    def __str__(self) -> str:
        name = f"{self.family.name}-{self.depth}" if self.depth else self.family.name
        return name if self.width == self.family.plain else f"{name}-{_shortest(self.width)}"

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stem and of each stage."""
        exact = self.family.channels(self.width)
        return tuple(int(number.quantize(Decimal(1), ROUND_HALF_UP)) for number in exact)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Residual blocks in order."""
        inputs, *widths = self.channels
        found = []
        for stage, outputs in enumerate(widths, 1):
            if self.family.between:
                inputs = outputs
            dilations = self.family.dilations.get(stage, (1,))
            for index in range(self.family.blocks[self.depth][stage - 1]):
                stride = 2 if stage > 1 and index == 0 and not self.family.between else 1
                path, dilation = f"{self.family.stage}{stage}.{index}", dilations[index % len(dilations)]
                found.append(Site(path, inputs, outputs, stride, stage, dilation, self.family.factorised))
                inputs = outputs
        return tuple(found)


def parse_network(name: str) -> Design:
    """Parse a network's name; MoonshineError for an invalid one, and for a network with a stage of no channels."""
    family = FAMILIES.get(name.partition("-")[0]) if isinstance(name, str) else None
    match = _TEXT[family.name].fullmatch(name) if family else None
    if match is None or family is None or match["width"] == str(family.plain or ""):
        raise MoonshineError(f"{name!r} is not a valid network name; allowed: {ALLOWED_NETWORKS}")
    if match["width"] is None and family.plain is None:
        raise MoonshineError(f"network {name!r} has no width; allowed: {family.allowed}")
    depth = int(match.groupdict().get("depth", 0))
    if depth not in family.blocks:
        raise MoonshineError(f"network {name!r}: no such network of depth {depth}; allowed: {family.allowed}")
    design = Design(family, depth, Decimal(match["width"] or family.plain or 0))
    if min(design.channels) < 1:
        raise MoonshineError(
            f"network {name!r}: its stages would have {', '.join(map(str, design.channels[1:]))} channels; allowed: "
            "at least 1 in each"
        )
    return design


def _shortest(width: Decimal) -> str:
    text = f"{width:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_model(name: str) -> bool:
    """Whether a name is that of a third-party model (``torchvision/resnet34``, ``my_nets:build``)."""
    return isinstance(name, str) and ("/" in name or ":" in name)
