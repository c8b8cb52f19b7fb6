"""Which weights remain, and which of them share a value."""

from __future__ import annotations

import pytest
import torch

from moonshine import build
from moonshine.compression.pruning import kept_count, largest, prunable
from moonshine.compression.sharing import k_means, linear_centroids


def test_weights_of_convolutions_and_linear_layers_are_pruned() -> None:
    network = build("wrn-10-1", "G(4)", 10)
    names = list(prunable(network))
    assert all(name.endswith("weight") for name in names)
    assert not any("bn" in name or "norm" in name for name in names)
    total = sum(each.numel() for each in network.parameters())
    one_dimensional = sum(each.numel() for each in network.parameters() if each.dim() == 1)
    assert sum(each.numel() for each in prunable(network).values()) == total - one_dimensional


@pytest.mark.parametrize(
    ("count", "sparsity", "kept"), [(1000, 0.9, 100), (144, 0.9, 14), (5, 0.99, 1), (7, 0.0, 7)]
)
def test_a_layer_keeps_its_share_and_at_least_one_weight(count: int, sparsity: float, kept: int) -> None:
    assert kept_count(count, sparsity) == kept


def test_the_largest_magnitudes_remain_and_ties_are_resolved() -> None:
    weights = torch.tensor([[0.1, -3.0, 0.0], [2.0, -0.2, 0.2]])
    assert largest(weights, 3).tolist() == [[False, True, False], [True, True, False]]
    assert int(largest(torch.zeros(4, 5), 7).sum()) == 7


def test_centroids_begin_evenly_spaced_over_the_range() -> None:
    assert linear_centroids(torch.tensor([0.5, -1.0, 1.0, 0.9]), 5).tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_k_means_of_the_papers_figure() -> None:
    """Han et al., figure 3: sixteen weights in four clusters, with the labels that it shows."""
    weights = [
        2.09,
        -0.98,
        1.48,
        0.09,
        0.05,
        -0.14,
        -1.08,
        2.12,
        -0.91,
        1.92,
        0.0,
        -1.03,
        1.87,
        0.0,
        1.53,
        1.49,
    ]
    labels = k_means(torch.tensor(weights), 4)
    assert labels.tolist() == [3, 0, 2, 1, 1, 1, 0, 3, 0, 3, 1, 0, 3, 1, 2, 2]


def test_empty_clusters_disappear() -> None:
    # evenly spaced centroids at -1, -1/3, 1/3, 1: nothing is nearest to the two in the middle
    assert k_means(torch.tensor([-1.0, 1.0, -0.9, 0.9]), 4).tolist() == [0, 1, 0, 1]
    assert k_means(torch.full((3,), 0.25), 8).tolist() == [0, 0, 0]


def test_k_means_ends_where_every_value_is_nearest_to_its_own_mean() -> None:
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    labels = k_means(values, 16)
    means = torch.stack([values[labels == label].double().mean() for label in range(int(labels.max()) + 1)])
    assert torch.equal(means, means.sort().values)
    assert torch.equal((values.double()[:, None] - means).abs().argmin(1), labels)
