"""A block of every family in torchvision's resnet18 at 64x64: cost, a few training steps, the exported files, receipts.

``python benchmarks/blocks.py [BLOCK ...]`` prints a line for each block as Markdown. The images are scikit-learn's
digits; 24 steps show that a network trains, not how good it gets.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from moonshine.costs.cost import cost
from moonshine.data.store import Split
from moonshine.export.writing import write_export
from moonshine.formats.about import About
from moonshine.structures.build import from_structure
from moonshine.structures.describe import describe_model
from moonshine.substitution.substitute import choose

BLOCKS = (
    *("BG(4,M)", "XCEP", "SHUF(4,4)", "FIRE(4)", "LRE(4)", "LR(4)", "TT(8)", "HASH(0.1)", "FRIED"),
    *("PRB(4,bin)", "GEQ(p4)", "D2x2", "SBOT(2)"),
)
SHAPE = (3, 64, 64)
FORMATS = ("safetensors", "onnx", "onnx-int8")
STEPS = 24


def digits() -> Split:
    """Return the digits as RGB images of 64x64."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] * (255 / 16)
    images = functional.interpolate(images, size=SHAPE[1:], mode="bilinear").expand(-1, 3, -1, -1)
    return Split(images.to(torch.uint8).contiguous(), torch.tensor(found.target))


def train(network: nn.Module, data: Split) -> tuple[float, float]:
    """Train for a few steps; return the loss of the first and of the last."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.3  # there are few steps for its statistics
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        chosen = torch.randint(0, 1500, (16,))
        logits = network((data.images[chosen] / 255 - 0.5) / 0.5)
        loss = functional.cross_entropy(logits, data.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def main() -> None:
    """Measure the blocks of the command line, or one of every family."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("blocks", nargs="*", default=BLOCKS, metavar="BLOCK")
    blocks = parser.parse_args().blocks
    torch.set_num_threads(1)
    data = digits()
    test = Split(data.images[1500:1564], data.labels[1500:1564])
    structure, _, layout = describe_model("torchvision/resnet18", {}, 10, SHAPE)
    print(
        "| block | parameters | MACs | loss | safetensors | ONNX | INT8 | largest difference of ONNX's logits |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for block in blocks:
        changes, _ = choose(layout, block)
        planned = structure.with_blocks({change.place.path: block for change in changes}, block=block)
        torch.manual_seed(0)
        network = from_structure(planned)
        found = cost(network, SHAPE)
        first, last = train(network, data)
        about = About(SHAPE, (0.5,) * 3, (0.5,) * 3, tuple("0123456789"), {"kind": "none"}, planned)
        with tempfile.TemporaryDirectory() as folder:
            receipts = write_export(
                network.eval(),
                Path(folder) / "out",
                about,
                train=test,
                test=test,
                calibration=32,
                tolerance=1e-3,
                formats=FORMATS,
            ).receipts
        files = {each.format: each for each in receipts}
        sizes = " | ".join(f"{files[format].bytes / 1e6:.2f} MB" for format in FORMATS)
        print(
            f"| {block} | {found.parameters:,} | {found.macs / 1e6:.1f}M | {first:.2f} to {last:.2f} | {sizes} | "
            f"{files['onnx'].max_logit_difference:.0e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
