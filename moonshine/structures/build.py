"""Building of networks by name, with a block at each place, and rebuilding from a structure.

Only `build` and `from_structure` load torch; names, paths and the fit of blocks are checked without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from moonshine.blocks.notation import Block
from moonshine.blocks.registry import BlockPlan, plan_block
from moonshine.errors import MoonshineError
from moonshine.networks.families import Site, is_model, parse_network
from moonshine.structures.structure import Structure
from moonshine.substitution.patterns import spread

if TYPE_CHECKING:
    from torch import nn

    from moonshine.networks.erfnet import ERFNet
    from moonshine.networks.models import Trust
    from moonshine.networks.resnet import ResNet
    from moonshine.networks.wide_resnet import WideResNet

__all__ = [
    "Blocks",
    "Site",
    "assign",
    "build",
    "from_structure",
    "residual_blocks",
    "sites",
    "to_structure",
]

Blocks = str | Block | Mapping[str, str] | Mapping[str, Block]


def sites(name: str) -> tuple[Site, ...]:
    """Return the residual blocks of a network in order; MoonshineError for an invalid name.

    Names: `moonshine.networks.families.FAMILIES`.
    """
    return parse_network(name).sites


def residual_blocks(name: str) -> tuple[str, ...]:
    """Return the module paths of a network's residual blocks, in order: ``stage1.0``, ``stage1.1``, ..."""
    return tuple(site.path for site in sites(name))


def assign(name: str, block: Blocks = "S") -> dict[str, Block]:
    """Return path -> block for every residual block of a network, given one block or a mapping of paths or patterns.

    Of several patterns that match (`moonshine.substitution.patterns`) the first counts. MoonshineError for an unknown
    network, block or path, a path that none matches, and a block that does not fit: it names the layer, the width and
    the values that would.
    """
    return {path: planned.block for path, planned in _plans(name, block).items()}


def _plans(name: str, block: Blocks) -> dict[str, BlockPlan]:
    places = sites(name)
    if isinstance(block, str | Block):
        chosen: Mapping[str, Any] = dict.fromkeys((site.path for site in places), block)
    elif isinstance(block, Mapping):
        chosen = spread({str(path): each for path, each in block.items()}, residual_blocks(name), name)
    else:
        raise MoonshineError(f"block {block!r}; allowed: one such as G(4), or a mapping of places to blocks")
    return {site.path: plan_block(chosen[site.path], site.convolutions, site.path) for site in places}


def build(
    name: str, block: Blocks = "S", num_classes: int = 10, in_channels: int = 3
) -> WideResNet | ResNet | ERFNet:
    """Build a network by name with its residual blocks replaced: (n, in_channels, h, w) -> logits (n, num_classes).

    An erfnet's logits are (n, num_classes, h, w). `block` is one block for every place or a mapping as for `assign`,
    such as ``{"stage1.*": "G(4)", "*": "S"}``. Weights are drawn from torch's global generator, on torch's default
    device. MoonshineError as for `assign`.
    """
    from moonshine.substitution.substitute import remember

    plans = _plans(name, block)
    for key, number in (("num_classes", num_classes), ("in_channels", in_channels)):
        if type(number) is not int or number < 1:
            raise MoonshineError(f"{key} is {number!r}; allowed: a whole number from 1")
    built = _BUILDERS[parse_network(name).family.name](sites(name), plans, num_classes, in_channels)
    blocks = {path: str(plan.block) for path, plan in plans.items()}
    remember(built, Structure(network=name, num_classes=num_classes, in_channels=in_channels, blocks=blocks))
    return built


Plans = Mapping[str, BlockPlan]
Sites = tuple[Site, ...]


def _wrn(places: Sites, plans: Plans, num_classes: int, in_channels: int) -> WideResNet:
    from moonshine.networks.wide_resnet import WideResNet

    return WideResNet(_stages(plans), num_classes, in_channels)


def _resnet(places: Sites, plans: Plans, num_classes: int, in_channels: int) -> ResNet:
    from moonshine.networks.resnet import ResNet
    from moonshine.substitution.places import BlockChange, Place
    from moonshine.substitution.replacement import apply

    changes = []
    for path, planned in plans.items():
        place = Place(path, (f"{path}.conv1", f"{path}.conv2"), planned.places, (f"{path}.bn1",))
        changes.append(BlockChange(place, planned))
    built = ResNet(places, num_classes, in_channels)
    apply(built, changes)
    return built


def _erfnet(places: Sites, plans: Plans, num_classes: int, in_channels: int) -> ERFNet:
    from moonshine.networks.erfnet import ERFNet

    return ERFNet(_stages(plans), num_classes, in_channels)


def _stages(plans: Plans) -> dict[str, list[BlockPlan]]:
    """Return the plans of each stage's blocks, by the stage's path."""
    stages: dict[str, list[BlockPlan]] = {}
    for path, planned in plans.items():
        stages.setdefault(path.partition(".")[0], []).append(planned)
    return stages


_BUILDERS: dict[str, Callable[..., Any]] = {"wrn": _wrn, "resnet": _resnet, "erfnet": _erfnet}


def to_structure(name: str, block: Blocks = "S", num_classes: int = 10, in_channels: int = 3) -> Structure:
    """Return the structure of a network by name; MoonshineError as for `assign`."""
    blocks = {path: str(chosen) for path, chosen in assign(name, block).items()}
    return Structure(network=name, num_classes=num_classes, in_channels=in_channels, blocks=blocks)


def from_structure(structure: Structure, trust: Trust = ()) -> nn.Module:
    """Build the network of a structure, newly initialised.

    A structure may have come from anywhere: a third-party model is built only if it is registered in torchvision or
    timm, or if ``trust`` names its code: a package, a module, or the builder in full (``my_nets:build``).
    MoonshineError for one that is not trusted, before its module is imported; for code of the user's that has changed
    since; and as for `build`, `build_model` and `moonshine.substitution.replacement.apply`.
    """
    if not is_model(structure.network):
        return build(structure.network, structure.blocks, structure.num_classes, structure.in_channels)
    from moonshine.networks.models import build_model, check_trusted, is_registered, json_copy
    from moonshine.networks.sources import check_sources
    from moonshine.substitution.replacement import apply, find_changes
    from moonshine.substitution.substitute import remember

    name = structure.network
    kwargs = json_copy(structure.kwargs, f"structure of {name}: kwargs")
    check_trusted(name, trust)
    if structure.source_sha256 or not is_registered(name):
        check_sources(name, structure.source_sha256)
    module = build_model(name, kwargs, structure.num_classes, structure.in_channels)
    apply(module, find_changes(module, structure.blocks))
    remember(module, structure)
    return module
