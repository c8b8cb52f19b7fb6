"""Fisher potentials of the networks of a space, and the rank correlation between two scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moonshine.networks.passes import placed
from moonshine.search.fisher import fisher_potential
from moonshine.search.space import Space

Progress = Callable[[str, int, int | None], None]
"""Is told what a search does, how often it has done it, and how often it will, where it knows."""


class Potentials:
    """The Fisher potentials of some networks on one minibatch; each initialisation is computed once.

    Initialisation i draws its weights with ``seed + i`` from torch's global generator. Networks are built on the CPU,
    in channels last where they run so (measured: 1.6 times as fast on a CPU, see benchmarks/search.py), and run where
    the images are.
    """

    def __init__(
        self,
        space: Space,
        networks: Sequence[Mapping[str, str]],
        images: Tensor,
        labels: Tensor,
        seed: int,
        progress: Progress | None = None,
    ) -> None:
        self._space = space
        self._networks = networks
        self._images = images
        self._labels = labels
        self._seed = seed
        self._progress = progress
        self._expected = 0
        self._known: dict[tuple[int, int], float] = {}

    def expect(self, number: int) -> None:
        """Says how many will be computed, for ``progress("networks scored", computed, expected)``."""
        self._expected = number

    def mean(self, index: int, initialisations: int) -> float:
        """The mean over the first initialisations of one network."""
        for number in range(initialisations):
            if (index, number) not in self._known:
                self._known[index, number] = self._compute(index, self._seed + number)
                if self._progress:
                    self._progress("networks scored", len(self._known), max(self._expected, len(self._known)))
        return sum(self._known[index, number] for number in range(initialisations)) / initialisations

    def _compute(self, index: int, seed: int) -> float:
        torch.manual_seed(seed)
        network = self._space.build(self._networks[index])
        network = network.to(self._images.device)
        self._images = self._images.contiguous(memory_format=placed(network, self._images))
        return fisher_potential(network, self._images, self._labels, self._space.places)


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None if one side has one value only."""
    if any(len(set(side)) < 2 for side in (left, right)):
        return None
    return float(np.corrcoef(_ranks(left), _ranks(right))[0, 1])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, position, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[position]
