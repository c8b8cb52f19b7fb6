"""Magnitude pruning: which weights of a network remain."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def prunable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that are pruned and shared, by name: parameters of two dimensions or more.

    These are the weights of convolutions and linear layers. Biases and batch norms stay as they are, in fp32.
    """
    return {name: weight for name, weight in network.named_parameters() if weight.dim() > 1}


def kept_count(weights: int, sparsity: float) -> int:
    """Return how many of a layer's weights remain at a sparsity: at least one."""
    return max(1, round(weights * (1 - sparsity)))


def largest(weights: Tensor, count: int) -> Tensor:
    """Return the mask, True for the ``count`` weights of the largest magnitude; of equal ones, those that come first.

    The same share of every layer remains, so that the number of weights in the file is known before training. Han et
    al. use a threshold of a multiple of the layer's standard deviation, which they tune for each layer by hand.
    """
    order = weights.detach().abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(weights.numel(), dtype=torch.bool, device=weights.device)
    mask[order[:count]] = True
    return mask.view_as(weights)
