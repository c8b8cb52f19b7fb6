"""``moonshine cost``: the cost of a network, without writing Python."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moonshine.errors import MoonshineError
from moonshine.text_table import text_table
from moonshine_workflow.commands.options import parse_input

if TYPE_CHECKING:
    from moonshine.costs.cost import Cost

_DESCRIPTION = """
Print what a network costs, one row per block, against the same network with ordinary blocks (S).

MACs are multiply-accumulates of convolutions and linear layers; published ops are the papers' "Ops" column;
files are safetensors and MB are 10^6 bytes; peak memory is the maximum of live activations in an eager fp32
forward pass.
"""


def add_cost(subparsers: Any) -> None:
    """Add ``moonshine cost``."""
    parser = subparsers.add_parser(
        "cost",
        help="parameters, MACs, file size and memory of a network with cheap blocks",
        description=_DESCRIPTION,
    )
    parser.add_argument("network", help="such as wrn-40-2")
    parser.add_argument(
        "--block",
        action="append",
        help="such as 'G(4)', or by place: 'stage1.*=G(4) *=S'; once or more; default S",
    )
    parser.add_argument("--classes", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument("--input", default="3x32x32", metavar="CxHxW", help="default 3x32x32")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_cost)


def _cost(arguments: argparse.Namespace) -> int:
    from moonshine.blocks.notation import split
    from moonshine.blocks.registry import ALIASES, parse_block
    from moonshine.structures.build import Blocks, assign, build

    shape = parse_input(arguments.input)
    chosen: dict[str, Blocks] = {"S": "S"}
    blocks = []
    for written in arguments.block or ["S"]:
        by_place = _by_place(written) if "=" in written else None
        blocks.append(written if by_place else str(parse_block(written)))
        chosen[blocks[-1]] = by_place or blocks[-1]
        assign(arguments.network, chosen[blocks[-1]])

    import torch

    from moonshine.blocks.layers import folded_weights
    from moonshine.costs.cost import cost

    costs: dict[str, Cost] = {}
    folded: dict[str, int] = {}
    for block in dict.fromkeys(["S", *blocks]):
        with torch.device("meta"):
            module = build(arguments.network, chosen[block], arguments.classes, shape[0])
        costs[block], folded[block] = cost(module, shape), folded_weights(module)
    rows = [_row(block, costs[block], costs["S"], folded[block]) for block in blocks]
    if arguments.json:
        about = {"network": arguments.network, "num_classes": arguments.classes}
        print(
            json.dumps({**about, "input_shape": shape, "batch": costs["S"].batch, "blocks": rows}, indent=2)
        )
    else:
        print(
            f"{arguments.network}, {arguments.classes} classes, input {arguments.input}, batch 1; "
            "compression and MACs ratio are against blocks S"
        )
        print(text_table(list(_COLUMNS), [[show(row) for show in _COLUMNS.values()] for row in rows]))
        for written, block in zip(arguments.block or (), blocks, strict=False):
            if (split(written) or ("", []))[0] in ALIASES:
                print(f"{written} stands for {block}")
        if more := [f"{block} {4 * folded[block] / 1e6:.3f} MB" for block in blocks if folded[block]]:
            print(
                "Generated weights: a safetensors file holds the numbers that they are computed from; ONNX and "
                f"torch-export files hold dense weights, which are larger by: {', '.join(more)}"
            )
    return 0


def _by_place(written: str) -> dict[str, str]:
    """Return the block of each pattern; MoonshineError for a pattern without one, and for one given twice."""
    found: dict[str, str] = {}
    for pair in written.split():
        pattern, _, block = pair.partition("=")
        if not block or pattern in found:
            problem = "a pattern twice" if block else "no block"
            raise MoonshineError(
                f"--block {written!r}: found {problem} at {pair!r}; allowed: pattern=block, each pattern once"
            )
        found[pattern] = block
    return found


def _row(block: str, found: Cost, ordinary: Cost, folded: int) -> dict[str, Any]:
    return {
        "block": block,
        "parameters": found.parameters,
        "macs": found.macs,
        "ops": found.ops,
        "bytes": {"fp32": found.bytes, "bf16": found.bytes_bf16},
        "folded_weights": folded,
        "peak_activation_bytes": found.peak_activation_bytes,
        "compression": ordinary.parameters / found.parameters,
        "macs_ratio": ordinary.macs / found.macs,
    }


_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "block": lambda row: row["block"],
    "parameters": lambda row: f"{row['parameters']:,}",
    "MACs": lambda row: f"{row['macs']:,}",
    "published ops": lambda row: f"{row['ops']:,}",
    "fp32 MB": lambda row: f"{row['bytes']['fp32'] / 1e6:.3f}",
    "bf16 MB": lambda row: f"{row['bytes']['bf16'] / 1e6:.3f}",
    "peak MB": lambda row: f"{row['peak_activation_bytes'] / 1e6:.3f}",
    "compression": lambda row: f"{row['compression']:.2f}x",
    "MACs ratio": lambda row: f"{row['macs_ratio']:.2f}x",
}
