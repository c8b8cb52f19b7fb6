"""Size of a network in each measure that a budget may limit, including exported files."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from moonshine.compression.network import bound
from moonshine.costs.budgets import EXPORTED
from moonshine.costs.cost import Cost, cost
from moonshine.costs.latency import latency
from moonshine.formats.about import About
from moonshine.formats.dc import DC
from moonshine.formats.sizes import exported_bytes
from moonshine.structures.structure import Structure
from moonshine_workflow.students.layouts import Images


def timed_batches(dense: bool) -> tuple[int, ...]:
    """Return the batch sizes at which latency is measured; 32 images of 512x1024 to segment would take minutes."""
    return (1,) if dense else (1, 32)


def about_of(images: Images, structure: Structure | None) -> About:
    """Return the description of a network of this study that exported files carry."""
    data = images.dataset
    assert data is not None
    return About(
        input_shape=images.shape,
        mean=data.mean,
        std=data.std,
        class_names=data.class_names,
        resize_rule=data.resize_rule,
        structure=structure,
        scored_classes=data.scored_classes,
    )


def measured_values(
    module: nn.Module,
    images: Images,
    structure: Structure | None,
    measures: Iterable[str],
    threads: int,
    found: Cost | None = None,
) -> dict[str, float]:
    """Return the value of each measure for an untrained network; files are exported and have their final size.

    Of a student that will be compressed, ``dc`` is the most bytes that its file may take. ``found`` is its cost, if
    already known.
    """
    found = found or cost(module, images.shape)
    known = {
        "fp32": found.bytes,
        "parameters": found.parameters,
        "macs": found.macs,
        "peak": found.peak_activation_bytes,
    }

    def value(measure: str) -> float:
        if measure in known:
            return known[measure]
        if measure == DC.name and structure and structure.compress:
            return bound(module, structure.compress["bits"])(structure.compress["sparsity"])
        if measure in EXPORTED:
            return exported_bytes(measure, module, images.shape, about_of(images, structure))
        return latency(module, (1, *images.shape), threads)

    return {measure: value(measure) for measure in measures}
