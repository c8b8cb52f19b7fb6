"""Automatic taps for attention transfer: the ends of a network's stages, found in one forward pass."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from torch import nn

from moonshine.errors import MoonshineError
from moonshine.substitution.layout import Layout
from moonshine.substitution.watching import Call, record_calls

logger = logging.getLogger("moonshine")

Size = tuple[int, int]


def discover_taps(module: nn.Module, input_shape: Sequence[int], layout: Layout) -> tuple[str, ...]:
    """Return, for every resolution after the first place, the outermost module whose output is the last at it.

    Paths in running order, the same in every student. Only resolutions at which a convolution computes count; the head,
    everything after it, and modules that run more than once do not. A 1x1 map, on which attention is meaningless, is
    dropped with a warning.
    MoonshineError if no tap is left, if no place can take a block, and for an input that the network cannot take.
    """
    if not layout.places:
        raise MoonshineError(
            f"{type(module).__name__}: has no place for a cheap block, so nothing to transfer behind it"
        )
    calls = record_calls(module, input_shape)
    first = min(call.started for call in calls if call.path in layout.places[0].convolutions)
    computed = {
        map_size(call)
        for call in calls
        if isinstance(module.get_submodule(call.path), nn.Conv2d) and map_size(call)
    }
    head = _head(module, calls)
    times = Counter(call.path for call in calls)
    free = [
        call
        for call in calls
        if call.path and map_size(call) in computed and call.finished > first and times[call.path] == 1
        if not (call.started <= head.started and call.finished >= head.finished)
        and call.started < head.started
    ]
    taps: dict[Size, Call] = {}
    for depth in sorted({call.path.count(".") for call in free}):
        here = {found: call for call in free if call.path.count(".") == depth and (found := map_size(call))}
        taps = {**here, **taps}
    if dropped := taps.pop((1, 1), None):
        logger.warning("tap %s: its map is 1x1 and was dropped", dropped.path)
    if not taps:
        raise MoonshineError(
            f"{type(module).__name__}: found no tap for attention transfer at input "
            f"{'x'.join(map(str, input_shape))}; allowed: modules named in teacher.taps, or a larger input"
        )
    return tuple(call.path for call in sorted(taps.values(), key=lambda call: call.finished))


def check_taps(
    taps: Sequence[str], teacher: dict[str, Size], student: nn.Module, input_shape: Sequence[int]
) -> None:
    """MoonshineError naming the taps of a teacher that the student lacks or has with maps of another size."""
    found = tap_sizes(student, taps, input_shape)
    wrong = [
        f"{path} is {found[path][0]}x{found[path][1]} in the student and {height}x{width} in the teacher"
        for path, (height, width) in teacher.items()
        if found[path] != (height, width)
    ]
    if wrong:
        raise MoonshineError(f"teacher.taps: {'; '.join(wrong)}; allowed: maps of the same size")


def tap_sizes(module: nn.Module, taps: Sequence[str], input_shape: Sequence[int]) -> dict[str, Size]:
    """Return height and width of the map at each tap; MoonshineError for a tap that does not exist or gives no map."""
    last = {call.path: call for call in record_calls(module, input_shape)}
    sizes: dict[str, Size] = {}
    for path in taps:
        found = map_size(last[path]) if path in last else None
        if found is None:
            known = [
                call.path for call in last.values() if map_size(call) and call.path and "." not in call.path
            ]
            why = (
                "gives no map (n, channels, height, width)"
                if path in last
                else "does not exist or does not run"
            )
            raise MoonshineError(
                f"teacher.taps: {path!r} {why} in this {type(module).__name__}; it has {', '.join(known)} and others "
                "inside them"
            )
        sizes[path] = found
    return sizes


def map_size(call: Call) -> Size | None:
    """Return height and width of a call's output; None if it is not a map."""
    return (call.shape[2], call.shape[3]) if call.shape and len(call.shape) == 4 else None


def _head(module: nn.Module, calls: Sequence[Call]) -> Call:
    """Return the call of the last layer with weights."""
    weighted = (nn.modules.conv._ConvNd, nn.Linear)
    return max(
        (call for call in calls if isinstance(module.get_submodule(call.path), weighted)),
        key=lambda call: call.started,
    )
