"""Whether networks fit a board, and what would change it: the text of ``moonshine plan --board``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from moonshine.costs.boards import RESERVED_FLASH, RESERVED_RAM, Board
from moonshine.costs.cost import cost
from moonshine.costs.metering import module_costs
from moonshine.errors import MoonshineError
from moonshine.formats.sizes import INTERPRETER, RAM
from moonshine.search.exported_sizes import Export
from moonshine.search.rivals import rival_candidates
from moonshine.search.space import Mixture, Space
from moonshine.structures.build import build

_Option = TypeVar("_Option")

BAR = 30
"""Characters of a bar for all of a board's memory."""
STEPS = 8
"""Steps of the input's side, and of the first stage's width, that are tried."""


@dataclass(frozen=True)
class BoardFit:
    """A network on a board: bytes of its INT8 file, bytes of RAM in TensorFlow Lite Micro, the layer that sets it."""

    name: str
    flash: int
    ram: int
    peak_layer: str
    interpreter: int  # of the RAM, what is not for activations
    per_peak: float  # bytes for activations per byte of peak activation memory in fp32: about a quarter

    def fits(self, board: Board) -> bool:
        return self.flash <= board.flash - RESERVED_FLASH and self.ram <= board.ram - RESERVED_RAM


def fit_board(name: str, space: Space, blocks: Mixture, export: Export) -> BoardFit:
    """Convert the untrained network with these blocks, and run it."""
    chosen = {path: blocks.get(path, "S") for path in space.places}
    layer, peak = _peak_layer(space.build(chosen), space.input_shape)
    ram, interpreter = export(chosen, RAM), export(chosen, INTERPRETER)
    return BoardFit(name, export(chosen, "tflite-int8"), ram, layer, interpreter, (ram - interpreter) / peak)


def fits_as_text(space: Space, board: Board, found: Sequence[BoardFit]) -> str:
    """Return a verdict, bars and the layer of the peak for each network, and what would lower the RAM."""
    shape = "x".join(map(str, space.input_shape))
    lines = [
        f"{space.structure.network} at {shape}, {space.structure.num_classes} classes, on {board.name}: "
        f"{RESERVED_FLASH / 1e3:.0f} kB of flash and {RESERVED_RAM / 1e3:.0f} kB of RAM are kept for runtime and "
        "application (+)."
    ]
    for each in found:
        lines += [
            "",
            f"{each.name}: {'fits' if each.fits(board) else 'does not fit'}",
            f"  flash  {_bar(each.flash, RESERVED_FLASH, board.flash)}",
            f"  RAM    {_bar(each.ram, RESERVED_RAM, board.ram)}",
            f"  memory peaks in {each.peak_layer}",
        ]
    tightest = min(found, key=lambda each: each.ram)
    if tightest.ram > board.ram - RESERVED_RAM:
        changes = list(_changes(space, tightest, board.ram - RESERVED_RAM))
        lines += ["", f"What would bring {tightest.name} within the RAM, estimated:" if changes else ""]
        lines += [f"  {change}" for change in changes] or [
            "Neither a smaller input nor a narrower network of those that were tried is within the RAM."
        ]
    return "\n".join(lines)


def _bar(taken: int, reserved: int, whole: int) -> str:
    model, rest = (min(BAR, -(-BAR * part // whole)) for part in (taken, reserved))
    drawn = ("#" * model + "+" * rest)[:BAR].ljust(BAR, ".")
    return f"[{drawn}] {taken / 1e3:,.0f} of {whole / 1e3:,.0f} kB, {taken / whole:.0%}"


def _peak_layer(network: nn.Module, shape: Sequence[int]) -> tuple[str, int]:
    """Return the path of the layer during which most activations are alive, and their bytes in fp32."""
    leaves = [path for path, module in network.named_modules() if path and not list(module.children())]
    costs = module_costs(network, shape, leaves)
    path = max(costs, key=lambda path: costs[path].peak_activation_bytes)
    return path or "the layers outside of modules", costs[path].peak_activation_bytes


def _changes(space: Space, fit: BoardFit, limit: int) -> Iterator[str]:
    """Yield what would bring RAM within a limit; blocks do not, since the first stage's maps set it."""
    channels, height, width = space.input_shape
    network = space.build(dict.fromkeys(space.places, "S"))

    def ram(module: nn.Module, size: tuple[int, int]) -> float:
        return cost(module, (channels, *size)).peak_activation_bytes * fit.per_peak + fit.interpreter

    sizes = [(height * step // STEPS, width * step // STEPS) for step in range(STEPS - 1, 0, -1)]
    if smaller := _first(sizes, lambda size: ram(network, size), limit):
        yield f"input of {'x'.join(map(str, smaller[0]))}: {smaller[1] / 1e3:,.0f} kB"
    half = (height // 2, width // 2)
    if strided := _first([half], lambda size: ram(network, size) + channels * height * width, limit):
        yield f"a first convolution with twice the stride: {strided[1] / 1e3:,.0f} kB"
    try:
        narrower = rival_candidates(space.structure.network, "width")[::-STEPS]
    except MoonshineError:  # of no family whose widths are known
        return

    def of(name: str) -> float:
        with torch.device("meta"):
            return ram(build(name, "S", space.structure.num_classes, channels), (height, width))

    if found := _first(narrower, of, limit):
        yield f"a narrower network, {found[0]}: {found[1] / 1e3:,.0f} kB"


def _first(
    options: Sequence[_Option], ram: Callable[[_Option], float], limit: float
) -> tuple[_Option, float] | None:
    """Return the first option within the limit, with its RAM; None where none is, or the network refuses them."""
    for option in options:
        try:
            if (found := ram(option)) <= limit:
                return option, found
        except MoonshineError:  # an input of this size
            continue
    return None
