"""Potentials of a space's networks, and rank correlations."""

import pytest
import torch
from scipy.stats import spearmanr

from moonshine.search.fisher import Potentials, fisher_potential
from moonshine.search.search import spearman
from moonshine.search.space import Space
from moonshine.structures.describe import places_of

NETWORKS = [
    {"stage1.0": "S", "stage2.0": "G(4)", "stage3.0": "S"},
    {"stage1.0": "G(4)", "stage2.0": "S", "stage3.0": "G(4)"},
]


@pytest.fixture
def batch():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 8, 8, generator=generator), torch.tensor([1, 2, 3, 4])


def test_each_initialisation_is_computed_once(batch):
    images, labels = batch
    space = Space(*places_of("wrn-10-1", {}, 10, (3, 8, 8), ("S", "G(4)")), (3, 8, 8))
    calls = []
    potentials = Potentials(space, NETWORKS, images, labels, 5, lambda *call: calls.append(call))
    potentials.expected = 3
    first = potentials.mean(0, 1)
    mean = potentials.mean(0, 3)
    assert (potentials.mean(0, 3), potentials.mean(0, 1)) == (mean, first)
    assert potentials.mean(1, 1) != first
    assert calls == [("networks scored", *counts) for counts in ((1, 3), (2, 3), (3, 3), (4, 4))]
    torch.manual_seed(6)
    by_hand = fisher_potential(space.build(NETWORKS[0]), images, labels, space.places)
    assert 2 * potentials.mean(0, 2) - first == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 25]),
        ([1, 1, 2, 3, 3, 3], [0.5, 0.1, 0.4, 0.4, 0.2, 0.1]),
        ([5, 4, 3], [1, 2, 3]),
    ],
)
def test_spearman(left, right):
    assert spearman(left, right) == pytest.approx(spearmanr(left, right).statistic)


def test_spearman_of_a_constant_is_none():
    assert spearman([1, 1, 1], [1, 2, 3]) is None
