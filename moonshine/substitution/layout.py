"""Places for cheap blocks in any network, and the reason why each other convolution is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from moonshine.errors import MoonshineError, first_few
from moonshine.networks.erfnet import Downsampler
from moonshine.substitution.patterns import covers
from moonshine.substitution.places import Place, lone_place, residual_places
from moonshine.substitution.residual import in_blocks, shortcuts
from moonshine.substitution.watching import record_calls


@dataclass(frozen=True)
class Layout:
    """Places of a network in running order, and the reason why each other convolution is kept."""

    places: tuple[Place, ...]
    kept: dict[str, str]


def lay_out(
    module: nn.Module,
    input_shape: Sequence[int] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> Layout:
    """Find the places of a network.

    The first convolution (stem), the last layer (head), 1x1, grouped and shortcut convolutions are kept, as are
    ERFNet's downsamplers, special kinds of convolution, those that share or compute their weights, and those inside a
    cheap block. First and last are determined in a forward pass of ``input_shape`` (channels, height, width), without
    one by the order in which modules were registered.
    A pattern is a path such as ``layer1.*`` (``*`` crosses dots; modules inside a matching one match too), or a class
    such as ``type:BasicBlock``. With ``include``, only matching convolutions may change; those that match ``exclude``
    are kept. A stem, head, shortcut or downsampler may change if its full path is in ``include``.
    MoonshineError for a pattern that matches no convolution, and for an input that the network cannot take.
    """
    include, exclude = tuple(include), tuple(exclude)
    convolutions = {path: layer for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}
    matches = _Matcher(module)
    for pattern in (*include, *exclude):
        if not any(matches(pattern, path) for path in convolutions):
            raise MoonshineError(
                f"the pattern {pattern!r} matches no convolution; the network has {first_few(convolutions)}"
            )
    order = _order(module, input_shape)
    roles = {order[0]: "the stem", order[-1]: "the head"} if order else {}
    downsamplers = [
        f"{path}.conv" for path, layer in module.named_modules() if isinstance(layer, Downsampler)
    ]
    roles = {**dict.fromkeys(downsamplers, "a downsampler"), **roles}
    roles = {**dict.fromkeys(shortcuts(module), "a shortcut"), **roles}
    tied, taken = _tied(module), in_blocks(module)
    kept = {
        path: reason
        for path, layer in convolutions.items()
        if (
            reason := _reason(layer, path in taken, id(layer.weight) in tied, path in order)
            or ("" if path in include else roles.get(path))
        )
    }
    for path in convolutions.keys() - kept.keys():
        if include and not any(matches(pattern, path) for pattern in include):
            kept[path] = "not included"
        elif any(matches(pattern, path) for pattern in exclude):
            kept[path] = "excluded"
    places = _places(module, [path for path in order if path in convolutions and path not in kept], kept)
    return Layout(tuple(places), {path: kept[path] for path in convolutions if path in kept})


def _places(module: nn.Module, free: list[str], kept: dict[str, str]) -> list[Place]:
    owner: dict[str, Place] = {}
    for place in residual_places(module):
        if all(conv in free for conv in place.convolutions):
            owner |= dict.fromkeys(place.convolutions, place)
    return list(
        dict.fromkeys(owner.get(path) or lone_place(path, module.get_submodule(path)) for path in free)
    )


def _order(module: nn.Module, input_shape: Sequence[int] | None) -> list[str]:
    """Return the paths of the layers with weights, in the order in which they start."""
    weighted = [
        path
        for path, layer in module.named_modules()
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear)
    ]
    if input_shape is None:
        return weighted
    calls = sorted(record_calls(module, input_shape), key=lambda call: call.started)
    return list(dict.fromkeys(call.path for call in calls if call.path in set(weighted)))


def _reason(layer: nn.Conv2d, in_block: bool, is_tied: bool, runs: bool) -> str | None:
    """Return the reason why a convolution is kept whatever the patterns, or None."""
    reasons = {
        "in a cheap block": in_block,
        "1x1": max(layer.kernel_size) == 1,
        "already grouped": layer.groups > 1,
        f"a {type(layer).__name__}, not a plain Conv2d": type(layer) is not nn.Conv2d,
        "computes its weights": "weight" not in dict(layer.named_parameters(recurse=False)),
        "shares its weights": is_tied,
        "takes no part in the forward pass": not runs,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _tied(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that several layers share."""
    owners = Counter(id(own) for layer in module.modules() for own in layer.parameters(recurse=False))
    return {parameter for parameter, times in owners.items() if times > 1}


class _Matcher:
    """Predicate: whether a pattern matches a module or one of its parents."""

    def __init__(self, module: nn.Module) -> None:
        self._classes = {
            path: {kind.__name__ for kind in type(layer).__mro__} for path, layer in module.named_modules()
        }

    def __call__(self, pattern: str, path: str) -> bool:
        if not pattern.startswith("type:"):
            return covers(pattern, path)
        parts = path.split(".")
        around = [".".join(parts[: end + 1]) for end in range(len(parts))]
        return any(pattern.removeprefix("type:") in self._classes[each] for each in around)
