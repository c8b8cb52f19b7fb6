"""Automatic choice of the taps for attention transfer: the ends of a network's stages, found in one forward pass."""

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
    """The outermost module whose output is the last at its resolution, for every resolution behind the first place.

    Paths in the order in which they run; they are the same in every student. Only resolutions at which a convolution
    computes count, and what comes with or after the head does not; neither does a module that runs more than once. A
    map of 1x1, on which attention says nothing, is dropped with a warning.
    MoonshineError where nothing is left, where no place can take a block, and for an input that the network cannot
    take.
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
            f"{'x'.join(map(str, input_shape))}; name some: teacher.taps, or take a larger input"
        )
    return tuple(call.path for call in sorted(taps.values(), key=lambda call: call.finished))


def check_taps(
    taps: Sequence[str], teacher: dict[str, Size], student: nn.Module, input_shape: Sequence[int]
) -> None:
    """The taps of a teacher must exist in the student, with maps of the same size; MoonshineError names those not."""
    found = tap_sizes(student, taps, input_shape)
    wrong = [
        f"{path} is {found[path][0]}x{found[path][1]} in the student and {height}x{width} in the teacher"
        for path, (height, width) in teacher.items()
        if found[path] != (height, width)
    ]
    if wrong:
        raise MoonshineError(f"teacher.taps: {'; '.join(wrong)}; allowed: maps of the same size")


def tap_sizes(module: nn.Module, taps: Sequence[str], input_shape: Sequence[int]) -> dict[str, Size]:
    """Height and width of the map at each tap; MoonshineError for one that is not there or gives no map."""
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
    """Height and width of a call's output where it is a map."""
    return (call.shape[2], call.shape[3]) if call.shape and len(call.shape) == 4 else None


def _head(module: nn.Module, calls: Sequence[Call]) -> Call:
    """The last layer with weights."""
    weighted = (nn.modules.conv._ConvNd, nn.Linear)
    return max(
        (call for call in calls if isinstance(module.get_submodule(call.path), weighted)),
        key=lambda call: call.started,
    )
