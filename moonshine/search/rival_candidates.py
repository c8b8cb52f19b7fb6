"""The candidate networks for a rival. Needs no torch, so a study is checked without loading it."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from moonshine.errors import MoonshineError
from moonshine.networks.families import ALLOWED, PLACES, Design, is_model, parse

STEPS = 64
"""Width is scaled in steps of this share of the teacher's."""

SAME_AS = {"torchvision/resnet18": "resnet-18", "torchvision/resnet34": "resnet-34"}
"""Models of others that are networks of a family here."""


def candidates(teacher: str, scale: str) -> tuple[str, ...]:
    """The names of the networks of a teacher's family that differ from it in width or in depth alone, ascending.

    Of widths, every distinct network in steps of 1/64 of the teacher's; all of them are smaller than the teacher.
    MoonshineError for a teacher without a family, another ``scale``, and a teacher that has nothing below it.
    """
    if is_model(teacher) and teacher not in SAME_AS:
        raise MoonshineError(
            f"rival: {teacher} is of no family that has rivals; allowed: {', '.join(SAME_AS)}; {ALLOWED}"
        )
    design = parse(SAME_AS.get(teacher, teacher))
    if scale == "width":
        found = _narrower(design)
    elif scale == "depth":
        found = [
            Design(design.family, depth, design.width)
            for depth in design.family.blocks
            if depth < design.depth
        ]
    else:
        raise MoonshineError(f"rival: scale is {scale!r}; allowed: width, depth")
    if not found:
        raise MoonshineError(f"rival: no network of the family of {teacher} is smaller in {scale}")
    return tuple(map(str, found))


def _narrower(design: Design) -> list[Design]:
    smallest_step = Decimal(1).scaleb(-PLACES)
    distinct: dict[tuple[int, ...], Design] = {}
    for step in range(1, STEPS):
        width = (design.width * step / STEPS).quantize(smallest_step, ROUND_HALF_UP)
        narrower = Design(design.family, design.depth, width)
        if min(narrower.channels) >= 1 and narrower.channels != design.channels:
            distinct.setdefault(narrower.channels, narrower)
    return list(distinct.values())
