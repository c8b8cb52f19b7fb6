"""Cheap blocks in any network: where they can go, what stays, and putting them there."""

from __future__ import annotations

from torch import nn

from moonshine.modules import ResidualBlock


def last_convolution(module: nn.Module, path: str) -> nn.Conv2d:
    """The convolution that ends the block at ``path``, before the residual sum: where Fisher potential is read."""
    place = module.get_submodule(path)
    layers = place.branch if isinstance(place, ResidualBlock) else place
    return [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d)][-1]
