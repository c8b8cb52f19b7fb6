"""A block of every kind, and a module of it in place of a convolution."""

from __future__ import annotations

from dataclasses import replace

import torch

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.initialisation import initialise
from moonshine.blocks.registry import plan_block

ONE_OF_EACH = {
    "S": "S",
    "G": "G(4)",
    "B": "B(2)",
    "BG": "BG(2,M)",
    "ROOT": "ROOT(4)",
    "ROOTBG": "ROOTBG(2,4)",
    "XCEP": "XCEP",
    "NAS": "NAS",
    "BASE": "BASE(2)",
    "SIC": "SIC(2)",
    "MOB": "MOB(0.5)",
    "RXT": "RXT(4,2)",
    "MBX": "MBX(2)",
    "D3": "D3",
    "SBOT": "SBOT(2)",
    "SHUF": "SHUF(4,2)",
    "LSHUF": "LSHUF(2)",
    "FIRE": "FIRE(4)",
    "PRB": "PRB(2,bin)",
    "SEPN": "SEPN(2,2)",
    "LRE": "LRE(2)",
    "LRE1": "LRE1(2,shared)",
    "FLAT": "FLAT(2)",
    "NB1D": "NB1D",
    "D2x2": "D2x2",
    "DIL": "DIL(2)",
    "NIN": "NIN(2)",
    "LR": "LR(4)",
    "SLR": "SLR(0.5)",
    "TLR": "TLR(0.5)",
    "TT": "TT(4)",
    "STT": "STT(0.5)",
    "STUCK": "STUCK(0.5)",
    "HASH": "HASH(0.1)",
    "SHASH": "SHASH(0.1)",
    "TOPO": "TOPO(2)",
    "PRED": "PRED(3)",
    "GEQ": "GEQ(p4m)",
    "ACDC": "ACDC(2)",
    "FRIED": "FRIED(k)",
}


BOTH = ("MOB(0.5)", "RXT(4,2)", "MBX(2)", "SHUF(4,2)", "SEPN(2,2)")
"""Blocks that need a residual block."""
BY_STAGE = ("ROOT(4)", "ROOTBG(2,4)")
LONE = [block for block in ONE_OF_EACH.values() if block not in (*BOTH, *BY_STAGE)]


def lone(block: str, place: Geometry, seed: int = 0) -> CheapConvolution:
    """The block in place of one convolution; where it needs two, of that and a second one."""
    staged = replace(place, stage=2)
    planned = plan_block(block, (staged, staged.again()) if block in BOTH else (staged,))
    torch.manual_seed(seed)
    made = CheapConvolution(planned.kind, planned.units, planned.whole)
    initialise(made)
    return made
