"""Named lists of blocks, from which a search for a mixed student chooses. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable

from moonshine.blocks.registry import PAPER, parse_block
from moonshine.errors import MoonshineError

SEPARABLE = (
    *("G(N)", "XCEP", "NAS", "BASE(2)", "SIC(2)", "MOB(0.5)", "BG(2,M)", "BG(4,M)", "MBX(6)", "SBOT(2)"),
    *("SHUF(2,4)", "SHUF(4,4)", "LSHUF(2)", "LSHUF(4)", "LRE1(1)", "FLAT(1)", "SLR(0.5)", "SLR(0.25)"),
    *("TLR(0.5)", "TLR(0.25)"),
)
"""Blocks whose spatial convolution is depthwise, without generated weights."""

ALL = (
    *dict.fromkeys((*PAPER, *SEPARABLE)),
    *("ROOT(4)", "ROOT(8)", "ROOTBG(2,4)", "ROOTBG(2,8)", "RXT(8,0.5)", "D3", "FIRE(4)", "FIRE(8)"),
    *("PRB(2)", "PRB(4)", "SEPN(2,2)", "SEPN(4,2)", "LRE(2)", "LRE(4)", "NB1D", "D2x2", "DIL(2)", "NIN(4)"),
    *("LR(2)", "LR(4)", "TT(4)", "TT(8)", "STT(0.25)", "STUCK(0.25)", "HASH(0.1)", "SHASH(0.1)", "TOPO(2)"),
    *("PRED(3)", "GEQ(p4)", "ACDC(4)", "FRIED"),
)
"""Every kind, at one value or more. A search leaves out a block where it does not fit, and where it saves nothing."""

SMALL = ("BG(4,M)", "BG(8,M)", "BG(16,M)", "BG(32,M)", "SHUF(4,4)", "SHUF(8,4)", "SHUF(8,8)")
"""Blocks with the fewest parameters, without generated weights: for budgets that none of the paper's meets."""

PRESETS = {"paper": PAPER, "separable": SEPARABLE, "small": SMALL, "all": ALL}


def choices(chosen: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return S and the chosen blocks, each once: those of a preset for its name, the paper's for None.

    MoonshineError for what is neither a block nor a preset.
    """
    named = ["paper"] if chosen is None else [chosen] if isinstance(chosen, str) else chosen
    found = ["S"]
    for name in named:
        try:
            found += [str(parse_block(block)) for block in PRESETS.get(name, (name,))]
        except MoonshineError as error:
            raise MoonshineError(f"{error}; or a preset: {', '.join(PRESETS)}") from None
    return tuple(dict.fromkeys(found))
