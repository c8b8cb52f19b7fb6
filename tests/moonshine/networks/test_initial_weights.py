"""The initial weights of every network and block for a seed: what a refactoring must leave as it is, to the bit.

The stored figures are sums that are the same on every processor up to rounding. Where a change is to keep the bits,
compare ``python -m tests.moonshine.networks.test_initial_weights`` before and after it on one machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import moonshine
from moonshine.errors import MoonshineError

STORED = Path(__file__).with_name("initial_weights.json")
SOME = ["S", "G(4)", "G(N)", "G(N/8)", "B(2)", "BG(2,M)", "BG(2,M/8)"]
ALL = [*SOME, "G(1)", "G(2)", "G(16)", "G(N/2)", "B(4)", "BG(2,2)", "BG(2,4)", "BG(4,M)", "BG(2,M/2)"]
NETWORKS = {"wrn-10-1": ALL, "wrn-22-2": SOME, "resnet-18-0.5": ALL, "resnet-34": ["S"], "erfnet": SOME}
LIBRARIES = {"resnet18": SOME, "mobilenet_v3_small": ["G(4)", "B(2)"]}
MIXED = {"stage1.0": "G(4)", "stage2.0": "BG(2,M/8)", "stage3.0": "B(2)"}


def cases() -> Iterator[tuple[str, str]]:
    """Every name of a network and a block; what does not fit is left out by `make`."""
    for network, blocks in (NETWORKS | LIBRARIES).items():
        for block in blocks:
            yield network, block
    yield "wrn-10-1", "mixed"


def make(network: str, block: str) -> nn.Module:
    torch.manual_seed(0)
    if network in LIBRARIES:
        models = pytest.importorskip("torchvision.models")
        return moonshine.substitute(models.get_model(network, num_classes=7), block, input_shape=(3, 64, 64))
    return moonshine.build(network, MIXED if block == "mixed" else block, 7)


def figures(network: nn.Module) -> list[float]:
    """The number of values, and a sum that knows the order of tensors and that of the first values in them."""
    total, count = 0.0, 0
    for place, tensor in enumerate(network.state_dict().values(), 1):
        values = tensor.flatten()
        first = values[:1000].double()
        total += float(first @ torch.cos(torch.arange(len(first), dtype=torch.float64) + place))
        count += len(values)
    return [count, total]


def found(network: str, block: str) -> nn.Module | None:
    try:
        return make(network, block)
    except MoonshineError:
        return None


@pytest.mark.parametrize("network", [*NETWORKS, *LIBRARIES])
def test_initial_weights_never_change(network: str) -> None:
    stored = json.loads(STORED.read_text())
    for name, block in cases():
        if name == network:
            built = found(name, block)
            assert (built is None) == (f"{name} {block}" not in stored), block
            if built is not None:
                assert figures(built) == pytest.approx(stored[f"{name} {block}"], rel=1e-5, abs=1e-4), block


def main() -> None:
    """Print the checksum of every network's weights, and store the figures where there are none yet."""
    stored = {}
    for network, block in cases():
        if (built := found(network, block)) is not None:
            digest = hashlib.sha256()
            for name, tensor in built.state_dict().items():
                digest.update(name.encode() + tensor.numpy().tobytes())
            print(f"{network} {block} {digest.hexdigest()}")
            stored[f"{network} {block}"] = figures(built)
    if not STORED.exists():
        STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
