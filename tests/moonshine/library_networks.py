"""Networks of libraries without their weights, which would take most of a test's time."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn


@cache
def on_meta(name: str) -> nn.Module:
    """``torchvision/resnet18``, ``segmentation/...`` or ``timm/...`` on the meta device, shared by tests."""
    library, _, model = name.partition("/")
    # RegNets compute their widths with tensors.
    with nullcontext() if "regnet" in model else torch.device("meta"):
        made: Any
        if library == "timm":
            made = pytest.importorskip("timm").create_model(model, num_classes=10)
        elif library == "segmentation":
            builder = getattr(pytest.importorskip("torchvision.models.segmentation"), model)
            made = builder(weights_backbone=None, num_classes=10)
        else:
            made = getattr(pytest.importorskip("torchvision.models"), model)(num_classes=10)
    return made.to("meta").eval()


def on_cpu(network: nn.Module) -> nn.Module:
    """The network with whatever the memory holds as weights: good for shapes only. It moves there."""
    return network.to_empty(device="cpu")
