"""Cheap blocks in anybody's network: the student of any teacher.

Where the paper swaps the residual blocks of one architecture, this swaps the convolutions of any: G(g) replaces each
spatial convolution; B and BG replace both convolutions of a recognised residual block once, and a lone one by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from moonshine.blocks import Block, parse
from moonshine.errors import MoonshineError
from moonshine.layout import Layout, lay_out
from moonshine.replacement import apply, last_convolution, plan

__all__ = ["apply", "choose", "fitting", "last_convolution", "nothing_to_swap", "substitute"]


def substitute(
    module: nn.Module,
    block: str | Block | Mapping[str, str],
    *,
    input_shape: Sequence[int] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> nn.Module:
    """A copy of a network with cheap blocks: the student of that teacher; the network itself is left untouched.

    ``block`` goes wherever it fits, or is a mapping of places to blocks. What is replaced starts from new weights (He,
    as `moonshine.modules.initialise`), the rest keeps its own. ``input_shape``, ``include`` and ``exclude`` as in
    `moonshine.layout.lay_out`.
    MoonshineError for a network in which nothing can be replaced (it says why each convolution stays), for a place that
    does not exist and for a block that does not fit there.
    """
    student = copy.deepcopy(module)
    if isinstance(block, Mapping):
        apply(student, block)
        return student
    layout = lay_out(module, input_shape, include, exclude)
    chosen, refused = choose(module, layout, block)
    if not chosen:
        raise nothing_to_swap(type(module).__name__, str(parse(block)), {**layout.kept, **refused})
    apply(student, chosen)
    return student


def choose(module: nn.Module, layout: Layout, block: str | Block) -> tuple[dict[str, str], dict[str, str]]:
    """(place -> block) wherever the block fits, and (place -> reason) where it does not."""
    chosen: dict[str, str] = {}
    refused: dict[str, str] = {}
    for place in layout.places:
        try:
            plan(module, place, parse(block))
            chosen[place.path] = str(parse(block))
        except MoonshineError as error:
            refused[place.path] = str(error)
    return chosen, refused


def fitting(module: nn.Module, layout: Layout, blocks: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Which of the blocks fit at each place, in the paper's notation."""
    chosen = {str(parse(block)): choose(module, layout, block)[0] for block in blocks}
    return {
        place.path: tuple(block for block, places in chosen.items() if place.path in places)
        for place in layout.places
    }


def nothing_to_swap(name: str, block: str, reasons: Mapping[str, str]) -> MoonshineError:
    """The error for a network that stays as it is, with every convolution's reason, the same ones together."""
    grouped: dict[str, list[str]] = {}
    for path, reason in reasons.items():
        grouped.setdefault(reason, []).append(path)
    said = "; ".join(
        f"{reason}: {', '.join(paths[:3])}{f' and {len(paths) - 3} more' if len(paths) > 3 else ''}"
        for reason, paths in grouped.items()
    )
    return MoonshineError(f"{name} has no convolution that {block} can replace ({said or 'it has none'})")
