"""``moonshine.export_network``: a trained network as files that run without this library, each with a receipt."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from moonshine.calls.given import check_labels, check_types, logits_shape
from moonshine.calls.loaders import first_batch, pixel_split
from moonshine.data.batches import UNLABELLED
from moonshine.data.loader import Loader
from moonshine.data.store import VOID, Dataset, Split
from moonshine.errors import MoonshineError
from moonshine.export.receipts import Exported
from moonshine.export.writing import write_export
from moonshine.formats.about import About
from moonshine.formats.formats import FORMATS, chosen_formats
from moonshine.formats.safetensors import SAFETENSORS
from moonshine.structures.artifacts import rebuild_with_weights
from moonshine.structures.structure import Structure
from moonshine.substitution.substitute import remembered

logger = logging.getLogger("moonshine")


def export_network(
    network: nn.Module,
    folder: Path | str,
    *,
    test: Dataset | Loader,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    calibration: Loader | None = None,
    calibration_images: int = 256,
    formats: str | Iterable[str] | None = None,
    tolerance: float = 0.001,
    threads: int = 1,
) -> Exported:
    """Write a trained network to ``folder`` in every format, run each file on the test set, and return the receipts.

    The files take pixels in [0, 1] of the test images' size, in batches of any number, and return logits; the
    normalisation is inside. ``test`` is a dataset, or a loader of (images, labels) as the network is trained on them,
    whose images ``mean`` and ``std`` per channel have normalised (None: they are pixels in [0, 1]); they are held in
    memory as bytes. ``class_names`` are in the order of the logits. ``calibration`` is a loader of training images,
    from the first of which INT8 files get their ranges. ``formats`` are some of `moonshine.formats.formats.FORMATS`; by
    default all, but for safetensors, which also need a structure to be rebuilt from, where a network is not made by
    `moonshine.build`, `moonshine.load` or `moonshine.substitute` from one that is. Logits of a float file may differ by
    ``tolerance`` from the network's.
    MoonshineError, before anything is written, for what does not belong together, such as images that ``mean`` and
    ``std`` did not normalise; also for a network that cannot be exported, and for a file that is not the network. Then
    ``folder`` is left as it was.
    """
    check_types(network=(network, nn.Module), test=(test, Dataset | Iterable))
    found = remembered(network)
    structure = found if found and _rebuilds(found, network) else None
    names = [each.name for each in chosen_formats([formats] if isinstance(formats, str) else formats)]
    if formats is None and structure is None:
        names.remove(SAFETENSORS.name)
        logger.warning(
            "no safetensors file: nothing says how to build this %s; keep its state_dict() beside your code",
            type(network).__name__,
        )
    if not isinstance(test, Dataset):
        test = _dataset(network, test, calibration, calibration_images, mean, std, names)
    elif not (mean is std is calibration is None):
        raise MoonshineError(
            "mean, std, calibration: found beside a dataset, which has its own; allowed: None"
        )
    classes = tuple(map(str, class_names)) if class_names is not None else test.class_names
    about = About(
        input_shape=test.input_shape,
        mean=test.mean,
        std=test.std,
        class_names=classes,
        resize_rule=test.resize_rule,
        structure=structure,
        scored_classes=test.scored_classes,
    )
    return write_export(
        network,
        folder,
        about,
        train=test.train,
        test=test.test,
        calibration=min(calibration_images, len(test.train)),
        tolerance=tolerance,
        threads=threads,
        formats=names,
    )


def _rebuilds(structure: Structure, network: nn.Module) -> bool:
    try:
        rebuild_with_weights(network, structure, structure.network)
    except MoonshineError:  # it was changed after it had been built
        return False
    return True


def _dataset(
    network: nn.Module,
    test: Loader,
    calibration: Loader | None,
    most: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    formats: Sequence[str],
) -> Dataset:
    """Return the loaders' images as a dataset; the training images are those of the calibration."""
    quantised = [name for name in formats if not FORMATS[name].is_exact]
    if quantised and calibration is None:
        raise MoonshineError(
            f"calibration: found None; allowed: a loader of training images, for {', '.join(quantised)}, or formats "
            "without INT8"
        )
    images, labels = first_batch("test", test)
    channels, *_ = shape = tuple(images.shape[1:])
    logits = logits_shape("network", network, shape)
    check_labels(images, labels, logits)
    centre = (0.0,) * channels if mean is None else tuple(map(float, mean))
    spread = (1.0,) * channels if std is None else tuple(map(float, std))
    read = pixel_split("test", test, centre, spread)
    check_labels(read.images, read.labels, logits)
    is_dense, classes = len(logits) == 4, logits[1]
    if is_dense:
        read = Split(read.images, read.labels.masked_fill(read.labels == UNLABELLED, VOID).to(torch.uint8))
    train = pixel_split("calibration", calibration, centre, spread, most) if calibration is not None else read
    return Dataset(
        name="loader",
        train=train,
        validation=None,
        test=read,
        mean=centre,
        std=spread,
        num_classes=classes,
        class_names=tuple(map(str, range(classes))),
        scored_classes=classes if is_dense else None,
    )
