"""Networks through their file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moonshine import build
from moonshine.compression.network import bound, decoded, encode, fill_from
from moonshine.compression.pruning import kept_count, largest, prunable
from moonshine.compression.sharing import k_means
from moonshine.errors import MoonshineError
from tests.messages import naming


def network(block: str = "G(4)", sparsity: float = 0.75, bits: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    built = build("wrn-10-1", block, num_classes=3, in_channels=1)
    for weights in prunable(built).values():
        mask = largest(weights, kept_count(weights.numel(), sparsity))
        labels = k_means(weights[mask], 2**bits)
        weights.data = torch.zeros_like(weights).masked_scatter(mask, (labels + 1.0) / 16)
    return built


def test_a_network_is_what_its_file_says(tmp_path: Path) -> None:
    whole, path = network(), tmp_path / "network.dc"
    path.write_bytes(encode(whole))
    other = build("wrn-10-1", "G(4)", num_classes=3, in_channels=1)
    fill_from(other, path)
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    assert decoded(whole) == path.stat().st_size
    for name, tensor in before.items():
        assert torch.equal(tensor, other.state_dict()[name])
        assert torch.equal(tensor, whole.state_dict()[name])


@pytest.mark.parametrize(("block", "sparsity", "bits"), [("G(4)", 0.75, 3), ("TT(4)", 0.5, 5), ("S", 0.0, 1)])
def test_a_file_is_as_small_as_was_said_before_training(block: str, sparsity: float, bits: int) -> None:
    most = bound(build("wrn-10-1", block, num_classes=3, in_channels=1), bits)(sparsity)
    assert 0.75 * most < len(encode(network(block, sparsity, bits))) <= most


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.dc"
    path.write_bytes(encode(network()))
    with pytest.raises(MoonshineError, match=naming("network.dc", "another architecture")):
        fill_from(build("wrn-10-1", "S", num_classes=3, in_channels=1), path)
