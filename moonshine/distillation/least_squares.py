"""Ridge least squares for a 1x1 convolution: the linear map of the input's channels nearest to a target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RIDGES = (1e-8, 1e-4, 1e-2, 1.0)
"""Candidate penalties on the weights, as shares of the mean square of the input's channels."""

_MIN_SCALE = 1e-30


@dataclass(frozen=True, eq=False)
class Moments:
    """X'X (p, p) and X'Y (p, c) in float64, of features X (rows, p) and targets Y (rows, c): a row is a pixel."""

    gram: Tensor
    cross: Tensor

    def loss(self, weight: Tensor) -> float:
        """Return ||X weight - Y||^2 - ||Y||^2; infinite if it is not finite."""
        found = (weight * (self.gram @ weight - 2 * self.cross)).sum().item()
        return found if found < float("inf") else float("inf")


def is_solvable(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is an ordinary 1x1 convolution."""
    return (
        isinstance(layer, nn.Conv2d)
        and set(layer.kernel_size) == {1}
        and layer.groups == 1
        and layer.padding in (0, (0, 0))
    )


def moments(conv: nn.Conv2d, pairs: Iterable[tuple[Tensor, Tensor]]) -> Moments:
    """Sum the moments of pairs of inputs (n, c_in, h, w) and target outputs (n, c_out, h', w') of a convolution.

    A bias is one more feature, of ones, the last.
    """
    rows, columns = conv.stride
    size = conv.in_channels + (conv.bias is not None)
    gram = torch.zeros(size, size, dtype=torch.float64, device=conv.weight.device)
    cross = gram.new_zeros(size, conv.out_channels)
    for maps, wished in pairs:
        features = maps[:, :, ::rows, ::columns].double().movedim(1, -1).flatten(0, 2)
        if conv.bias is not None:
            features = F.pad(features, (0, 1), value=1.0)
        gram += features.T @ features
        cross += features.T @ wished.double().movedim(1, -1).flatten(0, 2)
    return Moments(gram, cross)


@torch.no_grad()
def solve(conv: nn.Conv2d, fitted: Moments, held_out: Moments) -> None:
    """Set a convolution's weights to the least-squares solution on ``fitted``, in place.

    The penalty is the one of `RIDGES` with the lowest error on ``held_out``; the bias has none.
    """
    penalised = torch.ones_like(fitted.gram[0])
    penalised[conv.in_channels :] = 0
    scale = fitted.gram.diagonal()[: conv.in_channels].mean().clamp_min(_MIN_SCALE)
    # solve_ex does not raise for values that are not finite; such a solution just has the largest error.
    solutions = [
        torch.linalg.solve_ex(fitted.gram + torch.diag(ridge * scale * penalised), fitted.cross)[0]
        for ridge in RIDGES
    ]
    best = min(solutions, key=held_out.loss).T
    conv.weight.copy_(best[:, : conv.in_channels, None, None])
    if conv.bias is not None:
        conv.bias.copy_(best[:, -1])
