"""Evaluation of a trained network on a split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.data.batches import batches, chunk_size
from moonshine.data.store import AnySplit, Dataset
from moonshine.training.accuracy import TOP_FROM, top_k_errors
from moonshine.training.execution import Execution
from moonshine.training.labels import cross_entropy
from moonshine.training.overlap import image_values, iou, mean_iou, overlaps, standard_error

_BATCH = 500
"""Batch size in evaluation for images of up to 64x64 pixels; larger images come in smaller batches."""


@torch.no_grad()
def evaluate(network: nn.Module, split: AnySplit, dataset: Dataset, execution: Execution) -> dict[str, Any]:
    """Return the error of ``network`` on a split in percent, in eval mode, with the metrics behind it.

    Classification: ``error_pct`` is the top-1 error, and ``wrong`` lists the 0-based indices of the misclassified
    examples in one string, since the difference of two networks has a far smaller standard error if it is known which
    mistakes they share. With fifty classes or more there is a ``top5_error_pct``.
    Semantic segmentation: ``error_pct`` is 100 - mIoU over the scored classes and all images, with ``miou_pct``,
    ``iou_pct`` by class (null for a class that does not occur), ``pixel_error_pct``, the standard error ``error_se``,
    and ``image_errors``, the jackknife pseudo-values behind it; both are None if fewer than two images have labels.
    ``loss`` is the mean cross-entropy per example.
    """
    execution = execution.suiting(network.eval(), dataset.input_shape)
    return (_label_maps if split.is_dense else _images)(network, split, dataset, execution)


def guessing_error(labels: Tensor, dataset: Dataset) -> float:
    """Return the ``error_pct`` of predicting the most common class: of ``labels`` (N,), or of label maps (N, H, W)."""
    scored = dataset.scored_classes or dataset.num_classes
    counts = torch.zeros(scored, dtype=torch.int64)
    for part in labels.split(_BATCH):
        known = part[(part >= 0) & (part < scored)]
        counts += torch.bincount(known.flatten().long(), minlength=scored).cpu()
    right = float(counts.max() / counts.sum())
    # in segmentation its IoU is its share of the pixels, and that of every other class is 0
    return 100 * (1 - (right / int((counts > 0).sum()) if labels.ndim == 3 else right))


def _images(network: nn.Module, split: AnySplit, dataset: Dataset, execution: Execution) -> dict[str, Any]:
    wrong: list[Tensor] = []
    missed = 0
    loss = 0.0
    for logits, labels in _outputs(network, split, dataset, execution):
        wrong.append((logits.argmax(1) != labels).cpu())
        if dataset.num_classes >= TOP_FROM:
            missed += int(top_k_errors(logits, labels).sum())
        loss += float(cross_entropy(logits, labels)) * len(labels)
    count = len(split)
    indices = torch.cat(wrong).nonzero().flatten().tolist()
    return {
        "error_pct": 100 * len(indices) / count,
        "loss": loss / count,
        "examples": count,
        "wrong": " ".join(map(str, indices)),
        **({"top5_error_pct": 100 * missed / count} if dataset.num_classes >= TOP_FROM else {}),
    }


def _label_maps(
    network: nn.Module, split: AnySplit, dataset: Dataset, execution: Execution
) -> dict[str, Any]:
    scored = dataset.scored_classes or dataset.num_classes
    parts: list[tuple[Tensor, Tensor]] = []
    wrong = labelled = 0
    loss = 0.0
    for logits, labels in _outputs(network, split, dataset, execution):
        predicted = logits.argmax(1)
        parts.append(overlaps(predicted, labels, scored))
        known = labels >= 0
        wrong += int(((predicted != labels) & known).sum())
        labelled += int(known.sum())
        loss += float(cross_entropy(logits, labels)) * len(labels)
    intersection, union = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    by_class = iou(intersection.sum(0), union.sum(0)).tolist()
    mean = float(mean_iou(intersection.sum(0), union.sum(0)))
    values = image_values(intersection, union)
    return {
        "error_pct": 100 - mean,
        "miou_pct": mean,
        "iou_pct": {
            name: value if value == value else None  # NaN differs from itself
            for name, value in zip(dataset.class_names, by_class, strict=False)
        },
        "pixel_error_pct": 100 * wrong / max(labelled, 1),
        "loss": loss / len(split),
        "examples": len(split),
        "error_se": standard_error(values),
        "image_errors": None
        if values is None
        else " ".join(f"{100 - value:.4f}" for value in values.tolist()),
    }


@torch.no_grad()
def predict(network: nn.Module, split: AnySplit, dataset: Dataset, execution: Execution) -> Tensor:
    """Return the predicted class of every image, (N,), or of every pixel, (N, H, W), in eval mode, on the CPU."""
    execution = execution.suiting(network.eval(), dataset.input_shape)
    return torch.cat([logits.argmax(1).cpu() for logits, _ in _outputs(network, split, dataset, execution)])


def _outputs(
    network: nn.Module, split: AnySplit, dataset: Dataset, execution: Execution
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield fp32 logits and labels, batch by batch, in the order of the split."""
    for images, labels in batches(
        split,
        batch_size=chunk_size(_BATCH, *dataset.input_shape[1:]),
        seed=0,
        epoch=0,
        augment=None,
        mean=dataset.mean,
        std=dataset.std,
        device=execution.device,
        shuffle=False,
        channels_last=execution.channels_last,
        workers=execution.workers,
    ):
        with execution.autocast():
            logits = network(images)
        yield logits.float(), labels
