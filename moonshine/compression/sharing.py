"""Weight sharing: k-means on the weights of one layer."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS = 1000
"""Most rounds of k-means, which has usually converged after a hundred."""


def linear_centroids(values: Tensor, count: int) -> Tensor:
    """Return ``count`` values, evenly spaced from the smallest to the largest of ``values``, in fp64.

    Han et al. found this initialisation better than one by density or at random: it keeps large weights apart.
    """
    lowest, highest = values.double().aminmax()
    return torch.linspace(float(lowest), float(highest), count, dtype=torch.float64, device=values.device)


def k_means(values: Tensor, count: int) -> Tensor:
    """Cluster ``values`` (n,) from `linear_centroids`; return the label of each value.

    Labels are in the order of the clusters' means, from 0 and without a gap: clusters that are left empty disappear, so
    there may be fewer than ``count``.
    """
    points = values.detach().double()
    ascending = points.sort().values
    sums = torch.cat([ascending.new_zeros(1), ascending.cumsum(0)])
    centroids = linear_centroids(points, count)
    edges = None
    for _ in range(_ROUNDS):
        middles = (centroids[1:] + centroids[:-1]) / 2
        inner = torch.searchsorted(ascending, middles, right=True)
        if edges is not None and torch.equal(edges[1:-1], inner):
            break
        edges = torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(points))])
        sizes = edges.diff()
        centroids = torch.where(sizes > 0, sums[edges].diff() / sizes.clamp(min=1), centroids)
    return torch.bucketize(points, middles).unique(return_inverse=True)[1]
