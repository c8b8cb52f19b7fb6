"""Networks by name: which residual blocks they have, and building them with any block in each.

Only `build` and `from_structure` load torch; names, paths and whether blocks fit are known without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from moonshine.blocks import Block, convolutions, parse
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from torch import nn

    from moonshine.modules import WideResNet

Blocks = str | Block | Mapping[str, str] | Mapping[str, Block]

_WRN = re.compile(r"wrn-([1-9][0-9]{0,3})-([1-9][0-9]{0,3})")
_ALLOWED = "wrn-<depth>-<width> with depth 6n+4 (10, 16, 22, 28, 34, 40, ...) and width from 1: wrn-40-2"


@dataclass(frozen=True)
class Site:
    """One residual block's place in a network: its module path, the widths around it and its stride."""

    path: str
    in_channels: int
    out_channels: int
    stride: int


def is_model(name: str) -> bool:
    """Whether a name is that of anybody's model (``torchvision/resnet34``, ``my_nets:build``), not one of ours."""
    return isinstance(name, str) and ("/" in name or ":" in name)


def sites(name: str) -> tuple[Site, ...]:
    """The residual blocks of a network in order; MoonshineError for a name that is not a network.

    ``wrn-d-k`` is a wide residual network in its CIFAR form (Zagoruyko, Komodakis, 2016): a stem of 16
    channels and three stages of (d - 4) / 6 blocks, of widths 16k, 32k and 64k; the last two halve the map.
    """
    match = _WRN.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise MoonshineError(f"network {name!r} is unknown; allowed: {_ALLOWED}")
    depth, width = int(match[1]), int(match[2])
    if depth < 10 or depth % 6 != 4:
        raise MoonshineError(f"network {name!r}: no such network of depth {depth}; allowed: {_ALLOWED}")
    found = []
    channels = 16
    for stage, outputs in enumerate((16 * width, 32 * width, 64 * width), start=1):
        for index in range((depth - 4) // 6):
            stride = 2 if stage > 1 and index == 0 else 1
            found.append(Site(f"stage{stage}.{index}", channels, outputs, stride))
            channels = outputs
    return tuple(found)


def residual_blocks(name: str) -> tuple[str, ...]:
    """The module paths of a network's residual blocks, in order: ``stage1.0``, ``stage1.1``, ..."""
    return tuple(site.path for site in sites(name))


def assign(name: str, block: Blocks = "S") -> dict[str, Block]:
    """The block at every residual path of a network: one for all, or a mapping that names every path.

    MoonshineError for an unknown network, block or path, a path left out, and a block that does not fit: it
    names the layer, the width and the values that would.
    """
    places = sites(name)
    if isinstance(block, str | Block):
        chosen = {site.path: parse(block) for site in places}
    elif isinstance(block, Mapping):
        chosen = _mixed(name, block, [site.path for site in places])
    else:
        raise MoonshineError(f"block {block!r}; allowed: one such as G(4), or a mapping of layers to blocks")
    for site in places:
        convolutions(chosen[site.path], site.in_channels, site.out_channels, site.stride, site.path)
    return chosen


def _mixed(name: str, block: Mapping[str, Any], paths: list[str]) -> dict[str, Block]:
    for path in block:
        if path not in paths:
            close = get_close_matches(str(path), paths) or [f"{paths[0]} to {paths[-1]}"]
            raise MoonshineError(f"{name} has no residual block {path!r}; allowed: {', '.join(close)}")
    if missing := [path for path in paths if path not in block]:
        raise MoonshineError(f"{name}: no block given for {', '.join(missing)}; a mapping names every layer")
    return {path: parse(block[path]) for path in paths}


def build(name: str, block: Blocks = "S", num_classes: int = 10, in_channels: int = 3) -> WideResNet:
    """A network by name with its residual blocks replaced: (n, in_channels, h, w) -> logits (n, num_classes).

    `block` is one block for every place or a mapping from each residual path to its block. Weights are drawn
    from torch's global generator, on torch's default device. MoonshineError as for `assign`.
    """
    blocks = assign(name, block)
    for key, number in (("num_classes", num_classes), ("in_channels", in_channels)):
        if type(number) is not int or number < 1:
            raise MoonshineError(f"{key} is {number!r}; allowed: a whole number from 1")
    from moonshine.modules import WideResNet

    stages: dict[str, list[Any]] = {}
    for site in sites(name):
        planned = convolutions(blocks[site.path], site.in_channels, site.out_channels, site.stride, site.path)
        stages.setdefault(site.path.partition(".")[0], []).append(planned)
    return WideResNet(stages, num_classes, in_channels)


def to_structure(
    name: str, block: Blocks = "S", num_classes: int = 10, in_channels: int = 3
) -> dict[str, Any]:
    """All that `from_structure` needs to build the network again, in values that JSON holds."""
    return {
        "network": name,
        "num_classes": num_classes,
        "in_channels": in_channels,
        "blocks": {path: str(chosen) for path, chosen in assign(name, block).items()},
    }


def from_structure(structure: Mapping[str, Any]) -> nn.Module:
    """The network that `to_structure` or `moonshine.structures.describe` described, newly initialised.

    Keys it does not know are ignored. MoonshineError for a key that is missing, and as for `build` or
    `moonshine.structures.rebuild`.
    """
    keys = ("network", "blocks", "num_classes", "in_channels")
    if missing := [key for key in keys if key not in structure]:
        raise MoonshineError(f"structure: found no {', '.join(missing)}; required: {', '.join(keys)}")
    if is_model(structure["network"]):
        from moonshine.structures import rebuild

        return rebuild(structure)
    return build(*(structure[key] for key in keys))
