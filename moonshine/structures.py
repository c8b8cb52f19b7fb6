"""Anybody's model with blocks in some of its places, as data: what it takes to build it again, without pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from moonshine.errors import MoonshineError
from moonshine.layout import Layout, lay_out
from moonshine.models import build_model, source_checksum
from moonshine.replacement import apply
from moonshine.watching import cannot_take


def describe(
    name: str,
    kwargs: Mapping[str, Any],
    num_classes: int,
    input_shape: Sequence[int],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> tuple[dict[str, Any], nn.Module, Layout]:
    """A model's structure with S in every place, the model itself and its layout.

    Patterns as in `moonshine.layout.lay_out`. The structure holds only what JSON does.
    MoonshineError for a model that cannot be built, cannot take the input or does not return (n, num_classes) logits.
    """
    module = build_model(name, kwargs, num_classes, input_shape[0])
    check_logits(module, name, input_shape, num_classes)
    layout = lay_out(module, input_shape, include, exclude)
    structure = {
        "network": name,
        "kwargs": dict(kwargs),
        "num_classes": num_classes,
        "in_channels": input_shape[0],
        "source_sha256": source_checksum(name),
        "blocks": {place.path: "S" for place in layout.places},
        "kept": layout.kept,
    }
    return structure, module, layout


def rebuild(structure: Mapping[str, Any]) -> nn.Module:
    """The model that `describe` described, newly initialised, with its blocks in place.

    MoonshineError as for `build_model` and `moonshine.replacement.apply`, and for a builder of the user's whose file
    has changed since.
    """
    name = structure["network"]
    if (recorded := structure.get("source_sha256")) and recorded != source_checksum(name):
        raise MoonshineError(
            f"model {name}: its file has changed since the structure was written; run the study's structure stage "
            "again (snakemake --forcerun structure, or dvc repro --force structure)"
        )
    module = build_model(name, structure["kwargs"], structure["num_classes"], structure["in_channels"])
    apply(module, structure["blocks"])
    return module


def check_logits(module: nn.Module, name: str, input_shape: Sequence[int], num_classes: int) -> None:
    """MoonshineError unless an image of ``input_shape`` (channels, height, width) gives (1, num_classes) logits."""
    was_training = module.training
    try:
        with torch.no_grad():
            logits = module.eval()(torch.zeros(1, *input_shape))
    except Exception as error:  # whatever a stranger's forward pass raises
        raise MoonshineError(f"model {name}: {cannot_take(input_shape, error)}") from error
    finally:
        module.train(was_training)
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
    if found != (1, num_classes):
        raise MoonshineError(
            f"model {name}: one image gives {found}; allowed: logits (1, {num_classes}), for the data's {num_classes} "
            "classes (teacher.kwargs may set the number)"
        )
