"""Deep Compression as phases of training (Han, Mao & Dally, ICLR 2016, sections 2 and 3).

1. Ordinary training, unless the network is trained already.
2. Pruning, in rounds: the smallest weights of every layer become 0, and the others are trained on. Round r of R keeps
   (1 - sparsity)^(r/R) of them.
3. Sharing: the weights of every layer are clustered, and those of a cluster get its mean. Then they move together, by
   the sum of their gradients (the paper's equation 3).

Weights that were pruned stay 0, and those of a cluster equal, after every step and to the bit, whatever momentum and
weight decay do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.compression.pruning import kept_count, largest, prunable
from moonshine.compression.sharing import k_means
from moonshine.config.compression import Compress, FineTuning
from moonshine.config.training import Training
from moonshine.training.updates.phases import Phases


@dataclass(frozen=True)
class _Clusters:
    """Cluster of each weight of a layer: 0 if it was pruned, else from 1; ``first`` is a member of each cluster."""

    labels: Tensor
    first: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> _Clusters:
        places = torch.arange(len(labels), device=labels.device)
        first = places.new_zeros(int(labels.max()) + 1)
        return cls(labels, first.scatter_reduce(0, labels, places, "amin", include_self=False))


class Compressing(Phases):
    """Phases of a network's training that end with pruned and shared weights.

    With ``is_trained``, ordinary training is left out.
    """

    def __init__(
        self, network: nn.Module, training: Training, settings: Compress, is_trained: bool = False
    ) -> None:
        super().__init__(training)
        assert settings.sparsity is not None
        self._weights, self._settings = prunable(network), settings
        self._sparsity: float = settings.sparsity
        self._before = 0 if is_trained else training.epochs
        self._masks: dict[str, Tensor] = {}
        self._clusters: dict[str, _Clusters] = {}

    @property
    def epochs(self) -> int:
        return self._before + self._settings.epochs

    @torch.no_grad()
    def begin(self, epoch: int) -> bool:
        done, prune = epoch - self._before, self._settings.prune
        if done == self._settings.pruning_epochs:
            self._share()
        elif 0 <= done < self._settings.pruning_epochs and done % prune.epochs == 0:
            self._prune((done // prune.epochs + 1) / prune.rounds)
        else:
            return False
        return True

    def learning_rate(self, epoch: int, step: int, steps: int) -> float:
        done, prune = epoch - self._before, self._settings.prune
        if done < 0:
            return super().learning_rate(epoch, step, steps)
        pruning = self._settings.pruning_epochs
        if done < pruning:
            return _cosine(prune, done % prune.epochs, step, steps)
        return _cosine(self._settings.share, done - pruning, step, steps)

    @torch.no_grad()
    def constrain_gradients(self) -> None:
        for name, weights in self._weights.items():
            if weights.grad is None:
                continue
            if clusters := self._clusters.get(name):
                sums = weights.grad.new_zeros(len(clusters.first))
                sums.index_add_(0, clusters.labels, weights.grad.flatten())
                sums[0] = 0
                weights.grad.copy_(sums[clusters.labels].view_as(weights))
            elif name in self._masks:
                weights.grad.masked_fill_(~self._masks[name], 0)

    @torch.no_grad()
    def constrain_weights(self) -> None:
        for name, weights in self._weights.items():
            if clusters := self._clusters.get(name):
                # equal steps may differ in the last bit, where vectors of the processor end
                values = weights.flatten()[clusters.first]
                values[0] = 0
                weights.copy_(values[clusters.labels].view_as(weights))
            elif name in self._masks:
                weights.masked_fill_(~self._masks[name], 0)

    def state_dict(self) -> dict[str, Any]:
        return {
            "masks": self._masks,
            "labels": {name: clusters.labels for name, clusters in self._clusters.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._masks = dict(state["masks"])
        self._clusters = {name: _Clusters.of(labels) for name, labels in state["labels"].items()}

    def _prune(self, progress: float) -> None:
        for name, weights in self._weights.items():
            kept = kept_count(weights.numel(), 1 - (1 - self._sparsity) ** progress)
            self._masks[name] = largest(weights, kept)
        self.constrain_weights()

    def _share(self) -> None:
        for name, weights in self._weights.items():
            mask = self._masks[name]
            kept = weights[mask].cpu()  # GPUs sum in any order
            labels = k_means(kept, min(2**self._settings.bits, len(kept)))
            means = labels.bincount(kept.double()) / labels.bincount()
            weights[mask] = means[labels].to(weights)
            full = torch.zeros_like(mask, dtype=torch.int64)
            full[mask] = labels.to(full) + 1
            self._clusters[name] = _Clusters.of(full.flatten())


def _cosine(phase: FineTuning, epoch: int, step: int, steps: int) -> float:
    return phase.lr * (1 + math.cos(math.pi * (epoch * steps + step) / (phase.epochs * steps))) / 2
